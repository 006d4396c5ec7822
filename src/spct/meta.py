"""Meta rewards: how far to trust each trajectory (§5). A meta RM is a classifier with one logit.

    ClassifyServer   vLLM's `/classify` (`vllm serve FOLDER --runner pooling`)
    LocalClassifier  a sequence-classification folder, in-process (extra `local`)

Both read the same prompt and give sigmoid(logit), the probability that a trajectory's scores are
correct by Eq. 10.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any, Protocol

from spct.backends import embedded
from spct.backends.precision import multiplies_bfloat16, to_bfloat16
from spct.backends.shared_prefix import as_option, new_cache, reads_in_parts
from spct.errors import BackendError, InputError, MissingExtraError
from spct.parsing import split_thinking
from spct.prompts import load_template, render
from spct.types import Example, Trajectory

_WORTH = 32  # tokens; reading a shorter opening once gains nothing


class MetaRM(Protocol):
    """Scores judgements. `model` names it in the store."""

    model: str

    async def score(self, prompts: Sequence[str]) -> list[float]:
        """Probability in (0, 1) that each judgement is correct; one per prompt.

        Raises:
            BackendError: The meta RM cannot be reached or answers nonsense.
        """
        ...

    async def aclose(self) -> None:
        """Release connections or memory."""
        ...


def meta_prompt(example: Example, trajectory: Trajectory, template: str = "meta_rm") -> str:
    """What a meta RM reads: conversation, responses as the judge saw them, and its own text."""
    judgement = split_thinking(trajectory.text)[1]
    [(message,)] = render(load_template(template), example, [trajectory.order], judgement=judgement)
    return message.content


def sigmoid(logit: float) -> float:
    """Logistic function, safe at both ends."""
    if logit >= 0:
        return 1 / (1 + math.exp(-logit))
    return math.exp(logit) / (1 + math.exp(logit))


class ClassifyServer:
    """A meta RM behind vLLM's `/classify`.

    Args:
        base_url: Server, with or without `/v1`.
        model: Served name; None asks the server.
        timeout_s: Per request.
        retries: Further tries after a failure.
        pause_s: Before the first of them; doubled before each further one.
    """

    def __init__(
        self,
        base_url: str,
        *,
        model: str | None = None,
        timeout_s: float = 60.0,
        retries: int = 4,
        pause_s: float = 0.25,
    ) -> None:
        self.base_url = base_url.rstrip("/").removesuffix("/v1")
        self.model = model or base_url
        self._served, self._timeout_s, self._retries, self._pause_s = model, timeout_s, retries, pause_s
        self._session: Any = None

    async def score(self, prompts: Sequence[str]) -> list[float]:
        """Send one batch; the raw logit comes back and is squashed here."""
        body: dict[str, Any] = {"input": list(prompts), "use_activation": False}
        if self._served:
            body["model"] = self._served
        problem = ""
        for attempt in range(self._retries + 1):
            if attempt:
                await asyncio.sleep(self._pause_s * 2 ** (attempt - 1))
            answer, problem = await self._post(body)
            if answer is not None:
                return _logits(answer, len(prompts), self.base_url)
        raise BackendError(
            f"meta RM at {self.base_url}: {problem}",
            expected="an answer of /classify",
            fix="check the server; finished work is stored, run the same command again to go on",
        )

    async def _post(self, body: dict[str, Any]) -> tuple[dict[str, Any] | None, str]:
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self._timeout_s))
        try:
            async with self._session.post(f"{self.base_url}/classify", json=body) as response:
                if response.status == 200:
                    return await response.json(), "null in place of an answer"
                problem = f"{response.status} {(await response.text())[:200]}"
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            return None, f"{type(error).__name__} {error}"
        if 400 <= response.status < 500 and response.status not in (408, 409, 425, 429):
            raise BackendError(f"meta RM at {self.base_url}: {problem}", expected="200 from /classify")
        return None, problem

    async def aclose(self) -> None:
        """Close the session."""
        if self._session is not None:
            await self._session.close()
            self._session = None


def _logits(answer: dict[str, Any], count: int, where: str) -> list[float]:
    try:
        rows = sorted(answer["data"], key=lambda row: row["index"])
        values = [float(row["probs"][-1]) for row in rows]
    except (KeyError, TypeError, ValueError, IndexError):
        raise BackendError(
            f"meta RM at {where} answered {answer!s:.200}", expected='{"data": [{"probs": [logit]}]}'
        ) from None
    if len(values) != count or not all(math.isfinite(v) for v in values):
        raise BackendError(f"meta RM at {where} gave {len(values)} values", expected=f"{count} finite logits")
    return [sigmoid(v) for v in values]


class LocalClassifier:
    """A meta RM in-process: a sequence-classification folder or hub name with one label.

    Judgements of one order share their prompt up to the judgement, which is read once for those of a batch.

    Args:
        model: Folder or hub name; `smollm2` is the package's own, for the embedded model.
        batch_size: Prompts per forward pass.
        dtype: Name of a torch dtype; None is the model's own, but bfloat16 for float32 where the device
            multiplies in it.

    Raises:
        MissingExtraError: torch, transformers or peft is not installed.
        InputError: It does not load, or the package holds none.
    """

    def __init__(self, model: str, *, batch_size: int = 8, dtype: str | None = None) -> None:
        try:
            import torch
            from transformers import AutoModelForSequenceClassification, AutoTokenizer
        except ImportError:
            raise MissingExtraError("transformers", "local") from None
        self.model, adapter = embedded.resolve_meta(model)
        place = embedded.locate() if model == embedded.NAME else model
        self._batch_size = batch_size
        try:
            with embedded.quiet():
                self._tokenizer = AutoTokenizer.from_pretrained(place)
                net, report = AutoModelForSequenceClassification.from_pretrained(
                    place, num_labels=1, dtype=dtype or "auto", output_loading_info=True
                )
        except (OSError, ValueError) as error:
            raise InputError(
                f"meta RM {model!r} does not load: {error}", expected="a folder or hub name"
            ) from None
        if adapter:
            net = embedded.with_adapter(net, adapter)
        elif missing := report["missing_keys"]:
            raise InputError(
                f"meta RM {model!r} lacks {', '.join(sorted(missing)[:3])}: its rewards would be random",
                expected="a classifier with one label, e.g. of `spct train meta-rm`",
            )
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._padding = self._tokenizer.pad_token_id
        net.config.get_text_config().pad_token_id = self._padding  # the last token before it is read
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        if dtype is None and multiplies_bfloat16(self._device):
            to_bfloat16(net)
        self._net = net.eval().to(self._device)
        self._shares = reads_in_parts(self._net)
        self._one_at_a_time = asyncio.Lock()

    async def score(self, prompts: Sequence[str]) -> list[float]:
        """Run the classifier in a worker thread."""
        async with self._one_at_a_time:
            return await asyncio.to_thread(self._forward, list(prompts))

    def _forward(self, prompts: list[str]) -> list[float]:
        import torch

        values = [0.0] * len(prompts)
        alike = sorted(range(len(prompts)), key=lambda i: prompts[i])
        for start in range(0, len(prompts), self._batch_size):
            places = alike[start : start + self._batch_size]
            rows = [self._tokenizer(prompts[i])["input_ids"] for i in places]
            longest, limit = max(map(len, rows)), self._net.config.max_position_embeddings
            if longest > limit:
                raise BackendError(f"a meta prompt has {longest} tokens", expected=f"at most {limit}")
            with torch.inference_mode():
                logits = self._logits(rows)
            for i, logit in zip(places, logits.double().tolist(), strict=True):
                values[i] = sigmoid(logit)
        return values

    def _logits(self, rows: list[list[int]]) -> Any:
        """One logit a row of token ids: (rows,)."""
        import torch

        shared, options = _opening(rows, self._padding) if self._shares else 0, {}
        if shared:
            cache = new_cache(self._net)
            opening = torch.tensor([rows[0][:shared]], device=self._device)
            self._net(input_ids=opening, use_cache=True, **as_option(self._net, cache))
            cache.reorder_cache(torch.zeros(len(rows), dtype=torch.long, device=self._device))
            options = as_option(self._net, cache) | {"use_cache": True}
        # on the right: padding on the left would part what is read from the opening
        padded = self._tokenizer.pad(
            {"input_ids": [row[shared:] for row in rows]}, padding_side="right", return_tensors="pt"
        )
        mask = torch.nn.functional.pad(padded["attention_mask"], (shared, 0), value=1)
        ids, mask = padded["input_ids"].to(self._device), mask.to(self._device)
        return self._net(input_ids=ids, attention_mask=mask, **options).logits[:, 0]

    async def aclose(self) -> None:
        """Nothing to release."""


def _opening(rows: Sequence[Sequence[int]], padding: int | None) -> int:
    """Tokens that all rows begin with, short of each row's last one; 0 where reading them once gains little.

    The last one is that whose logit counts, so that padding is none, also where the tokenizer itself ends a
    text with it.

    >>> fifty = [1] * 50
    >>> _opening([fifty + [2, 3], fifty + [3]], 0), _opening([[1, 2], [1, 3]], 0), _opening([fifty], 0)
    (50, 0, 0)
    >>> _opening([fifty, fifty], 0), _opening([fifty + [0], fifty + [0]], 0)
    (49, 49)
    """
    if len(rows) < 2:
        return 0
    least = min(max((i for i, token in enumerate(row) if token != padding), default=0) for row in rows)
    same = next((i for i in range(least) if any(row[i] != rows[0][i] for row in rows)), least)
    return same if same >= _WORTH else 0
