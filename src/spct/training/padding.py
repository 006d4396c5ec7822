"""Less padding in a step of GRPO: TRL pads all rollouts of a step to the longest prompt and completion.

Where one generation makes one optimizer step, and the loss is a mean over sequences, the order of its rows
among the micro-batches changes nothing but rounding. So rows of like lengths go together, and columns that
are padding in all of them are cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Batch = dict[str, Any]


def by_length_trainer() -> Any:
    """A class of TRL's GRPO trainer whose micro-batches are dealt out by length where they may be."""
    from trl import GRPOTrainer

    class ByLength(GRPOTrainer):  # type: ignore[misc]  # TRL is not typed
        _buffered_inputs: Any

        def _prepare_inputs(self, generation_batch: Any) -> Any:
            before = self._buffered_inputs
            inputs = super()._prepare_inputs(generation_batch)
            if self._buffered_inputs is before or not order_is_free(self.args, inputs):
                return inputs
            self._buffered_inputs = by_length(self._buffered_inputs)
            return self._buffered_inputs[self._step % self.args.steps_per_generation]

    return ByLength


def order_is_free(args: Any, batch: Batch) -> bool:
    """Tell whether rows may stand in any micro-batch of their generation.

    Args:
        args: TRL's `GRPOConfig`.
        batch: A micro-batch; pictures are not counted in rows.
    """
    return bool(
        args.steps_per_generation == args.gradient_accumulation_steps
        and args.loss_type == "grpo"
        and args.top_entropy_quantile == 1.0
        and not args.pad_to_multiple_of
        and "pixel_values" not in batch
    )


def by_length(batches: Sequence[Batch]) -> list[Batch]:
    """Deal the rows of micro-batches out again by length, as many to each as before, and shorten them.

    Args:
        batches: TRL's, of one size: tensors with a row each, and facts of the whole.
    """
    import torch

    whole = {
        name: torch.cat([batch[name] for batch in batches]) if _has_rows(value) else value
        for name, value in batches[0].items()
    }
    lengths = whole["prompt_mask"].sum(1) + whole["completion_mask"].sum(1)
    parts = lengths.argsort(stable=True).chunk(len(batches))
    return [
        shortened({name: value[rows] if _has_rows(value) else value for name, value in whole.items()})
        for rows in parts
    ]


def shortened(batch: Batch) -> Batch:
    """Cut columns that are padding in all rows: on the left of prompts, on the right of completions."""
    first = int(batch["prompt_mask"].any(0).int().argmax())
    used = batch["completion_mask"].any(0).nonzero()
    width = batch["completion_mask"].shape[1]
    last = int(used[-1]) + 1 if len(used) else 1
    found = dict(batch)
    for name, value in batch.items():
        if name in ("prompt_ids", "prompt_mask"):
            found[name] = value[:, first:]
        elif _has_rows(value) and value.dim() == 2 and value.shape[1] == width:
            found[name] = value[:, :last]
    return found


def _has_rows(value: Any) -> bool:
    return getattr(value, "ndim", 0) > 0
