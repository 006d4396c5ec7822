"""The scalar baselines (§7), trained on pairs of the GRM's own data and base model.

    data points -> pairs (better, worse) -> two conversations each -> a classifier with one logit -> OUT/model

    bradley-terry   a response each                   Bradley-Terry loss
    pair-rm         both responses, in both orders    binary cross-entropy
    cloud           a response and its critique       Bradley-Terry loss; its critic by `rft`'s trainer

What a conversation holds and how it becomes tokens is `spct.baselines`' own, so that the scorers read
what was trained on. Differs from the paper: a share of the queries is held out for OUT/report.json (ours).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from spct.baselines.bradley_terry import response_turns
from spct.baselines.cloud import scored_turns
from spct.baselines.pair_rm import pair_turn
from spct.baselines.reward_model import encode
from spct.errors import InputError
from spct.training import rft
from spct.training.classifier import BRADLEY_TERRY, CROSS_ENTROPY, Objective, Rows, train_classifier
from spct.training.configs import CloudConfig, PairRMConfig, PairsConfig
from spct.training.critiques import critic_rows, critiques, load_critiqued
from spct.training.data import Fault, Points, held_out, pair_places
from spct.training.engine import fitting
from spct.training.sources import load_all, unusable
from spct.types import Example, Message

_BATCH = 512
Ids = Any  # (tokens,) int32


class Pair(NamedTuple):
    """Two responses of an example by their indices, the better one first."""

    example: Example
    better: int
    worse: int

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.example.id}/{self.better}-{self.worse}"


def run(config: PairsConfig, *, resume: bool = False) -> Path:
    """Train a baseline; returns the folder of the model.

    Raises:
        InputError, ConfigError: Data, settings or the run folder are wrong; before any compute.
        MissingExtraError: A package is missing.
    """
    if isinstance(config, CloudConfig) and config.part == "critic":
        return rft.run(config, resume=resume, read=critic_rows)
    return train_classifier(config, partial(load_data, config), _objective(config), resume=resume)


def arguments(config: PairsConfig) -> dict[str, Any]:
    """All arguments for the engine that a config comes to."""
    if isinstance(config, CloudConfig) and config.part == "critic":
        return rft.rft_arguments(config)
    return _objective(config).arguments(config)


def _objective(config: PairsConfig) -> Objective:
    return CROSS_ENTROPY if isinstance(config, PairRMConfig) else BRADLEY_TERRY


def conversations(pair: Pair, config: PairsConfig) -> tuple[Sequence[Message], Sequence[Message]]:
    """What the model reads of a pair: the first is to have the higher logit."""
    example, better, worse = pair
    if isinstance(config, PairRMConfig):
        return pair_turn(example, better, worse), pair_turn(example, worse, better)
    if isinstance(config, CloudConfig):
        texts = critiques(example)
        return scored_turns(example, better, texts[better]), scored_turns(example, worse, texts[worse])
    return response_turns(example, better), response_turns(example, worse)


def load_pairs(config: PairsConfig) -> tuple[list[Pair], dict[str, int]]:
    """The pairs of the config's data, and counts.

    Raises:
        InputError: A data point gives no pair and `skip_bad` is False (which, why), or none does.
    """
    load = load_critiqued if isinstance(config, CloudConfig) else partial(load_all, check=False)
    points: Points = load(config.data, skip_bad=config.skip_bad)
    pairs, faults = [], points.faults
    for example in points.examples:
        fault = pair_fault(example, config.margin)
        if fault:
            faults.append(Fault(example.id, fault))
            continue
        places = pair_places(example, config.margin, max_pairs=config.max_pairs)
        pairs += [Pair(example, better, worse) for better, worse in places]
    if not pairs or (faults and not config.skip_bad):
        wanted = f"two responses whose labels lie at least {config.margin:g} apart"
        raise unusable(", ".join(config.data), faults, len(points.examples), wanted)
    return pairs, {"points": len(points.examples), "unusable": len(faults), "pairs": len(pairs)}


def pair_fault(example: Example, margin: float) -> str | None:
    """Why an example gives no pair; None where it does."""
    if example.labels is None:
        return "no labels"
    if len(example.labels) == 1:
        return "one response, which makes no pair"
    apart = max(example.labels) - min(example.labels)
    return None if apart >= margin else f"labels {example.labels} lie less than {margin:g} apart"


def load_data(config: PairsConfig, tokenizer: Any) -> tuple[dict[str, Rows], dict[str, Any]]:
    """Rows of token ids, split by query into `train` and `held_out`, and counts.

    Raises:
        InputError: As `load_pairs`; conversations are too long; or no pair is left to train on.
    """
    pairs, counts = load_pairs(config)
    ids = list(_encoded(tokenizer, [turns for pair in pairs for turns in conversations(pair, config)]))
    pad_apart(tokenizer, {int(i[-1]) for i in ids})
    sides = list(zip(ids[::2], ids[1::2], strict=True))
    lengths = [max(map(len, pair)) for pair in sides]
    fit = fitting([pair.name for pair in pairs], lengths, config, config.max_tokens)
    aside = held_out([pairs[i].example for i in fit.kept], config.held_out, seed=config.seed)
    parts: dict[str, list[tuple[Ids, Ids]]] = {"train": [], "held_out": []}
    for i, apart in zip(fit.kept, aside, strict=True):
        parts["held_out" if apart else "train"].append(sides[i])
    if not parts["train"]:
        raise InputError("all pairs are held out", expected="some to train on", fix="lower held_out")
    counts |= {"too_long": fit.dropped, "longest": max(lengths[i] for i in fit.kept)}
    counts |= {name: len(part) for name, part in parts.items()}
    table = _sequences if isinstance(config, PairRMConfig) else _chosen_and_rejected
    return {name: table(part) for name, part in parts.items()}, counts


def _encoded(tokenizer: Any, turns: Sequence[Sequence[Message]]) -> Iterator[Ids]:
    import numpy as np

    for start in range(0, len(turns), _BATCH):
        yield from (np.asarray(i, dtype=np.int32) for i in encode(tokenizer, turns[start : start + _BATCH]))


def pad_apart(tokenizer: Any, last: set[int]) -> None:
    """Pad with a token that ends no conversation.

    transformers reads the logit at the last token that is no padding, vLLM at the last token: where
    conversations end in the padding token, as with Llama 3 (`<|eot_id|>`), these are different places.

    Raises:
        InputError: Each special token of the tokenizer ends some conversation.
    """
    if tokenizer.pad_token_id not in last:
        return
    for token in tokenizer.all_special_tokens:
        if tokenizer.convert_tokens_to_ids(token) not in last:
            tokenizer.pad_token = token
            return
    raise InputError(
        f"conversations end in the padding token {tokenizer.pad_token!r}",
        expected="a special token that ends none, to pad with",
        fix="set `tokenizer` to one that has a padding token of its own",
    )


def _chosen_and_rejected(sides: Sequence[tuple[Ids, Ids]]) -> Rows:
    return _table(
        {"chosen_ids": [first for first, _ in sides], "rejected_ids": [second for _, second in sides]}
    )


def _sequences(sides: Sequence[tuple[Ids, Ids]]) -> Rows:
    ids = [side for pair in sides for side in pair]
    return _table({"input_ids": ids, "labels": [[1.0], [0.0]] * len(sides)})


def _table(columns: dict[str, list[Any]]) -> Rows:
    import datasets

    kinds = {name: "float32" if name == "labels" else "int32" for name in columns}
    features = datasets.Features({name: datasets.List(datasets.Value(kind)) for name, kind in kinds.items()})
    table: Rows = datasets.Dataset.from_dict(columns, features=features)
    return table
