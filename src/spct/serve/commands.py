"""`spct serve`: options of the command line in, a running server out. Light to import."""

from __future__ import annotations

from typing import Annotated

import typer

from spct import options

SERVE_EPILOG = (
    "Example: spct serve --base-url http://localhost:8000 --model Qwen/Qwen3-8B -k 8 --adaptive confident "
    "--group-size 8"
)


def serve(
    base_url: options.BaseUrl = None,
    model: options.Model = None,
    backend: options.Backend = "auto",
    adapter: options.Adapter = None,
    k: options.K = 8,
    adaptive: options.Adaptive = None,
    alpha: options.Alpha = None,
    meta_url: options.MetaUrl = None,
    meta_model: options.MetaModel = None,
    k_meta: options.KMeta = None,
    template: options.Template = None,
    order: options.Order = None,
    scale: options.Scale = None,
    temperature: options.Temperature = None,
    max_tokens: options.MaxTokens = None,
    constrain: options.Constrain = None,
    min_valid: options.MinValid = None,
    resample: options.Resample = None,
    concurrency: options.Concurrency = None,
    extra_body: options.ExtraBody = None,
    seed: options.Seed = 0,
    shape: Annotated[str, typer.Option(help="Rewards as mean, sum, centred or rank.")] = "mean",
    clip: Annotated[str | None, typer.Option(help="Lowest..highest reward to give, e.g. -3..3.")] = None,
    invalid: Annotated[
        str, typer.Option(help="Without a valid vote: null, mean (of the group) or error.")
    ] = "null",
    max_list: Annotated[int, typer.Option(help="Responses in one list call; more are split.")] = 8,
    group_size: Annotated[int, typer.Option(help="Rollouts per prompt, where a call does not say.")] = 1,
    deadline_s: Annotated[float, typer.Option(help="Seconds that a group may wait for its members.")] = 30.0,
    answer_within_s: Annotated[float, typer.Option(help="/get_reward answers by then.")] = 150.0,
    max_waiting: Annotated[int, typer.Option(help="Calls under way; more get 429.")] = 8192,
    principles: Annotated[
        str | None, typer.Option(help="JSONL: principles are written once per prompt and reused.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8100,
    open_to_all: Annotated[
        bool, typer.Option("--open", help="Listen beyond this machine without SPCT_SERVER_TOKEN.")
    ] = False,
    log_contents: Annotated[bool, typer.Option(help="Log prompts and responses too.")] = False,
) -> None:
    """Serve rewards to RL trainers over HTTP, with a playground page; SPCT_SERVER_TOKEN guards it."""
    from spct import scoring
    from spct.serve import start

    given = scoring.settings(
        k=k, order=order, scale=scale, adaptive=adaptive, alpha=alpha, k_meta=k_meta,
        temperature=temperature, max_tokens=max_tokens, constrain=constrain, template=template,
        min_valid=min_valid, resample=resample, seed=seed,
    )  # fmt: skip
    engine = scoring.Engine(
        backend=backend,
        model=model,
        base_urls=tuple(base_url or ()),
        adapter=adapter,
        concurrency=concurrency,
        extra_body=extra_body,
        meta_url=meta_url,
        meta_model=meta_model,
    )
    settings = {
        "shape": shape,
        "clip": start.read_clip(clip),
        "invalid": invalid,
        "max_list": max_list,
        "group_size": group_size,
        "deadline_s": deadline_s,
        "answer_within_s": answer_within_s,
        "max_waiting": max_waiting,
        "principles": principles,
        "log_contents": log_contents,
    }
    start.start(engine, given, settings, host=host, port=port, open_to_all=open_to_all)
