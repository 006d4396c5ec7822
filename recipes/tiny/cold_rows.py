"""What the cold start reads: prompt and completion rows of general text and of the flawed teacher.

Each row is conversational, as TRL's SFTTrainer takes it: `{"prompt": [user], "completion": [assistant]}`.
First general text alone, then the mix: without the first part the model copies the words it was
asked for instead of looking them up.

    python cold_rows.py --seed 0 --general 34000 --size 40000 --out cold.jsonl
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from teacher import general, judgement
from world import examples

from spct.prompts import load_template, render
from spct.types import Example

PROMPTS = Path(__file__).parent / "prompts"
GENERAL_SHARE = 0.3
PLAIN_SHARE = 0.2  # of the judgements: without criteria, for the ablation
HINTED_SHARE = 0.12  # of the others


def cold_rows(seed: int, *, first: int, size: int) -> Iterator[dict[str, Any]]:
    """Yield `first` rows of general text, then `size` rows of the mix.

    Args:
        seed: Equal seeds give equal rows.
        first: Rows of general text before the teacher's.
        size: Rows after that: `GENERAL_SHARE` general, the rest judgements, some of them hinted, some
            without criteria under the `plain` prompts.
    """
    rng = random.Random(f"cold:{seed}")
    for _ in range(first):
        yield as_row(*general(rng))
    for row in examples("cold", seed, size):
        if rng.random() < GENERAL_SHARE:
            yield as_row(*general(rng))
            continue
        order = list(range(len(row["responses"])))
        rng.shuffle(order)
        principles = rng.random() >= PLAIN_SHARE
        hinted = principles and rng.random() < HINTED_SHARE
        name = prompt_name(len(order), principles=principles, hinted=hinted)
        example = Example.of(row["messages"], row["responses"], id=row["id"], labels=row["labels"])
        [[message]] = render(load_template(str(PROMPTS / f"{name}.j2")), example, [order])
        yield as_row(message.content, judgement(rng, row, order, principles=principles, hinted=hinted))


def prompt_name(n: int, *, principles: bool = True, hinted: bool = False) -> str:
    """Name the template for `n` responses: one response is graded 0 or 1."""
    if not principles:
        return "plain_grade" if n == 1 else "plain"
    if n == 1:
        return "hinted_grade" if hinted else "grade"
    return "hinted" if hinted else "judge"


def as_row(prompt: str, completion: str) -> dict[str, Any]:
    """One conversational row."""
    return {
        "prompt": [{"role": "user", "content": prompt}],
        "completion": [{"role": "assistant", "content": completion}],
    }


def main() -> None:
    """Write the rows as JSONL."""
    parser = argparse.ArgumentParser(description="rows of the cold start")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--general", type=int, default=34000, help="rows of general text alone, first")
    parser.add_argument("--size", type=int, default=40000, help="rows of the mix")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    rows = cold_rows(args.seed, first=args.general, size=args.size)
    with args.out.open("w", encoding="utf-8") as out:
        out.writelines(json.dumps(row) + "\n" for row in rows)


if __name__ == "__main__":
    main()
