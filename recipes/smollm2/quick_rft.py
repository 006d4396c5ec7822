"""Rejective fine-tuning for a CPU: the instructions that all prompts of a batch begin with are read once.

The shipped prompts begin with the same 450 tokens of instructions. A batch holds rows whose prompts share
them; they pass through the model once, without gradient, and the rows attend to their keys and values. The
loss is the exact one; its gradient leaves out what the adapter does to those shared tokens. Logits are made
only where a completion stands. All else is `spct train rft`.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spct.errors import ConfigError
from spct.training.configs import RFTConfig, engine_fields
from spct.training.curves import draw_curves
from spct.training.engine import load_tokenizer, lora, metrics_log, need, on_device, save_result, train
from spct.training.rft import load_data, rft_arguments
from spct.training.stage import Stage, open_stage

KEY = 100  # rows whose first so many tokens are equal go together
POOL = 16  # batches that are drawn together and sorted by length


def run(config: RFTConfig, *, resume: bool = False) -> Path:
    """Fine-tune; returns the folder of the model.

    Raises:
        InputError, ConfigError: Data, settings or the run folder are wrong; before any compute.
        MissingExtraError: A package is missing.
    """
    need("trl", "peft", "datasets")
    if config.gradient_checkpointing:
        raise ConfigError("gradient_checkpointing is true", expected="false, since keys and values are kept")
    with open_stage(config, resume=resume) as stage:
        if stage.finished:
            return stage.model
        tokenizer = load_tokenizer(config, room=config.max_tokens)
        data, counts = load_data(config, tokenizer)
        stage.note(counts=counts)
        trainer = make_trainer(config, stage, tokenizer, data)
        train(trainer, stage)
        save_result(trainer, tokenizer, config, stage)
        draw_curves(stage.path)
        stage.finish()
        return stage.model


def batches(rows: Sequence[Sequence[int]], batch: int, seed: int) -> list[int]:
    """Row numbers, `batch` at a time of rows that begin alike and are of like length, in a seeded order.

    Rows whose beginning is rare, such as general ones, go together. What fills no batch is left out until
    another seed.

    >>> len(batches([[1, 1], [2], [1, 3], [2, 5], [1]], 2, 0))
    4
    """
    rng, groups = random.Random(seed), defaultdict[tuple[int, ...], list[int]](list)
    heads = [tuple(row[:KEY]) for row in rows]
    common = Counter(heads)
    for number, head in enumerate(heads):
        groups[head if common[head] >= batch else ()].append(number)
    whole = []
    for numbers in groups.values():
        rng.shuffle(numbers)
        for start in range(0, len(numbers), POOL * batch):
            pool = sorted(numbers[start : start + POOL * batch], key=lambda number: len(rows[number]))
            skip = rng.randrange(len(pool) % batch + 1)
            whole += [pool[i : i + batch] for i in range(skip, len(pool) - batch + 1, batch)]
    rng.shuffle(whole)
    return [number for numbers in whole for number in numbers]


def make_trainer(config: RFTConfig, stage: Stage, tokenizer: Any, data: Any) -> Any:
    """TRL's trainer, with batches of equal beginnings and a loss that reads them once."""
    import torch
    from trl import SFTConfig, SFTTrainer

    class SharedPrefix(SFTTrainer):  # type: ignore[misc]  # trl is not typed
        def _get_train_sampler(self, *_: Any, **__: Any) -> Any:
            return batches(list(self.train_dataset["input_ids"]), config.micro_batch, config.seed)

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            ids, mask, labels = inputs["input_ids"], inputs["attention_mask"], inputs["labels"]
            same = (ids == ids[:1]).all(dim=0) & (labels == -100).all(dim=0)
            shared = max(int(same.long().cumprod(0).sum()) - 1, 1)
            with torch.no_grad():
                cache = model(input_ids=ids[:1, :shared], use_cache=True, logits_to_keep=1).past_key_values
            cache.batch_repeat_interleave(len(ids))
            targets = labels[:, shared + 1 :]
            places = (targets != -100).any(dim=0).nonzero()[:, 0]
            output = model(
                input_ids=ids[:, shared:],
                attention_mask=mask,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=places,
            )
            total = torch.nn.functional.cross_entropy(
                output.logits.flatten(0, 1).float(), targets[:, places].flatten(), reduction="sum"
            )
            count = num_items_in_batch if num_items_in_batch is not None else (targets != -100).sum()
            return (total / count, output) if return_outputs else total / count

    return SharedPrefix(
        model=config.model,
        args=SFTConfig(**engine_fields(SFTConfig, on_device(rft_arguments(config)))),
        train_dataset=data,
        processing_class=tokenizer,
        peft_config=lora(config),
        callbacks=[metrics_log(stage)],
    )
