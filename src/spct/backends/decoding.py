"""Drawing the samples of some prompts together: a prefill each, then one forward pass per step for all.

Each sample has its own seed and its own random numbers, so what it draws depends on the prompt and
its seed, not on its neighbours: drawn alone, later, it comes out the same. One reservation: a matrix
product of 3 rows may round otherwise than one of 8, in the last bit, and where a random number falls
that close to the border between two tokens the texts part. It is rare in float32 (none in 512 tokens
of perf/local_prefill.py), less so in bfloat16.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from spct.backends.constrained import Grammar
from spct.backends.shared_prefix import Prompts, as_option, new_cache
from spct.types import SamplingParams

_MIN_REUSE = 16  # tokens; below, copying a part of the earlier prompt's cache is not worth it


class Prefill(NamedTuple):
    """A prompt that the model has read: its tokens, their cache (one row) and what comes next."""

    tokens: list[int]
    cache: Any
    logits: Any
    reused: int


class Drawn(NamedTuple):
    """What is to be drawn from one prompt.

    Args:
        prompt: From `prefill`.
        seeds: One a sample.
        limit: New tokens per sample, at most, at least 1.
        grammar: What the texts are held to, or None; all of a batch or none.
        stopped: Asked once per step; True gives these samples up.
    """

    prompt: Prefill
    seeds: Sequence[int]
    limit: int
    grammar: Grammar | None = None
    stopped: Callable[[], bool] = lambda: False


@dataclass(slots=True)
class Row:
    """One sample under way; `finish` is empty until it ends by `stop` or `length`."""

    source: random.Random
    matcher: Any = None
    tokens: list[int] = field(default_factory=list)
    finish: str = ""

    def take(self, token: int, eos: frozenset[int], limit: int) -> None:
        """Append a token and see whether the text ends with it."""
        self.tokens.append(token)
        if token in eos:
            self.finish = "stop"
            return
        if self.matcher is not None:
            self.matcher.consume_token(token)
            if self.matcher.is_stopped():
                self.finish = "stop"
                return
        if len(self.tokens) == limit:
            self.finish = "length"


def prefill(model: Any, tokens: list[int], earlier: Prefill | None = None) -> Prefill:
    """Read a prompt; the opening that it shares with an earlier one is not read again.

    Args:
        model: A causal language model of `transformers`.
        tokens: The prompt, at least one token.
        earlier: Another prompt, of which a copy is used; None reads all.
    """
    import torch
    from transformers import DynamicCache

    cache, shared = DynamicCache(config=model.config), 0
    if earlier and (common := _common(earlier.tokens, tokens)) >= _MIN_REUSE:
        shared = common
        for layer, old in zip(cache.layers, earlier.cache.layers, strict=True):
            layer.update(old.keys[:, :, :shared], old.values[:, :, :shared])
    ids = torch.tensor([tokens[shared:]], device=model.device)
    output = model(input_ids=ids, use_cache=True, logits_to_keep=1, **as_option(model, cache))
    return Prefill(tokens, cache, output.logits[:, -1], shared)


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the common opening, short of the last token: its logits are needed."""
    longest = min(len(one), len(other) - 1)
    return next((i for i in range(longest) if one[i] != other[i]), longest)


def decode(
    model: Any, batch: Sequence[Drawn], params: SamplingParams, *, eos: frozenset[int], shared: bool = True
) -> list[list[Row]]:
    """Draw one sample per seed of each prompt, all together; a sample that has ended leaves the batch.

    Args:
        model: A causal language model of `transformers`, with `shared_prefix.install` where shared.
        batch: What is drawn; without `shared` of one prompt only, whose cache is used up.
        params: Temperature and nucleus; its other fields are decided by the caller.
        eos: Tokens that end a text.
        shared: Whether attention reads the prompts' caches in place.

    Returns:
        The samples of each prompt in the order of their seeds, each with a `finish` unless given up.
    """
    import torch

    rows = [[Row(random.Random(seed), d.grammar and d.grammar.start()) for seed in d.seeds] for d in batch]
    live = [(number, row) for number, found in enumerate(rows) for row in found]
    logits = torch.cat([d.prompt.logits.expand(len(d.seeds), -1) for d in batch])
    places = torch.tensor([[len(batch[number].prompt.tokens)] for number, _ in live], device=model.device)
    cache = new_cache(model) if shared else batch[0].prompt.cache
    options = as_option(model, cache) | {"use_cache": True}
    if shared:
        options["prompts"] = Prompts([d.prompt.cache for d in batch], [len(d.seeds) for d in batch])
    else:
        cache.reorder_cache(torch.zeros(len(live), dtype=torch.long, device=model.device))
    while True:
        if batch[0].grammar:
            batch[0].grammar.forbid(logits, [row.matcher for _, row in live])
        chosen = choose(logits, params, [row.source for _, row in live])
        for (number, row), token in zip(live, chosen.tolist(), strict=True):
            row.take(token, eos, batch[number].limit)
        stopped = [d.stopped() for d in batch]
        kept = [i for i, (number, row) in enumerate(live) if not row.finish and not stopped[number]]
        if not kept:
            return rows
        if len(kept) < len(live):
            live, index = [live[i] for i in kept], torch.tensor(kept, device=model.device)
            chosen, places = chosen[index], places[index]
            cache.reorder_cache(index)
            if shared:
                counts = Counter(number for number, _ in live)
                options["prompts"].counts = [counts[number] for number in range(len(batch))]
        if shared:
            options["position_ids"] = places
            places = places + 1
        logits = model(input_ids=chosen[:, None], **options).logits[:, -1]


def choose(logits: Any, params: SamplingParams, sources: Sequence[random.Random]) -> Any:
    """Choose each row's next token: the likeliest at temperature 0, else by one random number.

    A row's number u in [0, 1) picks the token at which the running sum of probabilities passes u.

    Args:
        logits: (rows, vocabulary).
        params: Temperature and top_p.
        sources: One a row; not touched at temperature 0.

    Returns:
        (rows,) token ids.
    """
    import torch

    if params.temperature == 0:
        return pick(logits, params, None)
    draws = torch.tensor([[source.random()] for source in sources], dtype=torch.float64)
    return pick(logits, params, draws.to(logits.device))


def pick(logits: Any, params: SamplingParams, draws: Any) -> Any:
    """The same from random numbers at hand: (rows, 1), float64; not read at temperature 0."""
    import torch

    if params.temperature == 0:
        return logits.argmax(-1)
    probabilities = (logits.double() / params.temperature).softmax(-1)
    if params.top_p < 1:
        ordered, index = probabilities.sort(-1, descending=True)
        beyond = ordered.cumsum(-1) - ordered >= params.top_p  # the token that passes top_p still counts
        probabilities = probabilities.scatter(-1, index, ordered.masked_fill(beyond, 0.0))
    sums = probabilities.cumsum(-1)
    return (
        torch.searchsorted(sums, draws * sums[:, -1:], right=True).squeeze(-1).clamp_(max=logits.shape[1] - 1)
    )
