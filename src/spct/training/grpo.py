"""Rule-based RL (§4): GRPO on the outcome of each rollout, on TRL's trainer.

    points -> easy ones dropped -> prompts, each in one shuffled order -> TRL -> OUT/model

The reward is Eq. 11 and nothing else: +1 where the scores agree with the labels by Eq. 10, -1 where they
do not, cannot be read, or the rollout was cut. There is no format reward; the KL penalty keeps the form.

What differs from Eq. 15, by TRL: the group's standard deviation is that of a sample (n - 1) plus 1e-4.
What the paper leaves open is ours: clip range 0.2, one update per generation, temperature 1, Adam.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spct.errors import InputError
from spct.prompts import render
from spct.sampling import orders
from spct.training.configs import GRPOConfig, engine_fields
from spct.training.curves import draw_curves
from spct.training.data import domain, template_for
from spct.training.domain_logs import domain_trainer
from spct.training.engine import (
    chat_ids,
    engine_arguments,
    fitting,
    load_tokenizer,
    lora,
    metrics_log,
    need,
    on_device,
    save_result,
    starting_model,
    train,
)
from spct.training.outcomes import OutcomeReward
from spct.training.rollouts import easy_points
from spct.training.slot_rollouts import SlotRollouts
from spct.training.sources import load_all
from spct.training.stage import Stage, open_stage
from spct.types import Example

# Every field that shapes the objective stands here, since TRL's defaults move between releases.
PAPER: dict[str, Any] = {
    "num_generations": 4,  # §4: G = 4
    "beta": 0.08,  # §4, for 27B
    "use_bias_correction_kl": False,  # Eq. 15: the plain estimator of the KL
    "loss_type": "grpo",  # Eq. 15: mean over a sequence's tokens, then over sequences
    "scale_rewards": "group",  # Eq. 15: (r - mean) / std of the group
    "multi_objective_aggregation": "sum_then_normalize",
    "reward_weights": None,
    "importance_sampling_level": "token",  # Eq. 15
    "epsilon": 0.2,
    "epsilon_high": None,  # the same on both sides
    "delta": None,
    "num_iterations": 1,
    "learning_rate": 4e-7,  # §4
    "lr_scheduler_type": "constant",
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": None,
    "repetition_penalty": 1.0,
    "disable_dropout": True,
    "mask_truncated_completions": False,  # a cut rollout is wrong, not ignored
    "entropy_coef": 0.0,
    "use_adaptive_entropy": False,
    "top_entropy_quantile": 1.0,
    "off_policy_mask_threshold": None,
    "sync_ref_model": False,  # the reference stays the model that RL starts from
    "vllm_importance_sampling_correction": False,  # not in Eq. 15
    "generation_kwargs": None,
    "shuffle_dataset": True,
}


def paper_grpo_config(**over: Any) -> Any:
    """TRL's `GRPOConfig` with the paper's standard GRPO (§4, Eq. 15).

    Args:
        over: Further fields, or other values.

    Raises:
        ConfigError: A field that the installed TRL does not have (its nearest is named).
    """
    from trl import GRPOConfig as TRLConfig

    return TRLConfig(**engine_fields(TRLConfig, PAPER | over))


def grpo_arguments(config: GRPOConfig) -> dict[str, Any]:
    """All arguments for TRL that a config comes to."""
    fields = PAPER | {
        "num_generations": config.group_size,
        "beta": config.beta,
        "epsilon": config.epsilon,
        "num_iterations": config.iterations,
        "temperature": config.temperature,
        "top_p": config.top_p,
        "max_completion_length": config.max_new_tokens,
        "use_vllm": config.vllm != "off",
    }
    if config.vllm != "off":
        fields |= {
            "vllm_mode": config.vllm,
            "vllm_server_base_url": config.vllm_url if config.vllm == "server" else None,
            "vllm_gpu_memory_utilization": config.vllm_memory,
            "vllm_tensor_parallel_size": config.vllm_tensor_parallel,
            "vllm_max_model_length": config.max_tokens + config.max_new_tokens,
        }
    return fields | engine_arguments(config)


def prompt_rows(examples: Sequence[Example], config: GRPOConfig) -> list[dict[str, Any]]:
    """Rows for TRL: each data point's prompt in one shuffled order (§5), and what its reward needs."""
    rows = []
    for example in examples:
        template = template_for(example, config.template, config.single_template)
        name = config.single_template if len(example.responses) == 1 else config.template or template.name
        [order] = orders("random", len(example.responses), 1, seed=config.seed, example_id=example.id)
        [messages] = render(template, example, [order])
        rows.append(
            {
                "prompt": [{"role": m.role, "content": m.content} for m in messages],
                "example_id": example.id,
                "labels": [float(label) for label in example.labels or ()],
                "order": list(order),
                "template": name,
                "domain": domain(example),
            }
        )
    return rows


def run(config: GRPOConfig, *, resume: bool = False) -> Path:
    """Train by RL; returns the folder of the model.

    Raises:
        InputError, ConfigError: Data, settings or the run folder are wrong; before any compute.
        MissingExtraError: A package is missing.
    """
    need("trl", "peft", "datasets", *(["vllm"] if config.vllm != "off" else []))
    with open_stage(config, resume=resume) as stage:
        if stage.finished:
            return stage.model
        tokenizer = load_tokenizer(config, room=config.max_tokens + config.max_new_tokens)
        rows, counts = load_rows(config, tokenizer)
        stage.note(counts=counts)
        trainer = make_trainer(config, stage, tokenizer, rows)
        train(trainer, stage)
        save_result(trainer, tokenizer, config, stage)
        if stage.writes and config.curves:
            draw_curves(stage.path)
        stage.finish()
        return stage.model


def hard_points(config: GRPOConfig) -> tuple[list[Example], dict[str, int]]:
    """Data points without those that are too easy (§4), and counts.

    Raises:
        InputError: Data points are unusable, or too few are left for one batch.
    """
    points = load_all(config.data, skip_bad=config.skip_bad)
    easy = easy_points(config.easy_runs)
    hard = [example for example in points.examples if example.id not in easy]
    counts = {"points": len(points.examples), "unusable": len(points.faults)}
    counts["easy"] = len(points.examples) - len(hard)
    _enough(len(hard), counts, config)
    return hard, counts


def _enough(left: int, counts: dict[str, int], config: GRPOConfig) -> None:
    if left < config.batch // config.group_size:
        raise InputError(
            f"{left} data points are left ({', '.join(f'{k} {v}' for k, v in counts.items())})",
            expected=f"at least {config.batch // config.group_size}: batch / group_size",
            fix="add data, or lower batch",
        )


def load_rows(config: GRPOConfig, tokenizer: Any) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """The rows to train on, and counts of what was left out.

    Raises:
        InputError: As `hard_points`; or prompts are too long.
    """
    hard, counts = hard_points(config)
    rows = prompt_rows(hard, config)
    lengths = [len(ids) for ids in chat_ids(tokenizer, [row["prompt"] for row in rows], reply=True)]
    fit = fitting([row["example_id"] for row in rows], lengths, config, config.max_tokens)
    counts |= {"too_long": fit.dropped, "used": len(fit.kept)}
    _enough(len(fit.kept), counts, config)
    return [rows[i] for i in fit.kept], counts


def forget_reference() -> Any:
    """A callback that leaves the reference adapter out of checkpoints: TRL makes it of `adapter` again.

    Some releases of transformers (5.10) load the subfolders of a checkpoint alone where it has any.
    """
    from transformers import TrainerCallback

    class ForgetReference(TrainerCallback):  # type: ignore[misc]
        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.is_world_process_zero:
                folder = Path(args.output_dir) / f"checkpoint-{state.global_step}" / "ref"
                shutil.rmtree(folder, ignore_errors=True)

    return ForgetReference()


def make_trainer(config: GRPOConfig, stage: Stage, tokenizer: Any, rows: Sequence[dict[str, Any]]) -> Any:
    """TRL's trainer for these rows, with our reward and logs."""
    import datasets
    from accelerate.utils import gather_object

    def sample(step: int, listed: list[dict[str, Any]]) -> None:
        if (step - 1) % config.sample_steps == 0:
            for row in gather_object(listed)[: config.sample_rollouts]:  # of all processes
                stage.append("rollouts.jsonl", {"step": step} | row)

    rollouts = {"rollout_func": SlotRollouts(config)} if config.slots else {}
    reward = OutcomeReward(sample)
    domains = sorted({row["domain"] for row in rows})
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "You are using 'rollout_func'", UserWarning)  # pinned
        trainer = domain_trainer(reward, domains)(
            model=starting_model(config),
            reward_funcs=reward,
            args=paper_grpo_config(**on_device(grpo_arguments(config))),
            train_dataset=datasets.Dataset.from_list(list(rows)),
            processing_class=tokenizer,
            peft_config=lora(config),
            callbacks=[metrics_log(stage), forget_reference()],
            **rollouts,
        )
    reward.ends = frozenset(trainer.eos_token_ids)
    return trainer
