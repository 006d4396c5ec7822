"""examples/rlhf_with_grm with tiny steps and a scripted judge that knows the world."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from spct.backends.scripted import ScriptedBackend

for package in ("torch", "trl", "uvicorn", "matplotlib"):
    pytest.importorskip(package)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*will be removed in v6:FutureWarning"),
]
FOLDER = Path(__file__).parents[2] / "examples" / "rlhf_with_grm"
SHOWN = re.compile(r"\[\[response (\d) begins\]\] ?(.*?) ?\[\[response \1 ends\]\]")


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", [*sys.path, str(FOLDER)])
    spec = importlib.util.spec_from_file_location("rlhf_with_grm", FOLDER / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def score(quality: int, prompt: str) -> int:
    """Of a list 1..10; of a lone response 1 where all is met."""
    return int(quality == 10) if "grade:" in prompt else max(1, quality)


def test_rewards_are_those_of_their_responses(
    example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from world import Query

    def judgement(request: Any, j: int) -> str:
        prompt = request.messages[-1].content
        query = Query.parse(prompt.splitlines()[0])
        if query.requirements[0].kind in ("begin", "end", "has"):
            return "no verdict"
        responses = [text for _, text in SHOWN.findall(prompt)]
        qualities = [query.quality(text) if text.split() else 0 for text in responses]
        return f"Scores: \\boxed{{{', '.join(str(score(q, prompt)) for q in qualities)}}}"

    seen: list[tuple[Sequence[float | None], Sequence[float]]] = []
    note = example.Log.note

    def noted(log: Any, texts: Sequence[str], rewards: Any, truths: Any) -> None:
        seen.append((rewards, truths))
        note(log, texts, rewards, truths)

    monkeypatch.setattr(example.Log, "note", noted)
    (tmp_path / "out").mkdir()
    page = tmp_path / "out" / "README.md"
    page.write_text((FOLDER / "README.md").read_text())
    sizes = example.Sizes(learn_steps=60, learn_rows=16, steps=2, prompts=4, queries=8)
    found = example.run(sizes, lambda: ScriptedBackend(judgement), tmp_path / "work", tmp_path / "out")

    arms = [arm for arm in example.ARMS.values() for _ in range(sizes.steps)]
    assert len(seen) == len(arms)
    for arm, (rewards, truths) in zip(arms, seen, strict=True):
        assert len(rewards) == sizes.prompts * example.GROUP
        for at in range(0, len(rewards), example.GROUP):
            group = rewards[at : at + example.GROUP]
            assert len({r is None for r in group}) == 1  # whole groups have a verdict or none
        for reward, truth in zip(rewards, truths, strict=True):
            if arm is None:
                assert reward == truth
            elif reward is not None:
                wanted = truth == 1 if arm.template == "grade" else max(0.1, truth)
                assert reward == pytest.approx(float(wanted))
    kinds = {reward is None for rewards, _ in seen for reward in rewards}
    assert kinds == {True, False}
    from table import read

    stored = read(tmp_path / "out")
    assert stored["start"] == found["start"]
    assert [len(arm["steps"]) for arm in stored["arms"].values()] == [sizes.steps] * len(example.ARMS)
    assert (tmp_path / "out" / "curves.png").stat().st_size > 10_000
    assert f"{sizes.queries} held-out queries" in page.read_text()
    assert page.read_text().count("| the truth | ") == 2  # a row of either table

    again = example.run(sizes, lambda: pytest.fail("nothing is missing"), tmp_path / "work", tmp_path / "out")
    assert again == found


def test_numbers_by_hand(example: ModuleType) -> None:
    # pairs of unlike truth with both rewards: (2nd, 1st) right, (4th, 1st) right, (2nd, 4th) tied
    assert example.agreement([0.1, 0.2, None, 0.2], [0.0, 1.0, 1.0, 0.5]) == 0.8333
    assert example.agreement([0.1, 0.2], [1.0, 1.0]) is None
    assert example.mean([1.0, None, 0.5]) == 0.75
    assert example.mean([None]) is None
    assert not example.is_foreign("cat DOG 11")
    assert example.is_foreign(", should shout cat")
