"""Draw trajectories of data points for training, through the judge; any engine, resumable (§3, §5).

    N_RFT = 3 non-hinted samples for rejection and for the meta RM, one hinted sample where wanted;
    3 samples of a small model tell which data points are too easy for RL (§4)

Points with one response have their own prompt, with scores 0/1.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from spct.backends.base import Backend
from spct.configs import JudgeConfig, build
from spct.correctness import is_correct
from spct.errors import ConfigError, InputError
from spct.judge import Judge
from spct.progress import progress
from spct.prompts import check_inputs, load_template
from spct.records import RunFolder, run_manifest
from spct.training.data import template_for
from spct.training.sources import load_all
from spct.training.stage import source_hash
from spct.types import Example, FailureReason, Trajectory, digest

TEMPERATURE = 0.5  # §5 states it for voting; rollouts follow


def rollout(
    data: Sequence[str | Path],
    out: str | Path,
    backend: Backend,
    *,
    n: int = 3,
    hinted: bool = False,
    template: str | None = None,
    single_template: str | None = None,
    skip_bad: bool = False,
    **settings: Any,
) -> RunFolder:
    """Draw n samples of each data point into a run folder; what the folder holds is kept.

    Args:
        data: Sources of labelled examples, see `load_points`.
        out: Run folder, new or of the same rollout.
        backend: The engine; closed at the end.
        n: Samples per data point. §3: 3.
        hinted: Name the best response in the prompt; §3 draws one such sample.
        template: Prompt of two or more responses; None takes a shipped one.
        single_template: Prompt of one response; None takes `single`, or `hinted` with scores 0/1.
        skip_bad: Leave out data points without usable labels.
        settings: More of `JudgeConfig`, e.g. `temperature`, `max_tokens`, `seed`.

    Returns:
        The closed folder.

    Raises:
        InputError, ConfigError: Data or settings are wrong, or the folder holds another run.
        BackendError: The engine is gone; finished samples are stored.
    """
    points = load_all(data, skip_bad=skip_bad)
    examples = points.examples
    judges = rollout_configs(n, hinted=hinted, template=template, single_template=single_template, **settings)
    for example in examples:
        check_inputs(_template(example, judges), example)
    identity = judges[0].model_dump(mode="json") | {
        "model": backend.model,
        "single_template": judges[1].template,
        "templates": sorted({_template(example, judges).id for example in examples}),
        "data": digest([[e.id, [m.content for m in e.messages], e.responses, e.labels] for e in examples]),
    }
    manifest = run_manifest(
        identity, command="rollout", source=[str(d) for d in data], examples=len(examples),
        dropped=[fault._asdict() for fault in points.faults],
    )  # fmt: skip
    with RunFolder.create(out, manifest, examples) as run:
        asyncio.run(_draw(backend, judges, examples, run))
    return run


def rollout_configs(
    n: int, *, hinted: bool, template: str | None, single_template: str | None, **settings: Any
) -> tuple[JudgeConfig, JudgeConfig]:
    """Settings of the judge for points with several responses, and with one.

    Raises:
        ConfigError: A setting is wrong, or hinted and a template that shows no hint do not go together.
    """
    common = {"k": n, "temperature": TEMPERATURE} | settings
    for name in (template, single_template):
        if name is not None and ("best" in load_template(name).needs) is not hinted:
            raise ConfigError(
                f"template {name!r} and hinted = {hinted} do not go together",
                expected="a template that shows `best` for hinted samples, and only for them",
            )
    several = (
        common | ({"template": "hinted"} if hinted else {}) | ({"template": template} if template else {})
    )
    single = common | {"template": single_template or ("hinted" if hinted else "single")}
    if single["template"] == "hinted":
        single["scale"] = (0, 1)
    return build(JudgeConfig, several), build(JudgeConfig, single)


def _template(example: Example, judges: tuple[JudgeConfig, JudgeConfig]) -> Any:
    return template_for(example, judges[0].template, judges[1].template or "single")


async def _draw(
    backend: Backend, judges: tuple[JudgeConfig, JudgeConfig], examples: Sequence[Example], run: RunFolder
) -> None:
    async with Judge(backend, judges[0], run=run) as several:
        single = Judge(backend, judges[1], run=run)
        with progress("rollouts", len(examples)) as advance:
            for judge, of_one in ((several, False), (single, True)):
                wanted = [e for e in examples if (len(e.responses) == 1) is of_one]
                async for _ in judge.astream(wanted):
                    advance()


class Logged(NamedTuple):
    """A line of GRPO's log; `sample` counts those of its data point."""

    step: int
    example: Example
    trajectory: Trajectory


def read_log(log: str | Path, data: Sequence[str | Path]) -> list[Logged]:
    """Rollouts that GRPO wrote down (`rollouts.jsonl`), in their order.

    Args:
        log: The file.
        data: The sources that GRPO was trained on.

    Raises:
        InputError: There is no such file, or a rollout's data point is not in the sources.
    """
    try:
        lines = Path(log).read_text(encoding="utf-8").split("\n")[:-1]
    except OSError as error:
        raise InputError(
            f"{log}: {error.strerror}", expected="rollouts.jsonl of `spct train grpo`", fix="run RL first"
        ) from None
    by_id = {example.id: example for example in load_all(data, skip_bad=True).examples}
    found, samples = list[Logged](), Counter[str]()
    for row in map(json.loads, lines):
        name, scores = row["example_id"], row["scores"]
        if name not in by_id:
            raise InputError(f"{log}: no data point {name!r}", expected=f"one of {data}")
        trajectory = Trajectory(
            example_id=name,
            sample=samples[name],
            key=digest([name, samples[name], row["text"]]),
            order=tuple(row["order"]),
            seed=0,
            text=row["text"],
            scores=None if scores is None else tuple(scores),
            failure=None if scores is not None else FailureReason(row["failure"]),
        )
        samples[name] += 1
        found.append(Logged(row.get("step", 0), by_id[name], trajectory))
    return found


def logged(log: str | Path, data: Sequence[str | Path], out: str | Path) -> RunFolder:
    """GRPO's log as a run folder, for the meta RM to learn from (§5).

    The policy of late steps is the GRM that is to be guided, that of early ones resembles it. A log holds all
    rollouts where `sample_steps` is 1 and `sample_rollouts` at least `batch`.

    Args:
        log: The file.
        data: The sources that GRPO was trained on.
        out: Run folder, new.

    Raises:
        InputError: As `read_log`; or the folder holds something else.
    """
    rows = read_log(log, data)
    examples = {row.example.id: row.example for row in rows}
    samples = Counter(row.example.id for row in rows)
    settings = {"k": max(samples.values(), default=0), "log": source_hash(str(log))}
    manifest = run_manifest(settings, command="rollout", source=[str(log)], examples=len(examples))
    with RunFolder.create(out, manifest, list(examples.values())) as run:
        run.add(row.trajectory for row in rows)
    return run


def tally(run: RunFolder) -> dict[str, int]:
    """What a rollout came to: samples that were read, were right, were lost by the engine."""
    counts = dict.fromkeys(("points", "samples", "parsed", "correct", "lost"), 0)
    for example, found in run:
        counts["points"] += 1
        counts["samples"] += len(found)
        counts["parsed"] += sum(t.valid for t in found)
        counts["correct"] += sum(is_correct(t.scores, example.labels or ()) for t in found)
        counts["lost"] += sum(t.failure is not None and t.failure.of_the_world for t in found)
    return counts


def easy_points(runs: Sequence[str | Path]) -> set[str]:
    """Ids of data points of which all samples in rollout folders are right: too easy for RL (§4: 3 of 3)."""
    easy: dict[str, bool] = {}
    for path in runs:
        run = RunFolder.load(path)
        wanted = int(run.manifest["settings"]["k"])
        for example, found in run:
            right = [is_correct(t.scores, example.labels or ()) for t in found]
            easy[example.id] = easy.get(example.id, True) and len(right) >= wanted and all(right)
    return {name for name, is_easy in easy.items() if is_easy}
