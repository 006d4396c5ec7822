"""Rejective fine-tuning (§3): supervised training on kept trajectories and general data, on TRL's trainer.

    rows of `spct reject` -> token ids, with lengths checked -> TRL -> OUT/model

The loss is on the completion's tokens only, its end included. Sequences that are too long are refused
or left out and counted, never cut. What the paper leaves open is ours: Adam, a constant rate, no packing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from spct.errors import InputError
from spct.training.configs import CloudConfig, RFTConfig, engine_fields
from spct.training.curves import draw_curves
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
from spct.training.general import load_general
from spct.training.stage import Stage, open_stage

FineTuning = RFTConfig | CloudConfig
Read = Callable[[Any], tuple[list[dict[str, Any]], dict[str, int]]]


def rft_arguments(config: FineTuning) -> dict[str, Any]:
    """All arguments for TRL's `SFTConfig` that a config comes to."""
    return {
        "loss_type": "nll",
        "completion_only_loss": True,
        "max_length": config.max_tokens,  # cuts nothing: lengths are checked before
        "packing": config.packing,
        "packing_strategy": "bfd",
        "shuffle_dataset": False,  # the sampler shuffles each epoch
        "dataset_num_proc": None,
    } | engine_arguments(config)


def read_rows(config: RFTConfig) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Rows of prompt and completion; and counts of what is left out, here nothing."""
    return [row for source in config.data for row in load_general(source)], {}


def run(config: FineTuning, *, resume: bool = False, read: Read = read_rows) -> Path:
    """Fine-tune; returns the folder of the model.

    Args:
        config: Of the stage.
        resume: Go on with the run in the folder.
        read: Gives the rows of the config's data.

    Raises:
        InputError, ConfigError: Data, settings or the run folder are wrong; before any compute.
        MissingExtraError: A package is missing.
    """
    need("trl", "peft", "datasets")
    with open_stage(config, resume=resume) as stage:
        if stage.finished:
            return stage.model
        tokenizer = load_tokenizer(config, room=config.max_tokens)
        data, counts = load_data(config, tokenizer, read)
        stage.note(counts=counts)
        trainer = make_trainer(config, stage, tokenizer, data)
        train(trainer, stage)
        save_result(trainer, tokenizer, config, stage)
        if stage.writes and config.curves:
            draw_curves(stage.path)
        stage.finish()
        return stage.model


def make_trainer(config: FineTuning, stage: Stage, tokenizer: Any, data: Any) -> Any:
    """TRL's trainer for token ids with a completion mask."""
    from trl import SFTConfig, SFTTrainer

    arguments = engine_fields(SFTConfig, on_device(rft_arguments(config)))
    return SFTTrainer(
        model=starting_model(config),
        args=SFTConfig(**arguments),
        train_dataset=data,
        processing_class=tokenizer,
        peft_config=lora(config),
        callbacks=[metrics_log(stage)],
    )


def load_data(config: FineTuning, tokenizer: Any, read: Read = read_rows) -> tuple[Any, dict[str, Any]]:
    """The data set of token ids, held in memory (about 10 bytes a token), and counts.

    Raises:
        InputError: Rows are bad, or too long (how many, how long, which).
    """
    import datasets

    rows, left_out = read(config)
    names = [str(row.get("id", f"row {number}")) for number, row in enumerate(rows, start=1)]
    pairs = token_ids(tokenizer, rows, names)
    lengths = [len(ids) for ids, _ in pairs]
    fit = fitting(names, lengths, config, config.max_tokens)
    features = {
        "input_ids": datasets.List(datasets.Value("int32")),
        "completion_mask": datasets.List(datasets.Value("int8")),
    }
    columns = {name: [pairs[i][place] for i in fit.kept] for place, name in enumerate(features)}
    counts = left_out | {
        "rows": len(rows),
        "too_long": fit.dropped,
        "used": len(fit.kept),
        "kinds": dict(sorted(Counter(rows[i]["kind"] for i in fit.kept).items())),
        "longest": max(lengths[i] for i in fit.kept),
        "tokens": sum(lengths[i] for i in fit.kept),
    }
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features)), counts


def token_ids(
    tokenizer: Any, rows: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> list[tuple[Any, Any]]:
    """Token ids of prompt and completion, and the mask that is 1 on the completion, of each row.

    Raises:
        InputError: Under the chat template a prompt is no beginning of the whole: what the model is
            asked at inference would not be what it is trained on.
    """
    import numpy as np

    prompts = chat_ids(tokenizer, [row["prompt"] for row in rows], reply=True)
    wholes = chat_ids(tokenizer, [[*row["prompt"], *row["completion"]] for row in rows], reply=False)
    pairs = []
    for name, prompt, whole in zip(names, prompts, wholes, strict=True):
        if whole[: len(prompt)] != prompt:
            raise InputError(
                f"{name}: with its completion the prompt has other tokens than without",
                expected="a chat template that only adds to the prompt",
                fix="use a template without date, and whose turns do not depend on later ones",
            )
        mask = np.zeros(len(whole), dtype=np.int8)
        mask[len(prompt) :] = 1
        pairs.append((np.array(whole, dtype=np.int32), mask))
    return pairs
