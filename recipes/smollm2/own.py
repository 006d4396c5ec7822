"""What RL found, where it is worth learning from: rollouts that are right, true, and not by length alone.

RL rewards the outcome and nothing else (§4). Of its logs this keeps the judgements whose scores agree with
the labels, all of whose statements are true, whose counts are the prompt's and whose points add up
(`truth.py`); and of a log's data points as many whose best response is the longest as others.

    python recipes/smollm2/own.py runs/rl/grpo/rollouts.jsonl --data runs/rl/data/rl.jsonl --out rows.jsonl
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from truth import add, facts_of

from data import PROMPTS
from spct.correctness import best_index, is_correct
from spct.errors import InputError, SpctError
from spct.examples import dump_json
from spct.training.data import template_for
from spct.training.rejection import sft_row
from spct.training.rollouts import read_log
from spct.types import Example, Trajectory

Judged = tuple[Example, list[Trajectory]]
PAIRS = (("true", "statements"), ("copied", "counts"), ("add_up", "scores"))


def sift(log: Path, data: Path) -> list[Judged]:
    """Data points with those judgements of a log that are right and, as far as a program can tell, true.

    How judgements change by tens of steps is printed. Those of one response are left out.
    """
    kept: dict[str, Judged] = {}
    course: dict[int, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    facts: dict[str, list[dict[str, float]]] = {}
    for step, example, t in read_log(log, [data]):
        if len(example.responses) == 1:
            continue
        if example.id not in facts:
            facts[example.id] = facts_of(example)
        said = about(example, t, facts[example.id])
        for name, value in said.items():
            course[(step - 1) // 10][name] += value
        if said["right"] and said["statements"] and all(said[part] == said[of] for part, of in PAIRS):
            kept.setdefault(example.id, (example, []))[1].append(t)
    for tens, sums in sorted(course.items()):
        print(f"{log}, from step {10 * tens + 1}: {told(sums)}")
    print(f"{log}: {len(kept)} data points with sound judgements")
    return list(kept.values())


def about(example: Example, t: Trajectory, facts: list[dict[str, float]]) -> dict[str, float]:
    """What one judgement is: right, tied at the top, for the longest response; and as `truth.add` counts."""
    found: dict[str, float] = defaultdict(float)
    add(found, example, t, facts)
    scores = t.scores or ()
    top = [text for text, score in zip(example.responses, scores, strict=False) if score == max(scores)]
    longest = len(top) == 1 and len(top[0]) == max(map(len, example.responses))
    right = is_correct(t.scores, example.labels or ())
    return found | {"all": 1, "right": right, "tied": len(top) > 1, "longest": longest}


def told(course: dict[str, float]) -> str:
    """A line about judgements."""
    shares = ", ".join(
        f"{100 * course[name] / course['all']:.1f} % {words}"
        for name, words in (("right", "right"), ("tied", "tied"), ("longest", "for the longest"))
    )
    said = "nothing stated"
    if course["statements"]:
        true, other = (100 * course[name] / course["statements"] for name in ("true", "of_another"))
        said = f"{true:.1f} % of statements true, {other:.1f} of another"
    return f"{course['all']:.0f} judgements: {shares}; {said}"


def best_is_longest(example: Example) -> bool:
    """Tell whether the response with the highest label is the longest."""
    lengths = [len(text) for text in example.responses]
    return lengths[best_index(example.labels or ())] == max(lengths)


def balanced(kept: list[Judged], seed: int) -> list[Judged]:
    """As many data points whose best response is the longest as others, a seeded choice."""
    parts: dict[bool, list[Judged]] = {True: [], False: []}
    for example, trajectories in kept:
        parts[best_is_longest(example)].append((example, trajectories))
    few = min(map(len, parts.values()))
    return [pair for part in parts.values() for pair in random.Random(seed).sample(part, few)]


def row(example: Example, trajectory: Trajectory) -> str:
    """Prompt and completion as a line for `spct train rft`."""
    several, single = PROMPTS
    shown = replace(trajectory, template=template_for(example, several, single).id)
    return dump_json(sft_row(example, shown, template=several, single=single)) + "\n"


def write(logs: Sequence[Path], data: Path, out: Path, seed: int) -> dict[str, int]:
    """Write the rows, and say how a log's judgements change by tens of steps.

    Args:
        logs: rollouts.jsonl of runs of RL.
        data: The data points of those runs.
        out: File of rows to write.
        seed: Of the choice for balance.

    Raises:
        InputError: No judgement is left, or a log cannot be read.
    """
    chosen = [pair for log in logs for pair in balanced(sift(log, data), seed)]
    rows = [row(example, t) for example, found in chosen for t in found]
    if not rows:
        raise InputError(
            "no judgement is left", expected="some that are right and true, for the longest and for others"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("".join(rows), encoding="utf-8")
    return {"rows": len(rows), "points": len(chosen)}


def main() -> int:
    """Read the command line and write the rows."""
    parser = argparse.ArgumentParser(description="RL's rollouts that are right and true")
    parser.add_argument("log", type=Path, nargs="+", help="rollouts.jsonl of `spct train grpo`")
    parser.add_argument("--data", type=Path, required=True, help="the data points of those runs")
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    try:
        print(json.dumps(write(args.log, args.data, args.out, args.seed)))
    except SpctError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
