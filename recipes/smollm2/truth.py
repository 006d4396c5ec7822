"""How much of what a judge states of responses is true, as far as facts.py can tell (ours).

The statements are those behind "Response 1:", without what is quoted. Beside it, how often the same
words are true of another response of the same query: a judge that reads nothing gets the same in both.

    python recipes/smollm2/truth.py runs/dev
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from facts import measure
from telling import TELL

from spct.records import RunFolder

_LINE = re.compile(r"^Response (\d+): (?:\"[^\"\n]*\": )?(.*?)\.?$", re.MULTILINE)
_QUOTED = re.compile(r'"[^"\n]*" ')


def statements(text: str) -> list[tuple[int, str]]:
    """Place and words of each statement.

    >>> statements('Response 1: "So it is": very short; "illegal" uses words of warning.')
    [(0, 'very short'), (0, 'uses words of warning')]
    """
    lines = [(int(m[1]) - 1, _QUOTED.sub("", m[2])) for m in _LINE.finditer(text)]
    return [(place, told) for place, line in lines for told in line.split("; ")]


def holds(told: str, facts: dict[str, float]) -> bool:
    """Tell whether words are true of a response with these facts."""
    return any(told in tell(facts[name]) for name, tell in TELL.items() if name in facts)


def count(run: RunFolder) -> dict[str, float]:
    """Statements; how many are true; and how many of another response, as a mean over the others."""
    found = {"statements": 0.0, "true": 0.0, "of_another": 0.0}
    for example, trajectories in run:
        if len(example.responses) < 2:
            continue
        answer = example.meta.get("answer")
        known = None if answer is None else str(answer)
        facts = [measure(example.query, response, known) for response in example.responses]
        for t in trajectories:
            for place, told in statements(t.text):
                if place < len(t.order):
                    own, others = t.order[place], [i for i in t.order if i != t.order[place]]
                    found["statements"] += 1
                    found["true"] += holds(told, facts[own])
                    found["of_another"] += sum(holds(told, facts[i]) for i in others) / len(others)
    return found


def main() -> None:
    """Print the shares of runs."""
    parser = argparse.ArgumentParser(description="how much of what a judge states is true")
    parser.add_argument("run", type=Path, nargs="+")
    for path in parser.parse_args().run:
        found = count(RunFolder.load(path))
        total = found["statements"]
        if not total:
            print(f"{path}: no statements")
            continue
        print(
            f"{path}: {total:.0f} statements, {100 * found['true'] / total:.1f} % true, "
            f"{100 * found['of_another'] / total:.1f} % true of another response"
        )


if __name__ == "__main__":
    main()
