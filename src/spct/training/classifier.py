"""A classifier with one logit: what the meta RM and the scalar baselines train, each on rows of its own.

    CROSS_ENTROPY   transformers' Trainer on `input_ids`, `labels` (0 or 1)
    BRADLEY_TERRY   TRL's RewardTrainer on `chosen_ids`, `rejected_ids`: -log sigmoid(chosen - rejected)

OUT/model is a sequence-classification folder for transformers and vLLM's `/classify`; OUT/report.json
says how the model does on held-out rows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from spct.meta import sigmoid
from spct.training.calibration import calibration_report
from spct.training.configs import StageConfig, engine_fields
from spct.training.curves import draw_curves
from spct.training.engine import (
    engine_arguments,
    load_tokenizer,
    lora,
    metrics_log,
    model_arguments,
    need,
    on_device,
    save_result,
    train,
)
from spct.training.stage import Stage, open_stage

Rows = Sequence[Mapping[str, Any]]  # a list, or a `datasets.Dataset`


class Objective(NamedTuple):
    """A loss: the arguments of its engine, its trainer, and its report on held-out rows."""

    arguments: Callable[[StageConfig], dict[str, Any]]
    make_trainer: Callable[[StageConfig, Stage, Any, Rows], Any]
    report: Callable[[Any, Rows], dict[str, Any]]


def train_classifier(
    config: StageConfig,
    load_data: Callable[[Any], tuple[Mapping[str, Rows], dict[str, Any]]],
    objective: Objective,
    *,
    resume: bool,
) -> Path:
    """Train, check and save a classifier; returns the folder of the model.

    Args:
        config: Of the stage.
        load_data: From the tokenizer to the rows of `train` and `held_out`, and counts for the manifest.
        objective: The loss.
        resume: Go on with the run in the folder.

    Raises:
        InputError, ConfigError: Data, settings or the run folder are wrong; before any compute.
        MissingExtraError: A package is missing.
    """
    need("trl", "transformers", "peft", "datasets")
    with open_stage(config, resume=resume) as stage:
        if stage.finished:
            return stage.model
        tokenizer = load_tokenizer(config, room=config.max_tokens, chat=False)
        parts, counts = load_data(tokenizer)
        stage.note(counts=counts)
        trainer = objective.make_trainer(config, stage, tokenizer, parts["train"])
        train(trainer, stage)
        report = objective.report(trainer, parts["held_out"]) if len(parts["held_out"]) else {"count": 0}
        save_result(trainer, tokenizer, config, stage)
        if stage.writes:
            (stage.path / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
            if config.curves:
                draw_curves(stage.path)
        stage.finish(report={name: value for name, value in report.items() if name != "reliability"})
        return stage.model


def new_classifier(config: StageConfig, tokenizer: Any) -> Any:
    """The model to start from, with one logit; a language model gets a fresh head, by the seed."""
    from transformers import AutoModelForSequenceClassification, set_seed

    set_seed(config.seed)
    model = AutoModelForSequenceClassification.from_pretrained(
        config.model, num_labels=1, problem_type="multi_label_classification", **model_arguments(config)
    )
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    return model


def cross_entropy_arguments(config: StageConfig) -> dict[str, Any]:
    """All arguments for transformers' `TrainingArguments` that a config comes to."""
    arguments = engine_arguments(config) | {"remove_unused_columns": False, "label_names": ["labels"]}
    return {name: value for name, value in arguments.items() if name != "model_init_kwargs"}


def _cross_entropy_trainer(config: StageConfig, stage: Stage, tokenizer: Any, rows: Rows) -> Any:
    """The Trainer of transformers, on one logit with binary cross-entropy."""
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

    arguments = on_device(cross_entropy_arguments(config))
    model, adapter = new_classifier(config, tokenizer), lora(config, "SEQ_CLS")
    if adapter is not None:
        from peft import get_peft_model

        model = get_peft_model(model, adapter)
    return Trainer(
        model=model,
        args=TrainingArguments(**engine_fields(TrainingArguments, arguments)),
        train_dataset=rows,
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
        callbacks=[metrics_log(stage)],
    )


def _calibration(trainer: Any, rows: Rows) -> dict[str, Any]:
    logits = trainer.predict(rows).predictions[:, 0]
    return calibration_report([sigmoid(float(x)) for x in logits], [int(row["labels"][0]) for row in rows])


def bradley_terry_arguments(config: StageConfig) -> dict[str, Any]:
    """All arguments for TRL's `RewardConfig` that a config comes to."""
    arguments = {
        "max_length": None,  # TRL would leave out longer pairs silently; lengths are checked before
        "disable_dropout": True,
        "center_rewards_coefficient": None,  # plain Bradley-Terry
        "pad_to_multiple_of": None,
        "per_device_eval_batch_size": 1,  # the report's means are over batches, so each is one pair
    } | engine_arguments(config)
    return {name: value for name, value in arguments.items() if name != "model_init_kwargs"}


def _bradley_terry_trainer(config: StageConfig, stage: Stage, tokenizer: Any, rows: Rows) -> Any:
    """TRL's trainer for pairs of token ids."""
    from trl import RewardConfig, RewardTrainer

    arguments = engine_fields(RewardConfig, on_device(bradley_terry_arguments(config)))
    return RewardTrainer(
        model=new_classifier(config, tokenizer),
        args=RewardConfig(**arguments),
        train_dataset=rows,
        processing_class=tokenizer,
        peft_config=lora(config, "SEQ_CLS"),
        callbacks=[metrics_log(stage)],
    )


def _pair_accuracy(trainer: Any, rows: Rows) -> dict[str, Any]:
    found = trainer.evaluate(rows)
    return {"count": len(rows)} | {name: found[f"eval_{name}"] for name in ("loss", "accuracy", "margin")}


CROSS_ENTROPY = Objective(cross_entropy_arguments, _cross_entropy_trainer, _calibration)
BRADLEY_TERRY = Objective(bradley_terry_arguments, _bradley_terry_trainer, _pair_accuracy)
