"""CLoud: a model writes a critique of each response, another scores response and critique (§7).

Semi-scalar; voting is the mean over critiques (Eq. 12). After arXiv 2408.11791, wording ours.
"""

from __future__ import annotations

import asyncio

from spct.backends.base import Backend
from spct.baselines.reward_model import RewardModel
from spct.sampling import seed_of
from spct.types import Example, Message, Request, SamplingParams
from spct.untrusted import neutralise

_ASK = (
    "Write a critique of the response that stands between the markers: what it gets right, what it gets"
    " wrong or leaves out, and how much that matters to the user. A few sentences; give no score."
)


def critique_prompt(example: Example, index: int) -> tuple[Message, ...]:
    """What the critique model reads. Training uses it too."""
    turns = "\n\n".join(f"[[{m.role}]]\n{neutralise(m.content)}" for m in example.messages)
    response = neutralise(example.responses[index])
    text = (
        f"{_ASK}\n\n[[conversation begins]]\n{turns}\n[[conversation ends]]\n\n"
        f"[[response 1 begins]]\n{response}\n[[response 1 ends]]"
    )
    return (Message("user", text),)


def critique_request(
    example: Example, index: int, *, sample: int, seed: int, params: SamplingParams
) -> Request:
    """What an engine is asked for one critique of one response."""
    drawn = seed_of(seed, example.id, "critique", index, sample)
    return Request(example.id, critique_prompt(example, index), (index,), (sample,), drawn, params)


def scored_turns(example: Example, index: int, critique: str) -> tuple[Message, ...]:
    """What the value head reads: conversation, response and critique. Training uses it too."""
    response = neutralise(example.responses[index])
    text = f"{response}\n\n[[critique begins]]\n{critique}\n[[critique ends]]"
    return (*example.messages, Message("assistant", text))


class Cloud:
    """Critiques by an engine, rewards by a reward model.

    Args:
        backend: Writes the critiques.
        reward_model: Scores response and critique.
        temperature: Of the critiques; 0 for one sample (§5).
        max_tokens: Of a critique.
        seed: Of the samples.
    """

    pairwise = False

    def __init__(
        self,
        backend: Backend,
        reward_model: RewardModel,
        *,
        temperature: float = 0.5,
        max_tokens: int = 512,
        seed: int = 0,
    ) -> None:
        self.backend, self.reward_model, self._seed = backend, reward_model, seed
        self.model = f"{backend.model}+{reward_model.model}"
        self._params = SamplingParams(temperature, max_tokens=max_tokens)

    async def rewards(self, example: Example, sample: int) -> tuple[float, ...] | None:
        """(n,) rewards by one critique a response; None where a critique or a reward is missing."""
        places = range(len(example.responses))
        critiques = await asyncio.gather(*[self._critique(example, i, sample) for i in places])
        written = [c for c in critiques if c is not None]
        if len(written) < len(critiques):
            return None
        logits = await self.reward_model.logits([scored_turns(example, i, written[i]) for i in places])
        values = [v for v in logits if v is not None]
        return tuple(values) if len(values) == len(logits) else None

    async def _critique(self, example: Example, index: int, sample: int) -> str | None:
        [completion] = await self.backend.generate(
            critique_request(example, index, sample=sample, seed=self._seed, params=self._params)
        )
        return completion.text.strip() or None if completion.failure is None else None

    async def aclose(self) -> None:
        """Close both models."""
        await self.backend.aclose()
        await self.reward_model.aclose()
