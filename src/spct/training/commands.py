"""Commands of training: `spct data`, `rollout`, `reject`, `critiques`, `train STAGE`, `export verl`.

Light to import: each command imports what it runs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spct import options

if TYPE_CHECKING:
    from spct.training.configs import PairsConfig, StageConfig

app = typer.Typer(no_args_is_help=True)
train_app = typer.Typer(no_args_is_help=True, help="Train a stage from a TOML file (extra `train`).")
export_app = typer.Typer(no_args_is_help=True, help="Write a stage out for another engine.")
app.add_typer(train_app, name="train")
app.add_typer(export_app, name="export")

Config = Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="Settings; see recipes/.")]
Sets = Annotated[list[str] | None, typer.Option("--set", help="key=value, may be repeated.")]
DryRun = Annotated[bool, typer.Option(help="Print the resolved settings, train nothing.")]
Resume = Annotated[bool, typer.Option(help="Go on with the run in the folder, from its last checkpoint.")]


@app.command(epilog="Example: spct data nvidia/HelpSteer2 --option data_dir=preference --out data/helpsteer2")
def data(
    source: Annotated[str, typer.Argument(help="JSONL, a saved data set, or a hub name.")],
    out: Annotated[Path, typer.Option(help="Folder for train.jsonl, dev.jsonl and report.json.")],
    split: Annotated[str, typer.Option(help="Split of a data set.")] = "train",
    option: Annotated[
        list[str] | None, typer.Option(help="key=value for load_dataset; may be repeated.")
    ] = None,
    margin: Annotated[float | None, typer.Option(help="Turn lists into pairs so far apart.")] = None,
    max_pairs: Annotated[int | None, typer.Option(help="Pairs per list, at most.")] = None,
    against: Annotated[
        list[Path] | None, typer.Option(help="Benchmark examples; queries that overlap are dropped.")
    ] = None,
    threshold: Annotated[float, typer.Option(help="Share of a benchmark query's 8-grams that counts.")] = 0.5,
    keep_overlap: Annotated[bool, typer.Option(help="Report overlaps, drop none.")] = False,
    dev: Annotated[float, typer.Option(help="Share of queries for dev.jsonl.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of the split.")] = 0,
    skip_bad: Annotated[bool, typer.Option(help="Leave out what cannot be used, and list it.")] = False,
) -> None:
    """Check data points of any form and write them as examples, split by query."""
    from spct.training.prepare import prepare

    options = dict(pair.partition("=")[::2] for pair in option or [])
    report = prepare(
        source,
        out,
        split=split,
        options=options,
        margin=margin,
        max_pairs=max_pairs,
        against=against or [],
        threshold=threshold,
        keep_overlap=keep_overlap,
        dev=dev,
        seed=seed,
        skip_bad=skip_bad,
    )
    sizes = ", ".join(f"{name} {count}" for name, count in report["points"].items())
    print(f"{sizes}; {len(report['unusable'])} unusable; {report['overlap']['flagged']} overlap a benchmark")
    print(f"written to {out}; details in {out / 'report.json'}")


@app.command(
    epilog="Example: spct rollout train.jsonl --out runs/plain --base-url http://localhost:8000 --model M"
)
def rollout(
    source: Annotated[list[str], typer.Argument(metavar="DATA...", help="Labelled examples.")],
    out: Annotated[Path, typer.Option(help="Run folder; an unfinished rollout in it is resumed.")],
    n: Annotated[int, typer.Option("--n", "-n", help="Samples per data point.")] = 3,
    hinted: Annotated[bool, typer.Option(help="Name the best response in the prompt.")] = False,
    backend: options.Backend = "auto",
    model: options.Model = None,
    base_url: options.BaseUrl = None,
    adapter: options.Adapter = None,
    template: Annotated[str | None, typer.Option(help="Prompt of two or more responses.")] = None,
    single_template: Annotated[
        str | None, typer.Option(help="Prompt of one response (default: single).")
    ] = None,
    temperature: Annotated[float, typer.Option(help="Of the samples.")] = 0.5,
    max_tokens: Annotated[int, typer.Option(help="New tokens per sample.")] = 2048,
    order: Annotated[str, typer.Option(help="balanced, random (the paper's) or given.")] = "balanced",
    constrain: Annotated[bool, typer.Option(help="Constrain decoding to the output form.")] = False,
    concurrency: options.Concurrency = None,
    seed: Annotated[int, typer.Option(help="Of orders and samples.")] = 0,
    skip_bad: Annotated[bool, typer.Option(help="Leave out data points without usable labels.")] = False,
) -> None:
    """Draw trajectories of data points, to be rejected, learnt from, or to tell which are easy."""
    from spct.backends import open_backend
    from spct.training.rollouts import rollout as draw
    from spct.training.rollouts import tally

    engine = open_backend(
        backend, model=model, base_urls=base_url or (), adapter=adapter, concurrency=concurrency
    )
    run = draw(
        list(source),
        out,
        engine,
        n=n,
        hinted=hinted,
        template=template,
        single_template=single_template,
        skip_bad=skip_bad,
        temperature=temperature,
        max_tokens=max_tokens,
        order=order,
        constrain=constrain,
        seed=seed,
    )
    counts = tally(run)
    print(", ".join(f"{name} {count}" for name, count in counts.items()) + f"; stored in {out}")
    if counts["lost"]:
        print(f"{counts['lost']} samples are missing because the engine failed; run the same command again")
        raise typer.Exit(1)


@app.command(
    epilog="Example: spct reject runs/plain runs/hinted --out rft.jsonl --general tulu.jsonl --ratio 5.75"
)
def reject(
    run: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Rollout folders, hinted and not.")],
    out: Annotated[Path, typer.Option(help="JSONL of prompts and completions to write.")],
    general: Annotated[
        list[str] | None, typer.Option(help="General instruction data; may be repeated.")
    ] = None,
    ratio: Annotated[
        float, typer.Option(help="General rows per kept trajectory; the paper's is 5.75.")
    ] = 0.0,
    leak: Annotated[
        str, typer.Option(help="Hinted critiques that speak of the hint: off, flag or drop.")
    ] = "flag",
    keep_easy: Annotated[
        bool,
        typer.Option(help="Keep what the teacher always gets right: for a teacher other than the pupil."),
    ] = False,
    template: Annotated[str | None, typer.Option(help="Prompt of two or more responses.")] = None,
    single_template: Annotated[str, typer.Option(help="Prompt of one response.")] = "single",
    min_points: Annotated[int, typer.Option(help="Fewer data points left are an error.")] = 1,
    allow_missing: Annotated[bool, typer.Option(help="Go on where samples are missing.")] = False,
    seed: Annotated[int, typer.Option(help="Of the mix.")] = 0,
) -> None:
    """Keep the trajectories to learn from: correct ones of data points that are not too easy."""
    from spct.training.rejection import check_leak, reject_runs

    manifest = reject_runs(
        run,
        out,
        general=general or [],
        ratio=ratio,
        leak=check_leak(leak),
        keep_easy=keep_easy,
        template=template,
        single=single_template,
        min_points=min_points,
        allow_missing=allow_missing,
        seed=seed,
    )
    print(", ".join(f"{name} {count}" for name, count in manifest["counts"].items()))
    print(f"{manifest['rows']} rows in {out}, {manifest['general']['rows']} of them general")


@app.command(
    epilog="Example: spct critiques train.jsonl --out runs/given --base-url http://localhost:8000 --model M"
)
def critiques(
    source: Annotated[list[str], typer.Argument(metavar="DATA...", help="Examples.")],
    out: Annotated[Path, typer.Option(help="Run folder; unfinished critiques in it are resumed.")],
    backend: options.Backend = "auto",
    model: options.Model = None,
    base_url: options.BaseUrl = None,
    adapter: options.Adapter = None,
    temperature: Annotated[float, typer.Option(help="Of the critiques.")] = 0.5,
    max_tokens: Annotated[int, typer.Option(help="New tokens per critique.")] = 512,
    concurrency: options.Concurrency = None,
    seed: Annotated[int, typer.Option(help="Of the samples.")] = 0,
    skip_bad: Annotated[bool, typer.Option(help="Leave out rows that are no examples.")] = False,
) -> None:
    """Draw a critique of each response, for `spct train cloud`."""
    from spct.backends import open_backend
    from spct.training.critiques import draw_critiques, tally

    engine = open_backend(
        backend, model=model, base_urls=base_url or (), adapter=adapter, concurrency=concurrency
    )
    run = draw_critiques(
        list(source),
        out,
        engine,
        temperature=temperature,
        max_tokens=max_tokens,
        seed=seed,
        skip_bad=skip_bad,
    )
    counts = tally(run)
    print(", ".join(f"{name} {count}" for name, count in counts.items()) + f"; stored in {out}")
    if counts["lost"]:
        print(f"{counts['lost']} critiques are missing because the engine failed; run the same command again")
        raise typer.Exit(1)


@train_app.command(epilog="Example: spct train rft recipes/tiny/rft.toml --set lr=1e-3")
def rft(config: Config, set_: Sets = None, dry_run: DryRun = False, resume: Resume = False) -> None:
    """Rejective fine-tuning on the rows of `spct reject`."""
    from spct.training import rft as stage
    from spct.training.configs import RFTConfig, load_config

    settings = load_config(RFTConfig, config, set_ or [])
    if dry_run:
        _show(settings, stage.rft_arguments(settings))
        return
    _done(stage.run(settings, resume=resume))


@train_app.command(epilog="Example: spct train grpo recipes/tiny/grpo.toml --resume")
def grpo(config: Config, set_: Sets = None, dry_run: DryRun = False, resume: Resume = False) -> None:
    """Rule-based RL: GRPO on the outcome of each rollout."""
    from spct.training import grpo as stage
    from spct.training.configs import GRPOConfig, load_config

    settings = load_config(GRPOConfig, config, set_ or [])
    if dry_run:
        _show(settings, stage.grpo_arguments(settings))
        return
    _done(stage.run(settings, resume=resume))


@train_app.command("meta-rm", epilog="Example: spct train meta-rm recipes/tiny/meta_rm.toml")
def meta_rm(config: Config, set_: Sets = None, dry_run: DryRun = False, resume: Resume = False) -> None:
    """Train the meta RM, which tells whether to trust a trajectory."""
    from spct.training import meta_rm as stage
    from spct.training.classifier import cross_entropy_arguments
    from spct.training.configs import MetaRMConfig, load_config

    settings = load_config(MetaRMConfig, config, set_ or [])
    if dry_run:
        _show(settings, cross_entropy_arguments(settings))
        return
    _done(stage.run(settings, resume=resume))


@train_app.command("bradley-terry", epilog="Example: spct train bradley-terry bt.toml --set margin=1")
def bradley_terry(config: Config, set_: Sets = None, dry_run: DryRun = False, resume: Resume = False) -> None:
    """Train the Bradley-Terry baseline: a scalar for each response alone."""
    from spct.training.configs import BradleyTerryConfig

    _baseline(BradleyTerryConfig, config, set_, dry_run=dry_run, resume=resume)


@train_app.command("pair-rm", epilog="Example: spct train pair-rm pair_rm.toml")
def pair_rm(config: Config, set_: Sets = None, dry_run: DryRun = False, resume: Resume = False) -> None:
    """Train the PairRM baseline: a scalar for two responses at once."""
    from spct.training.configs import PairRMConfig

    _baseline(PairRMConfig, config, set_, dry_run=dry_run, resume=resume)


@train_app.command(epilog="Example: spct train cloud critic.toml; spct train cloud head.toml")
def cloud(config: Config, set_: Sets = None, dry_run: DryRun = False, resume: Resume = False) -> None:
    """Train the CLoud baseline on `spct critiques`: part = "critic", then part = "head"."""
    from spct.training.configs import CloudConfig

    _baseline(CloudConfig, config, set_, dry_run=dry_run, resume=resume)


@export_app.command(epilog="Example: spct export verl recipes/gemma-2-27b/grpo.toml --out verl/")
def verl(
    config: Config,
    out: Annotated[Path, typer.Option(help="Folder for the parquet, the reward function and the command.")],
    set_: Sets = None,
) -> None:
    """Write a GRPO stage for verl: data, reward function, launch command."""
    from spct.training.configs import GRPOConfig, load_config
    from spct.training.verl import export

    report = export(load_config(GRPOConfig, config, set_ or []), out)
    print(f"{report['used']} data points in {out}; run {out / 'launch.sh'} where verl is installed")


def _baseline(
    kind: type[PairsConfig], config: Path, sets: list[str] | None, *, dry_run: bool, resume: bool
) -> None:
    from spct.training import baselines as stage
    from spct.training.configs import load_config

    settings = load_config(kind, config, sets or [])
    if dry_run:
        _show(settings, stage.arguments(settings))
        return
    _done(stage.run(settings, resume=resume))


def _show(settings: StageConfig, arguments: dict[str, Any]) -> None:
    print(json.dumps({"settings": settings.model_dump(mode="json"), "engine": arguments}, indent=2))


def _done(model: Path) -> None:
    print(f"model in {model}")
