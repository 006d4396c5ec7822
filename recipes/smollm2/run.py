"""The recipe, stage after stage: `python recipes/smollm2/run.py --source DIR --size cpu`.

    data -> teacher, hinted -> reject, alone -> rft -> (easy -> grpo -> own -> rft-2)
         -> grm-rollouts -> meta-rm -> ship

A finished stage leaves OUT/<stage>/done.json and is not run again; one that was cut resumes where its
engine can: rollouts sample by sample, training from its last checkpoint.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data import HERE, PROMPTS, build, embedded_tokens, sizes
from spct.errors import InputError, SpctError

Facts = dict[str, Any]


@dataclass(frozen=True)
class Context:
    """One run of the recipe."""

    out: Path
    source: Path | None
    size: str
    seed: int
    engine: str
    steps: int | None = None
    lr: float | None = None
    start: str | None = None
    adapter: str | None = None

    @property
    def settings(self) -> Facts:
        """Of sizes.toml."""
        return sizes(self.size)

    @property
    def given(self) -> Facts:
        """Of a stage that trains, in place of its file's."""
        return {k: v for k, v in {"steps": self.steps, "lr": self.lr}.items() if v is not None}

    @property
    def grm(self) -> str:
        """The stage whose model is the finished GRM: the last that was run."""
        return next((name for name in ("rft-2", "grpo") if self.done(name)), "rft")

    def path(self, *parts: str) -> str:
        """A path in the run's folder."""
        return str(self.out.joinpath(*parts))

    def done(self, stage: str) -> bool:
        """Tell whether a stage is finished."""
        return (self.out / stage / "done.json").is_file()


def data(c: Context) -> Facts:
    """Write the data points and the general rows."""
    if c.source is None:
        raise InputError("--source is missing", expected="the folder of the public files; see data.py")
    manifest = build(c.source, c.out / "data", c.size, c.seed, embedded_tokens())
    return {"points": manifest["points"]["train"], "left_out": manifest["left_out"]}


def teacher(c: Context, *, hinted: bool = False) -> Facts:
    """Draw the grounded teacher's trajectories, or one hinted one each, through the judge."""
    from teacher import GroundedTeacher

    from spct.examples import read_examples
    from spct.training.rollouts import rollout, tally

    train = c.path("data", "train.jsonl")
    backend = GroundedTeacher(read_examples(train).examples)
    n, out = (1, "hinted") if hinted else (c.settings["n"], "teacher")
    several, single = (None, None) if hinted else PROMPTS
    # §5: shuffled before each sample; on a CPU (quick_rft.py) the samples of a point share their prompt.
    order = "given" if c.size == "cpu" else "random"
    run = rollout(
        [train], c.out / out, backend, n=n, hinted=hinted, template=several, single_template=single,
        order=order, seed=c.seed,
    )  # fmt: skip
    return dict(tally(run))


def alone(c: Context) -> Facts:
    """Write the teacher's judgements of single responses on the scale 1..10."""
    from teacher import alone, load_weights

    from spct.examples import dump_json, read_examples

    points = read_examples(c.path("data", "train.jsonl")).examples
    rows = alone(points, load_weights(), c.settings["alone"], c.seed)
    text = "".join(dump_json(row) + "\n" for row in rows)
    (c.out / "alone").mkdir(parents=True, exist_ok=True)
    (c.out / "alone" / "rows.jsonl").write_text(text, encoding="utf-8")
    return {"rows": len(rows)}


def reject(c: Context) -> Facts:
    """Keep what is right (§3), and mix in general rows; what is easy for the teacher is not for its pupil."""
    from spct.training.rejection import reject_runs

    manifest = reject_runs(
        [c.path("teacher"), c.path("hinted")],
        c.path("reject", "rows.jsonl"),
        general=[c.path("data", "general.jsonl")],
        ratio=c.settings["general_ratio"],
        keep_easy=True,
        template=PROMPTS[0],
        single=PROMPTS[1],
        seed=c.seed,
    )
    return {"rows": manifest["rows"], **manifest["counts"]}


def rft(c: Context) -> Facts:
    """Rejective fine-tuning."""
    rows = [c.path(name, "rows.jsonl") for name in ("reject", "alone")]
    start = {"adapter": c.adapter, "lora_rank": 0} if c.adapter else {}
    return fine_tune(c, "rft", {"model": base(c), "data": rows} | start | c.given)


def fine_tune(c: Context, out: str, given: Facts) -> Facts:
    """Fine-tune by the size's file and these settings; on a CPU a prompt is read once for all of it."""
    import quick_rft

    from spct.training import rft as usual
    from spct.training.configs import RFTConfig

    stage = quick_rft if c.size == "cpu" else usual
    return {"model": str(stage.run(config(c, RFTConfig, "rft", given | {"out": c.path(out)}), resume=True))}


def base(c: Context) -> str:
    """The model that RFT begins with."""
    from spct.backends.embedded import locate

    return c.start or locate()


def read(c: Context, stage: str, name: str) -> str:
    """A file that an earlier stage wrote.

    Raises:
        InputError: It has not.
    """
    path = c.out / stage / name
    if not path.is_file():
        raise InputError(
            f"{path} is missing", expected=f"that of the stage {stage}", fix=f"--only {stage} first"
        )
    return path.read_text(encoding="utf-8")


def trained(c: Context, stage: str) -> Facts:
    """The adapter that a stage trained, and the model that it belongs to."""
    manifest = json.loads(read(c, stage, "manifest.json"))
    return {"model": manifest["settings"]["model"], "adapter": c.path(stage, "adapter")}


def grpo(c: Context) -> Facts:
    """Rule-based RL, on points that are not too easy for the fine-tuned model where that is known.

    It goes on with RFT's adapter: one of its own beside it would double the rank, of which `ship` keeps half.
    """
    from spct.training import grpo as stage
    from spct.training.configs import GRPOConfig

    easy = [c.path("easy")] if c.done("easy") else []
    several, single = PROMPTS
    alone = c.adapter and not c.done("rft")
    given = {"model": base(c), "adapter": c.adapter} if alone else trained(c, "rft")
    given |= {
        "data": [c.path("data", "rl.jsonl")],
        "easy_runs": easy,
        "template": several,
        "single_template": single,
    }
    return {"model": str(stage.run(config(c, GRPOConfig, "grpo", given | c.given), resume=True))}


def own(c: Context) -> Facts:
    """Write RL's own judgements that are right and true, and half as many of one response alone."""
    from own import write

    lines = read(c, "alone", "rows.jsonl").split("\n")[:-1]
    log, data = Path(c.path("grpo", "rollouts.jsonl")), Path(c.path("data", "rl.jsonl"))
    counts = write([log], data, Path(c.path("own", "rows.jsonl")), c.seed)
    alone = "".join(line + "\n" for line in lines[: counts["rows"] // 2])
    Path(c.path("own", "alone.jsonl")).write_text(alone, encoding="utf-8")
    return dict(counts)


def rft_2(c: Context) -> Facts:
    """RFT once more, on what `own` wrote: RL does not reward responses judged alone, and so forgets how."""
    rows = [c.path("own", name) for name in ("rows.jsonl", "alone.jsonl")]
    given = {"lora_rank": 0, "lr": 3e-4, "steps": 0, "epochs": 1.0}
    return fine_tune(c, "rft-2", trained(c, "grpo") | {"data": rows} | given)


def model_rollouts(c: Context, out: str, *, model: str, rows: str, n: int) -> Facts:
    """Draw trajectories of a trained model through the judge."""
    from spct.backends import open_backend
    from spct.training.rollouts import rollout, tally

    backend = open_backend(c.engine, model=c.path(model, "model"))
    limit = c.settings["max_new_tokens"]
    source = [c.path("data", f"{rows}.jsonl")]
    # On a CPU all samples of a point see one order (shuffled in the data), so that they are decoded together.
    order = "given" if c.size == "cpu" else "random"
    several, single = PROMPTS
    run = rollout(
        source, c.out / out, backend, n=n, template=several, single_template=single,
        max_tokens=limit, order=order, seed=c.seed,
    )  # fmt: skip
    return dict(tally(run))


def grm_rollouts(c: Context) -> Facts:
    """Trajectories of the GRM for the meta RM: on a GPU those that RL made, on a CPU new ones."""
    from spct.training.rollouts import logged, tally

    if c.size == "cpu":
        return model_rollouts(c, "grm-rollouts", model=c.grm, rows="meta", n=c.settings["meta_n"])
    log, out = c.path("grpo", "rollouts.jsonl"), c.path("grm-rollouts")
    return dict(tally(logged(log, [c.path("data", "rl.jsonl")], out)))


def meta_rm(c: Context) -> Facts:
    """Train the meta RM (§5) on the GRM's own trajectories."""
    import quick_meta_rm

    from spct.training import meta_rm as usual
    from spct.training.configs import MetaRMConfig

    stage = quick_meta_rm if c.size == "cpu" else usual
    paths = {"model": c.path(c.grm, "model"), "data": [c.path("grm-rollouts")]}
    stage.run(config(c, MetaRMConfig, "meta-rm", paths), resume=True)
    report: Facts = json.loads((c.out / "meta-rm" / "report.json").read_text(encoding="utf-8"))
    return {name: value for name, value in report.items() if name != "reliability"}


def ship(c: Context) -> Facts:
    """Write the GRM, and the meta RM where there is one, as small adapters of the embedded model."""
    from ship import write_adapter

    from spct.backends.embedded import locate

    models = {"grm": c.grm} | ({"meta_rm": "meta-rm"} if c.done("meta-rm") else {})
    return {
        name: write_adapter(Path(locate()), Path(c.path(stage, "model")), c.out / "ship" / name)
        for name, stage in models.items()
    }


def config(c: Context, kind: Any, name: str, paths: Facts) -> Any:
    """Settings of a training stage: its TOML file of this size, with the paths of this run."""
    from spct.configs import build
    from spct.training.configs import read_toml

    file = f"{name.replace('-', '_')}{'_cpu' if c.size == 'cpu' else ''}.toml"
    return build(kind, read_toml(HERE / file) | {"out": c.path(name), "seed": c.seed} | paths)


STAGES: dict[str, Callable[[Context], Facts]] = {
    "data": data,
    "teacher": teacher,
    "hinted": lambda c: teacher(c, hinted=True),
    "reject": reject,
    "alone": alone,
    "rft": rft,
    "easy": lambda c: model_rollouts(c, "easy", model="rft", rows="rl", n=c.settings["n"]),
    "grpo": grpo,
    "own": own,
    "rft-2": rft_2,
    "grm-rollouts": grm_rollouts,
    "meta-rm": meta_rm,
    "ship": ship,
}
RL = ("easy", "grpo", "own", "rft-2")


def chosen(c: Context, only: list[str] | None) -> list[str]:
    """Stages to run, in their order: those named, else all, RL where the size has it."""
    return [name for name in STAGES if (name in only if only else c.settings["rl"] or name not in RL)]


def run(c: Context, names: list[str]) -> None:
    """Run the stages that are not finished."""
    for name in names:
        if c.done(name):
            print(f"{name}: finished before", flush=True)
            continue
        print(f"{name} ...", flush=True)
        started = time.perf_counter()
        facts = STAGES[name](c)
        noted = {"seed": c.seed, "size": c.size, "seconds": round(time.perf_counter() - started, 1)} | facts
        (c.out / name).mkdir(parents=True, exist_ok=True)
        (c.out / name / "done.json").write_text(json.dumps(noted, indent=2) + "\n", encoding="utf-8")
        print(f"{name}: {json.dumps(noted)}", flush=True)


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description="SPCT of the embedded model")
    parser.add_argument("--size", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--out", type=Path, default=Path("runs/smollm2"))
    parser.add_argument("--source", type=Path, help="folder of the public files, for the stage data")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=list(STAGES), help="these stages alone")
    parser.add_argument(
        "--engine", choices=("local", "vllm"), default="local", help="of the model's rollouts"
    )
    parser.add_argument("--steps", type=int, help="of rft and grpo, in place of their files'")
    parser.add_argument("--lr", type=float, help="the same")
    parser.add_argument("--from-model", help="folder of the model that rft begins with [the embedded model]")
    parser.add_argument(
        "--from-adapter",
        help="of that model, which rft or grpo goes on with [rft: a new one, grpo: that of rft]",
    )
    parser.add_argument("--dry-run", action="store_true", help="say which stages would run")
    args = parser.parse_args()
    os.environ.update(TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1")
    c = Context(
        args.out, args.source, args.size, args.seed, args.engine, args.steps, args.lr,
        start=args.from_model, adapter=args.from_adapter,
    )  # fmt: skip
    names = chosen(c, args.only)
    if args.dry_run:
        print("\n".join(f"{name:13} {'finished' if c.done(name) else 'to do'}" for name in names))
        return 0
    try:
        run(c, names)
    except SpctError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
