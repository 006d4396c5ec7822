"""The scorer in the real Inspect: skipped where inspect-ai is not installed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from quality_judge import Engine, judge, judgement
from spct.integrations.inspect_ai import grm_scorer

inspect_ai = pytest.importorskip("inspect_ai", reason="inspect-ai 0.3 is not installed")
pytestmark = pytest.mark.filterwarnings("default")  # the package's own


def evaluate(samples: list[Any], answers: list[str], engine: Engine, out: Path) -> Any:
    from inspect_ai.dataset import MemoryDataset
    from inspect_ai.model import ModelOutput
    from inspect_ai.solver import solver

    @solver
    def scripted() -> Any:
        """Answers without `generate`, for which Inspect would fetch a tokenizer from the network."""

        async def solve(state: Any, generate: Any) -> Any:
            state.output = ModelOutput.from_content("mockllm/model", answers[state.sample_id - 1])
            return state

        return solve

    scoring = judge(engine, k=2)
    task = inspect_ai.Task(dataset=MemoryDataset(samples), solver=scripted(), scorer=grm_scorer(scoring))
    [log] = inspect_ai.eval(
        task,
        model="mockllm/model",
        display="none",
        log_dir=str(out),
        max_samples=1,
        fail_on_error=False,
    )
    scoring.close()
    assert log.status == "success", log.error
    return log


def test_answers_get_their_votes_and_a_critique(tmp_path: Path) -> None:
    from inspect_ai.dataset import Sample
    from inspect_ai.model import ChatMessageSystem, ChatMessageUser

    talk = [ChatMessageSystem(content="Be brief."), ChatMessageUser(content="2+2?")]
    samples = [Sample(input="3+3?", target=["six", "6"]), Sample(input=talk)]
    prompts = []

    def script(request: Any, j: int) -> str:
        prompts.append(request.messages[-1].content)
        return judgement(request, j)

    engine = Engine(script=script)
    log = evaluate(samples, ["quality 3", "quality 8"], engine, tmp_path)
    scores = [sample.scores["grm"] for sample in log.samples]
    assert [score.value for score in scores] == [3.0, 8.0]
    assert all("Scores: \\boxed{" in score.explanation for score in scores)
    assert all(score.metadata == {"k": 2, "k_valid": 2, "failures": {}} for score in scores)
    [found] = log.results.scores
    assert found.metrics["mean"].value == 5.5
    assert any("six\n6" in prompt for prompt in prompts)
    assert any("Be brief." in prompt and "2+2?" in prompt for prompt in prompts)


def test_no_valid_vote_is_unscored_and_a_judge_that_is_down_an_error(tmp_path: Path) -> None:
    from inspect_ai.dataset import Sample

    def script(request: Any, j: int) -> str:
        return "no idea" if "first?" in request.messages[-1].content else judgement(request, j)

    engine = Engine(script=script, fails=lambda call: call == 2)  # the call for the third
    samples = [Sample(input=f"{place}?") for place in ("first", "second", "third")]
    log = evaluate(samples, ["quality 3", "quality 8", "quality 9"], engine, tmp_path)
    first, second, third = log.samples
    assert math.isnan(first.scores["grm"].value)
    assert first.scores["grm"].reason == "grader_failed"
    assert second.scores["grm"].value == 8.0
    assert third.error is not None
    assert "the engine is down" in third.error.message
    [found] = log.results.scores
    assert found.metrics["mean"].value == 8.0
