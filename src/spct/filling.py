"""Fill Jinja templates with text that was made safe: in one pass, a user's file in a sandbox.

This knows nothing of examples; `prompts` does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import jinja2.meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from spct.counts import stated
from spct.untrusted import ScorePattern, neutralise

# What an expression in a user's template can raise, beside Jinja's own errors.
FAULTS = (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError, RecursionError)
_SLOT = re.compile("\0(\\d+)\0")


class Safe(str):
    """Text that was neutralised already."""

    __slots__ = ()


class _Skeleton(NamedTuple):
    """A prompt without its texts: what stands between them, and which text stands in each gap."""

    literals: list[str]
    slots: list[int]


@dataclass(frozen=True, slots=True)
class Filler:
    """A compiled template.

    Args:
        sources: Its source, and those of the templates that it extends or includes.
        variables: Names that it reads.
        jinja: The template itself.
        skeletons: What was rendered so far, or None for one that may do more with its texts than print.
    """

    sources: list[str]
    variables: frozenset[str]
    jinja: jinja2.Template
    skeletons: dict[Any, _Skeleton] | None

    def bind(self, values: Mapping[str, Any], n: int) -> Callable[[list[str], int | None], str]:
        """What makes a prompt of n responses in the order shown and the number of the best one.

        A shipped template prints its texts as they are. So Jinja makes its skeleton once, with slots in
        place of texts, and a prompt is a join.
        """
        if self.skeletons is None:
            return lambda shown, best: self.jinja.render({**values, "responses": shown, "best": best}).strip()
        skeletons, texts = self.skeletons, list[str]()
        shape = (n, *_shape(values.values(), texts))

        def fill(shown: list[str], best: int | None) -> str:
            key = (shape, best)
            if key not in skeletons:
                marks = (Safe(f"\0{i}\0") for i in count())
                marked = _marked(values, marks)
                marked["responses"] = list(islice(marks, n))
                parts = _SLOT.split(self.jinja.render({**marked, "best": best}).strip())
                skeletons[key] = _Skeleton(parts[0::2], [int(slot) for slot in parts[1::2]])
            literals, slots = skeletons[key]
            inserted = [*texts, *shown]
            pieces = [
                piece
                for literal, slot in zip(literals, slots, strict=False)
                for piece in (literal, inserted[slot])
            ]
            return "".join([*pieces, literals[-1]])

        return fill


def _shape(values: Iterable[Any], texts: list[str]) -> list[Any]:
    """What a skeleton depends on: the values with `...` in place of texts; those go to `texts`."""
    shape: list[Any] = []
    for value in values:
        if type(value) is Safe and value:
            texts.append(value)
            shape.append(...)
        elif isinstance(value, dict):
            shape.append(tuple(_shape(value.values(), texts)))
        else:
            shape.append(tuple(_shape(value, texts)) if isinstance(value, list) else value)
    return shape


def _marked(value: Any, marks: Iterator[Safe]) -> Any:
    """A copy of values with the next mark in place of each text."""
    if type(value) is Safe and value:
        return next(marks)
    if isinstance(value, dict):
        return {name: _marked(item, marks) for name, item in value.items()}
    return [_marked(item, marks) for item in value] if isinstance(value, list) else value


def compile_template(source: str, patterns: Sequence[ScorePattern], parents: Path, *, own: bool) -> Filler:
    """Compile a template.

    Args:
        source: Its text.
        patterns: What is read as scores, and so is broken in each value shown.
        parents: Folder of the templates that it may extend or include.
        own: True for a user's file: it runs in a sandbox, which costs about 0.1 ms a prompt.

    Raises:
        jinja2.TemplateError: It is no template, or a parent is missing.
    """
    environment = _environment(patterns, parents, own=own)
    compiled = environment.from_string(source)
    sources = _family(environment, source)
    variables = [jinja2.meta.find_undeclared_variables(environment.parse(s)) for s in sources]
    return Filler(sources, frozenset().union(*variables), compiled, None if own else {})


def _environment(patterns: Sequence[ScorePattern], parents: Path, *, own: bool) -> jinja2.Environment:
    """Environment in which each value shown is neutralised, whoever wrote the template."""

    def finalize(value: Any) -> Any:
        return value if type(value) in (Safe, int) else neutralise(str(value), patterns)

    kind = ImmutableSandboxedEnvironment if own else jinja2.Environment
    environment = kind(
        loader=jinja2.FileSystemLoader(parents),
        finalize=finalize,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["counts"] = stated
    return environment


def _family(environment: jinja2.Environment, source: str) -> list[str]:
    """The source and those of the templates that it extends or includes."""
    sources, queue = [], [source]
    while queue:
        sources.append(queue.pop())
        for name in jinja2.meta.find_referenced_templates(environment.parse(sources[-1])):
            if name is None:
                raise jinja2.TemplateError("extends or includes a template by a computed name")
            assert environment.loader is not None
            queue.append(environment.loader.get_source(environment, name)[0])
    return sources
