"""results.json, plots and README from the runs of one or more seeds; no figure is typed by hand.

    python recipes/tiny/report.py runs/tiny-0 runs/tiny-1 runs/tiny-2 --into recipes/tiny

Rows of all seeds are pooled; intervals are 95 %, by a paired bootstrap over rows within each seed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
from page import page
from plots import draw

from spct.evals.metrics import Array, bootstrap, interval_of, paired_difference

DIFFERENCES = {  # name: a, b; the figure is a - b. A number is a place in a curve: -1 is k = 32
    "RFT over cold start": ("greedy/rft", "greedy/cold"),
    "RL over RFT": ("greedy/grpo", "greedy/rft"),
    "Voting@32 over Voting@1": ("vote/grpo:-1", "vote/grpo:0"),
    "MetaRM Voting@32 over Voting@1": ("guided:-1", "vote/grpo:0"),
    "MetaRM Voting@32 over Voting@32": ("guided:-1", "vote/grpo:-1"),
    "MetaRM Voting@16 over Voting@16": ("guided:-2", "vote/grpo:-2"),
    "MetaRM Voting@8 over Voting@8": ("guided:-3", "vote/grpo:-3"),
    "MetaRM Voting@4 over Voting@4": ("guided:-4", "vote/grpo:-4"),
    "without principles, greedy": ("greedy/grpo-plain", "greedy/grpo"),
    "without principles, Voting@8": ("vote/grpo-plain:-3", "vote/grpo:-3"),
    "without principles, Voting@32": ("vote/grpo-plain:-1", "vote/grpo:-1"),
    "RL without rejective fine-tuning": ("greedy/grpo-no-rejection", "greedy/grpo"),
    "RFT without hinted": ("greedy/rft-no-hinted", "greedy/rft"),
    "RFT without non-hinted": ("greedy/rft-only-hinted", "greedy/rft"),
    "beta 0 in place of 0.08": ("greedy/grpo-beta-0", "greedy/grpo"),
    "list over pair input, n > 2": ("input/list", "input/pair"),
}


def results(runs: Sequence[Path]) -> dict[str, Any]:
    """All figures of the runs, in percent, as results.json holds them.

    Args:
        runs: Folders of finished runs, one a seed.
    """
    arrays = [dict(np.load(run / "credits" / "credits.npz")) for run in runs]
    facts = [json.loads((run / "credits" / "facts.json").read_text(encoding="utf-8")) for run in runs]
    pooled = {name: np.concatenate([a[name] for a in arrays]) for name in arrays[0]}
    parts = {name: [seed for seed, a in enumerate(arrays) for _ in a[name]] for name in arrays[0]}
    found: dict[str, Any] = {"runs": [run.name for run in runs], "k": facts[0]["k"], "scores": {}}
    found["smoke"] = any(f["smoke"] for f in facts)
    found["rows"] = len(pooled["vote/grpo"])
    for name, values in pooled.items():
        listed = [score(column, parts[name]) for column in np.atleast_2d(values.T)]
        for entry, column in zip(
            listed, zip(*(np.atleast_2d(a[name].T) for a in arrays), strict=True), strict=True
        ):
            entry["by_run"] = [percent(float(np.mean(c))) for c in column]
        found["scores"][name] = listed if values.ndim > 1 else listed[0]
    found["differences"] = {
        name: difference(column_of(pooled, a), column_of(pooled, b), parts[a.partition(":")[0]])
        for name, (a, b) in DIFFERENCES.items()
    }
    sizes = np.array([n for f in facts for n in f["n"]])
    found["by_n"] = {
        judge: {
            str(n): percent(float(pooled[f"greedy/{judge}"][sizes == n].mean())) for n in sorted(set(sizes))
        }
        for judge in ("cold", "rft", "grpo", "grpo-plain")
    }
    kept = (
        "parse_rate", "training", "cold", "reject", "rollouts", "hinted", "meta-rm", "meta-rewards",
        "habits", "seconds",
    )  # fmt: skip
    found["facts"] = [{name: f[name] for name in kept} for f in facts]
    return found


def percent(share: float) -> float:
    """A share in percent, to two places."""
    return round(100 * share, 2)


def column_of(arrays: dict[str, Array], name: str) -> Array:
    """`name`, or of a curve `name:place`."""
    name, _, place = name.partition(":")
    return arrays[name][:, int(place)] if place else arrays[name]


def score(credits: Array, parts: Sequence[int]) -> dict[str, Any]:
    """Mean credit and its interval, in percent."""
    drawn = bootstrap(credits, [1.0] * len(credits), parts, range(len(credits)), draws=2000)
    low, high = interval_of(drawn)
    return {"score": percent(float(np.mean(credits))), "low": percent(low), "high": percent(high)}


def difference(a: Array, b: Array, parts: Sequence[int]) -> dict[str, float]:
    """Points between two judges on the same rows, the interval and the p-value."""
    found = paired_difference(a.tolist(), b.tolist(), [1.0] * len(a), parts, range(len(a)), draws=4000)
    low, high = found.interval
    return {
        "points": percent(found.value),
        "low": percent(low),
        "high": percent(high),
        "p": round(found.p, 4),
    }


def write(runs: Sequence[Path], into: Path) -> None:
    """Write results.json, the plots and README.md."""
    found = results(runs)
    into.mkdir(parents=True, exist_ok=True)
    (into / "results.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    draw(found, runs, into)
    (into / "README.md").write_text(page(found), encoding="utf-8")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="results.json, plots and README of finished runs")
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--into", type=Path, default=Path(__file__).parent)
    args = parser.parse_args()
    if args.runs:
        write(args.runs, args.into)
    else:  # the page alone, from the figures that are there
        path = args.into / "results.json"
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
        (args.into / "README.md").write_text(page(found), encoding="utf-8")


if __name__ == "__main__":
    main()
