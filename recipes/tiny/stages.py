"""The stages of the pipeline: what each one needs, and what it does in its folder OUT/<name>.

    data -> cold -> rollouts, hinted -> reject -> rft -> grpo -> grm-rollouts -> meta-rm
         then the greedy and voted judgements of the held-out rows, and the ablations

A finished stage leaves OUT/<name>/done.json and is not run again; one that was cut resumes where its
engine can (rollouts sample by sample, RFT, RL and the meta RM from their last checkpoint).
"""

from __future__ import annotations

import asyncio
import json
import shutil
import time
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]  # stages run here: settings name files from the repository's root
PROMPTS = "recipes/tiny/prompts"
SMOKE: dict[str, dict[str, Any]] = {  # settings of `--smoke`, which only shows that the stages fit together
    "sizes": {
        "train_rows": 24, "meta_rows": 8, "test_rows": 16, "general_rows": 40, "k": 8, "temperature": 0.5,
    },
    "cold": {
        "general_steps": 0, "mixed_steps": 300, "fall_steps": 200, "read": 1.0, "batch_tokens": 512,
        "pool": 150, "pools": 1, "warmup_steps": 10,
    },
    "rft": {"steps": 3, "batch": 4, "micro_batch": 4},
    "grpo": {"steps": 2, "batch": 8, "micro_batch": 8},
    "meta-rm": {"steps": 3, "batch": 4, "micro_batch": 4, "held_out": 0.2},
}  # fmt: skip


@dataclass(frozen=True)
class Context:
    """One run of the pipeline."""

    out: Path
    seed: int
    smoke: bool = False

    def settings(self, name: str) -> dict[str, Any]:
        """Settings of a stage's TOML file, made small for a smoke run."""
        values = tomllib.loads((HERE / f"{name.replace('-', '_')}.toml").read_text(encoding="utf-8"))
        return values | (SMOKE[name] if self.smoke else {})

    def path(self, *parts: str) -> str:
        """A path in the run's folder."""
        return str(self.out.joinpath(*parts))


@dataclass(frozen=True)
class Stage:
    """A stage: what it needs, and the function that runs it with these arguments."""

    run: Callable[..., dict[str, Any] | None]
    needs: tuple[str, ...] = ()
    args: dict[str, Any] = field(default_factory=dict)


def data(context: Context, name: str) -> None:
    """Write the data points of every later stage, and general text."""
    import random

    from cold_rows import as_row
    from teacher import general
    from world import examples

    sizes, folder = context.settings("sizes"), context.out / name
    for split in ("train", "meta", "test"):
        rows = list(examples(split, context.seed, sizes[f"{split}_rows"]))
        (folder / f"{split}.jsonl").write_text(
            "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
        )
    rng = random.Random(f"general:{context.seed}")
    texts = [json.dumps(as_row(*general(rng))) + "\n" for _ in range(sizes["general_rows"])]
    (folder / "general.jsonl").write_text("".join(texts), encoding="utf-8")


def cold(context: Context, name: str) -> dict[str, Any]:
    """Train the pretrained GRM from nothing."""
    from cold_start import ColdConfig, train

    return train(ColdConfig(**context.settings("cold")), context.out / name, context.seed)


def rollouts(
    context: Context, name: str, *, model: str, rows: str = "train", hinted: bool = False,
    principles: bool = True, vote: bool | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Draw judgements through the project's judge.

    Args:
        context: The run.
        name: Of the stage.
        model: Stage whose model judges.
        rows: Data points: `train`, `meta`, `test`, or `pairs` made of the lists of `test`.
        hinted: Name the best response; one sample each.
        principles: Whether criteria are asked for.
        vote: None draws training samples; True k samples to vote; False one greedy sample.
    """
    from batched import BatchedBackend

    from spct.training.rollouts import rollout, tally

    sizes = context.settings("sizes")
    several, single = ("judge", "grade") if principles else ("plain", "plain_grade")
    if hinted:
        several, single = "hinted", "hinted_grade"
    n = {None: 1 if hinted else sizes["meta_n" if rows == "meta" else "n"], True: sizes["k"], False: 1}[vote]
    temperature = {None: sizes["temperature"], True: sizes["vote_temperature"], False: 0.0}[vote]
    source = context.path("data", f"{rows}.jsonl")
    if rows == "pairs":
        source = context.path(name, "pairs.jsonl")
        write_pairs(context.path("data", "test.jsonl"), source)
    run = rollout(
        [source],
        context.out / name / "run" if rows == "pairs" else context.out / name,
        BatchedBackend(context.path(model, "model")),
        n=n,
        hinted=hinted,
        template=f"{PROMPTS}/{several}.j2",
        single_template=f"{PROMPTS}/{single}.j2",
        temperature=temperature,
        max_tokens=sizes["max_tokens"],
        order="random",  # §5: shuffled before each sample
        seed=context.seed,
    )
    return tally(run)


def write_pairs(source: str, out: str) -> None:
    """The lists of three and more as pairs: the best response with each other one."""
    from spct.evals.inputs import as_input
    from spct.examples import read_examples, write_examples

    lists = [e for e in read_examples(source).examples if len(e.responses) > 2]
    write_examples(as_input(lists, "pair"), Path(out))


def reject(context: Context, name: str, *, runs: Sequence[str], principles: bool = True) -> dict[str, Any]:
    """Keep what is right and not too easy (§3), with general text."""
    from spct.training.rejection import reject_runs

    several, single = ("judge", "grade") if principles else ("plain", "plain_grade")
    manifest = reject_runs(
        [context.path(run) for run in runs],
        context.path(name, "rows.jsonl"),
        general=[context.path("data", "general.jsonl")],
        ratio=context.settings("sizes")["general_ratio"],
        template=f"{PROMPTS}/{several}.j2",
        single=f"{PROMPTS}/{single}.j2",
        seed=context.seed,
    )
    return {"rows": manifest["rows"], **manifest["counts"]}


def rft(context: Context, name: str, *, model: str = "cold", rows: str = "reject") -> None:
    """Rejective fine-tuning, on TRL's SFTTrainer."""
    from spct.training import rft as stage
    from spct.training.configs import RFTConfig

    paths = {"model": context.path(model, "model"), "data": [context.path(rows, "rows.jsonl")]}
    stage.run(_config(context, RFTConfig, "rft", name, paths), resume=True)


def grpo(
    context: Context,
    name: str,
    *,
    model: str = "rft",
    easy: str = "rollouts",
    principles: bool = True,
    **over: Any,
) -> None:
    """Rule-based RL, on TRL's GRPOTrainer."""
    from spct.training import grpo as stage
    from spct.training.configs import GRPOConfig

    several, single = ("judge", "grade") if principles else ("plain", "plain_grade")
    paths = {
        "model": context.path(model, "model"),
        "data": [context.path("data", "train.jsonl")],
        "easy_runs": [context.path(easy)],
        "template": f"{PROMPTS}/{several}.j2",
        "single_template": f"{PROMPTS}/{single}.j2",
    }
    stage.run(_config(context, GRPOConfig, "grpo", name, paths | over), resume=True)


def meta_rm(context: Context, name: str) -> dict[str, Any]:
    """Train the meta RM on rollouts of the cold start and of the GRM that it is to guide (§5)."""
    from spct.training import meta_rm as stage
    from spct.training.configs import MetaRMConfig

    runs = [context.path("rollouts"), context.path("grm-rollouts")]
    config = _config(
        context, MetaRMConfig, "meta-rm", name, {"model": context.path("grpo", "model"), "data": runs}
    )
    stage.run(config, resume=True)
    report: dict[str, Any] = json.loads((context.out / name / "report.json").read_text(encoding="utf-8"))
    return report


def meta_rewards(context: Context, name: str, *, run: str) -> dict[str, Any]:
    """Give every stored vote its meta reward; `spct.voting` picks them up."""
    from spct.correctness import is_correct
    from spct.meta import LocalClassifier, meta_prompt
    from spct.records import RunFolder
    from spct.training.calibration import roc_auc

    stored = RunFolder.load(context.path(run))
    meta = LocalClassifier(context.path("meta-rm", "model"), batch_size=32)
    known: list[tuple[float, int]] = []
    within: list[float] = []  # what helps a vote: telling right from wrong among the votes of one row
    with RunFolder.create(stored.path, stored.manifest, stored.examples) as folder:
        for example, trajectories in folder:
            valid = [t for t in trajectories if t.valid]
            asked = [t for t in valid if folder.meta_reward(t.key, "meta-rm") is None]
            if asked:
                prompts = [meta_prompt(example, t, f"{PROMPTS}/meta.j2") for t in asked]
                found = asyncio.run(_scores(meta, prompts))
                folder.add_meta(dict(zip([t.key for t in asked], found, strict=True)), "meta-rm")
            rewards = [folder.meta_reward(t.key, "meta-rm") or 0.0 for t in valid]
            right = [int(is_correct(t.scores, example.labels or ())) for t in valid]
            known += zip(rewards, right, strict=True)
            own = roc_auc(rewards, right)
            within += [] if own is None else [own]
    return {
        "votes": len(known),
        "roc_auc": roc_auc(*zip(*known, strict=True)),
        "roc_auc_within_rows": sum(within) / len(within) if within else None,
        "mixed_rows": len(within),
    }


async def _scores(meta: Any, prompts: Sequence[str]) -> list[float]:
    found: list[float] = await meta.score(prompts)
    return found


def _config(context: Context, kind: Any, file: str, name: str, paths: dict[str, Any]) -> Any:
    from spct.configs import build

    values = context.settings(file) | paths | {"out": context.path(name), "seed": context.seed}
    return build(kind, values)


def credits(context: Context, name: str) -> None:
    """Who was right where: the arrays that every figure is made of."""
    from evaluate import write_credits

    write_credits(context.out, context.settings("sizes")["k"])


def report(context: Context, name: str) -> None:
    """results.json, plots and README of this seed."""
    import report

    report.write([context.out], context.out / name)


STAGES: dict[str, Stage] = {
    "data": Stage(data),
    "cold": Stage(cold, ("data",)),
    "rollouts": Stage(rollouts, ("cold",), {"model": "cold"}),
    "hinted": Stage(rollouts, ("cold",), {"model": "cold", "hinted": True}),
    "reject": Stage(reject, ("rollouts", "hinted"), {"runs": ("rollouts", "hinted")}),
    "rft": Stage(rft, ("reject",)),
    "grpo": Stage(grpo, ("rft",)),
    "grm-rollouts": Stage(rollouts, ("grpo",), {"model": "grpo", "rows": "meta"}),
    "meta-rm": Stage(meta_rm, ("grm-rollouts",)),
    "vote": Stage(rollouts, ("grpo",), {"model": "grpo", "rows": "test", "vote": True}),
    "meta-rewards": Stage(meta_rewards, ("vote", "meta-rm"), {"run": "vote"}),
    "pairs": Stage(rollouts, ("grpo",), {"model": "grpo", "rows": "pairs", "vote": False}),
    # the ablation without principles goes through the same stages; no hints, which are for principles
    "rollouts-plain": Stage(rollouts, ("cold",), {"model": "cold", "principles": False}),
    "reject-plain": Stage(reject, ("rollouts-plain",), {"runs": ("rollouts-plain",), "principles": False}),
    "rft-plain": Stage(rft, ("reject-plain",), {"rows": "reject-plain"}),
    "grpo-plain": Stage(
        grpo, ("rft-plain",), {"model": "rft-plain", "easy": "rollouts-plain", "principles": False}
    ),
    "vote-plain": Stage(
        rollouts, ("grpo-plain",), {"model": "grpo-plain", "rows": "test", "vote": True, "principles": False}
    ),
    # the paper's other ablations
    "reject-no-hinted": Stage(reject, ("rollouts",), {"runs": ("rollouts",)}),
    "rft-no-hinted": Stage(rft, ("reject-no-hinted",), {"rows": "reject-no-hinted"}),
    "reject-only-hinted": Stage(reject, ("hinted",), {"runs": ("hinted",)}),
    "rft-only-hinted": Stage(rft, ("reject-only-hinted",), {"rows": "reject-only-hinted"}),
    "grpo-no-rejection": Stage(grpo, ("rollouts",), {"model": "cold"}),
    "grpo-beta-0": Stage(grpo, ("rft",), {"beta": 0.0}),
}
JUDGES = (
    "cold", "rft", "grpo", "grpo-plain", "rft-no-hinted", "rft-only-hinted", "grpo-no-rejection",
    "grpo-beta-0",
)  # fmt: skip
STAGES |= {
    f"greedy-{judge}": Stage(
        rollouts,
        (judge,),
        {"model": judge, "rows": "test", "vote": False, "principles": judge != "grpo-plain"},
    )
    for judge in JUDGES
}
STAGES["credits"] = Stage(
    credits,
    ("meta-rewards", "pairs", "vote-plain", *(f"greedy-{judge}" for judge in JUDGES)),
)
STAGES["report"] = Stage(report, ("credits",))


def done(context: Context, name: str) -> dict[str, Any] | None:
    """What a finished stage noted, or None.

    Raises:
        InputError: It is of another seed, or of a smoke run where this is none.
    """
    from spct.errors import InputError

    path = context.out / name / "done.json"
    if not path.is_file():
        return None
    noted: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if (noted["seed"], noted["smoke"]) != (context.seed, context.smoke):
        raise InputError(
            f"{path.parent} is of seed {noted['seed']}, smoke {noted['smoke']}",
            expected=f"seed {context.seed}, smoke {context.smoke}",
            fix="use another --out",
        )
    return noted


def run_stage(context: Context, name: str) -> dict[str, Any]:
    """Run one stage in this process and note its time and what it came to."""
    import os
    import warnings

    os.chdir(ROOT)
    warnings.simplefilter("ignore")
    _quiet()
    stage, started, cpu = STAGES[name], time.perf_counter(), time.process_time()
    (context.out / name).mkdir(parents=True, exist_ok=True)
    facts = stage.run(context, name, **stage.args) or {}
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    identity = {"seed": context.seed, "smoke": context.smoke}
    noted = identity | {"seconds": round(seconds, 1), "cpu_seconds": round(cpu, 1)} | facts
    (context.out / name / "done.json").write_text(json.dumps(noted, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(context.out / name / "checkpoints", ignore_errors=True)
    return noted


def _quiet() -> None:
    import datasets
    import torch
    from transformers.utils import logging

    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    logging.disable_progress_bar()
