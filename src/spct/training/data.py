"""Data points for training: usable labels (§2), pairs, splits, and the prompt that each kind has."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, permutations
from typing import NamedTuple

from spct.errors import InputError
from spct.prompts import Template, choose_template, load_template
from spct.sampling import seed_of
from spct.types import Example, Message, digest

_HASHES = 2**31 - 2**20  # the range of `seed_of`


class Fault(NamedTuple):
    """A row or example that cannot be used, and why."""

    where: str
    fault: str


class Points(NamedTuple):
    """Usable examples in their order, and what was left out."""

    examples: list[Example]
    faults: list[Fault]


def check_labels(examples: Iterable[Example]) -> Points:
    """Split off examples without usable ground truth (§2, §4)."""
    good, faults = [], []
    for example in examples:
        fault = label_fault(example)
        if fault:
            faults.append(Fault(example.id, fault))
        else:
            good.append(example)
    return Points(good, faults)


def label_fault(example: Example) -> str | None:
    """What is wrong with an example's labels; None where one response is best, or a single is 0 or 1."""
    if example.labels is None:
        return "no labels"
    if len(example.labels) == 1:
        return (
            None if example.labels[0] in (0, 1) else f"label {example.labels[0]:g} of a single is not 0 or 1"
        )
    maxima = example.labels.count(max(example.labels))
    return None if maxima == 1 else f"labels {example.labels} have {maxima} maxima"


def pair_places(example: Example, margin: float, *, max_pairs: int | None = None) -> list[tuple[int, int]]:
    """Pairs of a graded list, as (better, worse), whose labels lie at least `margin` apart (ours).

    Args:
        example: With labels; two or more responses.
        margin: Smallest difference, > 0.
        max_pairs: Keep a seeded choice of so many.

    Raises:
        InputError: margin <= 0, or no labels.
    """
    if margin <= 0 or example.labels is None:
        raise InputError(
            f"margin is {margin} and labels are {example.labels}", expected="margin > 0, and labels"
        )
    labels = example.labels
    places = [(i, j) for i, j in permutations(range(len(labels)), 2) if labels[i] - labels[j] >= margin]
    if max_pairs is not None and len(places) > max_pairs:
        places = sorted(random.Random(seed_of(example.id, "pairs")).sample(places, max_pairs))
    return places


def graded_pairs(example: Example, margin: float, *, max_pairs: int | None = None) -> list[Example]:
    """The pairs of `pair_places` as examples, better first."""
    labels = example.labels or ()
    return [
        Example(
            id=f"{example.id}/{i}-{j}",
            messages=example.messages,
            responses=(example.responses[i], example.responses[j]),
            labels=(labels[i], labels[j]),
            meta=example.meta,
        )
        for i, j in pair_places(example, margin, max_pairs=max_pairs)
    ]


def split_by_query(
    examples: Iterable[Example], shares: Mapping[str, float], *, seed: int = 0
) -> dict[str, list[Example]]:
    """Split data points so that a query stands on one side only, whatever else the set holds.

    Args:
        examples: Any data points.
        shares: Share of each split; they sum to 1. Actual sizes differ, since queries are hashed.
        seed: Another seed, another split.

    Raises:
        InputError: Shares do not sum to 1.
    """
    if abs(sum(shares.values()) - 1) > 1e-9:
        raise InputError(f"shares {dict(shares)} sum to {sum(shares.values()):g}", expected="a sum of 1")
    found: dict[str, list[Example]] = {name: [] for name in shares}
    bounds = list(zip(shares, accumulate(shares.values()), strict=True))
    for example in examples:
        place = seed_of(seed, "split", query_key(example.messages)) / _HASHES
        found[next((name for name, bound in bounds if place < bound), bounds[-1][0])].append(example)
    return found


def held_out(examples: Sequence[Example], share: float, *, seed: int = 0) -> list[bool]:
    """Tell of each example whether its query is among the share that is kept for checking."""
    parts = split_by_query(examples, {"train": 1 - share, "held_out": share}, seed=seed)
    aside = {id(example) for example in parts["held_out"]}
    return [id(example) in aside for example in examples]


def query_key(messages: Sequence[Message]) -> str:
    """Hash of a conversation without regard to case and white space."""
    return digest([[m.role, " ".join(m.content.casefold().split())] for m in messages])


def template_for(example: Example, template: str | None = None, single: str = "single") -> Template:
    """The prompt template of a data point in training: singles have their own, with scores 0/1 (§4).

    Args:
        example: What is judged.
        template: For two or more responses; None picks by what the example has.
        single: For one response.
    """
    if len(example.responses) == 1:
        return load_template(single)
    return load_template(template or choose_template(example))


def domain(example: Example) -> str:
    """What metrics are split by: `meta["domain"]`, else `meta["source"]`, else `all`."""
    return str(example.meta.get("domain") or example.meta.get("source") or "all")
