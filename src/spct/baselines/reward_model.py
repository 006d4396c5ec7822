"""One number for a conversation: a sequence-classification model in-process, or behind `/classify`.

The engine of the scalar baselines: Bradley-Terry reads a response, PairRM two, CLoud a critique too.
Each reads a conversation whose last turn is what it judges, through the model's own chat template.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from spct.baselines.served import JsonServer
from spct.errors import BackendError, ConfigError, MissingExtraError
from spct.types import Message


class RewardModel(Protocol):
    """Gives a logit for each conversation, or None for one that does not fit the model."""

    model: str

    async def logits(self, conversations: Sequence[Sequence[Message]]) -> list[float | None]:
        """(c,) raw logits, on the model's own scale.

        Raises:
            BackendError: The model cannot be reached, or answers nonsense.
        """
        ...

    async def aclose(self) -> None:
        """Release connections or memory."""
        ...


def open_reward_model(model: str | None, base_url: str | None = None) -> RewardModel:
    """A reward model by folder or hub name, or the one that a server serves.

    Raises:
        ConfigError: Neither is given.
    """
    if base_url:
        return ServedRewardModel(base_url, model)
    if not model:
        raise ConfigError(
            "no reward model",
            expected="--model FOLDER or hub name, or --base-url of `vllm serve FOLDER --runner pooling`",
        )
    return LocalRewardModel(model)


class ServedRewardModel:
    """A reward model behind vLLM's `/classify`; the server applies the chat template.

    Args:
        base_url: Server, with or without `/v1`.
        model: Served name; None leaves it to the server.
    """

    def __init__(self, base_url: str, model: str | None = None) -> None:
        self.model = model or base_url
        self._served, self._server = model, JsonServer(base_url)

    async def logits(self, conversations: Sequence[Sequence[Message]]) -> list[float | None]:
        """One call per conversation, side by side."""
        return list(await asyncio.gather(*[self._logit(turns) for turns in conversations]))

    async def _logit(self, turns: Sequence[Message]) -> float:
        body: dict[str, Any] = {
            "messages": [{"role": m.role, "content": m.content} for m in turns],
            "use_activation": False,
            "add_generation_prompt": False,
        }
        if self._served:
            body["model"] = self._served
        answer = await self._server.post("/classify", body, below_v1=False)
        try:
            [row] = answer["data"]
            [value] = row["probs"]
            if math.isfinite(value):
                return float(value)
        except (KeyError, TypeError, ValueError):
            pass
        raise BackendError(
            f"reward model at {self._server.root} answered {answer!s:.200}",
            expected='{"data": [{"probs": [logit]}]}, of a model with one label',
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._server.aclose()


class LocalRewardModel:
    """A sequence-classification model with one label, in-process (extra `local`).

    Args:
        model: Folder or hub name.
        batch_size: Conversations per forward pass.
    """

    def __init__(self, model: str, *, batch_size: int = 8) -> None:
        try:
            import torch
            from transformers import AutoModelForSequenceClassification, AutoTokenizer
        except ImportError:
            raise MissingExtraError("transformers", "local") from None
        self.model, self._batch_size = model, batch_size
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(model)
            net = AutoModelForSequenceClassification.from_pretrained(model, dtype="auto")
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"reward model {model!r} cannot be loaded: {error!s:.200}",
                expected="a folder or hub name of a sequence-classification model",
                fix=f"the folder holds {_listing(model)}" if Path(model).is_dir() else None,
            ) from None
        if net.config.num_labels != 1:
            raise ConfigError(f"{model!r} has {net.config.num_labels} labels", expected="one: the reward")
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        net.config.pad_token_id = self._tokenizer.pad_token_id  # the last token before it is read
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._net = net.eval().to(self._device)
        self._one_at_a_time = asyncio.Lock()

    async def logits(self, conversations: Sequence[Sequence[Message]]) -> list[float | None]:
        """Forward passes in a worker thread, one batch after the other."""
        async with self._one_at_a_time:
            return await asyncio.to_thread(self._forward, conversations)

    def _forward(self, conversations: Sequence[Sequence[Message]]) -> list[float | None]:
        import torch

        limit = getattr(self._net.config, "max_position_embeddings", None)
        encoded = encode(self._tokenizer, conversations)
        fitting = [i for i, ids in enumerate(encoded) if limit is None or len(ids) <= limit]
        fitting.sort(key=lambda i: len(encoded[i]))  # little padding
        found: list[float | None] = [None] * len(conversations)
        for start in range(0, len(fitting), self._batch_size):
            places = fitting[start : start + self._batch_size]
            batch = self._tokenizer.pad(
                {"input_ids": [encoded[i] for i in places]}, return_tensors="pt", padding_side="right"
            )
            with torch.inference_mode():
                logits = self._net(**batch.to(self._device)).logits[:, 0].double().tolist()
            for i, value in zip(places, logits, strict=True):
                found[i] = value if math.isfinite(value) else None
        return found

    async def aclose(self) -> None:
        """Nothing to release."""


def encode(tokenizer: Any, conversations: Sequence[Sequence[Message]]) -> list[list[int]]:
    """Token ids of each conversation; as plain text without a chat template. Training uses it too."""
    if not conversations:
        return []
    if tokenizer.chat_template:
        plain = [[{"role": m.role, "content": m.content} for m in turns] for turns in conversations]
        return list(tokenizer.apply_chat_template(plain, return_dict=True)["input_ids"])
    texts = ["\n\n".join(f"{m.role}: {m.content}" for m in turns) for turns in conversations]
    return list(tokenizer(texts)["input_ids"])


def _listing(folder: str) -> str:
    return ", ".join(sorted(p.name for p in Path(folder).iterdir())[:8]) or "nothing"
