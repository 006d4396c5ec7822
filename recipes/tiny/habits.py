"""What the judgements of a run do: how often in haste, and how often careful checks quote what is there.

    python recipes/tiny/habits.py runs/tiny-0/greedy-cold runs/tiny-0/greedy-grpo

Shares of all judgements: criteria without the query's levels; checks at a glance; of the other checks
those that are right, word for word, over all kinds and by kind.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from teacher import check
from world import LEVELS, Query

from spct.records import RunFolder
from spct.types import Example

_LEVEL = re.compile(rf"\b({'|'.join(LEVELS)}) \(")


def habits(folder: Path) -> dict[str, float | None]:
    """The shares, in [0, 1]; None where there is nothing to count.

    Args:
        folder: Stored judgements of this world, as the `rollouts` stages leave them.
    """
    seen: dict[str, list[bool]] = {"hasty_criteria": [], "glances": [], "evidence": []}
    for example, trajectories in RunFolder.load(folder):
        for trajectory in trajectories:
            head, _, body = trajectory.text.partition("Analysis:\n")
            if head:
                seen["hasty_criteria"].append(_LEVEL.search(head) is None)
            for kind, hasty, right in _checks(example, trajectory.order, body):
                seen["glances"].append(hasty)
                if not hasty:
                    seen["evidence"].append(right)
                    seen.setdefault(f"evidence/{kind}", []).append(right)
    return {name: sum(found) / len(found) if found else None for name, found in sorted(seen.items())}


def _checks(example: Example, order: tuple[int, ...], body: str) -> list[tuple[str, bool, bool]]:
    """Of each check: its kind, whether it is a glance, whether it is what a careful reader writes."""
    requirements = Query.parse(example.messages[0].content).requirements
    found = []
    for index, line in zip(order, body.splitlines(), strict=False):  # the scores follow, or a line is missing
        words = example.responses[index].split()
        written = re.split(r"(?<=;) ", line.partition(": ")[2])[:-1]
        for text, requirement in zip(written, requirements, strict=False):
            found.append((requirement.kind, " glance " in text, text == check(requirement, words)[0]))
    return found


def main() -> None:
    """Print the habits of each run that is named."""
    for name in sys.argv[1:]:
        shares = {key: None if v is None else round(v, 3) for key, v in habits(Path(name)).items()}
        print(json.dumps({"run": name} | shares))


if __name__ == "__main__":
    main()
