"""A prompt's keys and values, held once, read by all of its samples, which are decoded together.

The samples of a request share their prompt. `transformers` would copy the prompt's cache once per
sample, and again at every step as it grows. Here each prompt's cache stays as the prefill left it,
with one row; the samples' own cache holds their new tokens only, and attention reads both:

    softmax([q K_prompt^T, q K_new^T]) [V_prompt; V_new]

which is the same sum as over one long cache, with the rows' queries stacked for the first part.
(Known as cascade or shared-prefix attention; the split is exact, not an approximation.)
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Sequence
from typing import Any

NAME = "spct_shared_prefix"


class Prompts:
    """What attention reads of prompts: their caches' layers, one row each.

    Args:
        caches: One a prompt.
        counts: How many rows of the batch belong to each; they stand in the order of the prompts.
    """

    def __init__(self, caches: Sequence[Any], counts: Sequence[int]) -> None:
        self.layers, self.counts, self.reads = [cache.layers for cache in caches], list(counts), 0

    def read(self, layer: int, query: Any, key: Any, value: Any) -> Any:
        """Attention of one new token per row over its prompt and the row's own tokens.

        Args:
            layer: Index of the attention layer.
            query: (rows, kv_heads, heads / kv_heads, dim), scaled.
            key: (rows, kv_heads, new, dim).
            value: (rows, kv_heads, new, value_dim).

        Returns:
            (rows, kv_heads, heads / kv_heads, value_dim).
        """
        import torch

        self.reads += 1
        parts = [x.split(self.counts) for x in (query, key, value)]
        outputs = [
            _read_both(q, k, v, layers[layer])
            for layers, q, k, v in zip(self.layers, *parts, strict=True)
            if len(q)  # all samples of a prompt may have ended
        ]
        return torch.cat(outputs)


def install(model: Any) -> bool:
    """Let `model` read shared prompts; False (and nothing changed) where it cannot.

    It can where `transformers` would run its plain scaled-dot-product attention over plain growing
    layers (no sliding windows, no recurrent state), and hands the prompt down to each layer, which a
    probe of three tokens finds out. Elsewhere the prompt's cache is to be copied per row.
    """
    from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache
    from transformers.masking_utils import sdpa_mask

    usual = model.config._attn_implementation
    if usual != "sdpa" or not reads_in_parts(model):
        return False
    cache = DynamicCache(config=model.config)
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)
    tokens = model.get_input_embeddings().weight.new_zeros((1, 3), dtype=int)
    model(input_ids=tokens[:, :2], **as_option(model, cache))
    prompts = Prompts([cache], [1])
    own = new_cache(model)
    options = as_option(model, own) | {"position_ids": tokens[:, 2:] + 2, "prompts": prompts}
    model(input_ids=tokens[:, 2:], **options)
    if prompts.reads == len(cache.layers) == len(own.layers):
        return True
    model.set_attn_implementation(usual)
    return False


def reads_in_parts(model: Any) -> bool:
    """Tell whether a text read in two parts, the second through a cache of the first, is as if read whole.

    With encoders it is not: there an opening sees what comes after it. Nor do we try where a layer's cache is
    no plain growing one (sliding windows, recurrent state).
    """
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    named = inspect.signature(type(model).forward).parameters
    if not model._supports_attention_backend or not {"cache", "past_key_values"} & set(named):
        return False
    if not all(getattr(module, "is_causal", True) for module in model.modules()):
        return False
    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=model.config).layers)


def as_option(model: Any, cache: Any) -> dict[str, Any]:
    """The option that hands a cache to a model: `cache`, in transformers before 5.24 `past_key_values`."""
    named = inspect.signature(type(model).forward).parameters
    return {"cache" if "cache" in named else "past_key_values": cache}


def new_cache(model: Any) -> Any:
    """An empty cache for the samples' own tokens, which grows in place.

    `transformers`' own is copied whole at every step: for 8 samples of SmolLM2 that costs 18 ms at
    128 new tokens and 180 ms at 512, and this one 0.5 ms (one busy core).
    """
    from transformers import DynamicCache

    cache = DynamicCache(config=model.config)
    cache.layers = [_growing_layer()() for _ in cache.layers]
    return cache


@functools.cache
def _growing_layer() -> Any:
    from transformers.cache_utils import DynamicLayer

    class GrowingLayer(DynamicLayer):  # type: ignore[misc]
        """Keys and values at the front of buffers that double when they are full."""

        def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> Any:
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
                self.keys, self.values, self.room = key_states[:, :, :0], value_states[:, :, :0], 0
            old = self.keys.shape[2]
            new = old + key_states.shape[2]
            if new > self.room:
                self.room = max(64, 2 * new)
                self._keys, self._values = (self._wider(x) for x in (self.keys, self.values))
            self._keys[:, :, old:new], self._values[:, :, old:new] = key_states, value_states
            self.keys, self.values = self._keys[:, :, :new], self._values[:, :, :new]
            return self.keys, self.values

        def _wider(self, filled: Any) -> Any:
            rows, heads, length, dim = filled.shape
            buffer = filled.new_empty(rows, heads, self.room, dim)
            buffer[:, :, :length] = filled
            return buffer

        def reorder_cache(self, beam_idx: Any) -> None:
            super().reorder_cache(beam_idx)
            self.room = 0  # what is kept is a copy outside the buffers

        batch_select_indices = reorder_cache

    return GrowingLayer


def attend(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    *,
    prompts: Any = None,
    scaling: float | None = None,
    **options: Any,
) -> Any:
    """Attention of one new token per row over its prompt and the row's own tokens.

    Args:
        module: The attention layer; `layer_idx` finds its part of the prompts' caches.
        query: (rows, heads, 1, dim).
        key: (rows, kv_heads, new, dim), the row's own tokens so far.
        value: (rows, kv_heads, new, value_dim).
        attention_mask: Not used with prompts: a new token sees all before it.
        prompts: What the rows have read before (`Prompts`, `slots.Slots`); None means plain attention.
        scaling: Factor on the scores; None means dim ** -0.5.
        options: Of `transformers`' own attention.

    Returns:
        (rows, 1, heads, value_dim), and None in place of weights.
    """
    if prompts is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)
    rows, heads, _, dim = query.shape
    query = (query * (dim**-0.5 if scaling is None else scaling)).reshape(rows, key.shape[1], -1, dim)
    return prompts.read(module.layer_idx, query, key, value).reshape(rows, 1, heads, -1), None


def _read_both(query: Any, key: Any, value: Any, prompt: Any) -> Any:
    """The rows of one prompt: (rows, kv_heads, heads / kv_heads, value_dim).

    Args:
        query: (rows, kv_heads, heads / kv_heads, dim), scaled.
        key: (rows, kv_heads, new, dim).
        value: (rows, kv_heads, new, value_dim).
        prompt: A layer of the prompt's cache.
    """
    import torch

    rows, kv_heads, _, dim = query.shape
    length = prompt.keys.shape[2]
    stacked = query.transpose(0, 1).reshape(kv_heads, -1, dim)  # (kv_heads, rows * heads / kv_heads, dim)
    shared = (stacked @ prompt.keys[0].mT).view(kv_heads, rows, -1, length).transpose(0, 1)
    weights = torch.cat([shared, query @ key.mT], -1).softmax(
        -1, dtype=torch.promote_types(query.dtype, torch.float32)
    )
    shared, own = weights.to(query.dtype).split([length, key.shape[2]], -1)
    stacked = shared.transpose(0, 1).reshape(kv_heads, -1, length) @ prompt.values[0]
    return stacked.view(kv_heads, rows, -1, value.shape[-1]).transpose(0, 1) + own @ value
