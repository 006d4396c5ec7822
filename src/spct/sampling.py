"""Plan which samples to draw, in which order of responses, with which seeds. Pure.

A sample's order and seed depend only on the run's seed, the example and the sample's index: not
on k, not on what was drawn before. So a run with k = 8 can grow to 32, and any one lost sample
can be drawn again alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from spct.configs import JudgeConfig
from spct.stopping import may_stop
from spct.types import Message, Request, SamplingParams, Trajectory

_BLOCK = 64  # bytes of a BLAKE2b hash
_SEED_BITS = 31  # engines take signed 32-bit seeds; room for seed + j is left below


class Draw(NamedTuple):
    """One sample to come: its index, the order that it sees, and its seed."""

    sample: int
    order: tuple[int, ...]
    seed: int


def seed_of(*parts: object) -> int:
    """A seed in 0..2^31-2^20 from a hash of parts; equal in every process."""
    seeds: int = 2**_SEED_BITS - 2**20
    return _number(8, *parts) % seeds


def shuffled(n: int, *parts: object) -> list[int]:
    """A permutation of 0..n-1 from a hash of parts; equal in every process (Fisher and Yates)."""
    places, number = list(range(n)), _number(8 + 2 * n, *parts)
    for last in range(n - 1, 0, -1):
        number, other = divmod(number, last + 1)
        places[last], places[other] = places[other], places[last]
    return places


def _number(size: int, *parts: object) -> int:
    """A number of `size` bytes or a few more from a hash of parts."""
    text = "\x1f".join([str(part) for part in parts]).encode("utf-8", "surrogatepass")
    if size <= _BLOCK:
        return int.from_bytes(hashlib.blake2b(text, salt=b"0").digest(), "big")
    blocks = [hashlib.blake2b(text, salt=b"%d" % block).digest() for block in range(-(-size // _BLOCK))]
    return int.from_bytes(b"".join(blocks), "big")


def orders(mode: str, n: int, count: int, *, seed: int, example_id: str) -> list[tuple[int, ...]]:
    """Orders of the samples 0..count-1; `order[place]` is the caller's index of what stands there.

    `balanced`: cyclic rotations of a seeded base order, sample i the (i mod n)-th, so that in any n
    samples in a row each response stands once in each place (ours). `random`: a shuffle per sample
    (§5). `given`: the caller's order.

    >>> orders("given", 3, 2, seed=0, example_id="a")
    [(0, 1, 2), (0, 1, 2)]
    """
    if mode == "given" or n == 1:
        return [tuple(range(n))] * count
    if mode == "balanced":
        base = shuffled(n, seed, example_id, "order")
        rotations = [tuple(base[i:] + base[:i]) for i in range(min(n, count))]
        return [rotations[i % n] for i in range(count)]
    return [tuple(shuffled(n, seed, example_id, "order", sample)) for sample in range(count)]


def draws(config: JudgeConfig, n: int, example_id: str, count: int) -> list[Draw]:
    """The samples 0..count-1 of an example.

    The j-th sample that sees an order has the seed `seed_of(run, example, order) + j`, which is how
    engines number the choices of one request.
    """
    following: dict[tuple[int, ...], int] = {}  # seed of the next sample that sees an order
    plan = []
    for sample, order in enumerate(orders(config.order, n, count, seed=config.seed, example_id=example_id)):
        seed = following.get(order)
        if seed is None:
            seed = seed_of(config.seed, example_id, order)
        plan.append(Draw(sample, order, seed))
        following[order] = seed + 1
    return plan


def requests(
    wanted: Sequence[Draw],
    prompts: Mapping[tuple[int, ...], tuple[Message, ...]],
    params: SamplingParams,
    example_id: str,
) -> list[Request]:
    """Group draws into requests: one per order and run of consecutive seeds.

    Args:
        wanted: Samples that are not in the store.
        prompts: The rendered prompt of each order.
        params: Sampling parameters.
        example_id: Whose samples.
    """
    groups: list[list[Draw]] = []
    open_group: dict[tuple[int, ...], list[Draw]] = {}
    for draw in wanted:
        group = open_group.get(draw.order)
        if group is not None and draw.seed == group[-1].seed + 1:
            group.append(draw)
        else:
            open_group[draw.order] = [draw]
            groups.append(open_group[draw.order])
    return [
        Request(example_id, prompts[g[0].order], g[0].order, tuple(d.sample for d in g), g[0].seed, params)
        for g in groups
    ]


def next_count(config: JudgeConfig, n: int, drawn: Sequence[Trajectory], scale: tuple[int, int]) -> int:
    """How many samples an example should have drawn after the next round; `len(drawn)` means done.

    Without adaptive stopping the first round is all k. With it, rounds of one sample per order (at
    least 4 at first) are drawn until `stopping.may_stop`. After k, up to `resample` more are drawn in
    place of invalid ones.
    """
    have = len(drawn)
    if have < config.k:
        if config.adaptive == "off" or n == 1:  # of one response the reward itself is wanted
            return config.k
        valid = [t.scores for t in drawn if t.scores is not None]
        enough = len(valid) >= config.min_valid
        remaining = min(config.k - len(valid), config.k + config.resample - have)
        if enough and may_stop(config.adaptive, valid, remaining, scale, config.alpha):
            return have
        step = n if config.order == "balanced" else 1
        return min(config.k, have + max(step, 4 if not have else 2))
    invalid = sum(t.failure is not None and not t.failure.of_the_world for t in drawn)
    spare = config.k + config.resample - have
    missing = config.k - (have - invalid)
    return have + max(0, min(missing, spare))
