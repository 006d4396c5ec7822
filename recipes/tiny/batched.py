"""A backend for a very small model on a CPU: the prompts of many examples are decoded together.

`LocalBackend` decodes the samples of one prompt together, which is right for a model of 135 M
parameters. For one of 0.4 M a forward pass of 10 rows costs little less than one of 500. Here all
requests that wait are sorted by length, padded on the left and decoded in batches. Each sample keeps
its own seed; see `spct.backends.decoding`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from spct.backends.decoding import Row, choose
from spct.backends.shared_prefix import as_option, new_cache
from spct.errors import InputError
from spct.types import Completion, Request, Usage

_ROWS = 384  # samples decoded together
_SPARSE = 0.85  # the cache is packed when fewer of its rows are still under way
_GATHER_S = 0.01  # pause in which the judge's tasks hand in their requests

_Waiting = list[tuple[Request, asyncio.Future[list[Completion]]]]


class BatchedBackend:
    """A causal language model of `transformers`, without regard to memory.

    Args:
        model: Folder with a chat template.
        max_concurrency: Requests that wait together; the more, the less padding.
    """

    def __init__(self, model: str, *, max_concurrency: int = 768) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.model, self.max_concurrency = model, max_concurrency
        self._tokenizer = AutoTokenizer.from_pretrained(model)
        self._lm = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
        self._context = self._lm.config.max_position_embeddings
        self._waiting: _Waiting = []
        self._rounds: asyncio.Task[None] | None = None
        self._worker = ThreadPoolExecutor(1)

    async def generate(self, request: Request) -> list[Completion]:
        """Draw `request.n` samples; they are decoded with those of the other requests that wait.

        Raises:
            InputError: The request wants constrained decoding, which is not for this backend.
        """
        if request.params.regex is not None:
            raise InputError("this backend does not constrain decoding", fix="set constrain = false")
        future: asyncio.Future[list[Completion]] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, future))
        if self._rounds is None or self._rounds.done():
            self._rounds = asyncio.create_task(self._run_rounds())
        return await future

    async def aclose(self) -> None:
        """Let go of the worker."""
        self._worker.shutdown()

    async def _run_rounds(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_GATHER_S)
            waiting, self._waiting = [w for w in self._waiting if not w[1].done()], []
            if not waiting:
                return
            for batch in self._batches(waiting):
                try:
                    found = await loop.run_in_executor(self._worker, self._answer, batch)
                except BaseException as error:
                    for _, future in batch:
                        if not future.done():
                            future.set_exception(error)
                    raise
                for (_, future), completions in zip(batch, found, strict=True):
                    if not future.done():  # cancelled meanwhile
                        future.set_result(completions)

    def _batches(self, waiting: _Waiting) -> list[_Waiting]:
        """Requests of equal settings and like length together."""
        batches: list[_Waiting] = []
        rows = 0
        for item in sorted(waiting, key=lambda w: (repr(w[0].params), len(w[0].messages[-1].content))):
            request = item[0]
            if not batches or rows + request.n > _ROWS or batches[-1][0][0].params != request.params:
                batches.append([])
                rows = 0
            batches[-1].append(item)
            rows += request.n
        return batches

    def _answer(self, batch: _Waiting) -> list[list[Completion]]:
        import torch

        started = time.perf_counter()
        requests = [request for request, _ in batch]
        prompts = [self._ids(request) for request in requests]
        with torch.inference_mode():
            rows = iter(self._decode(requests, prompts))
        seconds = time.perf_counter() - started
        return [
            [self._completion(next(rows), len(prompt) if j == 0 else 0, seconds) for j in range(request.n)]
            for request, prompt in zip(requests, prompts, strict=True)
        ]

    def _ids(self, request: Request) -> list[int]:
        messages = [{"role": m.role, "content": m.content} for m in request.messages]
        ids = list(
            self._tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        )
        if len(ids) + request.params.max_tokens > self._context:
            raise InputError(
                f"example {request.example_id!r}: {len(ids)} tokens and {request.params.max_tokens} new ones",
                expected=f"at most {self._context}",
            )
        return ids

    def _decode(self, requests: Sequence[Request], prompts: Sequence[list[int]]) -> list[Row]:
        """All samples of the requests, in their order."""
        import torch

        params, end = requests[0].params, frozenset({self._tokenizer.eos_token_id})
        longest = max(map(len, prompts))
        ids = torch.tensor([[0] * (longest - len(p)) + p for p in prompts])
        pads = torch.tensor([longest - len(p) for p in prompts])
        cache = new_cache(self._lm)
        logits = self._forward(ids, pads, cache)
        repeats = torch.tensor([request.n for request in requests])
        owner = torch.arange(len(requests)).repeat_interleave(repeats)
        cache.batch_select_indices(owner)
        pads, logits = pads[owner], logits[owner]
        rows = [Row(random.Random(r.seed + j)) for r in requests for j in range(r.n)]
        live = rows
        while True:
            chosen = choose(logits, params, [row.source for row in live])
            for row, token in zip(live, chosen.tolist(), strict=True):
                if not row.finish:
                    row.take(token, end, params.max_tokens)
            kept = [i for i, row in enumerate(live) if not row.finish]
            if not kept:
                return rows
            if len(kept) < _SPARSE * len(live):
                live, index = [live[i] for i in kept], torch.tensor(kept)
                chosen, pads = chosen[index], pads[index]
                cache.batch_select_indices(index)
            logits = self._forward(chosen[:, None], pads, cache)

    def _forward(self, ids: Any, pads: Any, cache: Any) -> Any:
        """Logits of what follows: (rows, vocabulary). `pads` are the padding tokens before each row."""
        import torch

        past = cache.get_seq_length()
        places = torch.arange(past + ids.shape[1])
        mask = (places >= pads[:, None]).long()
        positions = (places[past:] - pads[:, None]).clamp(min=0)
        output = self._lm(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            use_cache=True,
            logits_to_keep=1,
            **as_option(self._lm, cache),
        )
        return output.logits[:, -1]

    def _completion(self, row: Row, prompt_tokens: int, seconds: float) -> Completion:
        ended = row.finish == "stop"
        text = self._tokenizer.decode(row.tokens[:-1] if ended else row.tokens, skip_special_tokens=True)
        return Completion(text, row.finish, usage=Usage(prompt_tokens, len(row.tokens)), latency_s=seconds)
