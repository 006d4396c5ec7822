"""Rejection (§3): which trajectories are kept, why the others are not, and what becomes of them."""

import json

import pytest

from spct.backends.scripted import ScriptedBackend
from spct.errors import ConfigError, InputError
from spct.records import RunFolder
from spct.training.rejection import leaked, mix, reject, reject_runs, sft_row
from spct.training.rollouts import easy_points, rollout
from spct.types import Completion, Example, FailureReason, Trajectory

PAIR = Example.of("2+2?", ["4", "5"], id="e", labels=[1, 0])


def sample(index, scores=None, *, hinted=False, failure=None, text="critique", template="t"):
    if scores is None and failure is None:
        failure = FailureReason.NO_SCORES
    return Trajectory(
        "e", index, f"k{index}{hinted}", (0, 1), 0, text, scores=scores, failure=failure, hinted=hinted,
        template=template,
    )  # fmt: skip


def reasons(*trajectories, **options):
    result = reject([(PAIR, trajectories)], **options)
    kept = [(k.trajectory.sample, k.trajectory.hinted) for k in result.kept]
    return kept, [(d.sample, d.hinted, d.reason) for d in result.dropped]


def test_incorrect_samples_are_dropped_with_their_reason():
    kept, dropped = reasons(
        sample(0, (8, 5)),  # right
        sample(1, (5, 8)),  # wrong
        sample(2, (7, 7)),  # a tie at the top is wrong (Eq. 10)
        sample(3),  # unparsed
        sample(4, failure=FailureReason.TIMEOUT),
    )
    assert kept == [(0, False)]
    assert dropped == [(1, False, "wrong"), (2, False, "wrong"), (3, False, "unparsed"), (4, False, "lost")]


def test_all_correct_is_too_easy_but_hinted_samples_stay():
    easy = [sample(i, (8, 5)) for i in range(3)]
    kept, dropped = reasons(*easy, sample(0, (9, 1), hinted=True))
    assert kept == [(0, True)]
    assert [d[2] for d in dropped] == ["too_easy"] * 3


def test_what_is_easy_for_a_teacher_can_be_kept():
    found = [*(sample(i, (8, 5)) for i in range(3)), sample(0, (9, 1), hinted=True)]
    kept, dropped = reasons(*found, keep_easy=True)
    assert kept == [(0, False), (1, False), (2, False), (0, True)]
    assert dropped == []
    kept, dropped = reasons(sample(0, (8, 5)), sample(1, (5, 8)), keep_easy=True)
    assert (kept, dropped) == ([(0, False)], [(1, False, "wrong")])


def test_a_lost_sample_is_no_evidence_of_ease():
    kept, _ = reasons(sample(0, (8, 5)), sample(1, (8, 5)), sample(2, failure=FailureReason.HTTP))
    assert kept == [(0, False), (1, False)]


def test_hinted_samples_are_dropped_only_when_incorrect():
    kept, dropped = reasons(sample(0, (5, 8)), sample(0, (5, 8), hinted=True), sample(1, (6, 2), hinted=True))
    assert kept == [(1, True)]
    assert dropped == [(0, False, "wrong"), (0, True, "wrong")]


def test_hinted_alone_is_never_too_easy():
    kept, dropped = reasons(sample(0, (8, 5), hinted=True))
    assert (kept, dropped) == ([(0, True)], [])


def test_leaks_are_flagged_or_dropped():
    leaky = sample(0, (8, 5), hinted=True, text="As the hint says, the first is best.")
    result = reject([(PAIR, [leaky])])
    assert (len(result.kept), result.leaks) == (1, [("e", "hint")])
    assert reasons(leaky, leak="drop") == ([], [(0, True, "leak")])
    assert reject([(PAIR, [leaky])], leak="off").leaks == []


@pytest.mark.parametrize(
    ("text", "leaks"),
    [
        ("Response 1 is known to be the best.", True),
        ("I was told that response 2 is the preferred one.", True),
        ("The given correct answer is response 1.", True),
        ("Careful people found response 1 better.", True),
        ("By the ground truth it is 4.", True),
        ("Response 1 is correct and clear.", False),
        ('The user says "give me a hint" and gets one.', False),
        ("The response is the best given the constraints.", False),
        ("Told to be brief, response 2 rambles.", False),
    ],
)
def test_leak_phrases(text, leaks):
    assert bool(leaked(sample(0, (8, 5), hinted=True, text=text))) is leaks


def test_counts_name_every_reason():
    points = [(PAIR, [sample(0, (8, 5)), sample(1, (5, 8)), sample(0, (8, 5), hinted=True)])]
    assert reject(points).counts() == {
        "kept": 2,
        "kept_hinted": 1,
        "kept_non_hinted": 1,
        "wrong": 1,
        "too_easy_points": 0,
    }


def test_labels_with_two_maxima_stop_the_rejection():
    with pytest.raises(InputError, match="2 maxima"):
        reject([(Example.of("q", ["a", "b"], labels=[1, 1]), [])])


def test_mix_takes_the_stated_ratio_and_refuses_too_little():
    rows = [{"id": i} for i in range(4)]
    general = [{"g": i} for i in range(30)]
    mixed = mix(rows, general, 5.75)
    assert (len(mixed), sum("g" in row for row in mixed)) == (27, 23)  # 4 x 5.75 = 23
    assert len({row["g"] for row in mixed if "g" in row}) == 23  # without replacement
    assert mix(rows, general, 5.75) == mixed
    assert mix(rows, general, 5.75, seed=1) != mixed
    with pytest.raises(InputError, match="30 general rows for 4"):
        mix(rows, general, 8)


def scripted(scores_of):
    """A backend that scores by the text of a response: `scores_of(example id, seed index, text)`."""

    def answer(request, j):
        shown = request.messages[-1].content
        texts = [
            shown.split(f"[[response {i} begins]]\n")[1].split("\n[[")[0]
            for i in (1, 2)[: len(request.order)]
        ]
        scores = [scores_of(request.example_id, request.samples[j], text) for text in texts]
        boxed = ", ".join(map(str, scores))
        return f"Specific Criteria:\n1. x (weight 100%): y\nAnalysis:\nfine\nScores: \\boxed{{{boxed}}}"

    return ScriptedBackend(answer)


def data_file(tmp_path):
    rows = [
        {"id": "easy", "prompt": "1+1?", "responses": ["2", "3"], "labels": [1, 0]},
        {"id": "hard", "prompt": "2+2?", "responses": ["4", "5"], "labels": [1, 0]},
        {"id": "lost", "prompt": "3+3?", "responses": ["6", "7"], "labels": [1, 0]},
        {"id": "one", "prompt": "4+4?", "responses": ["8"], "labels": [1]},
    ]
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def plain_scores(name, index, text):
    if name == "one":
        return int(index > 0)  # wrong, right, right
    good = text in ("2", "4", "6")
    right = {"easy": True, "hard": index == 1, "lost": False}[name]
    return 8 if good == right else 3


def test_rollouts_to_fine_tuning_file(tmp_path):
    data = data_file(tmp_path)
    rollout([data], tmp_path / "plain", scripted(plain_scores), n=3)
    rollout(
        [data],
        tmp_path / "hinted",
        scripted(lambda n, i, text: 1 if n == "one" else 11 - int(text)),
        n=1,
        hinted=True,
    )
    manifest = reject_runs([tmp_path / "plain", tmp_path / "hinted"], tmp_path / "rft.jsonl")
    # non-hinted: easy 3 too easy; hard 1 right; lost 3 wrong; one 2 right. Hinted: all 4 are right and stay.
    assert manifest["counts"] == {
        "points": 4,
        "samples": 16,
        "kept": 7,
        "kept_hinted": 4,
        "kept_non_hinted": 3,
        "too_easy": 3,
        "wrong": 6,
        "too_easy_points": 1,
    }
    rows = {row["id"]: row for row in map(json.loads, (tmp_path / "rft.jsonl").read_text().splitlines())}
    assert rows.keys() == {
        "easy/hinted",
        "hard/1",
        "hard/hinted",
        "lost/hinted",
        "one/1",
        "one/2",
        "one/hinted",
    }
    assert "For your eyes only" not in rows["lost/hinted"]["prompt"][0]["content"]  # trained without the hint
    assert "0 where it is not" in rows["one/1"]["prompt"][0]["content"]  # the prompt of singles
    assert rows["hard/1"]["completion"][0]["content"].endswith("}")
    assert easy_points([tmp_path / "plain"]) == {"easy"}


def test_rollout_order_is_the_order_trained_on(tmp_path):
    run = rollout([data_file(tmp_path)], tmp_path / "plain", scripted(plain_scores), n=3)
    hard = next(e for e in run.examples if e.id == "hard")
    [kept] = [t for t in run.trajectories("hard") if t.sample == 1]
    prompt = sft_row(hard, kept)["prompt"][0]["content"]
    shown = [prompt.index(f"\n{hard.responses[i]}\n[[response") for i in kept.order]
    assert shown == sorted(shown)


def test_unfinished_rollouts_are_refused(tmp_path):
    def lose(request, j):
        if request.example_id == "hard":
            return Completion("", failure=FailureReason.TIMEOUT, detail="lost")
        return "Scores: 8, 3" if len(request.order) == 2 else "Scores: 1"

    rollout([data_file(tmp_path)], tmp_path / "run", ScriptedBackend(lose), n=2)
    with pytest.raises(InputError, match="lacks 2 samples"):
        reject_runs([tmp_path / "run"], tmp_path / "out.jsonl")
    reject_runs([tmp_path / "run"], tmp_path / "out.jsonl", allow_missing=True)


def test_too_few_points_names_the_counts(tmp_path):
    data = tmp_path / "d.jsonl"
    data.write_text(json.dumps({"id": "a", "prompt": "q", "responses": ["x", "y"], "labels": [1, 0]}))
    rollout([data], tmp_path / "run", ScriptedBackend(lambda r, j: "Scores: 5, 5"), n=3)
    with pytest.raises(
        InputError, match=r"0 data points are left after rejection \(points 1, samples 3, kept 0, wrong 3"
    ):
        reject_runs([tmp_path / "run"], tmp_path / "out.jsonl")


def test_another_template_than_the_rollouts_is_refused(tmp_path):
    rollout([data_file(tmp_path)], tmp_path / "run", scripted(plain_scores), n=3, template="no_principles")
    with pytest.raises(InputError, match=r"sampled with template no_principles-\w+"):
        reject_runs([tmp_path / "run"], tmp_path / "out.jsonl")
    reject_runs([tmp_path / "run"], tmp_path / "out.jsonl", template="no_principles")


def test_hinted_needs_a_template_that_shows_the_best(tmp_path):
    with pytest.raises(ConfigError, match="'pointwise' and hinted = True"):
        rollout([data_file(tmp_path)], tmp_path / "r", ScriptedBackend(), hinted=True, template="pointwise")


def test_rollouts_resume_where_they_stopped(tmp_path):
    asked = []

    def count(request, j):
        asked.append(request.samples[j])
        return "Scores: 8, 3" if len(request.order) == 2 else "Scores: 1"

    data = data_file(tmp_path)
    rollout([data], tmp_path / "run", ScriptedBackend(count), n=3)
    first = len(asked)
    rollout([data], tmp_path / "run", ScriptedBackend(count), n=3)
    assert (first, len(asked)) == (12, 12)
    assert sum(len(found) for _, found in RunFolder.load(tmp_path / "run")) == 12
