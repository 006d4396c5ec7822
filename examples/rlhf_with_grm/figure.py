"""The figure of results.json: truth, what the judge believes of it, what it ranks right, truth by kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spct.training.curves import moving_mean, series

TRUTH = "the truth"


def draw(found: dict[str, Any], path: Path) -> None:
    """Draw four panels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 8), layout="constrained")
    (first, second), (third, fourth) = figure.subplots(2, 2)
    names = list(found["arms"])
    _lines(first, found, "truth", names, "True quality while training, by the reward")
    lists = [name for name in names if name.startswith("list")]
    for name in lists:
        _line(second, found, "reward", name, f"judge, {name}", linestyle="--")
        _line(second, found, "truth", name, f"truth, {name}")
    _finish(second, "What the judge says (reward / 10) and what is true")
    _lines(third, found, "agreement", names[:-1], "Pairs within a group that the reward puts right")
    _kinds(fourth, found)
    figure.savefig(path, dpi=110)


def _lines(axis: Any, found: dict[str, Any], key: str, names: list[str], title: str) -> None:
    for name in names:
        _line(axis, found, key, name, name, **({"linestyle": ":"} if name == TRUTH else {}))
    _finish(axis, title)


def _line(axis: Any, found: dict[str, Any], key: str, name: str, label: str, **style: Any) -> None:
    """The moving mean of ten steps; an arm has the same colour in all panels."""
    steps, values = series(found["arms"][name]["steps"], key)
    axis.plot(steps, moving_mean(values), label=label, color=_color(found, name), **style)


def _color(found: dict[str, Any], name: str) -> str:
    return f"C{list(found['arms']).index(name)}"


def _finish(axis: Any, title: str) -> None:
    axis.set(xlabel="GRPO step (mean of the last ten)", title=title)
    axis.legend(fontsize=8)
    axis.grid(alpha=0.3)


def _kinds(axis: Any, found: dict[str, Any]) -> None:
    """Bars: before, under a judge of lists, of lone responses, and under the truth."""
    names = [name for name in found["arms"] if name.endswith("k = 8") or name == TRUTH]
    shown = {"before": found["start"]} | {name: found["arms"][name]["end"] for name in names}
    kinds, width = list(found["start"]["met"]), 0.8 / len(shown)
    for i, (name, measured) in enumerate(shown.items()):
        places = [at + (i - (len(shown) - 1) / 2) * width for at in range(len(kinds))]
        color = "0.75" if name == "before" else _color(found, name)
        axis.bar(places, [measured["met"][kind] for kind in kinds], width, label=name, color=color)
    axis.set_xticks(range(len(kinds)), kinds, fontsize=8)
    axis.set(title="Requirements met on held-out queries, by kind", ylim=(0, 1.1))
    axis.legend(fontsize=8, ncols=len(shown), loc="upper center")
