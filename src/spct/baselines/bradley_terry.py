"""Bradley-Terry: a scalar reward of each response by itself (§7; Eq. 1 scalar, Eq. 2 pointwise).

Any public sequence-classification reward model, by folder, hub name or server.
"""

from __future__ import annotations

from spct.baselines.reward_model import RewardModel
from spct.types import Example, Message
from spct.untrusted import neutralise


def response_turns(example: Example, index: int) -> tuple[Message, ...]:
    """What the model reads: the conversation, then a response as its last turn. Training uses it too."""
    # only chat tokens and our own markers are broken; any other text is read as it is
    return (*example.messages, Message("assistant", neutralise(example.responses[index])))


class BradleyTerry:
    """Scores each response as the last turn of its conversation.

    Args:
        reward_model: From `open_reward_model`.
    """

    pairwise = False

    def __init__(self, reward_model: RewardModel) -> None:
        self.reward_model, self.model = reward_model, reward_model.model

    async def rewards(self, example: Example, sample: int) -> tuple[float, ...] | None:
        """(n,) logits; None where a response does not fit the model. All samples are alike."""
        turns = [response_turns(example, i) for i in range(len(example.responses))]
        logits = await self.reward_model.logits(turns)
        values = [v for v in logits if v is not None]
        return tuple(values) if len(values) == len(logits) else None

    async def aclose(self) -> None:
        """Close the reward model."""
        await self.reward_model.aclose()
