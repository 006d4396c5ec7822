"""`spct serve`: options of the command line in, a running server out. Light to import."""

from __future__ import annotations

from typing import Annotated

import typer

SERVE_EPILOG = (
    "Example: spct serve --base-url http://localhost:8000 --model Qwen/Qwen3-8B -k 8 --adaptive confident "
    "--group-size 8"
)


def serve(
    base_url: Annotated[
        list[str] | None, typer.Option(help="OpenAI-compatible engine; may be repeated.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Served name, folder or hub name; local: smollm2.")
    ] = None,
    backend: Annotated[str, typer.Option(help="auto, openai, local, vllm or scripted.")] = "auto",
    adapter: Annotated[str | None, typer.Option(help="LoRA adapter folder (local); `none` for none.")] = None,
    k: Annotated[int, typer.Option("-k", "--k", help="Samples per list.")] = 8,
    adaptive: Annotated[str, typer.Option(help="off, exact or confident: stop before k.")] = "off",
    alpha: Annotated[float, typer.Option(help="Risk of another winner, for confident.")] = 0.01,
    meta_url: Annotated[str | None, typer.Option(help="Meta RM behind /classify.")] = None,
    meta_model: Annotated[
        str | None, typer.Option(help="Meta RM folder; with --meta-url its served name.")
    ] = None,
    k_meta: Annotated[int | None, typer.Option(help="Samples that the meta RM keeps [ceil(k/2)].")] = None,
    template: Annotated[str | None, typer.Option(help="Shipped template or a file of your own.")] = None,
    order: Annotated[str, typer.Option(help="balanced, random (the paper's) or given.")] = "balanced",
    scale: Annotated[str | None, typer.Option(help="Lowest..highest score, e.g. 1..5.")] = None,
    temperature: Annotated[float | None, typer.Option(help="[0 for k = 1, else 0.5]")] = None,
    max_tokens: Annotated[
        int | None, typer.Option(help="New tokens per sample [2048; smollm2: 512].")
    ] = None,
    constrain: Annotated[
        bool | None, typer.Option(help="Constrain decoding to the output form [smollm2: yes, else no].")
    ] = None,
    min_valid: Annotated[int, typer.Option(help="Fewer valid samples give no rewards.")] = 1,
    resample: Annotated[int, typer.Option(help="Extra samples in place of invalid ones, at most.")] = 0,
    concurrency: Annotated[int | None, typer.Option(help="Requests in flight per engine [128].")] = None,
    extra_body: Annotated[
        str | None, typer.Option(help="JSON object of further fields for every engine request.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of orders and samples.")] = 0,
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
        k=k,
        order=order,
        scale=scale,
        adaptive=adaptive,
        alpha=alpha,
        k_meta=k_meta,
        temperature=temperature,
        max_tokens=max_tokens,
        constrain=constrain,
        template=template,
        min_valid=min_valid,
        resample=resample,
        seed=seed,
    )
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
