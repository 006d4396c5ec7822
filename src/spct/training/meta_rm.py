"""The meta RM (§5): a classifier with one logit that tells whether a trajectory's scores are correct.

    rollout folders -> (what the meta RM reads, correct by Eq. 10?) -> transformers' Trainer, BCE -> OUT/model

The folders are the non-hinted rollouts of RFT and rollouts of the GRM that is to be guided, so that
training matches inference. Only trajectories with valid scores are used, as only these can vote.
OUT/model is what `spct.meta.LocalClassifier` and vLLM's `/classify` load.

Differs from the paper: a share of the queries is held out for OUT/report.json (ours).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from spct.correctness import is_correct
from spct.errors import InputError
from spct.meta import meta_prompt
from spct.records import RunFolder
from spct.training.classifier import CROSS_ENTROPY, train_classifier
from spct.training.configs import MetaRMConfig
from spct.training.data import check_labels, held_out
from spct.training.engine import fitting
from spct.types import Example


class Judged(NamedTuple):
    """A trajectory as the meta RM reads it, and whether its scores are correct."""

    name: str
    example: Example
    prompt: str
    correct: bool


def judged(
    runs: Sequence[str | Path], template: str = "meta_rm", *, only_mixed: bool = False
) -> tuple[list[Judged], dict[str, int]]:
    """Read rollout folders; hinted and unparsed trajectories are left out and counted.

    Args:
        runs: The folders.
        template: What the meta RM reads.
        only_mixed: Leave out the trajectories of a data point that are all correct or all incorrect.

    Raises:
        InputError: A folder holds no run.
    """
    found: list[Judged] = []
    counts = {"hinted": 0, "unparsed": 0, "unlabelled": 0, "not_mixed": 0}
    for path in runs:
        for example, trajectories in RunFolder.load(path):
            unusable, own = bool(check_labels([example]).faults), list[Judged]()
            for t in trajectories:
                if unusable or t.hinted or t.scores is None:
                    reason = "unlabelled" if unusable else "hinted" if t.hinted else "unparsed"
                    counts[reason] += 1
                    continue
                correct = is_correct(t.scores, example.labels or ())
                name = f"{path}:{example.id}/{t.sample}"
                own.append(Judged(name, example, meta_prompt(example, t, template), correct))
            if only_mixed and len({row.correct for row in own}) == 1:
                counts["not_mixed"] += len(own)
            else:
                found += own
    return found, counts


def run(config: MetaRMConfig, *, resume: bool = False) -> Path:
    """Train the meta RM; returns the folder of the model.

    Raises:
        InputError, ConfigError: Data, settings or the run folder are wrong; before any compute.
        MissingExtraError: A package is missing.
    """
    return train_classifier(config, partial(load_data, config), CROSS_ENTROPY, resume=resume)


def load_data(config: MetaRMConfig, tokenizer: Any) -> tuple[dict[str, list[dict[str, Any]]], dict[str, Any]]:
    """Rows of token ids and labels, split by query into `train` and `held_out`, and counts.

    Raises:
        InputError: Too long; or the trajectories are all correct or all incorrect.
    """
    found, counts = judged(config.data, config.template, only_mixed=config.only_mixed)
    ids = tokenizer([row.prompt for row in found])["input_ids"] if found else []
    fit = fitting([row.name for row in found], [len(i) for i in ids], config, config.max_tokens)
    aside = held_out([found[i].example for i in fit.kept], config.held_out, seed=config.seed)
    parts: dict[str, list[dict[str, Any]]] = {"train": [], "held_out": []}
    for i, apart in zip(fit.kept, aside, strict=True):
        row = {"input_ids": ids[i], "labels": [float(found[i].correct)]}
        parts["held_out" if apart else "train"].append(row)
    right = sum(row["labels"][0] for row in parts["train"])
    if not 0 < right < len(parts["train"]):
        raise InputError(
            f"{right:.0f} of {len(parts['train'])} trajectories are correct",
            expected="correct and incorrect ones to learn from",
            fix="add rollouts of harder or easier data points",
        )
    sizes = {name: len(rows) for name, rows in parts.items()}
    return parts, counts | sizes | {"too_long": fit.dropped, "correct": int(right)}
