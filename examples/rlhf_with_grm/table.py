"""README.md's results, written from results.json and steps.jsonl.

`python examples/rlhf_with_grm/table.py` writes them again, and draws the figure again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from figure import draw

BEGIN, END = "<!-- results: written by table.py -->", "<!-- end of results -->"
EDGE = 10  # steps at either end of training that are averaged


def read(folder: Path) -> dict[str, Any]:
    """What a run found: results.json, with each arm's steps in it."""
    found: dict[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    lines = (folder / "steps.jsonl").read_text(encoding="utf-8").splitlines()
    for row in map(json.loads, lines):
        found["arms"][row["arm"]].setdefault("steps", []).append(row)
    return found


def rewrite(found: dict[str, Any], page: Path) -> None:
    """Put the results between the page's two marks."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    page.write_text(f"{before}{BEGIN}\n\n{table(found)}\n\n{END}{after}", encoding="utf-8")


def table(found: dict[str, Any]) -> str:
    """The results as Markdown."""
    seconds, sizes = found["cpu_seconds"], found["settings"]
    what = (
        f"Truth of 4 responses to each of {sizes['queries']} held-out queries, with 95 % intervals over the"
        f" queries; before RL it is {_interval(found['start']['truth'])}."
    )
    how = f"Training: {sizes['steps']} steps of {4 * sizes['prompts']} rollouts; first -> last {EDGE} steps."
    columns = (
        "reward", "truth after", "gain", "judge's reward", "truth in training", "pairs put right",
        "foreign words", "judge's tokens a rollout", "CPU s",
    )  # fmt: skip
    lines = [f"{what} {how}", "", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for name, arm in found["arms"].items():
        seen = [_edges(arm["steps"], key) for key in ("reward", "truth", "agreement", "foreign")]
        cells = [name, _interval(arm["end"]["truth"]), _interval(arm["gain"]), *seen]
        tokens = f"{arm['judge_tokens_per_rollout']:.0f}"
        lines.append(f"| {' | '.join([*cells, tokens, f'{seconds[name]:.0f}'])} |")
    whole, learning = (
        sum(seconds[part] for part in ("learn to write", *found["arms"])),
        seconds["learn to write"],
    )
    lines += [
        "",
        _kinds(found),
        "",
        f"CPU on one core: {whole:.0f} s, {learning:.0f} of them for learning to write.",
    ]
    return "\n".join(lines)


def _kinds(found: dict[str, Any]) -> str:
    names = {"before": found["start"]} | {name: arm["end"] for name, arm in found["arms"].items()}
    kinds = list(found["start"]["met"])
    head = [
        "| requirements met on held-out queries | " + " | ".join(kinds) + " |",
        "|---" * (len(kinds) + 1) + "|",
    ]
    rows = [
        f"| {name} | {' | '.join(f'{100 * met:.0f} %' for met in (end['met'][kind] for kind in kinds))} |"
        for name, end in names.items()
    ]
    return "\n".join([*head, *rows])


def _interval(values: Sequence[float]) -> str:
    value, low, high = values
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _edges(rows: Sequence[dict[str, Any]], key: str) -> str:
    means = []
    for part in (rows[:EDGE], rows[-EDGE:]):
        known = [row[key] for row in part if row[key] is not None]
        means.append(f"{sum(known) / len(known):.3f}" if known else "-")
    return " -> ".join(means)


if __name__ == "__main__":
    here = Path(__file__).parent
    draw(read(here), here / "curves.png")
    rewrite(read(here), here / "README.md")
