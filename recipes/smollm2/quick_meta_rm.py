"""Meta RM training for a CPU: what the judgements of a data point share is read once.

Judgements of one order of responses share all that the meta RM reads before them, which is several times as
long as a judgement. As in `quick_rft.py` they make one sequence under a mask that keeps them apart, and the
logit of each is that of its last token. `batch` counts data points, a forward pass reads one, and the loss is
the mean over data points of the mean over their judgements. All else is `spct train meta-rm`, with LoRA.

    python recipes/smollm2/quick_meta_rm.py ROLLOUTS... --model MODEL --out runs/smollm2/meta-rm
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

from quick_rft import apart, pack

from spct.configs import build
from spct.errors import ConfigError, InputError, SpctError
from spct.meta import sigmoid
from spct.training.calibration import calibration_report
from spct.training.classifier import Objective, cross_entropy_arguments, new_classifier, train_classifier
from spct.training.configs import MetaRMConfig, engine_fields, load_config
from spct.training.data import held_out
from spct.training.engine import fitting, lora, metrics_log, on_device
from spct.training.meta_rm import judged

Row = dict[str, Any]


def packed(ids: Sequence[Sequence[int]], labels: Sequence[float]) -> Row:
    """Rows of token ids as one sequence, with the place of each row's last token.

    >>> packed([[5, 6, 7], [5, 6, 8, 9]], [1.0, 0.0])["ends"]
    [2, 5]
    """
    shortest = min(map(len, ids)) - 1
    shared = next((i for i in range(shortest) if len({row[i] for row in ids}) > 1), shortest)
    whole = pack(ids[0][:shared], [[*row[shared:], 0] for row in ids])  # `pack` leaves the last token out
    lengths = [len(row) - shared + 1 for row in ids]
    ends = [shared - 2 + n for n in accumulate(lengths)]
    return {
        "input_ids": whole.ids,
        "positions": whole.positions,
        "parts": whole.parts,
        "ends": ends,
        "labels": list(labels),
    }


def load_data(config: MetaRMConfig, tokenizer: Any) -> tuple[dict[str, list[Row]], dict[str, Any]]:
    """Packed rows, one a data point and order, split by query into `train` and `held_out`, and counts.

    Raises:
        InputError: Rows are too long, or all correct or all incorrect.
    """
    found, counts = judged(config.data, config.template, only_mixed=config.only_mixed)
    ids = tokenizer([row.prompt for row in found])["input_ids"] if found else []
    fit = fitting([row.name for row in found], [len(i) for i in ids], config, config.max_tokens)
    aside = held_out([found[i].example for i in fit.kept], config.held_out, seed=config.seed)
    groups: dict[str, dict[Any, list[int]]] = {"train": defaultdict(list), "held_out": defaultdict(list)}
    for i, is_apart in zip(fit.kept, aside, strict=True):
        opening = found[i].prompt.split("[[evaluation begins]]")[0]
        groups["held_out" if is_apart else "train"][opening].append(i)
    parts = {
        name: [packed([ids[i] for i in own], [float(found[i].correct) for i in own]) for own in part.values()]
        for name, part in groups.items()
    }
    labels = {name: [y for row in rows for y in row["labels"]] for name, rows in parts.items()}
    if len(set(labels["train"])) < 2:
        raise InputError(
            f"all of {len(labels['train'])} trajectories are alike", expected="correct and incorrect ones"
        )
    sizes = {name: len(rows) for name, rows in labels.items()} | {"points": len(parts["train"])}
    return parts, counts | sizes | {"too_long": fit.dropped, "correct": int(sum(labels["train"]))}


def logits(model: Any, inputs: Any) -> Any:
    """The logit of each judgement of a packed row: (judgements,).

    The head makes a logit at each place, of which transformers hands on that of the last: hence the hook.
    """
    seen: list[Any] = []
    [head] = [m for name, m in model.named_modules() if name.endswith("score") and "lora" not in name][:1]
    hook = head.register_forward_hook(lambda module, args, output: seen.append(output))
    try:
        model(
            input_ids=inputs["input_ids"],
            position_ids=inputs["positions"],
            attention_mask=apart(inputs["parts"]),
            use_cache=False,
        )
    finally:
        hook.remove()
    return seen[0][0, inputs["ends"][0], 0]


def make_trainer(config: MetaRMConfig, stage: Any, tokenizer: Any, rows: Sequence[Row]) -> Any:
    """The Trainer of transformers, on packed rows."""
    import torch
    from peft import get_peft_model
    from transformers import Trainer, TrainingArguments

    class SharedPrompt(Trainer):  # type: ignore[misc]
        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            own = torch.nn.functional.binary_cross_entropy_with_logits(
                logits(model, inputs).float(), inputs["labels"][0]
            )
            return (own, own) if return_outputs else own

    arguments = engine_fields(TrainingArguments, on_device(cross_entropy_arguments(config)))
    trainer = SharedPrompt(
        model=get_peft_model(new_classifier(config, tokenizer), lora(config, "SEQ_CLS")),
        args=TrainingArguments(**(arguments | {"ddp_find_unused_parameters": False})),
        train_dataset=list(rows),
        data_collator=lambda one: {name: torch.tensor([values]) for name, values in one[0].items()},
        processing_class=tokenizer,
        callbacks=[metrics_log(stage)],
    )
    trainer.model_accepts_loss_kwargs = False  # else losses of a step were summed, not averaged
    return trainer


def report(trainer: Any, rows: Sequence[Row]) -> dict[str, Any]:
    """How far the rewards of held-out judgements are from what they should be."""
    import torch

    rewards, labels = list[float](), list[int]()
    trainer.model.eval()
    for row in rows:
        inputs = trainer.data_collator([row])
        with torch.no_grad(), trainer.compute_loss_context_manager():
            found = logits(trainer.model, inputs).float().tolist()
        rewards += [sigmoid(x) for x in found]
        labels += [int(y) for y in row["labels"]]
    return calibration_report(rewards, labels)


QUICK = Objective(cross_entropy_arguments, make_trainer, report)


def run(config: MetaRMConfig, *, resume: bool = False) -> Path:
    """Train the meta RM; returns the folder of the model.

    Raises:
        InputError, ConfigError: Data, settings or the run folder are wrong; before any compute.
        MissingExtraError: A package is missing.
    """
    if config.micro_batch != 1 or not config.lora_rank:
        raise ConfigError(
            f"micro_batch is {config.micro_batch}, lora_rank {config.lora_rank}",
            expected="1: one data point a pass, and LoRA",
        )
    return train_classifier(config, partial(load_data, config), QUICK, resume=resume)


def main() -> int:
    """Read the command line and train by meta_rm_cpu.toml."""
    parser = argparse.ArgumentParser(description="a meta RM on a CPU")
    parser.add_argument("rollouts", nargs="+", help="run folders of `spct rollout`")
    parser.add_argument("--model", required=True, help="folder of the GRM or meta RM from which it starts")
    parser.add_argument("--out", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], help="another setting of the file, key=value")
    args = parser.parse_args()
    given = {"data": args.rollouts, "model": args.model, "out": args.out, "seed": args.seed}
    try:
        config = load_config(MetaRMConfig, Path(__file__).with_name("meta_rm_cpu.toml"), args.set)
        print(run(build(MetaRMConfig, config.model_dump() | given), resume=True))
    except SpctError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
