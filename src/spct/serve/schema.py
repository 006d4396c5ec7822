"""What the server takes and gives, as pydantic models; OpenAPI is made of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from spct.serve.shaping import Invalid, Shape
from spct.types import Example, Message

MAX_EXAMPLES, MAX_RESPONSES, MAX_GROUP, MAX_DEADLINE_S = 256, 256, 1024, 600.0
Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Text = Annotated[str, StringConstraints(max_length=4_000_000)]

_PROMPT = [{"role": "user", "content": "Name a prime between 10 and 15."}]
_VERDICT: dict[str, Any] = {
    "id": "primes",
    "rewards": [68.0, 14.0],
    "mean_rewards": [8.5, 1.75],
    "best": 0,
    "ranking": [0, 1],
    "ties": 1,
    "margin": 6.75,
    "k": 8,
    "k_valid": 8,
    "failures": {},
    "lists": 1,
    "usage": {"prompt_tokens": 900, "completion_tokens": 1600, "cached_tokens": 448},
}


class _Base(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Turn(_Base):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    content: Text


class Asked(_Base):
    """A prompt and what may go with it."""

    prompt: Text | list[Turn] = Field(min_length=1, examples=[_PROMPT])
    """A text, or the conversation that the responses answer."""
    reference: Text | None = None
    """A correct answer to judge against."""
    principles: list[Text] | None = Field(None, min_length=1, max_length=32)
    """Criteria to judge by; the judge writes its own where there are none."""

    @property
    def messages(self) -> tuple[Message, ...]:
        """The prompt as a conversation."""
        if isinstance(self.prompt, str):
            return (Message("user", self.prompt),)
        return tuple(Message(turn.role, turn.content) for turn in self.prompt)

    @property
    def given_principles(self) -> tuple[str, ...] | None:
        """Principles as the core wants them."""
        return None if self.principles is None else tuple(self.principles)


class AskedExample(Asked):
    """One prompt and all responses to it."""

    id: Name | None = None
    """Comes back with the verdict, and is part of the seeds; by default a hash of the content."""
    responses: list[Text] = Field(min_length=1, max_length=MAX_RESPONSES, examples=[["13", "12"]])

    def example(self) -> Example:
        """As the core wants it."""
        fields: dict[str, Any] = {"reference": self.reference, "principles": self.given_principles}
        if self.id is not None:
            fields["id"] = self.id
        return Example.of(self.messages, self.responses, **fields)


class RewardsRequest(_Base):
    """Examples to judge, each in one list call."""

    examples: list[AskedExample] = Field(min_length=1, max_length=MAX_EXAMPLES)
    shape: Shape | None = None
    """`sum` (Eq. 14), `mean`, `centred` or `rank`; the server's setting by default."""
    trajectories: bool = False
    """Send every sample with principles, critique and scores too."""


class UsageOut(_Base):
    """Tokens spent."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int


class VerdictOut(_Base):
    """The vote over one example; `null` where too few samples were valid, never 0."""

    model_config = ConfigDict(json_schema_extra={"examples": [_VERDICT]})

    id: str
    rewards: list[float | None]
    """Shaped as asked, in the order of the responses."""
    mean_rewards: list[float | None]
    """Mean score per vote: comparable between calls."""
    best: int | None
    ranking: list[int] | None
    ties: int | None
    margin: float | None
    k: int
    """Samples asked for, over all list calls."""
    k_valid: int
    failures: dict[str, int]
    lists: int
    """List calls made: more than one where the example was larger than the server's limit."""
    usage: UsageOut
    trajectories: list[dict[str, Any]] | None = None
    """Samples as they were judged: with equal texts left out, and in several lists where it was long."""


class RewardsAnswer(_Base):
    """Verdicts in the order of the examples."""

    model: str
    shape: Shape
    verdicts: list[VerdictOut]


class GroupRequest(Asked):
    """One response of a rollout group; the answer comes when the group is judged."""

    response: Text = Field(examples=["13"])
    group_size: int = Field(ge=1, le=MAX_GROUP, examples=[1])
    """Members of the group, equal in all its calls."""
    group_id: Name | None = None
    """Names the group; by default the prompt does."""
    member_id: Name | None = None
    """Names this call: a second call with it is a retry. Without it every call is a new member."""
    deadline_s: float | None = Field(None, gt=0, le=MAX_DEADLINE_S)
    """Seconds after which those who have come are judged; the server's setting by default."""
    shape: Shape | None = None
    invalid: Invalid | None = None
    """What to answer without a valid vote; the server's setting by default."""
    trajectories: bool = False


class GroupAnswer(_Base):
    """The reward of one response beside the others of its group."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "reward": 8.5,
                    "mean_reward": 8.5,
                    "stood_in": False,
                    "rewards": [8.5, 1.75],
                    "place": 0,
                    "group_size": 2,
                    "how": "complete",
                    "ties": 1,
                    "k": 8,
                    "k_valid": 8,
                    "failures": {},
                    "usage": _VERDICT["usage"],
                }
            ]
        }
    )

    reward: float | None
    """Shaped; where there is no valid vote, null or a stand-in, as the server is set."""
    mean_reward: float | None
    stood_in: bool
    """True where `reward` is the group's average (or the middle of the scale), not a judgement."""
    rewards: list[float | None]
    """Mean rewards of the members known so far, in the order in which they came."""
    place: int
    """Which of them this one is."""
    group_size: int
    how: Literal["complete", "deadline", "quiet", "late", "drain"]
    """What ended the wait."""
    ties: int
    """Members that share the highest reward."""
    k: int
    k_valid: int
    failures: dict[str, int]
    """Invalid samples per reason, of the whole judgement."""
    usage: UsageOut
    """Of the whole judgement: each of its members is told the same."""
    trajectories: list[dict[str, Any]] | None = None


class RemoteRequest(BaseModel):
    """OpenRLHF's call: each query is a templated prompt with the response after it."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    query: list[Text] = Field(min_length=1, max_length=MAX_RESPONSES, examples=[["Name a prime. 13"]])
    prompts: list[Text] = Field(min_length=1, max_length=MAX_RESPONSES, examples=[["Name a prime. "]])
    labels: list[Any] | None = Field(None, examples=[[{"group_id": "7", "group_size": 1}]])
    """Anything; an object, or one as JSON text, may hold `prompt`, `reference`, `principles`,
    `group_id`, `group_size` and `deadline_s`, as in /v1/group."""

    @model_validator(mode="after")
    def _same_length(self) -> RemoteRequest:
        lengths = {len(self.query), len(self.prompts), len(self.labels or self.query)}
        if len(lengths) > 1:
            raise ValueError(f"query, prompts and labels have the lengths {sorted(lengths)}; expected one")
        return self


class RemoteAnswer(_Base):
    """OpenRLHF's answer: always numbers; `extra_logs` tells which of them are judgements."""

    rewards: list[float]
    scores: list[float]
    """Rewards on a scale of 0 to 1, for dynamic filtering."""
    extra_logs: dict[str, list[float]]


class ClassifyRequest(BaseModel):
    """A call to a discriminative reward model, as vLLM's /classify takes it."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    model: str | None = None
    """Not read: the server has one judge."""
    messages: list[Turn] | None = Field(None, examples=[[*_PROMPT, {"role": "assistant", "content": "13"}]])
    """A conversation that ends with the assistant's turn to judge; or `input`."""
    input: Text | list[Text] | None = Field(None, max_length=MAX_RESPONSES)
    """Conversations as text in a known chat template; `messages` is safer."""
    use_activation: bool = True
    """True: a value in 0..1 on the scale; false: the mean score."""

    @model_validator(mode="after")
    def _one_of(self) -> ClassifyRequest:
        if (self.messages is None) == (self.input is None):
            raise ValueError("expected exactly one of messages and input")
        return self


class ClassifyRow(_Base):
    """One conversation's value."""

    index: int
    label: str | None
    probs: list[float | None]
    num_classes: int


class ClassifyAnswer(_Base):
    """Values in the order of the input."""

    object: Literal["list"] = "list"
    model: str
    data: list[ClassifyRow]
    usage: UsageOut


class Problem(_Base):
    """What was wrong: got, expected, fix."""

    got: str
    expected: str | None = None
    fix: str | None = None
    field: str | None = None


class ErrorAnswer(_Base):
    """Any answer that is not 200."""

    error: Problem
