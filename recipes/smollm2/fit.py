"""Fit the teacher's weights to preference labels: one small logistic regression per kind of query.

Of each data point, the differences between the best response and every other one (Bradley-Terry, in
standardised facts, with a ridge penalty); of singles, the response itself with a constant. The true
result of a sum is not fitted: it would leave nothing to the other criteria.

    python recipes/smollm2/fit.py runs/smollm2/data/train.jsonl --out recipes/smollm2/weights.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from facts import measure
from principles import KINDS, RESULT_WEIGHT, facts_of, kind_of

from spct.correctness import best_index
from spct.examples import read_examples
from spct.types import Example

RIDGE = 12.0  # pseudo-observations that hold the weights back (ours)
STEPS = 30


def facts(example: Example) -> list[dict[str, float]]:
    """Facts of each response, in the caller's order."""
    answer = example.meta.get("answer")
    return [measure(example.query, r, None if answer is None else str(answer)) for r in example.responses]


def fit(examples: Sequence[Example]) -> dict[str, Any]:
    """Weights, means and deviations of each fact, per kind; `bias` is that of a single response."""
    by_kind: dict[str, list[Example]] = {kind: [] for kind in KINDS}
    for example in examples:
        by_kind[kind_of(example)].append(example)
    return {kind: fit_kind(kind, points) for kind, points in by_kind.items() if points}


def fit_kind(kind: str, examples: Sequence[Example]) -> dict[str, Any]:
    """Weights of one kind of query."""
    names = [name for name in facts_of(kind) if name != "result"]
    rows = [np.array([[f[name] for name in names] for f in facts(example)]) for example in examples]
    everything = np.concatenate(rows)
    mean, deviation = everything.mean(axis=0), everything.std(axis=0)
    deviation[deviation < 1e-9] = 1.0
    x, y, single = [], [], []
    for example, values in zip(examples, rows, strict=True):
        z, labels = (values - mean) / deviation, example.labels or ()
        if len(labels) == 1:
            x.append(z[0])
            y.append(float(labels[0]))
            single.append(1.0)
            continue
        best = best_index(labels)
        for other in range(len(labels)):
            if other != best:
                x.append(z[best] - z[other])
                y.append(1.0)
                single.append(0.0)
    weights, bias = logistic(np.array(x), np.array(y), np.array(single))
    found = {
        name: {"weight": round(float(w), 4), "mean": round(float(m), 4), "deviation": round(float(d), 4)}
        for name, w, m, d in zip(names, weights, mean, deviation, strict=True)
    }
    if kind == "math":
        found["result"] = {"weight": RESULT_WEIGHT, "mean": 0.0, "deviation": 1.0}
    return {"points": len(examples), "bias": round(float(bias), 4), "facts": found}


def logistic(x: Any, y: Any, single: Any) -> tuple[Any, float]:
    """Ridge logistic regression by Newton's method; the constant counts for singles only."""
    design = np.column_stack([x, single])
    ridge = np.diag([RIDGE] * x.shape[1] + [1e-3])
    w = np.zeros(design.shape[1])
    for _ in range(STEPS):
        p = 1 / (1 + np.exp(-np.clip(design @ w, -30, 30)))
        gradient = design.T @ (p - y) + ridge @ w
        hessian = (design * (p * (1 - p))[:, None]).T @ design + ridge
        w -= np.linalg.solve(hessian, gradient)
    return w[:-1], float(w[-1])


def main() -> None:
    """Read the command line, fit and write."""
    parser = argparse.ArgumentParser(description="fit the teacher's weights")
    parser.add_argument("train", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent / "weights.json")
    args = parser.parse_args()
    found = fit(read_examples(args.train).examples)
    args.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    for kind, of_kind in found.items():
        top = sorted(of_kind["facts"].items(), key=lambda item: -abs(item[1]["weight"]))[:6]
        print(kind, of_kind["points"], ", ".join(f"{name} {value['weight']:+.2f}" for name, value in top))


if __name__ == "__main__":
    main()
