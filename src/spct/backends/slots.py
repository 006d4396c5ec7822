"""Samples of many prompts decoded in slots of fixed size, so that on a GPU a step is one CUDA graph.

A decoding step of a small model is a thousand kernels which take longer to start than to run. Where all
shapes stay as they are, CUDA replays them as one. So here a batch is always P slots, each of one prompt of
up to `room` tokens and of `width` samples of up to `limit` new ones. What is not used is computed and thrown
away:

    slot 0   prompt a .......      | sample 0 ...   | sample 1 ....  |
    slot 1   prompt a .......      | sample 2 ..    | -              |
    slot 2   prompt b ...........  | sample 0 ....  | sample 1 ..    |

A prompt is read up to its last token, which is the first that its samples' steps read. Attention is that of
`shared_prefix`, with the lengths of prompts and samples as masks. Without a GPU the same steps run one kernel
after the other: for tests, not for speed.
"""

from __future__ import annotations

import functools
import random
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import accumulate
from typing import Any, NamedTuple

from spct.backends.decoding import Row, pick
from spct.backends.shared_prefix import as_option
from spct.errors import BackendError
from spct.types import SamplingParams

WIDTH = 4  # samples of a slot; that of a group in training (§4)
_READ = 65_536  # tokens of prompts read in one pass, padding counted
_GRAIN = 256  # tokens; sizes are rounded up to it, so that longer jobs seldom need new slots
_MOST, _LEAST = 128, 8  # slots: more do not make it faster; with fewer it is not worth it
_SHARE = 0.4  # of a GPU's free memory, for keys and values
_LOOK = 16  # steps from one look at what has ended to the next: looking waits for the GPU


class Job(NamedTuple):
    """What is to be drawn from one prompt.

    Args:
        tokens: The prompt, 2 to `room` + 1 tokens.
        seeds: One a sample.
        limit: New tokens per sample, at least 1.
        stopped: Asked now and then; True gives these samples up.
    """

    tokens: Sequence[int]
    seeds: Sequence[int]
    limit: int
    stopped: Callable[[], bool] = lambda: False


class Slots:
    """Buffers of fixed size and the steps that fill them; one batch at a time.

    Args:
        model: A causal language model of `transformers`, with `shared_prefix.install`.
        slots: P, prompts of a batch; one with more than `width` samples takes several.
        room: Tokens of a prompt without its last, at most.
        limit: New tokens of a sample, at most.
        eos: Tokens that end a text.
        width: Samples of a slot.
        graph: Replay steps as a CUDA graph; None: on a GPU.
    """

    def __init__(
        self,
        model: Any,
        *,
        slots: int,
        room: int,
        limit: int,
        eos: frozenset[int],
        width: int = WIDTH,
        graph: bool | None = None,
    ) -> None:
        import torch

        self.model, self.slots, self.width, self.room, self.limit = model, slots, width, room, limit
        self._eos = eos
        device = model.device
        self._graphed = device.type == "cuda" if graph is None else graph
        self._graph: Any = None
        self._graph_for: tuple[float, float] | None = None
        rows = slots * width
        with torch.inference_mode(), _on(device):
            whole = functools.partial(torch.zeros, device=device, dtype=torch.long)
            self._last, self._places, self._at = whole(rows, 1), whole(rows, 1), whole(1)
            self._out, self._ends = whole(rows, limit), torch.tensor(sorted(eos), device=device)
            self._done = torch.ones(rows, dtype=torch.bool, device=device)
            self._draws = torch.zeros(rows, limit, dtype=torch.float64, device=device)
            self._numbers = torch.arange(max(room, limit), device=device)
            seen = read_padded(model, [[0]]).layers
            self._own = self._own_cache(seen, rows)
            self._keys = [_buffer(layer.keys, slots, room) for layer in seen]
            self._values = [_buffer(layer.values, slots, room) for layer in seen]
            self._prompt_mask = self._keys[0].new_zeros(rows, 1, 1, room)
            self._own_mask = self._keys[0].new_zeros(1, 1, 1, limit)

    def hold(self, jobs: Sequence[Job]) -> bool:
        """Tell whether each of these jobs fits."""
        return all(
            2 <= len(job.tokens) <= self.room + 1
            and job.limit <= self.limit
            and len(job.seeds) <= self.slots * self.width
            for job in jobs
        )

    def draw(self, jobs: Sequence[Job], params: SamplingParams) -> list[list[Row]]:
        """Draw the samples of each job in the order of their seeds, each with a `finish` unless given up.

        Args:
            jobs: Of which each fits; as many as the slots take are drawn together.
            params: Temperature and nucleus.
        """
        import torch

        found, left = list[list[Row]](), list(jobs)
        with torch.inference_mode(), _on(self.model.device):
            if self._graphed and self._graph_for != (params.temperature, params.top_p):
                self._capture(params)
            while left:
                taken = accumulate(-(-len(job.seeds) // self.width) for job in left)
                count = max(1, sum(slots <= self.slots for slots in taken))
                found += self._draw(left[:count], params)
                left = left[count:]
        return found

    def _draw(self, jobs: Sequence[Job], params: SamplingParams) -> list[list[Row]]:
        rows = self._fill(jobs)
        ran, steps = self._run(jobs, rows, params), int(self._at)
        if ran != steps:
            raise BackendError(f"{steps} of {ran} steps were taken on {self.model.device}", expected="all")
        texts = self._out[:, :steps].tolist()
        return [
            [self._row(texts[i], job.limit, job.stopped()) for i in places]
            for job, places in zip(jobs, rows, strict=True)
        ]

    def _run(self, jobs: Sequence[Job], rows: Sequence[Sequence[int]], params: SamplingParams) -> int:
        """Take steps until all samples have ended; how many were asked for."""
        steps = max(job.limit for job in jobs)
        for step in range(steps):
            if step % _LOOK == 0:
                for job, places in zip(jobs, rows, strict=True):
                    if job.stopped() or job.limit <= step:
                        self._done[places[0] : places[-1] + 1] = True
                if bool(self._done.all()):
                    return step
            if self._graph is None:
                self._step(params)
            else:
                self._graph.replay()
        return steps

    def _row(self, tokens: list[int], limit: int, given_up: bool) -> Row:
        end = next((i for i, token in enumerate(tokens[:limit]) if token in self._eos), None)
        if end is not None:
            return Row(random.Random(0), tokens=tokens[: end + 1], finish="stop")
        return Row(random.Random(0), tokens=tokens[:limit], finish="" if given_up else "length")

    def _fill(self, jobs: Sequence[Job]) -> list[list[int]]:
        """Read the prompts into slots and begin their samples; the rows of each job."""
        import torch

        starts, rows, slot = list[int](), list[list[int]](), 0
        for job in jobs:
            starts.append(slot)
            rows.append([slot * self.width + i for i in range(len(job.seeds))])
            slot += -(-len(job.seeds) // self.width)
        self._read_prompts([job.tokens[:-1] for job in jobs], starts, [*starts[1:], slot])
        last, lengths = [0] * len(self._done), [0] * len(self._done)
        draws = torch.zeros(self._draws.shape, dtype=torch.float64)
        for job, places in zip(jobs, rows, strict=True):
            for seed, i in zip(job.seeds, places, strict=True):
                source = random.Random(seed)
                numbers = [source.random() for _ in range(job.limit)]
                draws[i, : job.limit] = torch.tensor(numbers, dtype=torch.float64)
                last[i], lengths[i] = job.tokens[-1], len(job.tokens) - 1
        used = {i for places in rows for i in places}
        self._done.copy_(torch.tensor([i not in used for i in range(len(self._done))]))
        self._draws.copy_(draws)
        self._last.copy_(torch.tensor(last)[:, None])
        self._places.copy_(torch.tensor(lengths)[:, None])
        self._at.zero_()
        unseen = self._numbers[: self.room] >= self._places
        self._prompt_mask.zero_().masked_fill_(unseen[:, None, None], float("-inf"))
        return rows

    def _read_prompts(
        self, prompts: Sequence[Sequence[int]], starts: Sequence[int], ends: Sequence[int]
    ) -> None:
        """Read prompts, those of like lengths together, padded behind, where no token sees the padding."""
        import torch

        left = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        while left:
            count = min(len(left), max(1, _READ // len(prompts[left[-1]])))
            part, left = left[-count:], left[:-count]
            layers = read_padded(self.model, [prompts[i] for i in part]).layers
            pairs = [(slot, n) for n, i in enumerate(part) for slot in range(starts[i], ends[i])]
            slots, which = torch.tensor(pairs, device=self.model.device).T
            length = layers[0].keys.shape[2]
            for layer, keys, values in zip(layers, self._keys, self._values, strict=True):
                keys[slots, :, :length] = layer.keys[which]
                values[slots, :, :length] = layer.values[which]

    def _own_cache(self, like: Sequence[Any], rows: int) -> Any:
        from transformers import DynamicCache

        cache = DynamicCache(config=self.model.config)
        cache.layers = [
            _fixed_layer()(_buffer(x.keys, rows, self.limit), _buffer(x.values, rows, self.limit), self._at)
            for x in like
        ]
        return cache

    def _step(self, params: SamplingParams) -> None:
        """One token for every row; nothing here may wait for the GPU or change a shape."""
        self._own_mask.zero_().masked_fill_(self._numbers[: self.limit] > self._at, float("-inf"))
        logits = self.model(
            input_ids=self._last,
            position_ids=self._places,
            attention_mask=self._own_mask,  # of four dimensions, which transformers hands on as it is
            prompts=self,
            use_cache=True,
            **as_option(self.model, self._own),
        ).logits[:, -1]
        at = self._at.expand(len(self._last), 1)
        chosen = pick(logits, params, self._draws.gather(1, at))[:, None]
        self._out.scatter_(1, at, chosen)
        self._done |= (chosen == self._ends).any(-1)
        self._last.copy_(chosen)
        self._places += 1
        self._at += 1

    def read(self, layer: int, query: Any, key: Any, value: Any) -> Any:
        """Attention as `shared_prefix.Prompts.read`, over a slot's prompt and all `limit` places of a row."""
        import torch

        rows, kv_heads, each, dim = query.shape
        stacked = query.reshape(self.slots, self.width, kv_heads, each, dim).transpose(1, 2)
        shared = stacked.reshape(self.slots, kv_heads, -1, dim) @ self._keys[layer].mT
        shared = shared.view(self.slots, kv_heads, self.width, each, -1).transpose(1, 2)
        shared = shared.reshape(rows, kv_heads, each, -1) + self._prompt_mask
        scores = torch.cat([shared, query @ key.mT + self._own_mask], -1)
        weights = scores.softmax(-1, dtype=torch.promote_types(query.dtype, torch.float32))
        shared, own = weights.to(query.dtype).split([self.room, self.limit], -1)
        stacked = shared.reshape(self.slots, self.width, kv_heads, each, -1).transpose(1, 2)
        output = stacked.reshape(self.slots, kv_heads, -1, self.room) @ self._values[layer]
        output = output.view(self.slots, kv_heads, self.width, each, -1).transpose(1, 2)
        return output.reshape(rows, kv_heads, each, -1) + own @ value

    def _capture(self, params: SamplingParams) -> None:
        """Record a step; what it writes is written again by the next `_fill`.

        A model that asks the GPU for a value within a step cannot be recorded: its steps run one by one.
        """
        import torch

        self._graph, self._graph_for = None, None  # frees the memory of an earlier one
        usual, stream = torch.cuda.current_stream(), torch.cuda.Stream()
        stream.wait_stream(usual)
        with torch.cuda.stream(stream):
            for _ in range(2):  # libraries set themselves up
                self._at.zero_()
                self._step(params)
        usual.wait_stream(stream)
        self._at.zero_()
        graph = torch.cuda.CUDAGraph()
        try:
            self._record(graph, stream, params)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            torch.cuda.set_stream(usual)
            warnings.warn(f"no CUDA graph of this model: {error}", RuntimeWarning, stacklevel=2)
            self._graphed = False
            return
        self._graph, self._graph_for = graph, (params.temperature, params.top_p)

    def _record(self, graph: Any, stream: Any, params: SamplingParams) -> None:
        import torch

        # others may use the GPU meanwhile
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            self._step(params)


def open_slots(model: Any, jobs: Sequence[Job], *, eos: frozenset[int], most: int) -> Slots | None:
    """Slots for such jobs, or None where memory holds too few to be worth it.

    Args:
        model: A causal language model of `transformers`, with `shared_prefix.install`.
        jobs: What is to be drawn.
        eos: Tokens that end a text.
        most: Slots, at most.
    """
    room, limit = max(len(job.tokens) for job in jobs), max(job.limit for job in jobs)
    room, limit = (-(-n // _GRAIN) * _GRAIN for n in (room, limit))
    count = min(most, _fitting(model, room, limit))
    if count < min(_LEAST, most) or any(len(job.seeds) > count * WIDTH for job in jobs):
        return None
    slots = Slots(model, slots=count, room=room, limit=limit, eos=eos)
    return slots if slots.hold(jobs) else None


def _fitting(model: Any, room: int, limit: int) -> int:
    """Slots whose keys and values take a share of a GPU's free memory; on a CPU, any number."""
    import torch

    if model.device.type != "cuda":
        return _MOST
    with torch.inference_mode(), _on(model.device):
        layers = read_padded(model, [[0]]).layers
        torch.cuda.empty_cache()  # what torch keeps for itself counts as taken below
    token = sum(layer.keys.nbytes + layer.values.nbytes for layer in layers)
    free, _ = torch.cuda.mem_get_info(model.device)
    return int(_SHARE * free / (token * (room + WIDTH * limit)))


def read_padded(model: Any, prompts: Sequence[Sequence[int]]) -> Any:
    """Keys and values of prompts, padded behind."""
    import torch
    from transformers import DynamicCache

    cache, length = DynamicCache(config=model.config), max(map(len, prompts))
    ids = torch.tensor([[*p, *[0] * (length - len(p))] for p in prompts], device=model.device)
    model(input_ids=ids, use_cache=True, logits_to_keep=1, **as_option(model, cache))
    return cache


def _on(device: Any) -> Any:
    """A context in which a GPU is the current one; of a CPU none."""
    import torch

    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _buffer(like: Any, rows: int, length: int) -> Any:
    return like.new_zeros(rows, like.shape[1], length, like.shape[3])


@functools.cache
def _fixed_layer() -> Any:
    from transformers.cache_utils import DynamicLayer

    class FixedLayer(DynamicLayer):  # type: ignore[misc]
        """Keys and values in buffers of fixed length, the new ones at a place that the GPU knows."""

        def __init__(self, keys: Any, values: Any, at: Any) -> None:
            super().__init__()
            self.keys, self.values, self.at, self.is_initialized = keys, values, at, True

        def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> Any:
            self.keys.index_copy_(2, self.at, key_states)
            self.values.index_copy_(2, self.at, value_states)
            return self.keys, self.values

    return FixedLayer
