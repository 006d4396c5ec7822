"""What RL found, where it is worth learning from: rollouts that are right, true, and not by length alone.

RL rewards the outcome and nothing else (§4). Of its logs this keeps the judgements whose scores agree with
the labels, all of whose statements are true, whose counts are the prompt's and whose points add up
(`truth.py`); and of a log's data points as many whose best response is the longest as others.

    python recipes/smollm2/own.py runs/rl/grpo/rollouts.jsonl --data runs/rl/data/rl.jsonl --out rows.jsonl
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from facts import measure
from truth import add

from data import PROMPTS
from spct.correctness import best_index, is_correct
from spct.examples import dump_json
from spct.training.data import template_for
from spct.training.rejection import sft_row
from spct.training.rollouts import logged
from spct.types import Example, Trajectory

Judged = tuple[Example, list[Trajectory]]
PAIRS = (("true", "statements"), ("copied", "counts"), ("add_up", "scores"))


def sound(example: Example, trajectories: list[Trajectory]) -> list[Trajectory]:
    """Those that are right and hold nothing that a program can tell is false."""
    answer = example.meta.get("answer")
    facts = [measure(example.query, r, None if answer is None else str(answer)) for r in example.responses]
    found = []
    for t in trajectories:
        if is_correct(t.scores, example.labels or ()):
            counts: dict[str, float] = defaultdict(float)
            add(counts, example, t, facts)
            if counts["statements"] and all(counts[part] == counts[whole] for part, whole in PAIRS):
                found.append(t)
    return found


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


def main() -> None:
    """Read the command line and write the rows."""
    parser = argparse.ArgumentParser(description="RL's rollouts that are right and true")
    parser.add_argument("log", type=Path, nargs="+", help="rollouts.jsonl of `spct train grpo`")
    parser.add_argument("--data", type=Path, required=True, help="the data points of those runs")
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    chosen = list[Judged]()
    for log in args.log:
        with tempfile.TemporaryDirectory() as folder:
            kept = [
                (e, found) for e, own in logged(log, [args.data], folder) if (found := sound(e, list(own)))
            ]
        chosen += balanced(kept, args.seed)
        print(f"{log}: {len(kept)} data points with sound judgements")
    rows = [row(example, t) for example, found in chosen for t in found]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text("".join(rows), encoding="utf-8")
    print(f"{args.out}: {len(rows)} judgements of {len(chosen)} data points")


if __name__ == "__main__":
    main()
