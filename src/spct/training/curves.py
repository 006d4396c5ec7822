"""Training curves as one PNG, from metrics.jsonl."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PANELS = (
    ("outcome", "outcome (+1 right, -1 wrong)"),
    ("accuracy", "accuracy"),
    ("margin", "reward of the better minus that of the worse"),
    ("parse_rate", "rollouts with readable scores"),
    ("zero_variance", "groups without signal"),
    ("kl", "KL to the reference"),
    ("entropy", "entropy per token"),
    ("length", "tokens per rollout"),
    ("loss", "loss"),
    ("mean_token_accuracy", "accuracy per token"),
)
_WINDOW = 10  # steps of the moving mean


def read_metrics(run: str | Path) -> list[dict[str, Any]]:
    """Logged steps of a run, a torn last line left out."""
    path = Path(run) / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").split("\n") if path.is_file() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def series(rows: Sequence[dict[str, Any]], name: str) -> tuple[list[int], list[float]]:
    """Steps and values of a metric, where it was logged."""
    found = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
    return [step for step, _ in found], [value for _, value in found]


def moving_mean(values: Sequence[float], window: int = _WINDOW) -> list[float]:
    """Mean of the last `window` values at each place.

    >>> moving_mean([1, 2, 6], 2)
    [1.0, 1.5, 4.0]
    """
    return [sum(values[max(0, i - window + 1) : i + 1]) / min(i + 1, window) for i in range(len(values))]


def draw_curves(run: str | Path, out: str | Path | None = None) -> Path | None:
    """Draw what a run logged, with a line per domain; None where it logged nothing.

    Args:
        run: Folder of the run.
        out: File; None means RUN/curves.png.
    """
    from matplotlib.figure import Figure

    rows = read_metrics(run)
    panels = [(name, title) for name, title in PANELS if series(rows, name)[0]]
    if not panels:
        return None
    keys = {key.removeprefix("domain/") for row in rows for key in row if key.startswith("domain/")}
    domains = sorted({key.rpartition("/")[0] for key in keys})
    figure = Figure(figsize=(12, 2.6 * ((len(panels) + 1) // 2)), layout="constrained")
    axes = figure.subplots((len(panels) + 1) // 2, 2, squeeze=False).flatten()
    for axis, (name, title) in zip(axes, panels, strict=False):
        steps, values = series(rows, name)
        axis.plot(steps, values, color="0.8", linewidth=0.8)
        axis.plot(steps, moving_mean(values), color="black", linewidth=1.6, label="all")
        for part in domains if len(domains) > 1 else ():
            steps, values = series(rows, f"domain/{part}/{name}")
            axis.plot(steps, moving_mean(values), linewidth=0.9, label=part)
        axis.set_title(title, fontsize=10)
        axis.grid(alpha=0.3)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    axes[0].legend(fontsize=7)
    path = Path(out) if out else Path(run) / "curves.png"
    figure.savefig(path, dpi=120)
    return path
