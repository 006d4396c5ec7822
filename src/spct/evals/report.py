"""`spct bench report`: one self-contained page, `results.json`, and the curves as PNG.

The page works from a file without a network: styles, charts (SVG) and a small script are inside.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from spct import __version__
from spct.evals.browser_data import LIMIT_BYTES, browser
from spct.evals.charts import Bar, Series, bars, lines
from spct.evals.curves import powers
from spct.evals.published import COLUMNS, EXTRA
from spct.evals.results import labels_of_runs, results
from spct.evals.runs import Run

_TEMPLATE = Path(__file__).parent / "report.html"


def write_report(
    runs: Sequence[Run],
    out: Path,
    *,
    title: str = "Benchmark report",
    say: Callable[[str], None] = lambda _: None,
    limit_bytes: int = LIMIT_BYTES,
) -> list[Path]:
    """Write the page, and beside it `results.json` and PNGs of the curves.

    Args:
        runs: Systems on benchmarks.
        out: The page, e.g. `report.html`; the other files take its name as a prefix.
        title: Heading of the page.
        say: Called with what is being computed.
        limit_bytes: Size of the page, at most; examples are cut to fit.

    Returns:
        The files written, the page first.
    """
    found = results(runs, say=say)
    say("packing examples")
    named = list(zip(labels_of_runs(runs), runs, strict=True))
    packed = browser(named, limit_bytes=limit_bytes)
    out.parent.mkdir(parents=True, exist_ok=True)
    page = render(found, packed._asdict(), title)
    out.write_text(page, encoding="utf-8")
    json_path = out.with_name(f"{out.stem}.results.json")
    text = json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False)
    json_path.write_text(text + "\n", encoding="utf-8")
    say("drawing PNGs")
    return [out, json_path, *draw_pngs(found, out)]


def render(found: Mapping[str, Any], packed: Mapping[str, Any], title: str) -> str:
    """The page as text."""
    others = [b["title"] for b in found["benchmarks"].values() if not b["column"]]
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"pct": percent, "num": number, "signed": signed}
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        title=title,
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=__version__,
        results=found,
        columns=[*COLUMNS, "overall", EXTRA, *others],
        charts={name: charts_of(b) for name, b in found["benchmarks"].items()},
        packed=packed,
        index=script_json(packed["entries"]),
    )


def script_json(value: Any) -> Markup:
    """JSON that may stand inside a script element, whatever it holds."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace("&", "\\u0026"))


def percent(value: float | None) -> str:
    """A share in percent with one decimal; a dash for none."""
    return "–" if value is None else f"{100 * value:.1f}"


def number(value: float | None) -> str:
    """A count or a mean, with thousands apart; a dash for none."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:,.1f}"


def signed(value: float) -> str:
    """A difference of shares in points."""
    return f"{100 * value:+.1f}"


def charts_of(benchmark: Mapping[str, Any]) -> dict[str, Any]:
    """SVG charts of one benchmark: scaling, meta RM, adaptive cost, and leanings by system."""
    measure = f"{benchmark['measure']}, %"
    marks = [(name, 100 * ref["score"]) for name, ref in benchmark["references"].items()]
    found: dict[str, Any] = {"scaling": None, "k_meta": None, "adaptive": None, "systems": {}}
    scaling = [s for system in benchmark["systems"].values() for s in _scaling(system)]
    if scaling:
        found["scaling"] = lines(
            scaling,
            title=f"{benchmark['title']}: score by samples",
            x_label="samples k",
            y_label=measure,
            marks=marks,
        )
    sweeps = [
        _series(f"{s['short']}: {c['name']}", c)
        for s in benchmark["systems"].values()
        if (c := s["curves"].get("k_meta"))
    ]
    if sweeps:
        found["k_meta"] = lines(
            sweeps, title="score by samples kept", x_label="samples kept, k_meta", y_label=measure
        )
    cost = [
        Series(s["short"], [p["samples"] for p in points], [100 * p["score"] for p in points])
        for s in benchmark["systems"].values()
        if (points := sorted(s["curves"].get("adaptive", ()), key=lambda p: p["samples"]))
    ]
    if cost:
        found["adaptive"] = lines(
            cost,
            title="score by mean samples drawn",
            x_label="mean samples per decision",
            y_label=measure,
            log_x=False,
        )
    for name, system in benchmark["systems"].items():
        found["systems"][name] = _leanings(system["bias"])
    return found


def _scaling(system: Mapping[str, Any]) -> list[Series]:
    curves, name = system["curves"], system["short"]
    if not curves:
        return []
    half, *rest = curves.get("guided") or [None]
    found = [_series(f"{name}: voting", curves["voting"])]
    found += [_series(f"{name}: {half['name']}", half)] if half else []
    # one band a system is enough to see; those of the other guided curves are as wide
    return found + [_series(f"{name}: {c['name']}", c)._replace(low=None, high=None) for c in rest]


def _series(name: str, curve: Mapping[str, Any]) -> Series:
    def scaled(key: str) -> list[float]:
        return [100 * value for value in curve[key]]

    return Series(name, curve["ks"], scaled("score"), scaled("low"), scaled("high"))


def _leanings(leaning: Mapping[str, Any]) -> dict[str, Markup | None]:
    found: dict[str, Markup | None] = {"positions": None, "histogram": None, "calibration": None}
    by_n: dict[int, list[Mapping[str, Any]]] = {}
    for slot in leaning["positions"]:
        by_n.setdefault(slot["n"], []).append(slot)
    if by_n:
        n, slots = max(by_n.items(), key=lambda item: item[1][0]["samples"])
        found["positions"] = bars(
            [Bar(str(s["place"]), 100 * s["rate"], *(100 * b for b in s["interval"])) for s in slots],
            title=f"win rate by place, {n} responses",
            x_label=f"place among {n}",
            y_label="wins, %",
            mark=100 / n,
        )
    if leaning["histogram"]:
        found["histogram"] = bars(
            [Bar(score, count) for score, count in leaning["histogram"].items()],
            title="scores given",
            x_label="score",
            y_label="times given",
        )
    if leaning["calibration"]:
        points = leaning["calibration"]["bins"]
        sure, right = ([100 * p[key] for p in points] for key in ("sureness", "accuracy"))
        found["calibration"] = lines(
            [
                Series("decisions", sure, right),
                Series("as right as sure", [50, 100], [50, 100]),
            ],
            title="accuracy by sureness",
            x_label="samples that prefer the winner, %",
            y_label="right, %",
            log_x=False,
        )
    return found


def draw_pngs(found: Mapping[str, Any], out: Path) -> list[Path]:
    """The scaling curves as PNG, one file per benchmark that has any."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    paths = []
    for name, benchmark in found["benchmarks"].items():
        series = [s for system in benchmark["systems"].values() for s in _scaling(system)]
        if not series:
            continue
        figure, axes = pyplot.subplots(figsize=(6.4, 4.2), dpi=150)
        for s in series:
            [line] = axes.plot(s.x, s.y, marker="o", markersize=3, label=s.name)
            if s.low is not None and s.high is not None:
                axes.fill_between(s.x, s.low, s.high, alpha=0.15, color=line.get_color())
        labels = defaultdict(list)  # by height: those of one would be written over each other
        for reference, values in benchmark["references"].items():
            axes.axhline(100 * values["score"], linestyle=":", linewidth=1, color="grey")
            labels[round(100 * values["score"])].append(reference)
        for height, names in labels.items():
            at = (max(series[0].x), height)
            axes.annotate(", ".join(names), at, fontsize=7, ha="right", va="bottom")
        axes.set_xscale("log", base=2)
        axes.set_xticks(powers(int(max(series[0].x))))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
        axes.set_xlabel("samples k")
        axes.set_ylabel(f"{benchmark['measure']}, %")
        axes.set_title(benchmark["title"])
        axes.legend(fontsize=7)
        axes.grid(alpha=0.25)
        figure.tight_layout()
        path = out.with_name(f"{out.stem}.{name}.png")
        figure.savefig(path)
        pyplot.close(figure)
        paths.append(path)
    return paths
