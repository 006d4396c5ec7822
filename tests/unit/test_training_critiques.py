"""Critiques for CLoud: drawn with the prompt of the scorer, stored as they come, never drawn twice."""

import asyncio
import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from spct.backends.scripted import ScriptedBackend
from spct.baselines.cloud import Cloud
from spct.errors import InputError
from spct.training.commands import app
from spct.training.configs import CloudConfig
from spct.training.critiques import critic_rows, critiques, draw_critiques, load_critiqued, tally
from spct.types import FailureReason

ROWS = [
    {"id": "a", "prompt": "Sum 1 and 1.", "responses": ["2", "3"], "labels": [1, 0]},
    {"id": "b", "prompt": "Name a colour.", "responses": ["red"]},
]


class Engine(ScriptedBackend):
    """Counts requests; the fault, if any, befalls the second response."""

    def __init__(self, **fault) -> None:
        super().__init__(lambda request, j: f" {request.example_id}{request.order[0]} \n")
        self.fault, self.requests = fault, []

    async def generate(self, request):
        self.requests.append(request)
        [completion] = await super().generate(request)
        return [replace(completion, **self.fault) if request.order == (1,) else completion]


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return str(path)


def drawn_texts(run):
    return [critiques(example) for example in load_critiqued([str(run.path)]).examples]


def test_each_response_gets_one_critique_and_the_prompt_is_the_scorers(data, tmp_path):
    engine = Engine()
    run = draw_critiques([data], tmp_path / "run", engine)
    assert drawn_texts(run) == [["a0", "a1"], ["b0"]]
    assert tally(run) == {"points": 2, "critiques": 3, "truncated": 0, "lost": 0}

    class Scalar:
        model = "scalar"

        async def logits(self, conversations):
            self.read = conversations
            return [1.0] * len(conversations)

    scorer = Cloud(asked := Engine(), scalar := Scalar())
    asyncio.run(scorer.rewards(run.examples[0], 0))
    assert [(r.messages, r.seed, r.params) for r in asked.requests] == [
        (r.messages, r.seed, r.params) for r in engine.requests[:2]
    ]
    settings = CloudConfig(model="m", data=[str(tmp_path / "run")], out="o", part="critic")
    rows, counts = critic_rows(settings)
    assert counts == {"unusable": 0}
    assert [row["id"] for row in rows] == ["a/0", "a/1", "b/0"]
    assert [row["prompt"][0]["content"] for row in rows[:2]] == [
        r.messages[0].content for r in asked.requests
    ]
    assert rows[1]["completion"] == [{"role": "assistant", "content": "a1"}]
    assert scalar.read[1][-1].content == "3\n\n[[critique begins]]\na1\n[[critique ends]]"


def test_a_critique_that_the_engine_lost_is_drawn_again_and_no_other(data, tmp_path):
    lost = draw_critiques([data], tmp_path / "run", Engine(text="", failure=FailureReason.HTTP))
    assert tally(lost)["lost"] == 1
    with pytest.raises(InputError, match=r"(?s)1 of 2 data points.*a: no usable critique of response 1"):
        load_critiqued([str(lost.path)])
    again = Engine()
    run = draw_critiques([data], tmp_path / "run", again)
    assert [request.order for request in again.requests] == [(1,)]
    assert drawn_texts(run) == [["a0", "a1"], ["b0"]]
    with pytest.raises(InputError, match="temperature"):
        draw_critiques([data], tmp_path / "run", Engine(), temperature=0.9)


def test_a_critique_that_was_cut_is_not_taught_but_scored(data, tmp_path):
    run = draw_critiques([data], tmp_path / "run", Engine(finish_reason="length"))
    assert tally(run) == {"points": 2, "critiques": 2, "truncated": 1, "lost": 0}
    assert drawn_texts(run) == [["a0", "a1"], ["b0"]]
    points = load_critiqued([str(run.path)], skip_bad=True, whole=True)
    assert [example.id for example in points.examples] == ["b"]
    assert points.faults[0].fault == "no usable critique of response 1"


@pytest.mark.parametrize(
    ("column", "fault"),
    [
        ({}, "no critiques"),
        ({"critiques": ["x"]}, "1 critiques for 2 responses"),
        ({"critiques": ["x", " "]}, "no usable critique of response 1"),
        ({"critiques": ["x", None]}, "no usable critique of response 1"),
    ],
)
def test_given_critiques_are_checked(tmp_path, column, fault):
    path = tmp_path / "given.jsonl"
    good = ROWS[0] | {"critiques": ["right", "wrong"]}
    path.write_text(json.dumps(good) + "\n" + json.dumps(ROWS[0] | {"id": "x"} | column) + "\n")
    with pytest.raises(InputError, match=rf"(?s)1 of 2.*x: {fault}"):
        load_critiqued([str(path)])
    assert [critiques(e) for e in load_critiqued([str(path)], skip_bad=True).examples] == [["right", "wrong"]]


def test_the_command_draws_and_counts(data, tmp_path):
    args = ["critiques", data, "--out", str(tmp_path / "run"), "--backend", "scripted"]
    result = CliRunner().invoke(app, args)
    assert result.exit_code == 0, result.output
    assert "points 2, critiques 3, truncated 0, lost 0" in result.output
