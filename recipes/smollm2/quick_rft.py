"""Rejective fine-tuning for a CPU: a prompt is read once for all of its kept trajectories.

Trajectories of a data point that saw one order share their prompt, which is four times as long as a
judgement. Here they make one sequence, under a mask that keeps them apart:

    prompt without its last token | last token, trajectory 1 | last token, trajectory 2 | ...

Each sees the prompt and itself, at the positions that it would have alone, so that the loss and its gradient
are those of separate rows. Logits are made only where a trajectory stands. All else is `spct train rft`;
`batch` counts prompts, and a forward pass reads one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from spct.errors import ConfigError
from spct.training.configs import RFTConfig, engine_fields
from spct.training.curves import draw_curves
from spct.training.engine import (
    load_tokenizer,
    lora,
    metrics_log,
    need,
    on_device,
    save_result,
    starting_model,
    train,
)
from spct.training.rft import load_data, rft_arguments
from spct.training.stage import Stage, open_stage


class Packed(NamedTuple):
    """A prompt and its completions as one sequence; lists of one length, but for `targets`.

    Args:
        ids: Token ids.
        positions: Of each token in its own row.
        parts: 0 for the prompt, 1, 2, ... for its completions.
        targets: What the tokens of parts 1, 2, ... predict, in their order.
    """

    ids: list[int]
    positions: list[int]
    parts: list[int]
    targets: list[int]


def pack(prompt: Sequence[int], completions: Iterable[Sequence[int]]) -> Packed:
    """Put completions beside each other behind their prompt.

    >>> pack([5, 6], [[7, 8], [9]])
    Packed(ids=[5, 6, 7, 6], positions=[0, 1, 2, 1], parts=[0, 1, 1, 2], targets=[7, 8, 9])
    """
    found = Packed(list(prompt[:-1]), list(range(len(prompt) - 1)), [0] * (len(prompt) - 1), [])
    for number, completion in enumerate(completions, start=1):
        found.ids.extend([prompt[-1], *completion[:-1]])
        found.positions.extend(range(len(prompt) - 1, len(prompt) - 1 + len(completion)))
        found.parts.extend([number] * len(completion))
        found.targets.extend(completion)
    return found


def by_prompt(rows: Iterable[tuple[Sequence[int], Sequence[int]]]) -> list[Packed]:
    """Pack rows of token ids and completion mask that have one prompt, in the order of first sight."""
    groups: dict[tuple[int, ...], list[list[int]]] = defaultdict(list)
    for ids, mask in rows:
        start = list(mask).index(1)
        groups[tuple(ids[:start])].append(list(ids[start:]))
    return [pack(prompt, completions) for prompt, completions in groups.items()]


def run(config: RFTConfig, *, resume: bool = False) -> Path:
    """Fine-tune; returns the folder of the model.

    Raises:
        InputError, ConfigError: Data, settings or the run folder are wrong; before any compute.
        MissingExtraError: A package is missing.
    """
    need("trl", "peft", "datasets")
    if config.micro_batch != 1:
        raise ConfigError(f"micro_batch is {config.micro_batch}", expected="1: one prompt a pass")
    with open_stage(config, resume=resume) as stage:
        if stage.finished:
            return stage.model
        tokenizer = load_tokenizer(config, room=config.max_tokens)
        data, counts = load_data(config, tokenizer)
        packed = by_prompt(zip(data["input_ids"], data["completion_mask"], strict=True))
        stage.note(counts=counts | {"prompts": len(packed), "packed": sum(len(p.ids) for p in packed)})
        trainer = make_trainer(config, stage, tokenizer, packed)
        train(trainer, stage)
        save_result(trainer, tokenizer, config, stage)
        draw_curves(stage.path)
        stage.finish()
        return stage.model


def make_trainer(config: RFTConfig, stage: Stage, tokenizer: Any, packed: Sequence[Packed]) -> Any:
    """TRL's trainer, with packed prompts and a loss that keeps their completions apart."""
    import datasets
    import torch
    from trl import SFTConfig, SFTTrainer

    class SharedPrompt(SFTTrainer):  # type: ignore[misc]  # trl is not typed
        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            output = model(
                input_ids=inputs["input_ids"],
                position_ids=inputs["positions"],
                attention_mask=apart(inputs["parts"]),
                logits_to_keep=inputs["parts"][0].nonzero()[:, 0],
                use_cache=False,
            )
            targets = inputs["labels"][0, 1:]
            total = torch.nn.functional.cross_entropy(output.logits[0].float(), targets, reduction="sum")
            count = len(targets)
            if num_items_in_batch is not None:  # of all processes, whose gradients are averaged, not summed
                count = num_items_in_batch / self.accelerator.num_processes
            return (total / count, output) if return_outputs else total / count

    rows = [
        {"input_ids": p.ids, "positions": p.positions, "parts": p.parts, "labels": [-100, *p.targets]}
        for p in packed  # the trainer counts a row's labels from the second on
    ]
    own = {"remove_unused_columns": False, "max_length": None}  # lengths are checked before packing
    own |= {"ddp_find_unused_parameters": False}  # there are none
    arguments = engine_fields(SFTConfig, on_device(rft_arguments(config)) | own)
    return SharedPrompt(
        model=starting_model(config),
        args=SFTConfig(**arguments),
        train_dataset=datasets.Dataset.from_list(rows),
        data_collator=lambda one: {name: torch.tensor([values]) for name, values in one[0].items()},
        processing_class=tokenizer,
        peft_config=lora(config),
        callbacks=[metrics_log(stage)],
    )


def apart(parts: Any) -> Any:
    """What is added to attention's scores, so that completions do not see each other.

    Args:
        parts: (1, length), of `Packed`.

    Returns:
        (1, 1, length, length): 0 for the prompt and what stands before a token in its own part, else -inf.
    """
    import torch

    [own] = parts
    causal = torch.ones(len(own), len(own), dtype=torch.bool).tril()
    seen = causal & ((own[:, None] == own) | (own == 0))
    return torch.zeros(seen.shape).masked_fill(~seen, float("-inf"))[None, None]
