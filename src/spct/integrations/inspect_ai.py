"""Inspect: a scorer that has a judge grade each answer of an evaluation.

    from inspect_ai import Task
    from spct import Judge
    from spct.integrations.inspect_ai import grm_scorer

    Task(dataset=..., solver=..., scorer=grm_scorer(Judge.local()))

Checked against inspect-ai 0.3.285. An answer without a valid vote is unscored, which Inspect leaves
out of its metrics; an engine that is down is an error of the sample, which Inspect can retry.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spct.judge import Judge


def grm_scorer(judge: Judge, *, name: str = "grm") -> Any:
    """Make a scorer.

    Args:
        judge: Grades; the caller closes it.
        name: Under which Inspect lists the score.

    Returns:
        An Inspect `Scorer`. A score's value is the mean over the votes, on the judge's scale; a
        sample's targets reach the judge as the reference, one a line.

    Raises:
        ImportError: inspect-ai is not installed.
    """
    from inspect_ai.scorer import Score, mean, scorer, stderr

    def grm() -> Any:
        async def score(state: Any, target: Sequence[str]) -> Any:
            asked = state.input
            query = asked if isinstance(asked, str) else [{"role": m.role, "content": m.text} for m in asked]
            answer, reference = state.output.completion, "\n".join(target) or None
            verdict = await judge.ascore(query, [answer], reference=reference)
            seen: dict[str, Any] = {"k": verdict.k, "k_valid": verdict.k_valid, "failures": verdict.failures}
            if verdict.mean_rewards is None:
                return Score.unscored(reason="grader_failed", answer=answer, metadata=seen)
            critique = next(t.text for t in verdict.trajectories if t.valid)
            return Score(value=verdict.mean_rewards[0], answer=answer, explanation=critique, metadata=seen)

        return score

    return scorer(metrics=[mean(), stderr()], name=name)(grm)()
