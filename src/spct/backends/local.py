"""A language model in this process, on CPU or GPU, by `transformers`.

    backend = LocalBackend("smollm2")                    # the embedded default
    backend = LocalBackend("Qwen/Qwen3-8B", adapter="runs/rft/adapter")

Requests that wait are decoded together, in a thread of their own, so that an event loop stays live: a
step of 16 samples takes little longer than one of 4, whichever prompts they belong to. On a GPU steps
are CUDA graphs (`slots`), but for texts held to a grammar and for what its memory does not hold. On CPU
the speed is that of `torch`'s threads: one per core where nothing else runs, else set
`OMP_NUM_THREADS=1`, as two busy threads that wait for each other are slower than one.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

from spct.backends import embedded
from spct.backends.constrained import Grammar, vocabulary
from spct.backends.decoding import Drawn, Prefill, Row, decode, prefill
from spct.backends.precision import multiplies_bfloat16, to_bfloat16
from spct.backends.prompt_tokens import check_chat_template, encode, new_tokens
from spct.backends.shared_prefix import install
from spct.backends.slots import WIDTH, Job, Slots, open_slots
from spct.errors import BackendError, ConfigError, MissingExtraError, SpctError
from spct.types import Completion, Request, SamplingParams, Usage

_ROWS = {"cpu": 32, "cuda": 512}  # samples decoded together, unless one request has more
_GROWING = 64  # of them where caches grow, which is known to fit less well
_REQUESTS = {"cpu": 8, "cuda": 128}  # handed over at a time
_GATHER_S = 0.005  # pause in which the tasks of an event loop hand in their requests


class _Waiting(NamedTuple):
    """A request, who waits for it, and whether they still do."""

    request: Request
    future: Future[list[Completion]]
    cancelled: threading.Event

    @property
    def rows(self) -> int:
        """Samples to draw: greedy ones are all alike."""
        return self.request.n if self.request.params.temperature else 1


class _Ready(NamedTuple):
    """A request's prompt as tokens, the new tokens that it may have, and what holds its text."""

    tokens: list[int]
    limit: int
    grammar: Grammar | None


class LocalBackend:
    """A causal language model of `transformers`, with a chat template.

    Args:
        model: `smollm2`, a folder, or a hub name.
        adapter: LoRA adapter folder (peft), merged into the weights on load; None takes the package's own
            for `smollm2`, where there is one, and `none` takes none.
        device: `cpu`, `cuda`, `cuda:1`, ...; `auto` spreads over all GPUs; None takes a GPU if any.
        dtype: Name of a torch dtype, e.g. `float32`; None is the model's own, but bfloat16 for float32
            where the device multiplies in it (a CPU by AVX-512 BF16, AMX), which is faster.
        max_concurrency: Requests to hand over at a time; those that fit are decoded together. None: 8 on a
            CPU, 128 on a GPU.
        graphs: Decode by CUDA graphs; None: on a GPU.

    Raises:
        MissingExtraError: torch, transformers or peft is not installed.
        ConfigError: No such model or adapter, or a model without a chat template.
    """

    def __init__(
        self,
        model: str = embedded.NAME,
        *,
        adapter: str | None = None,
        device: str | None = None,
        dtype: str | None = None,
        max_concurrency: int | None = None,
        graphs: bool | None = None,
    ) -> None:
        try:
            import torch
        except ImportError as error:
            raise MissingExtraError("torch", "local") from error
        self.model, adapter = embedded.resolve_adapter(model, adapter)
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        kind = device.partition(":")[0]
        self.max_concurrency = max_concurrency or _REQUESTS.get(kind, _REQUESTS["cpu"])
        self._tokenizer, self._lm = _load(model, device, dtype)
        if adapter:
            self._lm = embedded.with_adapter(self._lm, adapter)
        if dtype is None and multiplies_bfloat16(device):
            to_bfloat16(self._lm)
        with torch.inference_mode():
            self._shared = install(self._lm)
        self._eos = _eos(self._lm, self._tokenizer)
        self._context = _context(self._lm, self._tokenizer)
        self._vocabulary: Any = None
        self._grammar: Grammar | None = None
        self._earlier: Prefill | None = None
        self._rows = _ROWS.get(kind, _GROWING) if self._shared else 1
        self._graphs = self._shared and (kind == "cuda" if graphs is None else graphs)
        self._slots: Slots | None = None
        self._waiting: list[_Waiting] = []
        self._lock = threading.Lock()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="spct-local")

    async def generate(self, request: Request) -> list[Completion]:
        """Draw `request.n` samples of one prompt; sample j depends on the prompt and `seed + j` only.

        Raises:
            InputError: The prompt leaves no room in the model's context, or its roles are not ones
                that the chat template takes.
            ConfigError: `params.regex` cannot be used.
            BackendError: Out of memory.
        """
        waiting = _Waiting(request, Future(), threading.Event())
        with self._lock:
            self._waiting.append(waiting)
        self._worker.submit(self._serve)
        try:
            return await asyncio.wrap_future(waiting.future)
        except asyncio.CancelledError:
            waiting.cancelled.set()
            raise

    async def aclose(self) -> None:
        """Wait for the requests under way, cancel those that wait for them, and let go of the model."""
        await asyncio.to_thread(self._worker.shutdown, cancel_futures=True)
        while waiting := self._take():
            for w in waiting:
                w.future.cancel()
        self._lm = self._earlier = self._slots = None

    def _serve(self) -> None:
        """Answer requests that wait; there is one call a request, so none is left over."""
        time.sleep(_GATHER_S)
        batch = [w for w in self._take() if w.future.set_running_or_notify_cancel()]
        try:
            if not self._answer(batch):
                for w in batch:
                    if not w.future.done():
                        self._answer([w])
        except BaseException as error:
            for w in batch:
                if not w.future.done():
                    w.future.set_exception(error)
            raise

    def _take(self) -> list[_Waiting]:
        """The first request that waits, and others of the same settings that can go with it."""
        with self._lock:
            batch: list[_Waiting] = []
            rows = 0
            for w in list(self._waiting):
                if batch and (w.request.params != batch[0].request.params or rows + w.rows > self._rows):
                    continue
                batch.append(w)
                rows += w.rows
                self._waiting.remove(w)
            return batch

    def _answer(self, batch: Sequence[_Waiting]) -> bool:
        """Draw what is asked for; False where memory holds no more than one request at a time."""
        import torch

        started = time.perf_counter()
        try:
            with torch.inference_mode():
                ready = [(w, r) for w in batch if (r := self._prepare(w)) is not None]
                if not ready:
                    return True
                found = self._draw(ready)
        except torch.OutOfMemoryError:  # not kept as a cause: its frames hold the memory
            if self._slots is not None:  # memory holds no slots beside what else it has to hold
                self._slots, self._graphs = None, False
                return False
            if len(batch) > 1:
                return False
            request = batch[0].request
            error = BackendError(
                f"out of memory: example {request.example_id!r}, {request.n} samples",
                fix="use a smaller model, dtype='bfloat16', fewer max_tokens, or a server",
            )
            batch[0].future.set_exception(error)
            return True
        seconds = time.perf_counter() - started
        for (w, r), (rows, reused) in zip(ready, found, strict=True):
            rows *= w.request.n // len(rows)  # greedy samples are all alike: one is drawn
            first = Usage(len(r.tokens), 0, reused)
            w.future.set_result(
                [self._completion(row, first if j == 0 else Usage(), seconds) for j, row in enumerate(rows)]
            )
        return True

    def _prepare(self, w: _Waiting) -> _Ready | None:
        """Read the request; None where it is at fault, which its caller is told."""
        request = w.request
        try:
            tokens = encode(self._tokenizer, request, self.model)
            limit = new_tokens(request, len(tokens), self._context, self.model)
            return _Ready(tokens, limit, self._grammar_of(request.params.regex))
        except SpctError as error:
            w.future.set_exception(error)
            return None

    def _draw(self, ready: Sequence[tuple[_Waiting, _Ready]]) -> list[tuple[list[Row], int]]:
        """The samples of each request, and how many tokens of its prompt were not read again."""
        params = ready[0][0].request.params
        seeds = [[w.request.seed + j for j in range(w.rows)] for w, _ in ready]
        if self._graphs and ready[0][1].grammar is None:
            jobs = [
                Job(r.tokens, s, r.limit, w.cancelled.is_set) for (w, r), s in zip(ready, seeds, strict=True)
            ]
            if self._slots is None or not self._slots.hold(jobs):
                self._slots = None  # frees its memory
                self._slots = open_slots(self._lm, jobs, eos=self._eos, most=self._rows // WIDTH)
            if self._slots is not None:
                return [(rows, 0) for rows in self._slots.draw(jobs, params)]
        found = list[tuple[list[Row], int]]()
        part = list[Drawn]()
        for (w, r), s in zip(ready, seeds, strict=True):
            if part and sum(len(d.seeds) for d in part) + len(s) > _GROWING:
                found, part = found + self._decode(part, params), []
            part.append(Drawn(self._prefill(r.tokens), s, r.limit, r.grammar, w.cancelled.is_set))
        return found + self._decode(part, params)

    def _decode(self, drawn: Sequence[Drawn], params: SamplingParams) -> list[tuple[list[Row], int]]:
        found = decode(self._lm, drawn, params, eos=self._eos, shared=self._shared)
        return [(rows, d.prompt.reused) for rows, d in zip(found, drawn, strict=True)]

    def _prefill(self, tokens: list[int]) -> Prefill:
        earlier, self._earlier = self._earlier, None
        prompt = prefill(self._lm, tokens, earlier)
        if self._shared:
            self._earlier = prompt
        return prompt

    def _completion(self, row: Row, prompt: Usage, seconds: float) -> Completion:
        text = self._tokenizer.decode(
            [t for t in row.tokens if t not in self._eos],
            skip_special_tokens=True,
            clean_up_tokenization_spaces=False,
        )
        return Completion(text, row.finish, usage=prompt + Usage(0, len(row.tokens)), latency_s=seconds)

    def _grammar_of(self, regex: str | None) -> Grammar | None:
        if regex is None:
            return None
        if self._vocabulary is None:
            size = self._lm.get_output_embeddings().weight.shape[0]
            self._vocabulary = vocabulary(self._tokenizer, size, sorted(self._eos))
        if self._grammar is None or self._grammar.regex != regex:
            self._grammar = Grammar(self._vocabulary, regex)
        return self._grammar


def _load(name: str, device: str, dtype: str | None) -> tuple[Any, Any]:
    """Tokenizer and model."""
    try:
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        raise MissingExtraError("transformers", "local") from error
    place = embedded.locate() if name == embedded.NAME else name
    options: dict[str, Any] = {"dtype": dtype or ("float32" if device == "cpu" else "auto")}
    if device == "auto":
        options["device_map"] = "auto"
    try:
        with embedded.quiet():
            tokenizer = AutoTokenizer.from_pretrained(place)
            model = AutoModelForCausalLM.from_pretrained(place, **options).eval()
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"model {name!r} cannot be loaded: {str(error).strip().splitlines()[0]}",
            expected="'smollm2', a folder that `save_pretrained` wrote, or a hub name",
            fix=embedded.PIP_LINE
            if place == embedded.HUB_NAME
            else "check the name; a hub name needs the network",
        ) from error
    check_chat_template(tokenizer, name)
    return tokenizer, model if device == "auto" else model.to(device)


def _eos(model: Any, tokenizer: Any) -> frozenset[int]:
    """Tokens that end a text, by the generation config and the tokenizer."""
    own = model.generation_config.eos_token_id
    return frozenset(
        t for t in [*(own if isinstance(own, list) else [own]), tokenizer.eos_token_id] if t is not None
    )


def _context(model: Any, tokenizer: Any) -> int | None:
    """Tokens that the model reads at most, or None where it states no limit."""
    own = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    stated = [n for n in (own, tokenizer.model_max_length) if n and n < 10**9]
    return min(stated, default=None)
