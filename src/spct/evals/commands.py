"""`spct bench`: list, run, report and weaknesses. Heavy imports stand inside the commands."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from spct import options
from spct.errors import MissingExtraError

app = typer.Typer(help="Benchmarks, baselines, scaling curves, biases and the report.", no_args_is_help=True)


def _need_extra() -> None:
    """Say which extra is missing before anything is imported that needs it."""
    from importlib.util import find_spec

    if find_spec("numpy") is None:
        raise MissingExtraError("numpy", "evals")


@app.command("list")
def list_benchmarks() -> None:
    """Show the benchmarks: size, metric, tie rule, source."""
    _need_extra()
    from spct.evals.benchmarks import BENCHMARKS

    for benchmark in BENCHMARKS.values():
        rows = sum(benchmark.published.values())
        print(f"{benchmark.name:<20}{benchmark.title}" + (f", {rows:,} rows" if rows else ""))
        print(f"    {benchmark.metric}; {benchmark.tie_rule}")
        print(f"    {benchmark.source} ({benchmark.version}; licence: {benchmark.licence})")


@app.command(
    epilog="Example: spct bench run rmb llmbar --data DIR --out runs/mine --base-url URL --model M -k 32"
)
def run(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Benchmarks; see `spct bench list`.")],
    out: Annotated[Path, typer.Option(help="Folder for one run per benchmark; unfinished ones are resumed.")],
    data: Annotated[
        Path | None, typer.Option(help="Folder or archive of the official files (default: the hub).")
    ] = None,
    password: Annotated[
        str | None, typer.Option(help="Of an official zip (default: the published one).")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Examples per benchmark, at most.")] = None,
    stratified: Annotated[bool, typer.Option(help="With --limit: from every part in proportion.")] = False,
    form: Annotated[
        str | None,
        typer.Option("--input", help="list, pair or single (default: list; pair for pairwise baselines)."),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(help="llm_judge, llm_judge_prob, bradley_terry, pair_rm or cloud, in place of a GRM."),
    ] = None,
    reward_model: Annotated[str | None, typer.Option(help="Folder or hub name of the scalar model.")] = None,
    reward_url: Annotated[str | None, typer.Option(help="Scalar model behind /classify.")] = None,
    with_reference: Annotated[bool, typer.Option(help="Show the judge the reference answers.")] = False,
    principles_from: Annotated[
        Path | None, typer.Option(help="Judge by the principles of another run.")
    ] = None,
    filtered: Annotated[bool, typer.Option(help="Of those, the ones that led to a correct reward.")] = False,
    name: Annotated[str | None, typer.Option(help="Of the system in reports (default: the model).")] = None,
    price_in: Annotated[float | None, typer.Option(help="Price of 1M prompt tokens.")] = None,
    price_out: Annotated[float | None, typer.Option(help="Price of 1M new tokens.")] = None,
    training: Annotated[
        Path | None, typer.Option(help="Training stage, run or JSONL to check for contamination.")
    ] = None,
    k: options.K = 8,
    backend: options.Backend = "auto",
    model: options.Model = None,
    base_url: options.BaseUrl = None,
    adapter: options.Adapter = None,
    template: options.Template = None,
    order: options.Order = None,
    scale: options.Scale = None,
    adaptive: options.Adaptive = None,
    alpha: options.Alpha = None,
    meta_url: options.MetaUrl = None,
    meta_model: options.MetaModel = None,
    k_meta: options.KMeta = None,
    temperature: options.Temperature = None,
    max_tokens: options.MaxTokens = None,
    constrain: options.Constrain = None,
    shots: options.Shots = None,
    min_valid: options.MinValid = None,
    resample: options.Resample = None,
    concurrency: options.Concurrency = None,
    extra_body: options.ExtraBody = None,
    seed: Annotated[int, typer.Option(help="Of orders, samples and --stratified.")] = 0,
) -> None:
    """Judge benchmarks with any model; run again to resume."""
    _need_extra()
    from spct import scoring
    from spct.evals import bench

    given = scoring.settings(
        k=k, order=order, scale=scale, adaptive=adaptive, alpha=alpha, k_meta=k_meta,
        temperature=temperature, max_tokens=max_tokens, constrain=constrain, shots=shots,
        template=template, min_valid=min_valid, resample=resample, seed=seed,
    )  # fmt: skip
    wanted = bench.Wanted(
        names=tuple(names),
        out=out,
        data=data,
        password=password,
        form=form,
        baseline=baseline,
        reward_model=reward_model,
        reward_url=reward_url,
        limit=limit,
        stratified=stratified,
        seed=seed,
        with_reference=with_reference,
        principles_from=principles_from,
        filtered=filtered,
        name=name,
        prices=(price_in, price_out),
        training=training,
    )
    engine = scoring.Engine(
        backend=backend, model=model, base_urls=tuple(base_url or ()), adapter=adapter,
        concurrency=concurrency, extra_body=extra_body, meta_url=meta_url, meta_model=meta_model,
    )  # fmt: skip
    raise typer.Exit(bench.run(wanted, given, engine))


@app.command(epilog="Example: spct bench report runs/mine runs/theirs --out report.html")
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of `spct bench run`.")],
    out: Annotated[Path, typer.Option(help="The page; results.json and PNGs stand beside it.")] = Path(
        "report.html"
    ),
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "Benchmark report",
    max_mb: Annotated[float, typer.Option(help="Size of the page, at most; examples are cut to fit.")] = 15.0,
) -> None:
    """Write one self-contained HTML page over any number of runs."""
    _need_extra()
    from spct.evals.report import write_report
    from spct.evals.runs import find_runs

    def say(text: str) -> None:
        print(text, file=sys.stderr)

    found = find_runs(runs)
    for path in write_report(found, out, title=title, say=say, limit_bytes=int(max_mb * 1e6)):
        print(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")


@app.command(
    epilog="Example: spct bench weaknesses runs/mine/rmb --model gpt-4o-mini-2024-07-18 --against claude-2.1"
)
def weaknesses(
    run: Annotated[Path, typer.Argument(help="Run of a benchmark that names its models, e.g. RMB.")],
    model: Annotated[str, typer.Option(help="Whose responses, by the name in the data.")],
    against: Annotated[
        str | None, typer.Option(help="Only where this model's response is there too.")
    ] = None,
    top: Annotated[int, typer.Option(help="Criteria to show.")] = 10,
    examples: Annotated[int, typer.Option(help="Losses to show per criterion.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, machine-readable.")] = False,
) -> None:
    """Say on which criteria a model's responses lose, with examples."""
    _need_extra()
    import json
    from dataclasses import asdict

    from spct.evals.runs import load_run
    from spct.evals.weaknesses import find_weaknesses, weakness_lines

    found = find_weaknesses(load_run(run), model, against, examples=examples)
    if as_json:
        print(json.dumps(asdict(found), ensure_ascii=False, indent=1))
        return
    for line in weakness_lines(found, top):
        print(line)
