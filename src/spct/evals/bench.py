"""What `spct bench run` does: load, plan, judge, score and say it, one benchmark after the other."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, get_args

from spct.backends.base import Backend
from spct.baselines import llm_judge
from spct.configs import JudgeConfig
from spct.errors import ConfigError
from spct.evals.benchmarks import benchmark_named, realmistake
from spct.evals.benchmarks.base import Benchmark, Loaded
from spct.evals.contamination import contaminated
from spct.evals.inputs import Input
from spct.evals.runner import Plan, Planned, facts_of, judge_benchmark, manifest_of, open_run, plan_units
from spct.evals.runs import Run, find_runs, load_run
from spct.evals.scalar_runner import (
    BASELINES,
    DETERMINISTIC,
    PAIRWISE,
    SCALAR,
    Scorer,
    open_scorer,
    score_units,
)
from spct.judge import Judge
from spct.meta import MetaRM
from spct.progress import progress
from spct.scoring import Engine, check_examples, judge_config
from spct.tally import Tally
from spct.types import Example, Usage, Verdict


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a command line asks for; see the options of `spct bench run`."""

    names: tuple[str, ...]
    out: Path
    data: Path | None = None
    password: str | None = None
    form: str | None = None
    baseline: str | None = None
    reward_model: str | None = None
    reward_url: str | None = None
    limit: int | None = None
    stratified: bool = False
    seed: int = 0
    with_reference: bool = False
    principles_from: Path | None = None
    filtered: bool = False
    name: str | None = None
    prices: tuple[float | None, float | None] = (None, None)
    training: Path | None = None

    def price(self, usage: Usage) -> float | None:
        """Money spent, in the unit of the prices; None without prices."""
        if self.prices == (None, None):
            return None
        into, new = self.prices
        return (usage.prompt_tokens * (into or 0) + usage.completion_tokens * (new or 0)) / 1e6


class _Job(NamedTuple):
    """One benchmark, planned."""

    benchmark: Benchmark
    planned: Planned
    config: JudgeConfig
    manifest: dict[str, Any]


def run(wanted: Wanted, given: dict[str, Any], engine: Engine) -> int:
    """Judge the benchmarks; returns the exit code (1 where the engine lost samples, 130 after Ctrl-C).

    Raises:
        InputError: A benchmark is unknown, its data are damaged, or a run folder holds another run;
            all benchmarks are loaded and planned before the first is judged.
    """
    form, given = _protocol(wanted, given)
    benchmarks = [benchmark_named(name) for name in wanted.names]
    principles = _principle_runs(wanted)
    scorer = None
    jobs = []
    for benchmark in benchmarks:
        plan = Plan(
            form,
            wanted.limit,
            wanted.stratified,
            wanted.seed,
            wanted.with_reference,
            principles.get(benchmark.name),
            wanted.filtered,
        )
        config = judge_config(given, engine, benchmark.settings)
        planned = plan_units(benchmark, _load(benchmark, wanted), plan)
        planned.notes.extend(_contamination(planned.units, wanted.training))
        jobs.append(
            _Job(
                benchmark, planned, config, manifest_of(benchmark, planned, plan, config, engine, wanted.data)
            )
        )
    if wanted.baseline in SCALAR:
        scorer = open_scorer(wanted.baseline, engine, jobs[0].config, wanted.reward_model, wanted.reward_url)
    try:
        if scorer is not None:
            return asyncio.run(_score_all(jobs, wanted, scorer))
        return asyncio.run(_judge_all(jobs, wanted, engine, engine.open_backend(), engine.open_meta()))
    except KeyboardInterrupt:
        print("interrupted; stored samples are kept: run the same command again to go on", file=sys.stderr)
        return 130


def _protocol(wanted: Wanted, given: dict[str, Any]) -> tuple[Input, dict[str, Any]]:
    """Form of input and settings that the kind of judge calls for."""
    if wanted.baseline is not None and wanted.baseline not in BASELINES:
        raise ConfigError(f"--baseline is {wanted.baseline!r}", expected=f"one of {', '.join(BASELINES)}")
    form = wanted.form or ("pair" if wanted.baseline in PAIRWISE else "list")
    if form not in get_args(Input):
        raise ConfigError(f"--input is {form!r}", expected=f"one of {', '.join(get_args(Input))}")
    if wanted.baseline == "llm_judge":
        given = {"template": llm_judge.TEMPLATE} | given
    if wanted.baseline in DETERMINISTIC:
        given = given | {"k": 1}  # its samples would all be alike
    return form, given  # type: ignore[return-value]  # checked above


def _principle_runs(wanted: Wanted) -> dict[str, Run]:
    if wanted.principles_from is None:
        if wanted.filtered:
            raise ConfigError("--filtered without --principles-from", fix="name the run to take them from")
        return {}
    return {found.benchmark.name: found for found in find_runs([wanted.principles_from])}


def _load(benchmark: Benchmark, wanted: Wanted) -> Loaded:
    if wanted.password is not None and benchmark.name == realmistake.BENCHMARK.name:
        return realmistake.load(wanted.data, wanted.password)
    return benchmark.load(wanted.data)


def _contamination(units: Sequence[Example], training: Path | None) -> list[str]:
    if training is None:
        return []
    found = contaminated(units, training)
    if not found:
        return [f"none of the queries stands in the training data {training}"]
    ids = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
    return [f"CONTAMINATED: {len(found):,} of {len(units):,} queries stand in {training}: {ids}"]


async def _judge_all(
    jobs: Sequence[_Job], wanted: Wanted, engine: Engine, backend: Backend, meta: MetaRM | None
) -> int:
    lost = 0
    try:
        for benchmark, planned, config, manifest in jobs:
            out = wanted.out / benchmark.name
            facts = facts_of(planned, config, engine, wanted.name)
            check_examples(planned.units, config)
            folder, tally = open_run(out, manifest, facts, planned.units), Tally(planned.units)
            judge = Judge(backend, config, meta=meta, run=folder)
            with folder, progress(benchmark.title, len(planned.units)) as advance:

                def count(v: Verdict, tally: Tally = tally, advance: Any = advance) -> None:
                    cost = wanted.price(tally.usage)
                    advance(note=tally.note() + ("" if cost is None else f"  {cost:,.2f} spent"))

                await judge_benchmark(judge, planned.units, tally, count)
                folder.note({"left_out": [list(pair) for pair in tally.left_out]})
            say(load_run(out), wanted, time.monotonic() - tally.started)
            lost += tally.lost
    finally:
        await backend.aclose()
        if meta is not None:
            await meta.aclose()
    return 1 if lost else 0


async def _score_all(jobs: Sequence[_Job], wanted: Wanted, scorer: Scorer) -> int:
    """Scalar baselines: rewards in place of judgements."""
    try:
        for benchmark, planned, config, manifest in jobs:
            out, began = wanted.out / benchmark.name, time.monotonic()
            settings = manifest["settings"] | {
                "baseline": wanted.baseline,
                "model": scorer.model,
                "reward_model": wanted.reward_model or wanted.reward_url,
            }
            facts = {"notes": planned.notes, "name": wanted.name or f"{wanted.baseline}: {scorer.model}"}
            folder = open_run(out, manifest | {"settings": settings}, facts, planned.units)
            with folder, progress(benchmark.title, len(planned.units) * config.k) as advance:
                await score_units(scorer, planned.units, config.k, out, lambda: advance())
            say(load_run(out), wanted, time.monotonic() - began)
    finally:
        await scorer.aclose()
    return 0


def say(run: Run, wanted: Wanted, seconds: float) -> None:
    """Print the figures of one finished run."""
    from rich.console import Console

    say_line = partial(Console().print, highlight=False, soft_wrap=True, markup=False)
    figures, (low, high) = run.figures, run.interval
    say_line(
        f"{run.benchmark.title}: {run.benchmark.measure} {100 * figures.score:.1f} %"
        f"  (95 % {100 * low:.1f} to {100 * high:.1f}), {len(run.examples):,} examples, k {run.k}"
    )
    for part in figures.parts:
        say_line(f"  {part.name:<32} {100 * part.value:5.1f} %  of {part.n:,}")
    parsed, samples = sum(v.k_valid for v in run.verdicts), run.samples
    unscored = f"{figures.misses:,} examples without a reward count as wrong"
    say_line(f"  parsed {parsed:,}/{samples:,} samples; {unscored}")
    for note in run.notes:
        say_line(f"  note: {note}")
    spent, cost = (
        f"  {run.usage.prompt_tokens:,} prompt + {run.usage.completion_tokens:,} new tokens",
        wanted.price(run.usage),
    )
    say_line(spent + ("" if cost is None else f", {cost:,.2f} spent") + f", {seconds:.1f} s")
    say_line(f"  stored in {run.path}; `spct bench report {wanted.out} --out report.html` shows it")
