"""The `spct` command. Heavy imports stand inside the commands, so that `--help` is quick."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from spct import options
from spct.errors import SpctError
from spct.evals.commands import app as bench_app
from spct.serve.commands import serve
from spct.training.commands import app as training_app

app = typer.Typer(
    name="spct",
    help="Generalist reward modelling with inference-time scaling (DeepSeek-GRM, SPCT).",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command(
    epilog="Example: spct score pairs.jsonl --out runs/pairs --base-url http://localhost:8000 --model M -k 8"
)
def score(
    source: Annotated[
        Path, typer.Argument(metavar="INPUT.jsonl", help="Examples, or chosen/rejected pairs.")
    ],
    out: Annotated[Path | None, typer.Option(help="Run folder; an unfinished run in it is resumed.")] = None,
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
    hinted: Annotated[bool, typer.Option(help="Name the best response by the labels in the prompt.")] = False,
    shots: options.Shots = None,
    min_valid: options.MinValid = None,
    resample: options.Resample = None,
    concurrency: options.Concurrency = None,
    extra_body: options.ExtraBody = None,
    seed: options.Seed = 0,
    skip_bad: Annotated[bool, typer.Option(help="List bad lines and go on.")] = False,
    dry_run: Annotated[
        bool, typer.Option(help="Print settings and the first prompt, score nothing.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One verdict a line on stdout, nothing else.")
    ] = False,
) -> None:
    """Score the responses in a file: k samples each vote, rewards are their sums."""
    from spct import scoring

    settings = scoring.settings(
        k=k, order=order, scale=scale, adaptive=adaptive, alpha=alpha, k_meta=k_meta,
        temperature=temperature, max_tokens=max_tokens, constrain=constrain, hinted=hinted,
        shots=shots, template=template, min_valid=min_valid, resample=resample, seed=seed,
    )  # fmt: skip
    urls = base_url or ()
    engine = scoring.Engine(backend, model, urls, adapter, concurrency, extra_body, meta_url, meta_model)
    raise typer.Exit(
        scoring.score_file(source, out, settings, engine, skip_bad=skip_bad, dry_run=dry_run, as_json=as_json)
    )


@app.command(epilog="Example: spct revote runs/pairs -k 1 -k 8 -k 32 --k-meta 16")
def revote(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    k: Annotated[
        list[int] | None, typer.Option("-k", help="Samples to vote with; may be repeated (default: all).")
    ] = None,
    k_meta: Annotated[
        int | None, typer.Option(help="Samples that the meta RM keeps; needs meta rewards.")
    ] = None,
    min_valid: Annotated[int, typer.Option(help="Fewer valid samples give no rewards.")] = 1,
    as_json: Annotated[
        bool, typer.Option("--json", help="One verdict a line on stdout, nothing else.")
    ] = False,
) -> None:
    """Vote again over a stored run, offline, with the first k samples of each example."""
    from spct import scoring

    scoring.revote(run, k or [], k_meta, min_valid, as_json=as_json)


@app.command(epilog="Example: spct show runs/pairs q17 --html q17.html")
def show(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    example_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="One example, with its reasons.")
    ] = None,
    k: Annotated[int | None, typer.Option("-k", help="Vote with the first k samples (default: all).")] = None,
    k_meta: Annotated[int | None, typer.Option(help="Samples that the meta RM keeps.")] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write a self-contained page in place of the terminal.")
    ] = None,
) -> None:
    """Show a run: a table of verdicts, or one example with principles, critiques and votes."""
    from spct import show as pages

    pages.show(run, example_id, k=k, k_meta=k_meta, html=html)


@app.command(epilog="Example: spct doctor --base-url http://localhost:8000")
def doctor(
    base_url: Annotated[
        list[str] | None, typer.Option(help="Server to ask what it serves; may be repeated.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """Say what is installed, which extras are missing, and whether servers answer."""
    from spct.doctor import examine

    raise typer.Exit(examine(base_url or [], as_json=as_json))


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    """Handle options of `spct` itself."""
    if version:
        from spct import __version__

        typer.echo(__version__)
        raise typer.Exit


app.command("serve", epilog="Example: spct serve --base-url http://localhost:8000 --model M -k 8")(serve)
app.add_typer(training_app)
app.add_typer(bench_app, name="bench")


def main() -> None:
    """Run the command; exit 2 for the caller's faults, 1 for the world's, 130 for Ctrl-C."""
    try:
        app()
    except SpctError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
