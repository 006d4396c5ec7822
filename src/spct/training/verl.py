"""Write a GRPO stage out for verl 0.9: for RL on many machines over Ray.

    OUT/train.parquet, OUT/val.parquet   prompts, and what the reward needs
    OUT/reward.py                        one file without imports of spct: verl loads it by path
    OUT/launch.sh                        the command with every setting that shapes the objective

What differs from Eq. 15, by verl: the group's deviation is that of a sample plus 1e-6, and the KL
estimate is clamped to +-10.
"""

from __future__ import annotations

import ast
import json
import shlex
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from spct.errors import ConfigError
from spct.prompts import load_template
from spct.training.configs import GRPOConfig
from spct.training.data import split_by_query
from spct.training.engine import need
from spct.training.grpo import hard_points, prompt_rows

VERSION = "0.9.1"
VALIDATION = 0.01  # share of queries (ours); verl cannot do without a validation file
SCHEDULERS = ("constant", "cosine")
ACTOR = "actor_rollout_ref.actor"
BUNDLED = ("errors", "types", "untrusted", "parsing", "correctness", "training.verl_reward")


def export(config: GRPOConfig, out: str | Path) -> dict[str, Any]:
    """Write the stage for verl.

    Args:
        config: Settings of the GRPO stage.
        out: Folder.

    Returns:
        Counts of data points.

    Raises:
        InputError: Data points are unusable, or too few.
        MissingExtraError: pyarrow is missing.
    """
    need("pyarrow")
    import pyarrow as pa
    import pyarrow.parquet as pq

    points, counts = hard_points(config)
    parts = split_by_query(points, {"train": 1 - VALIDATION, "val": VALIDATION}, seed=config.seed)
    parts["val"] = parts["val"] or parts["train"][:1]
    out = Path(out).absolute()
    out.mkdir(parents=True, exist_ok=True)
    names: set[str] = set()
    for part, examples in parts.items():
        rows = prompt_rows(examples, config)
        names |= {row["template"] for row in rows}
        listed = [verl_row(row, index) for index, row in enumerate(rows)]
        pq.write_table(pa.Table.from_pylist(listed), out / f"{part}.parquet")
    (out / "reward.py").write_text(reward_file(names), encoding="utf-8")
    launch = out / "launch.sh"
    launch.write_text(launch_command(verl_overrides(config, out)), encoding="utf-8")
    launch.chmod(0o755)
    return counts | {"used": len(points), **{part: len(examples) for part, examples in parts.items()}}


def verl_row(row: dict[str, Any], index: int) -> dict[str, Any]:
    """One parquet row; `ground_truth` is a JSON text, since arrow would unify its types."""
    truth = {name: row[name] for name in ("labels", "order", "template")}
    return {
        "data_source": "spct",
        "prompt": row["prompt"],
        "ability": row["domain"],
        "reward_model": {"style": "rule", "ground_truth": json.dumps(truth)},
        "extra_info": {"index": index, "example_id": row["example_id"], "domain": row["domain"]},
    }


def reward_file(templates: Iterable[str]) -> str:
    """Source of one file that holds the parser, the correctness rule and `compute_score`."""
    parts = [
        f'"""Reward function for verl {VERSION}, written by `spct export verl`. Not to be edited."""',
        "from __future__ import annotations",
        # dataclasses look up the module of a class; a loader may not have registered it
        "import sys\nsys.modules.setdefault(__name__, type(sys)(__name__))",
    ]
    parts += [bundled_source(name) for name in BUNDLED]
    facts = {}
    for name in sorted(templates):
        template = load_template(name)
        patterns = [pattern.regex.pattern for pattern in template.patterns]
        facts[name] = {
            "kind": template.kind,
            "scale": list(template.scale),
            "patterns": patterns,
            "headed": template.headed,
        }
    parts.append(f"TEMPLATES.update({facts!r})")
    return "\n\n".join(parts) + "\n"


def bundled_source(name: str) -> str:
    """A module's source without its docstring and without what only connects it to its neighbours."""
    path = Path(str(import_module(f"spct.{name}").__file__))
    source = path.read_text(encoding="utf-8")
    lines = source.splitlines()
    for node in ast.parse(source).body:
        local = isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in (
            "spct",
            "__future__",
        )
        text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if local or text:
            lines[node.lineno - 1 : node.end_lineno] = [""] * ((node.end_lineno or 0) - node.lineno + 1)
    return f"# spct.{name}\n" + "\n".join(lines).strip()


def verl_overrides(config: GRPOConfig, out: Path) -> list[str]:
    """Overrides of verl's settings, `key=value`; counts of machines and GPUs are the launcher's.

    Raises:
        ConfigError: A setting that verl is not given by this export.
    """
    if config.trainer:
        raise ConfigError(
            f"trainer is {config.trainer}", expected="nothing: its fields are TRL's", fix="--set trainer={}"
        )
    if config.adapter:
        raise ConfigError(
            f"adapter is {config.adapter!r}: verl's reference would be the model without it",
            expected="none",
            fix="merge it into the model",
        )
    if config.scheduler not in SCHEDULERS:
        raise ConfigError(f"scheduler is {config.scheduler!r}", expected=" or ".join(SCHEDULERS))
    values = objective(config) | {
        "data.train_files": out / "train.parquet",
        "data.val_files": out / "val.parquet",
        "data.max_prompt_length": config.max_tokens,
        "data.max_response_length": config.max_new_tokens,
        "data.filter_overlong_prompts": config.over_length == "drop",
        "data.truncation": "error",
        "data.seed": config.seed,
        "actor_rollout_ref.model.path": config.model,
        "actor_rollout_ref.model.enable_gradient_checkpointing": config.gradient_checkpointing,
        "actor_rollout_ref.model.lora_rank": config.lora_rank,
        "actor_rollout_ref.model.lora_alpha": config.lora_alpha,
        f"{ACTOR}.ppo_micro_batch_size_per_gpu": config.micro_batch,
        "actor_rollout_ref.rollout.name": "vllm",
        "actor_rollout_ref.rollout.tensor_model_parallel_size": config.vllm_tensor_parallel,
        "actor_rollout_ref.rollout.gpu_memory_utilization": config.vllm_memory,
        "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu": config.micro_batch,
        "actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu": config.micro_batch,
        "reward.custom_reward_function.path": out / "reward.py",
        "reward.custom_reward_function.name": "compute_score",
        "trainer.default_local_dir": Path(config.out).absolute(),
        "trainer.resume_mode": "auto",
        "trainer.save_freq": config.save_steps,
        "trainer.max_actor_ckpt_to_keep": config.keep,
        "trainer.logger": json.dumps(["console", *config.report_to]),
    }
    if config.steps:
        values["trainer.total_training_steps"] = config.steps
    else:
        values["trainer.total_epochs"] = max(1, round(config.epochs))
    return [f"{key}={value}" for key, value in values.items()]


def objective(config: GRPOConfig) -> dict[str, Any]:
    """What shapes the objective (Eq. 15) and its optimisation; verl's defaults differ in most of it."""
    prompts = config.batch // config.group_size
    return {
        "algorithm.adv_estimator": "grpo",
        "algorithm.norm_adv_by_std_in_grpo": True,
        "algorithm.use_kl_in_reward": False,
        "data.train_batch_size": prompts,
        f"{ACTOR}.ppo_mini_batch_size": prompts,
        f"{ACTOR}.ppo_epochs": config.iterations,
        f"{ACTOR}.optim.lr": config.lr,
        f"{ACTOR}.optim.lr_scheduler_type": config.scheduler,
        f"{ACTOR}.optim.lr_warmup_steps": config.warmup_steps,
        f"{ACTOR}.optim.weight_decay": config.weight_decay,
        f"{ACTOR}.optim.clip_grad": config.max_grad_norm,
        f"{ACTOR}.clip_ratio": config.epsilon,
        f"{ACTOR}.clip_ratio_low": config.epsilon,
        f"{ACTOR}.clip_ratio_high": config.epsilon,
        f"{ACTOR}.clip_ratio_c": 1e6,  # out of reach: Eq. 15 has no second clip
        f"{ACTOR}.use_kl_loss": config.beta > 0,
        f"{ACTOR}.kl_loss_coef": config.beta,
        f"{ACTOR}.kl_loss_type": "low_var_kl",
        f"{ACTOR}.entropy_coeff": 0,
        f"{ACTOR}.loss_agg_mode": "seq-mean-token-mean",
        "actor_rollout_ref.rollout.n": config.group_size,
        "actor_rollout_ref.rollout.temperature": config.temperature,
        "actor_rollout_ref.rollout.top_p": config.top_p,
    }


def launch_command(overrides: Sequence[str]) -> str:
    """The shell script; further overrides may follow it on the command line."""
    lines = [f"  {shlex.quote(override)} \\" for override in overrides]
    return "\n".join(
        [
            "#!/bin/sh",
            f"# Written by `spct export verl` for verl {VERSION}.",
            "# NNODES and GPUS say how many machines, and GPUs on each.",
            "set -eu",
            "exec python3 -m verl.trainer.main_ppo \\",
            *lines,
            '  trainer.nnodes="${NNODES:-1}" trainer.n_gpus_per_node="${GPUS:-8}" "$@"',
            "",
        ]
    )
