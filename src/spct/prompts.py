r"""Prompts: one Jinja template file each, filled in one pass with neutralised text (§8; wording ours).

A template may open with a comment that holds its settings in TOML:

    {# spct
    kind = "pointwise"                      # "choice": picks one response; "meta": for the meta RM
    scale = [1, 10]
    needs = ["reference"]                   # inputs that an example must have
    uses = []                               # inputs shown where an example has them
    score_format = '\boxed{SCORES}'         # what the model is asked to write
    score_pattern = '\\boxed\{([^}]*)\}'    # what is read as scores; the group holds the numbers
    reads_texts = false                     # true for a shipped one that does more with texts than print them
    #}

and sees these variables: `messages` (role, content), `responses` (texts in the order shown), `n`,
`lo`, `hi`, and by needs or uses `reference`, `principles` (texts), `best` (the number shown of the
best response), `hint`, `judgement`. A user's file gets the same treatment as the shipped ones, may
extend them, and is checked on load. Instructions come first and responses last, so that an
engine's prefix cache is hit.
"""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, get_args

import jinja2
from pydantic import model_validator

from spct.configs import Config, build
from spct.correctness import best_index
from spct.errors import ConfigError, InputError
from spct.filling import FAULTS, Filler, Safe, compile_template
from spct.parsing import Reading, compile_scores, read
from spct.types import Example, FailureReason, Message, digest
from spct.untrusted import ScorePattern, neutralise

SHIPPED = Path(__file__).parent / "templates"
OptionalInput = Literal["reference", "principles", "best", "hint", "judgement"]
OPTIONAL_INPUTS: tuple[OptionalInput, ...] = get_args(OptionalInput)
_HEADINGS = ("Specific Criteria:", "Analysis:", "Scores:")
_FRONT = re.compile(r"\A\s*\{#-?\s*spct\b(.*?)-?#\}", re.DOTALL)


class TemplateSettings(Config):
    """What the opening comment of a template may say; see this module's head."""

    kind: Literal["pointwise", "choice", "meta"] = "pointwise"
    scale: tuple[int, int] = (1, 10)
    needs: frozenset[OptionalInput] = frozenset()
    uses: frozenset[OptionalInput] | None = None
    score_format: str = r"\boxed{SCORES}"
    score_pattern: str | None = None
    reads_texts: bool = False
    """Whether a shipped template does more with texts than print them, e.g. count words: it is then rendered
    anew for each prompt, as a user's file always is."""

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if self.scale[0] >= self.scale[1]:
            raise ValueError(f"scale is {list(self.scale)}, expected [lowest, highest]")
        return self


class Shot(NamedTuple):
    """A worked example to show before the real one: what was judged, and the text to imitate."""

    example: Example
    judgement: str


@dataclass(frozen=True, slots=True)
class Template:
    """A prompt template, compiled and checked.

    Args:
        name: File stem.
        id: `name-` and 12 hex digits of a hash of its source and its parents' sources.
        kind: `pointwise`, `choice` or `meta`.
        scale: Default lowest and highest score.
        needs: Inputs that an example must have.
        uses: Inputs that are shown where an example has them.
        score_format: What the model is asked to write, with `SCORES` for the numbers.
        patterns: What is read as scores.
        headings: Which of `Specific Criteria:`, `Analysis:`, `Scores:` it asks for.
    """

    name: str
    id: str
    kind: str
    scale: tuple[int, int]
    needs: frozenset[str]
    uses: frozenset[str]
    score_format: str
    patterns: tuple[ScorePattern, ...]
    _filler: Filler = field(repr=False, compare=False)
    headings: frozenset[str] = frozenset()

    @property
    def headed(self) -> bool:
        """True where a lone score counts only from a line `Scores:` on, because the form asks for one."""
        return self.kind == "pointwise" and "Scores:" in self.headings

    def read(
        self, text: str, n: int, *, scale: tuple[int, int] | None = None, finish_reason: str = ""
    ) -> Reading:
        """Read a sample's text (Eq. 7). A choice becomes scores too: 1 for the chosen, 0 for others."""
        choice, scale = self.kind == "choice", scale or self.scale
        reading = read(
            text,
            n=1 if choice else n,
            scale=(1, n) if choice else scale,
            patterns=self.patterns,
            finish_reason=finish_reason,
            headed=self.headed,
        )
        if not choice:
            return reading
        if reading.scores is None:
            return reading
        return reading._replace(scores=tuple(int(i == reading.scores[0] - 1) for i in range(n)))


def render(
    template: Template,
    example: Example,
    orders: Sequence[Sequence[int]],
    *,
    scale: tuple[int, int] | None = None,
    judgement: str | None = None,
    shots: Sequence[Shot] = (),
) -> list[tuple[Message, ...]]:
    """Fill a template for one example, once per order.

    Args:
        template: From `load_template`.
        example: What is judged.
        orders: Permutations; `order[place]` is the caller's index of the response shown there.
        scale: Lowest and highest score; None means the template's.
        judgement: For the meta RM: the text whose scores are in question.
        shots: Worked examples, shown as earlier turns.

    Returns:
        One conversation per order: the shots' turns, then one user turn.

    Raises:
        InputError: The example lacks an input that the template needs, or the template fails on it.
    """
    earlier: list[Message] = []
    for shot in shots:
        [prompt] = render(template, shot.example, [range(len(shot.example.responses))], scale=scale)
        earlier += [*prompt, Message("assistant", shot.judgement)]
    lo, hi = scale or template.scale

    def safe(text: str) -> str:
        return Safe(neutralise(text, template.patterns))

    given = _inputs(template, example, judgement)
    values: dict[str, Any] = {
        "messages": [{"role": m.role, "content": safe(m.content)} for m in example.messages],
        "n": len(example.responses),
        "lo": lo,
        "hi": hi,
        **dict.fromkeys(OPTIONAL_INPUTS),
    }
    for name, value in given.items():
        values[name] = [safe(item) for item in value] if isinstance(value, tuple) else safe(value)
    responses = [safe(response) for response in example.responses]
    fill = template._filler.bind(values, len(responses))
    prompts = []
    for order in orders:
        best = _best(example, order) if "best" in template.needs else None
        try:
            text = fill([responses[i] for i in order], best)
        except FAULTS as error:
            raise InputError(
                f"template {template.name!r} fails on example {example.id!r}: {error}",
                expected=f"a template for {len(responses)} responses",
                fix="see the variables in docs/formats.md",
            ) from error
        prompts.append((*earlier, Message("user", text)))
    return prompts


def check_inputs(template: Template, example: Example) -> None:
    """Refuse an example that lacks an input that the template needs.

    Raises:
        InputError: What is missing.
    """
    for name in sorted(template.needs - {"judgement"}):
        source = "labels" if name == "best" else name
        if not (example.meta.get("hint") if name == "hint" else getattr(example, source)):
            raise InputError(
                f"example {example.id!r} has no {source}",
                expected=f"{source}, which template {template.name!r} shows",
                fix=f"add {source!r} to the example, or use another template",
            )
    if "best" in template.needs and len(example.responses) > 1:
        best_index(example.labels or ())


def _inputs(template: Template, example: Example, judgement: str | None) -> dict[str, str | tuple[str, ...]]:
    """Optional inputs that this template shows, of this example."""
    check_inputs(template, example)
    if "judgement" in template.needs and judgement is None:
        raise InputError(f"template {template.name!r} got no judgement", expected="the text of a trajectory")
    has: dict[str, Any] = {
        "reference": example.reference,
        "principles": example.principles,
        "judgement": judgement,
        "hint": example.meta.get("hint"),
    }
    if "hint" in template.uses | template.needs and not isinstance(has["hint"], str | None):
        raise InputError(f"hint of example {example.id!r} is {has['hint']!r}", expected="text")
    shown = (template.needs | template.uses) - {"best"}
    return {name: has[name] for name in shown if has[name] is not None}


def _best(example: Example, order: Sequence[int]) -> int:
    """Number shown of the best response; for one response, its label."""
    assert example.labels is not None  # _inputs has checked it
    if len(order) == 1:
        return round(example.labels[0])
    return list(order).index(best_index(example.labels)) + 1


def choose_template(example: Example) -> str:
    """Name of the shipped template that shows all that an example has."""
    if example.principles is not None:
        return "given_principles"
    return "reference" if example.reference else "pointwise"


@functools.lru_cache(maxsize=64)
def load_template(name: str) -> Template:
    """Load and check a shipped template by name, or a user's file by path.

    Raises:
        ConfigError: Unknown name, a Jinja or TOML fault, an input that is not shown, or a score
            format that the pattern does not read back.
    """
    path = SHIPPED / f"{name}.j2"
    if not path.is_file():
        path = Path(name)
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in SHIPPED.glob("*.j2")))
        raise ConfigError(f"template {name!r} is no file", expected=f"a path, or one of {known}")
    try:
        source = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} cannot be read: {error}", expected="UTF-8 text") from None
    settings = _settings(path, source)
    try:
        patterns = compile_scores(*filter(None, [settings.score_pattern]))
    except re.error as error:
        raise ConfigError(f"{path}: score_pattern does not compile: {error}") from error
    try:
        own = path.parent != SHIPPED or settings.reads_texts
        filler = compile_template(source, patterns, SHIPPED, own=own)
    except jinja2.TemplateError as error:
        line = getattr(error, "lineno", None)
        raise ConfigError(
            f"{path}{f':{line}' if line else ''}: {error}", expected="a Jinja template"
        ) from error
    uses = filler.variables.intersection(OPTIONAL_INPUTS) if settings.uses is None else settings.uses
    if "best" in filler.variables.union(uses) - settings.needs:
        raise ConfigError(f"{path}: shows `best`, which only a template that needs it gets")
    template = Template(
        name=path.stem,
        id=f"{path.stem}-{digest(filler.sources)[:12]}",
        kind=settings.kind,
        scale=settings.scale,
        needs=settings.needs,
        uses=frozenset(uses) - settings.needs,
        score_format=settings.score_format,
        patterns=patterns,
        _filler=filler,
    )
    prompt = _check(template, path)
    return replace(template, headings=frozenset(h for h in _HEADINGS if h in prompt))


def _settings(path: Path, source: str) -> TemplateSettings:
    front = _FRONT.match(source)
    try:
        return build(TemplateSettings, tomllib.loads(front.group(1)) if front else {})
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: the opening comment is not TOML: {error}") from error
    except ConfigError as error:
        raise ConfigError("\n".join(f"{path}: {problem}" for problem in error.got.splitlines())) from None


def _check(template: Template, path: Path) -> str:
    """Render with marked inputs: each must show, and the score line must be one that is read."""
    probe = Example(
        "probe",
        (Message("system", "probe-system"), Message("user", "probe-query")),
        ("probe-one", "probe-two"),
        labels=(0.0, 1.0),
        reference="probe-reference",
        principles=("probe-principle",),
        meta={"hint": "probe-hint"},
    )
    try:
        [(*_, prompt)] = render(template, probe, [(0, 1)], judgement="probe-judgement")
    except InputError as error:
        raise ConfigError(f"{path}: {error.got}", fix=error.fix) from error
    shown = {"messages": ["probe-system", "probe-query"], "responses": list(probe.responses)}
    shown |= {name: [f"probe-{name.removesuffix('s')}"] for name in template.needs - {"best"}}
    problems = [
        f"{path}: does not show `{name}`"
        for name, marks in shown.items()
        if not all(m in prompt.content for m in marks)
    ]
    if "best" in template.needs:
        [(*_, other)] = render(template, probe, [(1, 0)], judgement="probe-judgement")
        if other.content.replace("probe-two", "").replace("probe-one", "") == prompt.content.replace(
            "probe-one", ""
        ).replace("probe-two", ""):
            problems.append(f"{path}: does not show `best`")
    problems += [f"{path}: {problem}" for problem in _score_problems(template, prompt.content)]
    if problems:
        raise ConfigError("\n".join(problems), fix="see the templates section of docs/formats.md")
    return prompt.content


def _score_problems(template: Template, prompt: str) -> list[str]:
    if template.kind == "meta":
        return []
    opening, slot, _ = template.score_format.partition("SCORES")
    if not slot:
        return [f"score_format is {template.score_format!r}; it must hold SCORES where the numbers go"]
    numbers = "2" if template.kind == "choice" else f"{template.scale[1]}, {template.scale[0]}"
    line = template.score_format.replace("SCORES", numbers)
    if template.read(line, 2).scores is None:
        return [f"score_pattern does not read {line!r}"]
    broken = neutralise(line, template.patterns)
    if (left := template.read(broken, 2).failure) is None or left.reason is not FailureReason.NO_SCORES:
        return [f"score_pattern finds numbers in {broken!r} too, as it is shown when a response imitates it"]
    if opening.strip() not in prompt:
        return [f"never shows {opening.strip()!r}, so that a model cannot know how to write its scores"]
    return []
