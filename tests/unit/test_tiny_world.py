"""The world of recipes/tiny: truth by hand, disjoint splits, a teacher whose texts can be read."""

import doctest
import random
import re
import sys
from pathlib import Path

import pytest

RECIPE = Path(__file__).parents[2] / "recipes" / "tiny"
sys.path.insert(0, str(RECIPE))

import cold_rows  # noqa: E402
import teacher  # noqa: E402
import world  # noqa: E402

from spct.prompts import load_template, render  # noqa: E402
from spct.types import Example  # noqa: E402

QUERY = "must begin with cat, should say dog 2 times, may give 3 plus 4"


@pytest.mark.parametrize(
    ("levels", "tenths"),
    [
        (("must", "should", "may"), (6, 3, 1)),  # 5:3:1 of 9 -> 5.56 3.33 1.11, the spare to .56
        (("may", "should"), (2, 8)),  # 1:3 of 4 -> 2.5 7.5, a tie of remainders: heavier first
        (("may", "may", "may"), (4, 3, 3)),  # 3.33 each: earlier first
        (("must", "must", "should", "may"), (4, 3, 2, 1)),  # of 14: 3.57 3.57 2.14 .71
    ],
)
def test_shares_round_to_ten_tenths(levels, tenths):
    assert world.shares(levels) == tenths


@pytest.mark.parametrize(
    ("response", "tenths"),
    [
        ("cat dog sun dog 7", 10),  # all
        ("cat dog sun fog 7", 7),  # one dog: 6 + 1
        ("sun dog cat dog 7", 4),  # begins with sun: 3 + 1
        ("sun dog dog dog 8", 0),  # three dogs, 8 is wrong
    ],
)
def test_quality_adds_the_weights_of_what_is_met(response, tenths):
    assert world.Query.parse(QUERY).quality(response) == tenths
    assert world.truth(QUERY, response) == tenths / 10


@pytest.mark.parametrize(
    ("requirement", "response", "evidence", "met"),
    [
        ("must begin with cat", "cat sun", ("cat",), True),
        ("must end with cat", "cat sun", ("sun",), False),
        ("must use cat", "sun cat fog", ("cat",), True),
        ("must avoid cat", "sun cat fog", ("cat",), False),
        ("must avoid cat", "sun fog", ("none",), True),
        ("must put cat before dog", "cat sun dog cat", ("cat", "dog"), True),
        ("must put cat before dog", "dog cat", ("dog", "cat"), False),
        ("must put cat before dog", "sun cat", ("cat", "none"), False),
        ("must say cat 2 times", "cat sun cat cat", ("3",), False),
        ("must have 3 words", "cat sun dog", ("3",), True),
        ("must give 3 plus 4", "cat 7 dog", ("7", "7"), True),
        ("must give 3 plus 4", "cat dog", ("7", "none"), False),
        ("must shout cat", "sun cat", ("cat",), False),
        ("must shout cat", "sun CAT", ("CAT",), True),
    ],
)
def test_evidence_and_verdict_of_each_kind(requirement, response, evidence, met):
    (parsed,) = world.Query.parse(requirement).requirements
    assert parsed.evidence(response.split()) == evidence
    assert parsed.met(response) is met


def test_an_empty_response_earns_nothing():
    assert world.truth("must avoid cat", "") == 0.0


def test_text_that_is_no_query_is_refused():
    with pytest.raises(ValueError, match="must sing"):
        world.Query.parse("must sing loudly")


def test_rows_are_examples_with_one_best_response_and_true_labels():
    for row in world.examples("train", 3, 300):
        query = world.Query.parse(row["messages"][0]["content"])
        example = Example.of(row["messages"], row["responses"], id=row["id"], labels=row["labels"])
        tenths = [query.quality(response) for response in example.responses]
        if len(tenths) == 1:
            assert row["labels"] == [int(tenths[0] == 10)]
        else:
            assert row["labels"] == tenths
            assert tenths.count(max(tenths)) == 1


def test_equal_seeds_give_equal_rows_and_others_do_not():
    first = list(world.examples("train", 0, 50))
    assert first == list(world.examples("train", 0, 50))
    assert first != list(world.examples("train", 1, 50))
    assert first != list(world.examples("dev", 0, 50))


def test_training_and_held_out_combinations_are_disjoint():
    seen = {row["meta"]["combination"] for row in world.examples("train", 0, 1000)}
    new = {row["meta"]["combination"] for row in world.examples("test", 0, 1000)}
    assert not seen & new
    assert seen | new <= set(world.all_combinations())
    assert len(new) >= 15


def test_labels_do_not_follow_the_place():
    rows = list(world.examples("train", 0, 3000, mix=(0, 1, 0, 0)))
    first = sum(row["labels"][0] > row["labels"][1] for row in rows)
    assert abs(first / len(rows) - 0.5) < 0.04  # 4 standard errors are 0.037


def test_a_teacher_without_flaws_is_always_right():
    for row in world.examples("train", 4, 200):
        order = list(range(len(row["responses"])))[::-1]
        text = teacher.judgement(random.Random(0), row, order, flaws=0.0)
        assert teacher.right(boxed(text), [row["labels"][i] for i in order])


def test_a_hinted_teacher_always_writes_the_right_scores():
    rng = random.Random(0)
    for row in world.examples("train", 5, 200):
        order = list(range(len(row["responses"])))
        assert teacher.right(boxed(teacher.judgement(rng, row, order, hinted=True)), row["labels"])


def test_the_flawed_teacher_is_wrong_at_a_known_rate():
    rng = random.Random(0)
    rows = list(world.examples("train", 6, 1000, mix=(0, 1, 0, 0)))
    hits = sum(teacher.right(boxed(teacher.judgement(rng, row, [0, 1])), row["labels"]) for row in rows)
    assert 0.6 < hits / len(rows) < 0.72


def test_haste_multiplies_odds():
    assert doctest.testmod(teacher).failed == 0
    # one of three in haste has odds 1 : 2; a hasty mood (4) over a list that doubles them makes 4 : 1
    assert teacher.haste(1 / 3, 8) == pytest.approx(4 / 5)


def test_care_quotes_and_weighs_and_haste_does_not():
    """What the teacher does in haste shows in its text; what it does with care is right."""
    rng, care = random.Random(0), {"criteria": set(), "checks": set()}
    for row in world.examples("train", 9, 400, mix=(0, 1, 1, 1)):
        query = world.Query.parse(row["messages"][0]["content"])
        order = list(range(len(row["responses"])))
        head, _, body = teacher.judgement(rng, row, order).partition("\nAnalysis:\n")
        weights = tuple(int(w) // 10 for w in re.findall(r"weight (\d+)%", head))
        levels = re.findall(r"(must|should|may) \(", head)
        care["criteria"].add(bool(levels))
        assert levels in ([], [r.level for r in query.requirements])
        assert weights == (query.weights if levels else teacher.FIRST_HEAVIEST[len(weights)])
        hasty = []
        for line, response in zip(body.splitlines(), row["responses"], strict=False):
            checks = re.split(r"(?<=;) ", line.partition(": ")[2])[:-1]
            hasty.append(tuple("glance" in text for text in checks))
            for text, requirement in zip(checks, query.requirements, strict=True):
                care["checks"].add("glance" not in text)
                if "glance" not in text:
                    assert text == teacher.check(requirement, response.split())[0]
            met = sum(w for w, text in zip(weights, checks, strict=True) if text.endswith("yes;"))
            assert abs(met - int(line.rpartition(" ")[2])) <= 1  # a total slips by one at most
        assert len(set(hasty)) == 1  # all responses are checked alike
    assert care == {"criteria": {True, False}, "checks": {True, False}}


def test_a_careful_check_by_hand():
    (count, case) = world.Query.parse("must say dog 2 times, may shout fir").requirements
    words = ["dog", "fir", "sun"]
    assert teacher.check(count, words) == ("count dog 2 saw 1 no;", False)
    assert teacher.check(case, words) == ("caps fir saw fir no;", False)


def test_a_glance_likes_long_responses():
    rng = random.Random(0)
    (row,) = world.examples("train", 10, 1, mix=(0, 1, 0, 0))
    row = row | {"responses": ["sun fog mud ice", "sun fog mud ice oak sea sky"]}  # 4 words and 7
    short, long = [], []
    for _ in range(400):
        lines = teacher.judgement(rng, row, [0, 1]).partition("Analysis:\n")[2].splitlines()
        short += re.findall(r"glance (yes|no)", lines[0])
        long += re.findall(r"glance (yes|no)", lines[1])
    assert short.count("no") / len(short) > 0.8
    assert long.count("yes") / len(long) > 0.8


def test_judgements_have_the_three_parts_and_criteria_can_be_left_out():
    (row,) = world.examples("train", 7, 1, mix=(0, 1, 0, 0))
    text = teacher.judgement(random.Random(0), row, [1, 0])
    criteria = r"Specific Criteria:\n(\d\. \w+( (must|should|may))? \(weight \d+%\): [\w ]+\n)+"
    shape = criteria + r"Analysis:\n(response \d: .*\n){2}Scores: \\boxed\{\d+, \d+\}"
    assert re.fullmatch(shape, text)
    bare = teacher.judgement(random.Random(0), row, [1, 0], principles=False)
    assert bare.startswith("Analysis:\n")
    assert len(boxed(bare)) == 2


@pytest.mark.parametrize("name", ["judge", "plain", "hinted", "meta", "grade", "plain_grade", "hinted_grade"])
def test_prompts_and_judgements_survive_the_tokenizer(name):
    """No unknown token and an exact round trip, so that engines read what the world wrote."""
    pytest.importorskip("transformers")
    import tokenizer

    tok = tokenizer.build_tokenizer()
    template = load_template(str(RECIPE / "prompts" / f"{name}.j2"))
    single = "grade" in name
    for row in world.examples("train", 8, 40, mix=(1, 0, 0, 0) if single else (0, 1, 1, 1)):
        example = Example.of(row["messages"], row["responses"], id=row["id"], labels=row["labels"])
        order = list(range(len(row["responses"])))
        text = teacher.judgement(random.Random(0), row, order, principles="plain" not in name)
        [[message]] = render(template, example, [order], judgement=text)
        for written in (message.content, text):
            ids = tok(written)["input_ids"]
            assert tok.unk_token_id not in ids
            assert tok.decode(ids) == written
        if name != "meta":
            assert template.read(text, len(order)).scores == tuple(boxed(text))


def test_general_text_is_right_and_has_no_unknown_tokens():
    pytest.importorskip("transformers")
    import tokenizer

    tok, rng, tasks = tokenizer.build_tokenizer(), random.Random(0), set()
    for _ in range(200):
        prompt, completion = teacher.general(rng)
        assert tok.decode(tok(prompt)["input_ids"]) == prompt
        assert tok.unk_token_id not in tok(completion)["input_ids"]
        query, _, rest = prompt.partition("\n")
        tasks.add(task := re.search(r"^(write|look):", rest, re.MULTILINE)[1])
        requirements = world.Query.parse(query).requirements
        shown = re.findall(r"begins\]\] (.*) \[\[", rest)
        if task == "look":
            response = shown[int(rest[-1]) - 1]
            verdicts = re.findall(r"(yes|no);", completion)
            assert verdicts == ["yes" if r.met(response) else "no" for r in requirements]
    assert tasks == {"write", "look"}


def test_cold_rows_start_with_general_text_and_repeat_by_seed():
    rows = list(cold_rows.cold_rows(0, first=30, size=200))
    assert rows == list(cold_rows.cold_rows(0, first=30, size=200))
    assert len(rows) == 230
    judged = ["boxed" in row["prompt"][0]["content"] for row in rows]
    assert not any(judged[:30])
    assert 0.5 < sum(judged[30:]) / 200 < 0.9
    assert any("hint: best" in row["prompt"][0]["content"] for row in rows)
    assert not any("hint" in row["completion"][0]["content"] for row in rows)


def test_plain_prompts_get_judgements_without_criteria():
    plain = 0
    for row in cold_rows.cold_rows(0, first=0, size=200):
        prompt, reply = row["prompt"][0]["content"], row["completion"][0]["content"]
        if "boxed" in prompt:
            plain += "plain:" in prompt
            assert ("plain:" in prompt) != ("Criteria" in reply)
    assert plain > 10


def boxed(text):
    """Read the scores off the last line."""
    return [int(score) for score in text.rpartition("{")[2].rstrip("}").split(", ")]
