"""README.md from results.json: our figures beside the paper's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

PLAIN = """
"Without principles" is put in by us: where no criteria are asked for, the teacher weighs in haste in 75 % of
its judgements (with criteria, in about half). So the rows show what RFT and RL make of haste that stands in
no word, not that criteria help by themselves; NOTES.md tells of the trial in which they did not.
"""
INTRO = """\
# SPCT from nothing, on two CPU cores

A transformer of 0.4 M parameters, which has read nothing but what this folder writes, learns to judge in
a world where a program knows the truth. A query asks for two or three things that a response *must*,
*should* or *may* do; one to four responses do some of them. The judge writes which things count and how
much, checks each response, and scores. Its teacher is wrong 4 times of 10, mostly in haste: then it weighs
without a look at these words, quotes nothing, and takes a long response for a good one. Everything after
the cold start is SPCT (arXiv 2504.02495) by this project's own stages.

    make recipe-tiny        # = python recipes/tiny/run.py --seed 0 --out runs/tiny-0

`run.py` runs the stages of `stages.py` two at a time, one thread each; stopped, it goes on where it was.
`--smoke` runs them all with tiny steps, in a minute or two, and means nothing. `world.py` is the
world, `teacher.py` the teacher, `cold_start.py` the training before SPCT, `batched.py` the engine of
the rollouts, `*.toml` the settings; NOTES.md tells how they were found. This page is written by
`report.py` from `results.json`.
"""
NOTHING = """
## Results
None yet: no whole run has come to its end with the settings that stand here. All stages have been run
with tiny steps (`--smoke`, which a slow test does too). NOTES.md has the figures of the trials from
which the settings were taken; those are not results of this recipe.
"""


class Row(NamedTuple):
    """One line of the table of effects: a difference, its target, and the paper's figure."""

    name: str
    target: str
    paper: str
    reached: Callable[[dict[str, float]], bool] | None = None


def _significant(d: dict[str, float]) -> bool:
    return d["low"] > 0


EFFECTS = (
    Row("RFT over cold start", "significant", "", _significant),
    Row("RL over RFT", ">= +2.0, significant", "+1.1", lambda d: d["points"] >= 2 and _significant(d)),
    Row("Voting@32 over Voting@1", ">= +3.1", "+3.1", lambda d: d["points"] >= 3.1),
    Row("MetaRM Voting@32 over Voting@1", ">= +4.9", "+4.9", lambda d: d["points"] >= 4.9),
    Row("MetaRM Voting@32 over Voting@32", "> 0", "+1.8", lambda d: d["points"] > 0),
    Row("MetaRM Voting@16 over Voting@16", "> 0", "", lambda d: d["points"] > 0),
    Row("MetaRM Voting@8 over Voting@8", "> 0", "+1.4", lambda d: d["points"] > 0),
    Row("MetaRM Voting@4 over Voting@4", "> 0", "", lambda d: d["points"] > 0),
    Row("without principles, greedy", "< 0", "-2.4", lambda d: d["points"] < 0),
    Row("without principles, Voting@8", "< 0", "-2.6", lambda d: d["points"] < 0),
    Row("without principles, Voting@32", "< 0", "", lambda d: d["points"] < 0),
    Row("list over pair input, n > 2", "within 1", "< 1", lambda d: abs(d["points"]) <= 1),
    Row("RL without rejective fine-tuning", "", "-1.2"),
    Row("RFT without hinted", "", "-0.8"),
    Row("RFT without non-hinted", "", "-1.4"),
    Row("beta 0 in place of 0.08", "", "collapses"),
)
PAPER_VOTING = {
    "vote/grpo": {1: 67.9, 8: 70.6, 32: 71.0},
    "guided": {8: 72.0, 32: 72.8},
    "vote/grpo-plain": {8: 68.0},
}
PAPER_K_META = {1: 71.5, 8: 72.7, 16: 72.8}
PAPER_GREEDY = {
    "rft": 68.8, "grpo": 69.9, "grpo-plain": 67.5, "grpo-no-rejection": 68.7, "rft-no-hinted": 68.0,
    "rft-only-hinted": 67.4,
}  # fmt: skip
CALLED = {
    "cold": "cold start",
    "rft": "RFT",
    "grpo": "RFT + RL",
    "grpo-plain": "without principles, RFT + RL",
    "grpo-no-rejection": "RL on the cold start",
    "rft-no-hinted": "RFT without hinted",
    "rft-only-hinted": "RFT without non-hinted",
    "grpo-beta-0": "RFT + RL, beta 0",
}

JUDGED = {
    "greedy-cold": "cold start, greedy",
    "greedy-rft": "RFT, greedy",
    "greedy-grpo": "RFT + RL, greedy",
    "vote": "RFT + RL, the votes",
}


def page(found: dict[str, Any] | None) -> str:
    """The whole README; without results it says so."""
    if found is None:
        return INTRO + NOTHING
    runs, rows = len(found["runs"]), found["rows"]
    head = (
        f"\n## Results\n{runs} seed{'s' * (runs > 1)}, {rows} held-out rows, whose combinations of"
        " requirements training never sees. In percent; in brackets 95 % intervals (paired"
        " bootstrap over rows). The paper's are of a 27 B model on real benchmarks: compare signs and sizes"
        " of effects, not levels.\n"
    )
    if found["smoke"]:
        head += "\n**A smoke run: no figure here means anything.**\n"
    makers = (_effects, _greedy, _voting, _k_meta, _habits, _facts)
    return "\n".join([INTRO, head, *(make(found) for make in makers)])


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _effects(found: dict[str, Any]) -> str:
    rows = []
    for row in EFFECTS:
        d = found["differences"][row.name]
        ours = f"{d['points']:+.1f} [{d['low']:+.1f}, {d['high']:+.1f}]"
        verdict = "" if row.reached is None else "yes" if row.reached(d) else "**no**"
        rows.append((row.name, ours, row.target, verdict, row.paper))
    return (
        table(("effect, points", "ours", "target", "reached", "paper"), rows)
        + PLAIN
        + "\n![effects](ablations.png)\n"
    )


def _score(entry: dict[str, Any]) -> str:
    return f"{entry['score']:.1f} [{entry['low']:.1f}, {entry['high']:.1f}]"


def _greedy(found: dict[str, Any]) -> str:
    rows = []
    for judge, title in CALLED.items():
        by_n = found["by_n"].get(judge, {})
        parsed = [100 * facts["parse_rate"][judge] for facts in found["facts"]]
        rows.append(
            (
                title,
                _score(found["scores"][f"greedy/{judge}"]),
                " / ".join(f"{by_n[n]:.0f}" for n in sorted(by_n)),
                f"{sum(parsed) / len(parsed):.1f}",
                str(PAPER_GREEDY.get(judge, "")),
            )
        )
    return "### Greedy, Eq. 10\n" + table(
        ("judge", "accuracy", "n = 1 / 2 / 3 / 4", "readable", "paper"), rows
    )


def _voting(found: dict[str, Any]) -> str:
    rows = []
    titles = {"vote/grpo": "voting", "guided": "meta RM keeps k/2", "vote/grpo-plain": "without principles"}
    for name, title in titles.items():
        rows.append((title, *(_score(entry) for entry in found["scores"][name])))
        paper = PAPER_VOTING[name]
        rows.append(("paper", *(str(paper.get(k, "")) for k in found["k"])))
    head = ("k =", *map(str, found["k"]))
    return "### Voting at temperature 1 (paper: 0.5)\n" + table(head, rows) + "\n![scaling](scaling.png)\n"


def _k_meta(found: dict[str, Any]) -> str:
    ours = [_score(entry) for entry in found["scores"]["k_meta"]]
    paper = [str(PAPER_K_META.get(k, "")) for k in found["k"]]
    return "### Samples that the meta RM keeps, of the largest k\n" + table(
        ("k_meta =", *map(str, found["k"])), [("ours", *ours), ("paper", *paper)]
    )


def _habits(found: dict[str, Any]) -> str:
    rows = []
    for name, title in JUDGED.items():
        listed = [facts["habits"][name] for facts in found["facts"]]
        means = [
            sum(entry[key] or 0.0 for entry in listed) / len(listed)
            for key in ("hasty_criteria", "glances", "evidence")
        ]
        rows.append((title, *(f"{100 * mean:.0f}" for mean in means)))
    head = ("judgements", "criteria without levels", "checks at a glance", "other checks that are right")
    return (
        "### Haste\nWhat the judgements of the held-out rows do, in percent (`habits.py` has more).\n\n"
        + table(head, rows)
    )


def _facts(found: dict[str, Any]) -> str:
    rows = []
    for run, facts in zip(found["runs"], found["facts"], strict=True):
        kept, meta, votes = facts["reject"], facts["meta-rm"], facts["meta-rewards"]
        wall = sum(seconds for seconds, _ in facts["seconds"].values())
        cpu = sum(seconds for _, seconds in facts["seconds"].values())
        rows.append(
            (
                run,
                str(facts["cold"]["steps"]),
                f"{kept['kept_non_hinted']} + {kept['kept_hinted']}",
                str(kept["too_easy_points"]),
                _number(meta.get("roc_auc")),
                _number(meta.get("ece")),
                _number(votes["roc_auc_within_rows"]),
                f"{wall / 60:.0f}",
                f"{cpu / 60:.0f}",
            )
        )
    kept_head = "kept, non-hinted + hinted"
    head = (
        "run", "steps of the cold start", kept_head, "too easy", "meta RM ROC-AUC", "its ECE",
        "ROC-AUC among the votes of a row", "minutes of stages", "CPU minutes",
    )  # fmt: skip
    ends = []
    for name, title in (("grpo", "beta 0.08"), ("grpo-beta-0", "beta 0")):
        for run, facts in zip(found["runs"], found["facts"], strict=True):
            end = facts["training"][name]
            keys = ("accuracy", "worst_domain", "parse_rate", "kl", "entropy")
            ends.append((f"{title}, {run}", *(_number(end[key]) for key in keys)))
    rl = ("last 10 steps of RL", "accuracy", "worst domain", "readable", "KL", "entropy")
    return (
        "### Training\nMinutes are the sum over stages; `run.py` runs two at a time,"
        " or as many as `--jobs` says.\n\n"
        + table(head, rows)
        + "\n"
        + table(rl, ends)
        + "\n![training](training.png)\n"
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
