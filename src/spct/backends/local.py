"""A language model in this process, on CPU or GPU, by `transformers`.

    backend = LocalBackend("smollm2")                    # the embedded default
    backend = LocalBackend("Qwen/Qwen3-8B", adapter="runs/rft/adapter")

Requests run one at a time in a thread of their own, so that an event loop stays live. On CPU the
speed is that of `torch`'s threads: one per core where nothing else runs, else set
`OMP_NUM_THREADS=1`, as two busy threads that wait for each other are slower than one.
"""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from spct.backends import embedded
from spct.backends.constrained import Grammar, vocabulary
from spct.backends.decoding import Prefill, Row, decode, prefill
from spct.backends.prompt_tokens import check_chat_template, encode, new_tokens
from spct.backends.shared_prefix import install
from spct.errors import BackendError, ConfigError, MissingExtraError
from spct.types import Completion, Request, Usage


class LocalBackend:
    """A causal language model of `transformers`, with a chat template.

    Args:
        model: `smollm2`, a folder, or a hub name.
        adapter: LoRA adapter folder (peft), merged into the weights on load; None takes the package's own
            for `smollm2`, where there is one, and `none` takes none.
        device: `cpu`, `cuda`, `cuda:1`, ...; `auto` spreads over all GPUs; None takes a GPU if any.
        dtype: Name of a torch dtype, e.g. `bfloat16`; None is float32 on CPU, else the model's own.
        max_concurrency: Requests to hand over at a time; they run one by one all the same.

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
        max_concurrency: int = 1,
    ) -> None:
        try:
            import torch
        except ImportError as error:
            raise MissingExtraError("torch", "local") from error
        self.model, adapter = embedded.resolve_adapter(model, adapter)
        self.max_concurrency = max_concurrency
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._tokenizer, self._lm = _load(model, device, dtype)
        if adapter:
            self._lm = _with_adapter(self._lm, adapter)
        with torch.inference_mode():
            self._shared = install(self._lm)
        self._eos = _eos(self._lm, self._tokenizer)
        self._context = _context(self._lm, self._tokenizer)
        self._vocabulary: Any = None
        self._grammar: Grammar | None = None
        self._earlier: Prefill | None = None
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="spct-local")

    async def generate(self, request: Request) -> list[Completion]:
        """Draw `request.n` samples of one prompt; sample j depends on the prompt and `seed + j` only.

        Raises:
            InputError: The prompt leaves no room in the model's context, or its roles are not ones
                that the chat template takes.
            ConfigError: `params.regex` cannot be used.
            BackendError: Out of memory.
        """
        cancelled = threading.Event()
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._worker, self._answer, request, cancelled)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def aclose(self) -> None:
        """Wait for the request under way and let go of the model."""
        await asyncio.to_thread(self._worker.shutdown, cancel_futures=True)
        self._lm = self._earlier = None

    def _answer(self, request: Request, cancelled: threading.Event) -> list[Completion]:
        import torch

        started = time.perf_counter()
        tokens = encode(self._tokenizer, request, self.model)
        limit = new_tokens(request, len(tokens), self._context, self.model)
        seeds = [request.seed + j for j in range(request.n if request.params.temperature else 1)]
        try:
            with torch.inference_mode():
                grammar = self._grammar_of(request.params.regex)
                earlier, self._earlier = self._earlier, None
                prompt = prefill(self._lm, tokens, earlier)
                rows = decode(
                    self._lm,
                    prompt,
                    seeds,
                    request.params,
                    eos=self._eos,
                    limit=limit,
                    grammar=grammar,
                    shared=self._shared,
                    stopped=cancelled.is_set,
                )
        except torch.OutOfMemoryError as error:
            raise BackendError(
                f"out of memory: example {request.example_id!r}, {len(tokens)} tokens, {request.n} samples",
                fix="use a smaller model, dtype='bfloat16', fewer max_tokens, or a server",
            ) from error
        if self._shared:
            self._earlier = prompt
        seconds = time.perf_counter() - started
        rows *= request.n // len(seeds)  # greedy samples are all alike: one is drawn
        first = Usage(len(tokens), 0, prompt.reused)
        return [self._completion(row, first if j == 0 else Usage(), seconds) for j, row in enumerate(rows)]

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


def _with_adapter(model: Any, folder: str) -> Any:
    try:
        from peft import PeftModel
    except ImportError as error:
        raise MissingExtraError("peft", "local") from error
    try:
        return PeftModel.from_pretrained(model, folder).merge_and_unload()
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"adapter {folder!r} cannot be loaded: {str(error).strip().splitlines()[0]}",
            expected="a LoRA folder of this very model (adapter_config.json, adapter_model.safetensors)",
        ) from error


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
