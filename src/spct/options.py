"""Options of the command line that several commands share: of the engine, and of the judge.

None leaves a setting at its default, which stands in its help; `configs.JudgeConfig` has them all.
"""

from __future__ import annotations

from typing import Annotated

import typer

# the engine
Backend = Annotated[str, typer.Option(help="auto, openai, local, vllm or scripted.")]
Model = Annotated[str | None, typer.Option(help="Served name, folder or hub name; local: smollm2.")]
BaseUrl = Annotated[list[str] | None, typer.Option(help="OpenAI-compatible server; may be repeated.")]
Adapter = Annotated[str | None, typer.Option(help="LoRA adapter folder (local); `none` for none.")]
Concurrency = Annotated[int | None, typer.Option(help="Requests in flight per server (default: 128).")]
ExtraBody = Annotated[str | None, typer.Option(help="JSON object of further request fields, for a server.")]

# the judge
K = Annotated[int, typer.Option("-k", "--k", help="Samples per example.")]
Template = Annotated[str | None, typer.Option(help="Shipped template or a file of your own.")]
Order = Annotated[
    str | None, typer.Option(help="balanced, random (the paper's) or given (default: balanced).")
]
Scale = Annotated[str | None, typer.Option(help="Lowest..highest score, e.g. 1..5.")]
Adaptive = Annotated[str | None, typer.Option(help="off, exact or confident: stop before k (default: off).")]
Alpha = Annotated[float | None, typer.Option(help="Risk of another winner, for confident (default: 0.01).")]
Temperature = Annotated[float | None, typer.Option(help="Default: 0 for k = 1, else 0.5")]
MaxTokens = Annotated[int | None, typer.Option(help="New tokens per sample (default: 2048; smollm2: 256).")]
Constrain = Annotated[
    bool | None,
    typer.Option(
        help="Constrain decoding to the output form (default: no, but for smollm2 without its adapter)."
    ),
]
Shots = Annotated[str | None, typer.Option(help="JSONL of worked examples with a judgement.")]
MinValid = Annotated[int | None, typer.Option(help="Fewer valid samples give no rewards (default: 1).")]
Resample = Annotated[
    int | None, typer.Option(help="Extra samples in place of invalid ones, at most (default: 0).")
]
Seed = Annotated[int, typer.Option(help="Of orders and samples.")]

# the meta RM
MetaUrl = Annotated[str | None, typer.Option(help="Meta RM behind /classify.")]
MetaModel = Annotated[str | None, typer.Option(help="Meta RM folder; with --meta-url its served name.")]
KMeta = Annotated[int | None, typer.Option(help="Samples that the meta RM keeps (default: ceil(k/2)).")]
