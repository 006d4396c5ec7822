"""A backend that answers from a function: for tests, documentation and dry runs.

Without a function it writes well-formed judgements whose scores follow from a hash of each
response and the sample's seed, so that the same input gives the same verdict and no response is
favoured by its place. It judges nothing.

>>> import asyncio
>>> from spct.types import Message, Request, SamplingParams
>>> backend = ScriptedBackend(lambda request, j: f"Scores: {j + 1}")
>>> request = Request("a", (Message("user", "?"),), (0,), (0, 1), 7, SamplingParams(0.5))
>>> [c.text for c in asyncio.run(backend.generate(request))]
['Scores: 1', 'Scores: 2']
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable

from spct.types import Completion, Request, Usage

_RESPONSE = re.compile(
    r"^\[\[response (\d+) begins(?:: [^\]\n]*)?\]\]\n(.*?)\n?^\[\[response \1 ends\]\]",
    re.DOTALL | re.MULTILINE,
)


class ScriptedBackend:
    """Answers sample j of a request with `script(request, j)`.

    Args:
        script: Called with the request and 0..n-1; returns a text or a whole Completion.
        model: Name to record.
    """

    def __init__(
        self, script: Callable[[Request, int], str | Completion] | None = None, *, model: str = "scripted"
    ) -> None:
        self.model, self.max_concurrency = model, 64
        self._script = script or judge_by_hash

    async def generate(self, request: Request) -> list[Completion]:
        """Answer at once; never fails."""
        answers = [self._script(request, j) for j in range(request.n)]
        return [a if isinstance(a, Completion) else _completion(request, a, j) for j, a in enumerate(answers)]

    async def aclose(self) -> None:
        """Nothing to release."""


def _completion(request: Request, text: str, j: int) -> Completion:
    prompt = sum(len(m.content.split()) for m in request.messages) if j == 0 else 0
    return Completion(text, finish_reason="stop", usage=Usage(prompt, len(text.split())))


def judge_by_hash(request: Request, j: int) -> str:
    """A well-formed judgement with scores 1..10 from a hash: stable, and blind to places."""
    responses = [text for _, text in _RESPONSE.findall(request.messages[-1].content)]
    scores = []
    for text in responses:
        quality = int.from_bytes(hashlib.sha256(text.encode()).digest()[:2], "big") % 7
        noise = int.from_bytes(hashlib.sha256(f"{request.seed + j}{text}".encode()).digest()[:2], "big") % 4
        scores.append(1 + quality + noise)
    lines = [f"Response {i} gets {score} by its hash." for i, score in enumerate(scores, start=1)]
    return (
        "Specific Criteria:\n1. Hash (weight 100%): the hash of the text is high\n"
        f"Analysis:\n{' '.join(lines)}\nScores: \\boxed{{{', '.join(map(str, scores))}}}"
    )
