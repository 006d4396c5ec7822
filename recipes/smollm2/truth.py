"""How much of what a judge states of responses is true, as far as a program can tell (ours).

The statements are those behind "Response 1:", without what is quoted and without points. Beside them,
how often the same words are true of another response of the same query: a judge that reads nothing gets the
same in both. Then how many quoted counts are those of the prompt, and how many scores the sum of the points.

    python recipes/smollm2/truth.py runs/dev
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from facts import COUNTED, measure
from teacher import added_up
from telling import NOTHING, TELL

from spct.counts import count as counts_of
from spct.records import RunFolder
from spct.types import Example, Trajectory

_LINE = re.compile(r"^Response (\d+): (?:\"[^\"\n]*\": )?(.*?)(?:, so (\d+))?\.?$", re.MULTILINE)
_BESIDE = re.compile(r'"[^"\n]*" | \(-?\d+[+-]\d=-?\d+\)')  # quotes and points
_POINTS = re.compile(r" \(-?\d+([+-]\d)=-?\d+\)")
_COUNT = re.compile(rf'"((?:{"|".join(COUNTED.values())}) \d[^"\n]*)" ')


class Line(NamedTuple):
    """What is said of one response: its place, the words told, the counts quoted, points, score."""

    place: int
    told: list[str]
    counts: list[str]
    points: list[int]
    score: int | None


def lines(text: str) -> list[Line]:
    """Read a judgement.

    >>> lines('Response 1: "So it is": "words 3" very short (5-1=4); "illegal" risky (4+2=6), so 6.')
    [Line(place=0, told=['very short', 'risky'], counts=['words 3'], points=[-1, 2], score=6)]
    """
    return [
        Line(
            int(m[1]) - 1,
            [told for told in _BESIDE.sub("", m[2]).split("; ") if told != NOTHING],
            _COUNT.findall(m[2]),
            [int(points) for points in _POINTS.findall(m[2])],
            int(m[3]) if m[3] else None,
        )
        for m in _LINE.finditer(text)
    ]


def holds(told: str, facts: dict[str, float]) -> bool:
    """Tell whether words are true of a response with these facts."""
    return any(told in tell(facts[name]) for name, tell in TELL.items() if name in facts)


def facts_of(example: Example) -> list[dict[str, float]]:
    """What a program knows of each response."""
    answer = example.meta.get("answer")
    known = None if answer is None else str(answer)
    return [measure(example.query, response, known) for response in example.responses]


def count(run: RunFolder) -> dict[str, float]:
    """Statements; how many are true, and how many of another response, a mean over the others; and so on."""
    found: dict[str, float] = defaultdict(float)
    for example, trajectories in run:
        if len(example.responses) > 1:
            facts = facts_of(example)
            for t in trajectories:
                add(found, example, t, facts)
    return found


def add(found: dict[str, float], example: Example, t: Trajectory, facts: list[dict[str, float]]) -> None:
    """Add what one judgement states; `facts` are those of each response."""
    for line in lines(t.text):
        if line.place >= len(t.order):
            continue
        own = t.order[line.place]
        others = [i for i in t.order if i != own]
        stated = counts_of(example.query, example.responses[own])
        right = {stated.told(name) for name in COUNTED.values()}
        found["statements"] += len(line.told)
        found["true"] += sum(holds(told, facts[own]) for told in line.told)
        found["of_another"] += sum(holds(told, facts[i]) for told in line.told for i in others) / len(others)
        found["counts"] += len(line.counts)
        found["copied"] += sum(told in right for told in line.counts)
        if line.score is not None:
            found["scores"] += 1
            found["add_up"] += added_up(line.points) == line.score


def main() -> None:
    """Print the shares of runs."""
    parser = argparse.ArgumentParser(description="how much of what a judge states is true")
    parser.add_argument("run", type=Path, nargs="+")
    for path in parser.parse_args().run:
        found = count(RunFolder.load(path))
        shares = [
            f"{found[of]:.0f} {of}, {100 * found[name] / found[of]:.1f} % {words}"
            for of, name, words in (
                ("statements", "true", "true"),
                ("statements", "of_another", "true of another response"),
                ("counts", "copied", "as in the prompt"),
                ("scores", "add_up", "the sum of their points"),
            )
            if found[of]
        ]
        print(f"{path}: {'; '.join(shares) or 'no statements'}")


if __name__ == "__main__":
    main()
