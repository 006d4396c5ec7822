"""Critiques of single responses, for CLoud (§7): drawn from any engine, or given in the data.

    data points -> the critic's prompt for each response -> a run folder -> `spct train cloud`

A strong model's critiques teach the critic; the critic's own then train the value head, which so reads
in training what it reads when it scores. A GRM's judgements are no such critiques: each speaks of all
responses at once, and the critic of CLoud sees one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from spct.backends.base import Backend
from spct.baselines.cloud import critique_prompt, critique_request
from spct.examples import to_row
from spct.job import together
from spct.progress import progress
from spct.records import MANIFEST, RunFolder, run_manifest
from spct.training.configs import CloudConfig
from spct.training.data import Fault, Points
from spct.training.sources import load_all, unusable
from spct.types import Completion, Example, FailureReason, Request, SamplingParams, Trajectory, digest


def draw_critiques(
    data: Sequence[str | Path],
    out: str | Path,
    backend: Backend,
    *,
    temperature: float = 0.5,
    max_tokens: int = 512,
    seed: int = 0,
    skip_bad: bool = False,
) -> RunFolder:
    """Draw one critique of each response into a run folder; what the folder holds is kept.

    A line of its trajectories is a critique: `order` and `sample` are the index of its response, and its
    failure is `no_scores`, as a critique has none, or why there is no text to use.

    Args:
        data: Sources of examples, see `load_points`; labels are not needed for drawing.
        out: Run folder, new or of the same command.
        backend: The engine; closed at the end.
        temperature: As the critic is to have when it scores.
        max_tokens: New tokens of a critique.
        seed: Of the samples.
        skip_bad: Leave out rows that are no examples.

    Returns:
        The closed folder.

    Raises:
        InputError: Data are wrong, or the folder holds another run.
        BackendError: The engine is gone; finished critiques are stored.
    """
    examples = load_all(data, skip_bad=skip_bad, check=False).examples
    params = SamplingParams(temperature, max_tokens=max_tokens)
    settings = {"model": backend.model, "temperature": temperature, "max_tokens": max_tokens, "seed": seed}
    settings["data"] = digest([to_row(example) for example in examples])
    facts = {"command": "critiques", "source": [str(d) for d in data], "examples": len(examples)}
    with RunFolder.create(out, run_manifest(settings, **facts), examples) as run:
        asyncio.run(_draw(backend, params, seed, run))
    return run


async def _draw(backend: Backend, params: SamplingParams, seed: int, run: RunFolder) -> None:
    gate = asyncio.Semaphore(backend.max_concurrency)
    places = [(example, i) for example in run.examples for i in range(len(example.responses))]
    with progress("critiques", len(places)) as advance:

        async def one(example: Example, index: int) -> None:
            request = critique_request(example, index, sample=0, seed=seed, params=params)
            key = digest([backend.model, request.messages[0].content, request.seed, index])
            if run.get(key) is None:
                async with gate:
                    [completion] = await backend.generate(request)
                run.add([_stored(request, completion, key, backend.model)])
            advance()

        try:
            await together([one(example, i) for example, i in places])
        finally:
            await backend.aclose()


def _stored(request: Request, completion: Completion, key: str, model: str) -> Trajectory:
    cut = completion.finish_reason == "length"
    return Trajectory(
        example_id=request.example_id,
        sample=request.order[0],
        key=key,
        order=request.order,
        seed=request.seed,
        text=completion.text,
        critique=completion.text.strip(),
        failure=completion.failure or (FailureReason.TRUNCATED if cut else FailureReason.NO_SCORES),
        detail=completion.detail,
        finish_reason=completion.finish_reason,
        usage=completion.usage,
        latency_s=completion.latency_s,
        model=model,
        template="critique",
    )


def tally(run: RunFolder) -> dict[str, int]:
    """What the drawing came to: critiques that can be used, that were cut, that the engine lost."""
    drawn = [t for _, found in run for t in found]
    return {
        "points": len(run.examples),
        "critiques": sum(bool(t.critique) and t.failure is FailureReason.NO_SCORES for t in drawn),
        "truncated": sum(t.failure is FailureReason.TRUNCATED for t in drawn),
        "lost": sum(t.failure is not None and t.failure.of_the_world for t in drawn),
    }


def load_critiqued(sources: Sequence[str], *, skip_bad: bool = False, whole: bool = False) -> Points:
    """Examples with a critique of each response in `meta["critiques"]`.

    Args:
        sources: Folders of `spct critiques`, and sources of examples whose rows have a column `critiques`.
        skip_bad: Leave out examples that lack a critique, and list them.
        whole: A critique that was cut at its token limit counts as lacking. The critic learns to end
            its critiques; the head may read cut ones, as it does when it scores.

    Raises:
        InputError: A source is missing, or an example lacks a critique and skip_bad is False.
    """
    runs = [source for source in sources if (Path(source) / MANIFEST).is_file()]
    rows = [source for source in sources if source not in runs]
    loaded = load_all(rows, skip_bad=skip_bad, check=False)
    found = [_with_critiques(*pair, whole) for source in runs for pair in RunFolder.load(source)]
    found += loaded.examples
    good, faults = [], loaded.faults
    for example in found:
        fault = critique_fault(example)
        if fault:
            faults.append(Fault(example.id, fault))
        else:
            good.append(example)
    if not good or (faults and not skip_bad):
        raise unusable(", ".join(sources), faults, len(found), "a critique of each response")
    return Points(good, faults)


def _with_critiques(example: Example, drawn: Sequence[Trajectory], whole: bool) -> Example:
    usable = {FailureReason.NO_SCORES} | (set() if whole else {FailureReason.TRUNCATED})
    written = {t.order[0]: t.critique for t in drawn if t.failure in usable}
    texts = [written.get(i, "") for i in range(len(example.responses))]
    return replace(example, meta=dict(example.meta) | {"critiques": texts})


def critique_fault(example: Example) -> str | None:
    """Why an example has no usable critiques; None where it has."""
    found = example.meta.get("critiques")
    if not isinstance(found, list):
        return "no critiques"
    if len(found) != len(example.responses):
        return f"{len(found)} critiques for {len(example.responses)} responses"
    missing = [i for i, text in enumerate(found) if not isinstance(text, str) or not text.strip()]
    return f"no usable critique of response {missing[0]}" if missing else None


def critiques(example: Example) -> list[str]:
    """The critiques of an example of `load_critiqued`, as the scorer would have them."""
    return [text.strip() for text in example.meta["critiques"]]


def critic_rows(config: CloudConfig) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Rows to fine-tune the critic on: its prompt and a critique for each response; and counts.

    Raises:
        InputError: As `load_critiqued`.
    """
    points = load_critiqued(config.data, skip_bad=config.skip_bad, whole=True)
    rows = [
        {
            "prompt": [{"role": m.role, "content": m.content} for m in critique_prompt(example, i)],
            "completion": [{"role": "assistant", "content": text}],
            "id": f"{example.id}/{i}",
            "kind": "critique",
        }
        for example in points.examples
        for i, text in enumerate(critiques(example))
    ]
    return rows, {"unusable": len(points.faults)}
