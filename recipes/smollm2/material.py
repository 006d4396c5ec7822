"""Long requests: a query with a page of lines to look through (ours).

Training queries are a sentence or two, and those that a judge meets may bring a page, numbered line by line.
A judge that has seen none loses count of the responses behind it. So a share of the points gets lines of
other training responses before or behind its query, said to be of no more than possible use: what was the
better response stays so.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from spct.sampling import seed_of
from spct.types import Example, Message

SAID = (
    "Lines found on the web (not all of use):",
    "Notes, in case they help:",
    "Background, which may or may not bear on this:",
    "Search results:",
)
FORMS = ("line {n}: {text}", "[{n}] {text}", "{n}. {text}", "- {text}", "{text}")
_ENDS = re.compile(r"(?<=[.!?])\s+|\n+")
LONG = 0.12  # share of the data points that get a page, where it fits
PAGE = (500, 1800)  # its characters
LINE = range(12, 220)  # characters of a line


def lines_of(texts: Iterable[str]) -> list[str]:
    """Sentences and lines of texts, of a fitting length.

    >>> lines_of(["It is far. The way is steep and stony!", "Go home."])
    ['The way is steep and stony!']
    """
    return [line.strip() for text in texts for line in _ENDS.split(text) if len(line.strip()) in LINE]


def with_material(example: Example, lines: Sequence[str], characters: int, seed: int) -> Example:
    """The example with a page in its last turn.

    Args:
        example: Its responses and labels stay.
        lines: To choose from; at least one.
        characters: Of the page, about.
        seed: Equal seeds give equal pages.
    """
    rng = random.Random(seed_of(seed, "material", example.id))
    form, number, page = rng.choice(FORMS), rng.randint(1, 20), [rng.choice(SAID)]
    while sum(map(len, page)) < characters - LINE.stop - 10:
        page.append(form.format(n=number, text=rng.choice(lines)))
        number += rng.choice((1, 1, 1, 2, 3))  # as where lines are left out
    parts = [example.query, "\n".join(page)]
    if rng.random() < 0.5:
        parts.reverse()
    asked = Message(example.messages[-1].role, "\n\n".join(parts))
    return replace(example, messages=(*example.messages[:-1], asked))


def lengthened(points: Sequence[Example], fits: Callable[[Example], bool], seed: int) -> list[Example]:
    """The points, a share of them with a page where that fits; those with an answer to check stay."""
    rng, lines = random.Random(seed_of(seed, "lengthened")), lines_of(r for e in points for r in e.responses)
    found = []
    for example in points:
        if rng.random() < LONG and "answer" not in example.meta:
            long = with_material(example, lines, rng.randint(*PAGE), seed)
            example = long if fits(long) else example
        found.append(example)
    return found
