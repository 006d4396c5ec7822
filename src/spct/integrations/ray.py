"""Ray Data: score a large set offline with an engine in each worker, resumable.

    from spct.integrations.ray import score_dataset

    engine = lambda: VLLMBackend("Qwen/Qwen3-8B")
    for verdict in score_dataset(examples, "runs/big", engine, workers=4, gpus=1, k=8):
        ...

The workers judge; this process alone writes the run folder, sample by sample as batches come back,
so a run that was stopped goes on where it ended and `spct revote`, `show` and `bench` read it like
any other. Needs the extra `ray`; Ray is started if it does not run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from spct.backends.base import Backend
from spct.configs import JudgeConfig, build
from spct.errors import BackendError, InputError, MissingExtraError
from spct.examples import dump_json, parse_line, to_row
from spct.judge import Judge
from spct.records import RunFolder, from_json, run_manifest, to_json
from spct.types import Example, Verdict
from spct.voting import verdict


def score_dataset(
    examples: Iterable[Example],
    out: str | Path,
    open_backend: Callable[[], Backend],
    *,
    model: str,
    workers: int = 1,
    batch_size: int = 64,
    cpus: float = 1.0,
    gpus: float = 0.0,
    **settings: Any,
) -> Iterator[Verdict]:
    """Judge examples on a Ray cluster, and yield their verdicts in their order at the end.

    Args:
        examples: What is judged; ids must differ.
        out: Run folder; a run of the same settings in it is resumed.
        open_backend: Opens an engine; called once in each worker.
        model: Name of the engine's model, for the run's manifest.
        workers: Engines.
        batch_size: Examples that a worker takes at one time.
        cpus: CPU cores of one worker.
        gpus: GPUs of one worker.
        settings: Of `JudgeConfig`, e.g. `k=8`.

    Raises:
        InputError: The folder holds another run, or settings are wrong.
        BackendError: A worker's engine failed; finished samples are stored.
        MissingExtraError: Ray is not installed.
    """
    try:
        import ray.data
        from ray.exceptions import RayError
    except ImportError:
        raise MissingExtraError("ray", "ray") from None

    config, listed = build(JudgeConfig, settings), list(examples)
    manifest = run_manifest(config.model_dump() | {"model": model}, command="ray")
    with RunFolder.create(out, manifest, listed) as run:
        missing = [e for e in listed if not _complete(run, e, config.k)]
        if missing:
            rows = [{"example": dump_json(to_row(e))} for e in missing]
            judged = ray.data.from_items(rows).map_batches(
                _Worker,
                fn_constructor_args=(open_backend, settings),
                batch_size=batch_size,
                num_cpus=cpus,
                num_gpus=gpus,
                compute=ray.data.ActorPoolStrategy(size=workers),
            )
            try:
                _store(run, judged.iter_rows())
            except RayError as error:
                raise BackendError(
                    f"a worker failed: {str(error).strip().splitlines()[-1]}",
                    fix="finished samples are stored; run the same again to go on",
                ) from error
        for example in listed:
            samples = run.trajectories(example.id)
            yield verdict(example.id, samples, k=config.k, min_valid=config.min_valid)


def _complete(run: RunFolder, example: Example, k: int) -> bool:
    """Whether no sample is missing; those that the world failed are."""
    found = run.trajectories(example.id)
    return len(found) >= k and not any(t.failure is not None and t.failure.of_the_world for t in found)


def _store(run: RunFolder, rows: Iterable[dict[str, Any]]) -> None:
    """Write what comes back; note examples whose prompt does not fit the model."""
    dropped = []
    for row in rows:
        run.add(from_json(line) for line in row["samples"])
        if row["fault"]:
            dropped.append({"example": row["id"], "fault": row["fault"]})
    run.note({"dropped": dropped})


class _Worker:
    """Runs in Ray: an engine, and the batches given to it."""

    def __init__(self, open_backend: Callable[[], Backend], settings: dict[str, Any]) -> None:
        self._judge = Judge(open_backend(), **settings)
        self._loop = asyncio.new_event_loop()

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        examples = [parse_line(str(line)) for line in batch["example"]]
        found = self._loop.run_until_complete(self._score(examples))
        ids = [e.id for e in examples]
        return {"id": ids, "samples": [s for s, _ in found], "fault": [fault for _, fault in found]}

    async def _score(self, examples: list[Example]) -> list[tuple[list[str], str]]:
        return await asyncio.gather(*(self._one(e) for e in examples))

    async def _one(self, example: Example) -> tuple[list[str], str]:
        try:
            found = await self._judge.ascore(example)
        except InputError as error:
            return [], error.got
        return [to_json(t) for t in found.trajectories], ""
