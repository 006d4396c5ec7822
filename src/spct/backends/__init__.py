"""Engines that turn a `Request` into texts. Each is one file with one async method."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from spct.backends.base import Backend
from spct.backends.embedded import NAME
from spct.errors import ConfigError

KINDS = ("auto", "openai", "local", "vllm", "scripted")


def open_backend(
    kind: str = "auto",
    *,
    model: str | None = None,
    base_urls: Sequence[str] = (),
    adapter: str | None = None,
    concurrency: int | None = None,
    extra_body: str | None = None,
) -> Backend:
    """Open an engine by name.

    Args:
        kind: `auto` is `openai` where base URLs are given, else `local`.
        model: Served name, folder or hub name; `local` defaults to the embedded model.
        base_urls: OpenAI-compatible servers.
        adapter: LoRA adapter folder, for `local`.
        concurrency: Requests in flight per server, at most, for `openai`.
        extra_body: JSON object of further request fields, for `openai`.

    Raises:
        ConfigError: Options that do not go together.
    """
    if kind == "auto":
        kind = "openai" if base_urls else "local"
    _check(kind, model, base_urls, adapter, extra_body)
    if kind == "openai":
        from spct.backends.openai import OpenAIBackend

        fields = _fields(extra_body)
        return OpenAIBackend(model or "", base_urls, max_concurrency=concurrency or 128, extra_body=fields)
    if kind == "local":
        from spct.backends.local import LocalBackend

        return LocalBackend(model or NAME, adapter=adapter)
    if kind == "vllm":
        from spct.backends.vllm import VLLMBackend

        return VLLMBackend(model or "")
    from spct.backends.scripted import ScriptedBackend

    return ScriptedBackend()


def _check(
    kind: str, model: str | None, base_urls: Sequence[str], adapter: str | None, extra_body: str | None
) -> None:
    """Refuse options that do not go together, before anything heavy is loaded."""
    if kind not in KINDS:
        raise ConfigError(f"backend is {kind!r}", expected=f"one of {', '.join(KINDS)}")
    homes = {
        "--base-url": ("openai", base_urls),
        "--extra-body": ("openai", extra_body),
        "--adapter": ("local", adapter),
    }
    for option, (home, value) in homes.items():
        if value and kind != home:
            raise ConfigError(
                f"{option} goes with backend {home!r}, not {kind!r}", fix="leave one of them out"
            )
    if kind == "openai" and not base_urls:
        raise ConfigError(
            "backend 'openai' has no --base-url", expected="a server", fix="pass the server's URL"
        )
    if kind == "openai" and not model:
        fix = "`spct doctor --base-url URL` lists what a server serves"
        raise ConfigError("backend 'openai' has no --model", expected="a served model", fix=fix)
    if kind == "vllm" and not model:
        raise ConfigError("backend 'vllm' has no --model", expected="a folder or hub name")


def _fields(extra_body: str | None) -> dict[str, Any] | None:
    if extra_body is None:
        return None
    try:
        fields = json.loads(extra_body)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"--extra-body is no JSON: {error}", expected='an object such as {"top_k": 20}'
        ) from None
    if not isinstance(fields, dict):
        raise ConfigError(f"--extra-body is {extra_body}", expected='an object such as {"top_k": 20}')
    return fields
