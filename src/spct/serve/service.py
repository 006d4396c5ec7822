"""What the server does, without HTTP: each method is one route's work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from spct.errors import BackendError
from spct.judge import Judge
from spct.prompts import load_template
from spct.serve import schema
from spct.serve.lists import GroupVerdict, Score, judge_group
from spct.serve.members import Answer, ClosingError, Question, Seat
from spct.serve.metrics import Metrics
from spct.serve.principles import ByKnownPrinciples, PrincipleBook
from spct.serve.rendezvous import Rendezvous
from spct.serve.settings import ServeConfig
from spct.serve.shaping import Invalid, Shape, shape, stand_in
from spct.types import Example, Usage, Verdict
from spct.voting import default_k_meta

IN_MEMORY = ":memory:"
_READY_AFTER = 5  # judgements in a row that the engine may fail before the server calls itself not ready


class Service:
    """A judge, a rendezvous in front of it, and the rules for what is answered.

    Args:
        judge: Judges; the service closes it.
        config: Settings.
        metrics: Counts.
    """

    def __init__(self, judge: Judge, config: ServeConfig, metrics: Metrics) -> None:
        self.judge, self.config, self.metrics = judge, config, metrics
        self._score: Score = judge.ascore
        if config.principles is not None:
            book = PrincipleBook(None if config.principles == IN_MEMORY else config.principles)
            self._score = ByKnownPrinciples(judge, book).score
        self.rendezvous = Rendezvous(
            self.score, max_list=config.max_list, quiet_s=config.quiet_s, max_waiting=config.max_waiting
        )
        metrics.watch(self.rendezvous)
        template = load_template(judge.config.template or "pointwise")
        self.scale = judge.config.scale or template.scale
        k = judge.config.k
        self.votes = k if judge.meta is None else judge.config.k_meta or default_k_meta(k)
        self.closing = False
        self._failed_in_a_row = 0

    async def score(self, example: Example) -> Verdict:
        """`Judge.ascore`, counted."""
        start = time.perf_counter()
        try:
            verdict = await self._score(example)
        except BackendError:
            self._failed_in_a_row += 1
            self.metrics.engine_errors.inc()
            raise
        self._failed_in_a_row = 0
        self.metrics.verdict(verdict, time.perf_counter() - start)
        return verdict

    def not_ready(self) -> str | None:
        """Why no calls should be sent here, or None."""
        if self.closing:
            return "the server is shutting down"
        if self._failed_in_a_row >= _READY_AFTER:
            return f"the engine failed the last {self._failed_in_a_row} judgements"
        return None

    async def rewards(self, call: schema.RewardsRequest) -> schema.RewardsAnswer:
        """Judge examples side by side."""
        self.check_open()
        how = call.shape or self.config.shape
        tasks = [asyncio.ensure_future(self._example(e, how, call.trajectories)) for e in call.examples]
        try:
            verdicts = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        return schema.RewardsAnswer(model=self.judge.backend.model, shape=how, verdicts=verdicts)

    async def _example(self, asked: schema.AskedExample, how: Shape, samples: bool) -> schema.VerdictOut:
        example = asked.example()
        distinct = len(set(example.responses))
        if distinct == len(example.responses) <= self.config.max_list:
            v = await self.score(example)
            means: Sequence[float | None] = v.mean_rewards or [None] * len(example.responses)
            return self._verdict_out(example.id, means, how, [v], (v.k, v.k_valid), v.failures, samples)
        group = await judge_group(self.score, example, self.config.max_list)
        counted = sum(v.k for v in group.verdicts), sum(v.k_valid for v in group.verdicts)
        return self._verdict_out(
            example.id, group.rewards, how, group.verdicts, counted, group.failures, samples
        )

    def _verdict_out(
        self,
        name: str,
        means: Sequence[float | None],
        how: Shape,
        verdicts: Sequence[Verdict],
        counted: tuple[int, int],
        failures: Mapping[str, int],
        samples: bool,
    ) -> schema.VerdictOut:
        ranked = sorted((-m, i) for i, m in enumerate(means) if m is not None)
        whole = len(ranked) == len(means)  # without a reward for each there is no ranking
        tops = [-m for m, _ in ranked]
        return schema.VerdictOut(
            id=name,
            rewards=self.shaped(means, how),
            mean_rewards=list(means),
            best=ranked[0][1] if whole else None,
            ranking=[i for _, i in ranked] if whole else None,
            ties=tops.count(tops[0]) if whole else None,
            margin=tops[0] - tops[1] if whole and len(tops) > 1 else None,
            k=counted[0],
            k_valid=counted[1],
            failures=dict(failures),
            lists=len(verdicts),
            usage=usage_out(sum((v.usage for v in verdicts), Usage())),
            trajectories=[asdict(t) for v in verdicts for t in v.trajectories] if samples else None,
        )

    async def group(self, call: schema.GroupRequest) -> schema.GroupAnswer:
        """Judge one response beside the others of its group."""
        self.check_open()
        question = Question(call.messages, call.reference, call.given_principles)
        deadline = call.deadline_s or self.config.deadline_s
        seat = Seat(question, call.response, call.group_size, deadline, call.group_id, call.member_id)
        answer = await self.rendezvous.ask(seat)
        how, v = call.shape or self.config.shape, answer.verdict
        reward, stood_in = self.reward_of(answer, how, call.invalid or self.config.invalid)
        return schema.GroupAnswer(
            reward=reward,
            mean_reward=answer.reward,
            stood_in=stood_in,
            rewards=list(answer.rewards),
            place=answer.place,
            group_size=call.group_size,
            how=answer.how,
            ties=answer.ties,
            k=v.k[answer.index],
            k_valid=v.k_valid[answer.index],
            failures=v.failures,
            usage=usage_out(v.usage),
            trajectories=_samples_of(v, answer.index) if call.trajectories else None,
        )

    def reward_of(self, answer: Answer, how: Shape, invalid: Invalid) -> tuple[float | None, bool]:
        """A member's shaped reward, and whether it is a stand-in.

        Raises:
            BackendError: There is no valid vote, and `invalid` is `error`.
        """
        shaped = self.shaped(answer.rewards, how)
        reward = shaped[answer.place]
        if reward is not None or invalid == "null":
            return reward, False
        if invalid == "error":
            raise BackendError(
                f"no sample of {answer.verdict.k[answer.index]} was valid: {answer.verdict.failures}",
                expected="at least one",
                fix='look at the judge\'s texts with "trajectories": true',
            )
        self.metrics.fallbacks.labels("group", "invalid").inc()
        return self.stand_in(shaped, how), True

    def shaped(self, means: Sequence[float | None], how: Shape) -> list[float | None]:
        """Rewards of one group as the trainer wants them."""
        return shape(means, how, k=self.votes, clip=self.config.clip)

    def stand_in(self, shaped: Sequence[float | None], how: Shape) -> float:
        """What takes the place of a missing reward."""
        return stand_in(shaped, how, k=self.votes, scale=self.scale, clip=self.config.clip)

    def check_open(self) -> None:
        """Raise ClosingError where no call is taken any more."""
        if self.closing:
            raise ClosingError("the server is shutting down", fix="ask its successor")

    async def drain(self) -> None:
        """Take no more calls, and answer what was taken."""
        self.closing = True
        await self.rendezvous.drain()


def usage_out(usage: Usage) -> schema.UsageOut:
    """Tokens as the wire has them."""
    return schema.UsageOut(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cached_tokens=usage.cached_tokens,
    )


def _samples_of(group: GroupVerdict, index: int) -> list[dict[str, Any]]:
    """Samples of the lists that a response stood in, each with its score of that response."""
    first = group.stands_for[index]
    return [
        asdict(t) | {"own_score": None if t.scores is None else t.scores[part.index(first)]}
        for part, v in zip(group.lists, group.verdicts, strict=True)
        if first in part
        for t in v.trajectories
    ]
