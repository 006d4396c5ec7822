"""verifiers v1 (and prime-rl): a reward of a task that judges each rollout beside the others of its task.

    import verifiers.v1 as vf
    from spct.integrations.verifiers import GRMReward

    grm = GRMReward("http://127.0.0.1:8100", group_size=8)

    class MyTask(vf.Task):
        @vf.reward(weight=1.0)
        async def judged(self, trace: vf.Trace) -> float:
            return await grm(self.data, trace)

Written for verifiers 0.4.0 and tested against its recorded signatures: reads `prompt_text` of the task's
data and `last_reply` of the trace; the prompt names the group. A rollout without a valid vote raises,
which verifiers counts as an error of the rollout and not as a bad answer.
"""

from __future__ import annotations

from typing import Any, Protocol

from spct.errors import BackendError
from spct.serve.client import RewardClient
from spct.serve.shaping import Shape


class Trace(Protocol):
    """What is read of a rollout."""

    @property
    def last_reply(self) -> str:
        """The policy's last message."""
        ...


class GRMReward:
    """Asks the reward server for one rollout.

    Args:
        server: The server, or a client of it; by default SPCT_URL of the environment.
        group_size: Rollouts per task.
        deadline_s: Seconds that a group may wait for its members.
        shape: `mean`, `sum`, `centred` or `rank`; by default as the server is set.
        reference_field: Field of the task's data that holds a correct answer, or None.
    """

    def __init__(
        self,
        server: str | RewardClient | None = None,
        *,
        group_size: int = 1,
        deadline_s: float = 60.0,
        shape: Shape | None = None,
        reference_field: str | None = None,
    ) -> None:
        self.client = server if isinstance(server, RewardClient) else RewardClient(server)
        self.group_size, self.deadline_s, self.shape = group_size, deadline_s, shape
        self.reference_field = reference_field

    async def __call__(self, task: Any, trace: Trace) -> float:
        """The rollout's reward.

        Raises:
            BackendError: There is no valid vote, or the server stays away.
        """
        field = self.reference_field
        answer = await self.client.agroup(
            str(task.prompt_text),
            trace.last_reply,
            group_size=self.group_size,
            deadline_s=self.deadline_s,
            shape=self.shape,
            reference=None if field is None else str(getattr(task, field)),
        )
        if answer["reward"] is None:
            raise BackendError(f"no valid vote: {answer['failures']}", expected="at least one")
        return float(answer["reward"])
