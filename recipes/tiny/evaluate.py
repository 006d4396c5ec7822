"""Who was right on which held-out row, from the stored judgements: OUT/credits/credits.npz and facts.json.

Greedy judgements count by Eq. 10. Votes count their expected credit over subsets of the k stored
samples, a tie of m being worth 1/m. A single response is voted right where more of the votes say so.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from habits import habits
from stages import JUDGES, STAGES

from spct.correctness import best_index, is_correct, tie_credit
from spct.evals.curves import powers
from spct.evals.expectation import guided, windows
from spct.evals.inputs import joined_credits, parent_index
from spct.evals.metrics import Array
from spct.evals.samples import Block, collect
from spct.records import RunFolder
from spct.training.curves import read_metrics
from spct.types import Example

LAST = 10  # steps of RL whose mean is reported
HABITS = ("greedy-cold", "greedy-rft", "greedy-grpo", "vote")  # judgements whose haste is counted


def write_credits(out: Path, k: int) -> None:
    """Compute the credits of a run's stored judgements, and facts about its training."""
    arrays: dict[str, Array] = {}
    facts: dict[str, Any] = {"parse_rate": {}, "k": powers(k)}
    for judge in JUDGES:
        run = RunFolder.load(out / f"greedy-{judge}")
        drawn = [(example, found[0]) for example, found in run]
        arrays[f"greedy/{judge}"] = np.array([is_correct(t.scores, labels(e)) for e, t in drawn], dtype=float)
        facts["parse_rate"][judge] = float(np.mean([t.valid for _, t in drawn]))
    rows = [example for example, _ in RunFolder.load(out / "vote")]
    facts["n"] = [len(e.responses) for e in rows]
    facts["domain"] = [str(e.meta["domain"]) for e in rows]
    arrays["vote/grpo"], arrays["guided"], arrays["k_meta"] = votes(out / "vote", k, meta=True)
    arrays["vote/grpo-plain"], *_ = votes(out / "vote-plain", k)
    arrays["input/list"], arrays["input/pair"] = list_and_pair(out)
    facts["training"] = {name: rl_end(out / name) for name in STAGES if name.startswith("grpo")}
    for name in ("cold", "reject", "rollouts", "hinted", "meta-rm", "meta-rewards", "reject-plain"):
        facts[name] = json.loads((out / name / "done.json").read_text(encoding="utf-8"))
    facts["habits"] = {name: habits(out / name) for name in HABITS}
    facts["smoke"] = facts["reject"]["smoke"]
    facts["seconds"] = {}
    for name in STAGES:
        if (out / name / "done.json").is_file():
            noted = json.loads((out / name / "done.json").read_text(encoding="utf-8"))
            facts["seconds"][name] = [noted["seconds"], noted["cpu_seconds"]]
    np.savez_compressed(out / "credits" / "credits.npz", **arrays)
    (out / "credits" / "facts.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def labels(example: Example) -> tuple[float, ...]:
    """The labels, which every row of this world has."""
    return example.labels or ()


def votes(folder: Path, k: int, *, meta: bool = False) -> list[Array]:
    """(rows, c) credit of plain votes; with meta also of k/2 trusted ones, and of 1..k trusted of k.

    The c columns are 1, 2, 4 ... k: samples drawn, or of the last array samples kept.
    """
    run = RunFolder.load(folder)
    rows = [example for example, _ in run]
    drawn = [run.with_meta(found, "meta-rm") if meta else found for _, found in run]
    ks = powers(k)
    found = [np.zeros((len(rows), len(ks))) for _ in range(3 if meta else 1)]
    for block in collect(rows, drawn).blocks:
        best = np.array([best_index(labels(rows[i])) if block.n > 1 else 0 for i in block.at])
        block = block if block.n > 1 else as_two(block, [int(labels(rows[i])[0]) for i in block.at])
        found[0][block.at] = windows(block, best, ks).credit
        if meta:
            found[1][block.at] = guided(block, best, ks, [max(1, j // 2) for j in ks]).credit
            found[2][block.at] = guided(block, best, [k] * len(ks), ks).credit
    return found


def as_two(block: Block, truths: list[int]) -> Block:
    """Votes of 0 or 1 on one response, as scores of the right and of the wrong answer.

    The right one has more votes where the majority is right; half and half is a tie.
    """
    truth = np.array(truths)[:, None, None]
    right = (block.scores == truth).astype(block.scores.dtype)
    scores = np.concatenate([right, 1 - right], axis=2) * block.valid[:, :, None]
    return replace(block, scores=scores)


def list_and_pair(out: Path) -> tuple[Array, Array]:
    """Greedy credit on lists of three and more: read as one list, and as pairs that must all be won."""
    pairs = [(e, t[0]) for e, t in RunFolder.load(out / "pairs" / "run")]
    lists = [(e, t[0]) for e, t in RunFolder.load(out / "greedy-grpo") if len(e.responses) > 2]
    units = [e for e, _ in pairs]
    won = np.array([tie_credit(t.scores, labels(e)) for e, t in pairs])
    joined = joined_credits(won, parent_index(units, [e for e, _ in lists]), len(lists))
    return np.array([tie_credit(t.scores, labels(e)) for e, t in lists]), joined


def rl_end(folder: Path) -> dict[str, float | None]:
    """Means of the last steps of RL: accuracy, parse rate, KL, and accuracy in the worst domain."""
    rows = read_metrics(folder)[-LAST - 1 :]
    keys = ("accuracy", "parse_rate", "kl", "entropy", "zero_variance")
    means = {key: _mean([row[key] for row in rows if row.get(key) is not None]) for key in keys}
    domains = {k for row in rows for k in row if k.startswith("domain/") and k.endswith("/accuracy")}
    by_domain = [_mean([row[k] for row in rows if row.get(k) is not None]) for k in domains]
    return means | {"worst_domain": min((v for v in by_domain if v is not None), default=None)}


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None
