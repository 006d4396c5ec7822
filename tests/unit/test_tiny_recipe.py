"""The pipeline of recipes/tiny: its pure parts, its engine, and all its stages with tiny steps."""

import asyncio
import doctest
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

RECIPE = Path(__file__).parents[2] / "recipes" / "tiny"
sys.path.insert(0, str(RECIPE))

np = pytest.importorskip("numpy")

import cold_start  # noqa: E402
import evaluate  # noqa: E402
import habits  # noqa: E402
import page  # noqa: E402
import report  # noqa: E402
import run  # noqa: E402
import stages  # noqa: E402

from spct.errors import InputError  # noqa: E402
from spct.evals.samples import Block  # noqa: E402
from spct.types import Example, Message, Request, SamplingParams  # noqa: E402


@pytest.mark.parametrize("module", [cold_start, run], ids=lambda module: module.__name__)
def test_examples_in_docstrings(module):
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0


def test_stages_stand_after_what_they_need():
    seen = set()
    for name, stage in stages.STAGES.items():
        assert seen.issuperset(stage.needs), name
        seen.add(name)


def test_every_stage_but_the_last_is_needed():
    assert run.with_needs(["report"]) == set(stages.STAGES)


def test_smoke_settings_are_settings_of_their_files():
    for name, small in stages.SMOKE.items():
        full = stages.Context(Path(), 0).settings(name)
        assert stages.Context(Path(), 0, smoke=True).settings(name) == full | small


def test_a_folder_of_another_seed_is_refused(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "done.json").write_text('{"seed": 1, "smoke": false}')
    assert stages.done(stages.Context(tmp_path, 1), "data") == {"seed": 1, "smoke": False}
    assert stages.done(stages.Context(tmp_path, 0), "cold") is None
    with pytest.raises(InputError, match="seed 1"):
        stages.done(stages.Context(tmp_path, 0), "data")


def test_votes_on_one_response_count_for_and_against():
    # rows: truth 1 with votes 1, 1, 0; truth 0 with votes 0, (unread), 1
    scores = np.array([[[1], [1], [0]], [[0], [0], [1]]])
    valid = np.array([[True, True, True], [True, False, True]])
    two = evaluate.as_two(Block(np.arange(2), scores, valid, np.full((2, 3), -np.inf)), [1, 0])
    assert two.scores.tolist() == [[[1, 0], [1, 0], [0, 1]], [[1, 0], [0, 0], [0, 1]]]


def test_differences_are_paired():
    # on every row a is right where b is, and on one of four more: +25 points; resamples differ by 0..1
    a, b = np.array([1.0, 1, 0, 1] * 25), np.array([1.0, 0, 0, 1] * 25)
    found = report.difference(a, b, [0] * 100)
    assert found["points"] == 25.0
    assert 15 < found["low"] < 25 < found["high"] < 35
    assert report.column_of({"x": np.array([[1, 2], [3, 4]])}, "x:-1").tolist() == [2, 4]


def test_habits_by_hand(monkeypatch):
    query = "must say dog 2 times, may shout fir"
    example = Example.of(query, ["dog fir sun", "dog dog FIR"], id="a", labels=[0, 10])
    careful = (  # shown second response first; the last check misreads: what is there is fir, not FIR
        "Specific Criteria:\n1. count must (weight 80%): dog 2\n2. caps may (weight 20%): fir\nAnalysis:\n"
        "response 1: count dog 2 saw 2 yes; caps fir saw FIR yes; total 10\n"
        "response 2: count dog 2 saw 1 no; caps fir saw FIR yes; total 2\nScores: \\boxed{10, 2}"
    )
    hasty = (
        "Specific Criteria:\n1. count (weight 70%): dog 2\n2. caps (weight 30%): fir\nAnalysis:\n"
        "response 1: count glance no; caps glance no; total 0\n"
        "response 2: count glance no; caps glance no; total 0\nScores: \\boxed{1, 1}"
    )
    drawn = [SimpleNamespace(text=careful, order=(1, 0)), SimpleNamespace(text=hasty, order=(0, 1))]
    monkeypatch.setattr(habits, "RunFolder", SimpleNamespace(load=lambda _: [(example, drawn)]))
    assert habits.habits(Path()) == {
        "hasty_criteria": 0.5,
        "glances": 0.5,  # 4 of 8
        "evidence": 0.75,  # 3 of the 4 that quote
        "evidence/caps": 0.5,
        "evidence/count": 1.0,
    }


def test_a_row_is_read_right_where_every_word_of_its_completion_is():
    torch = pytest.importorskip("torch")
    ids = torch.tensor([[1, 2, 3, 4], [1, 2, 3, 0], [3, 1, 2, 2]])
    parts = torch.tensor([[1, 1, 2, 2], [1, 2, 2, 0], [1, 1, 1, 2]])  # prompt 1, completion 2, padding 0

    def counts_up(input_ids, use_cache):  # always writes the next number: right in the first two rows
        return SimpleNamespace(logits=torch.nn.functional.one_hot(input_ids + 1, 6).float())

    assert cold_start.share_right(counts_up, (ids, parts)) == pytest.approx(2 / 3)


def test_page_says_that_nothing_was_run():
    assert "None yet" in page.page(None)


def test_committed_page_is_that_of_the_committed_results():
    path = RECIPE / "results.json"
    found = json.loads(path.read_text()) if path.is_file() else None
    assert (RECIPE / "README.md").read_text() == page.page(found)


def test_batches_draw_what_each_sample_draws_alone(tmp_path):
    """The seeds decide, not the neighbours: as LocalBackend, which decodes one prompt at a time."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from batched import BatchedBackend
    from tokenizer import save_untrained

    from spct.backends.local import LocalBackend

    torch.set_num_threads(1)
    save_untrained(tmp_path / "model", 0)
    texts = ["must use cat", "may have 6 words, must begin with sun", "must use cat, should avoid dog"]
    asked = [
        Request(str(i), (Message("user", text),), (0,), tuple(range(n)), 7 + i, SamplingParams(1.0, 1.0, 12))
        for i, (text, n) in enumerate(zip(texts, (1, 3, 2), strict=True))
    ]
    kinds = (BatchedBackend, LocalBackend)
    together, alone = (asyncio.run(_answers(kind(str(tmp_path / "model")), asked)) for kind in kinds)
    assert [len(found) for found in together] == [1, 3, 2]
    assert [[c.text for c in found] for found in together] == [[c.text for c in found] for found in alone]
    assert {c.finish_reason for found in together for c in found} <= {"stop", "length"}


async def _answers(backend, asked):
    found = await asyncio.gather(*(backend.generate(request) for request in asked))
    await backend.aclose()
    return found


@pytest.mark.slow
@pytest.mark.engine
def test_all_stages_with_tiny_steps(tmp_path):
    for package in ("torch", "trl", "matplotlib"):
        pytest.importorskip(package)
    command = [sys.executable, str(RECIPE / "run.py"), "--smoke", "--out", str(tmp_path / "run")]
    first = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert first.returncode == 0, first.stderr[-3000:]
    found = json.loads((tmp_path / "run" / "report" / "results.json").read_text())
    assert found["smoke"]
    assert found["differences"].keys() == report.DIFFERENCES.keys()
    assert "A smoke run" in (tmp_path / "run" / "report" / "README.md").read_text()
    again = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (again.returncode, again.stdout) == (0, "")  # all stages are finished
    other = subprocess.run([*command, "--seed", "1"], capture_output=True, text=True, timeout=120)
    assert other.returncode == 2
