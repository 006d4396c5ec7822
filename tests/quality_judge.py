"""A judge for tests whose verdict is known: a response that says `quality 7` scores 7 in every vote."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

from spct import Judge
from spct.backends.scripted import ScriptedBackend
from spct.errors import BackendError
from spct.types import Completion, Request

SHOWN = re.compile(
    r"\[\[response (\d+) begins(?:: [^\]\n]*)?\]\]\n(.*?)\n?\[\[response \1 ends\]\]", re.DOTALL
)


def quality(text: str) -> int:
    found = re.search(r"quality (\d+)", text)
    return int(found.group(1)) if found else 5


def shown(request: Request) -> list[str]:
    """Responses in a prompt, in the order shown."""
    return [text for _, text in SHOWN.findall(request.messages[-1].content)]


def judgement(request: Request, j: int) -> str:
    scores = ", ".join(str(quality(text)) for text in shown(request))
    criteria = "Specific Criteria:\n1. Quality (weight 100%): what the text says of itself\n"
    return f"{criteria}Analysis:\nsample {request.samples[j]}\nScores: \\boxed{{{scores}}}"


class Engine(ScriptedBackend):
    """Waits, records which texts each call judged, and fails on demand.

    Args:
        latency_s: Seconds per call.
        fails: Called with the number of the call, from 0; True raises BackendError.
        script: What it writes.
    """

    def __init__(
        self,
        *,
        latency_s: float = 0.0,
        fails: Callable[[int], bool] = lambda call: False,
        script: Callable[[Request, int], str | Completion] = judgement,
    ) -> None:
        super().__init__(script)
        self.latency_s, self.fails = latency_s, fails
        self.calls: list[list[str]] = []

    async def generate(self, request: Request) -> list[Completion]:
        number = len(self.calls)
        self.calls.append(shown(request))
        if self.latency_s:
            await asyncio.sleep(self.latency_s)
        if self.fails(number):
            raise BackendError("the engine is down")
        return await super().generate(request)


def judge(engine: Engine | None = None, **settings: Any) -> Judge:
    return Judge(engine or Engine(), **{"k": 1, "order": "given"} | settings)
