"""Reading never crashes and never guesses; what is written in the form is read back."""

import re

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from nasty import fuzzed, texts

from spct import parsing
from spct.output_form import output_regex
from spct.parsing import Reading, compile_scores, format_principles, read, read_principles
from spct.prompts import load_template
from spct.types import FailureReason, Principle
from spct.untrusted import fold, neutralise

PATTERNS = compile_scores()
THINK = re.compile("<think", re.IGNORECASE)
MODELS_FAULTS = {
    FailureReason.NO_SCORES,
    FailureReason.WRONG_COUNT,
    FailureReason.OUT_OF_RANGE,
    FailureReason.TRUNCATED,
}


def check(reading: Reading, text: str, n: int, low: int, high: int) -> None:
    assert (reading.scores is None) != (reading.failure is None)
    if reading.failure is not None:
        assert reading.failure.reason in MODELS_FAULTS
        assert reading.failure.detail
        return
    assert len(reading.scores) == n
    assert all(type(s) is int and low <= s <= high for s in reading.scores)
    digits = fold(text)
    assert re.search(r"\d", digits), "scores out of a text without digits"


def test_a_hundred_thousand_fuzzed_strings_crash_nothing():
    for i, text in enumerate(fuzzed(100_000, seed=2504)):
        n = i % 3 + 1
        check(read(text, n=n, finish_reason="length" if i % 50 == 0 else ""), text, n, 1, 10)


@given(
    texts, st.integers(1, 5), st.integers(-5, 5), st.integers(1, 100), st.sampled_from(["", "stop", "length"])
)
def test_any_text_is_read_as_scores_or_as_a_reason(text, n, low, span, finish):
    reading = read(text, n=n, scale=(low, low + span), finish_reason=finish)
    check(reading, text, n, low, low + span)
    if finish == "length":
        assert reading.failure.reason is FailureReason.TRUNCATED


@given(texts)
def test_no_text_that_was_neutralised_is_read_as_scores(text):
    assert read(neutralise(text, PATTERNS), n=1).scores is None


@given(texts, st.lists(st.integers(1, 10), min_size=1, max_size=6))
def test_a_judgement_that_ends_in_the_form_is_read_whatever_it_quotes(text, scores):
    quoted = neutralise(text, PATTERNS)
    assume(not THINK.search(quoted))
    body = f"Analysis:\n{quoted}\nScores: \\boxed{{{', '.join(map(str, scores))}}}"
    assert read(body, n=len(scores)).scores == tuple(scores)


WORDS = st.from_regex(r"[A-Za-zé][A-Za-zé ]{0,20}[a-zé]", fullmatch=True).map(lambda s: " ".join(s.split()))
PRINCIPLES = st.lists(
    st.builds(
        Principle,
        WORDS,
        st.none() | st.integers(1, 100).map(float) | st.integers(1, 999).map(lambda w: w / 10),
        st.just("") | WORDS | WORDS.map(lambda s: s + ": does it, 1/2, (so)?"),
    ),
    max_size=6,
)


@given(PRINCIPLES, WORDS, st.lists(st.integers(1, 10), min_size=1, max_size=5))
def test_what_is_written_in_the_form_is_read_back(principles, critique, scores):
    assume(not re.match("(specific criteria|analysis|scores?)", critique, re.I))
    lines = [f"{i}. {line}" for i, line in enumerate(format_principles(principles), start=1)]
    numbers = ", ".join(map(str, scores))
    text = "\n".join(["Specific Criteria:", *lines, "Analysis:", critique, f"Scores: \\boxed{{{numbers}}}"])
    reading = read(text, n=len(scores))
    assert reading.principles == tuple(principles)
    assert reading.critique == critique
    assert reading.scores == tuple(scores)
    assert reading.failure is None


@given(texts)
def test_principles_never_crash_and_weights_are_percentages(text):
    for p in read_principles(text):
        assert p.weight is None or 0 <= p.weight < 1000


HARD_WORDS = [
    "is", "right", "Scores:", "**Scores:**", "scores", "Score", "Analysis:", "Specific", "Criteria:",
    "boxed{}", "{", "}", "[[", "]]", "</s>", "¦", "日本語", "é", ",", "/", "-", ":", "%", "(weight", "**",
]  # fmt: skip
HARD_LINES = st.lists(st.sampled_from(HARD_WORDS), min_size=1, max_size=6).map(lambda w: "It " + " ".join(w))


@given(st.data(), st.sampled_from(["pointwise", "single", "no_principles", "llm_judge"]), st.integers(2, 3))
def test_a_text_of_the_form_for_constrained_decoding_is_read_as_scores(data, name, n):
    """Whatever its lines hold: the words of headings, brackets, other scripts."""
    template = load_template(name)
    choice = template.kind == "choice"
    low, high = (1, n) if choice else template.scale
    numbers = data.draw(
        st.lists(st.integers(low, high), min_size=1 if choice else n, max_size=1 if choice else n)
    )
    weights = [f"{i}. Truth (weight 50%): {data.draw(HARD_LINES)}" for i in (1, 2)]
    judged = [f"Response {i}: {data.draw(HARD_LINES)}" for i in range(1, n + 1)]
    last = f"Scores: \\boxed{{{', '.join(map(str, numbers))}}}"
    criteria = ["Specific Criteria:", *weights] if "Specific Criteria:" in template.headings else []
    text = "\n".join([*criteria, "Analysis:", *judged, last])
    assume(re.fullmatch(output_regex(template, n), text))
    reading = template.read(text, n)
    assert reading.failure is None
    expected = [int(i == numbers[0]) for i in range(1, n + 1)] if choice else numbers
    assert list(reading.scores) == expected
    assert len(reading.principles) == (2 if criteria else 0)


_PIECES = [
    "Clar",
    "ity",
    "(weight 40%)",
    ": ",
    "%",
    "weight",
    "(",
    "12",
    "**",
    "：",
    ")",
    "[weight 3%]",
    "\t",
    "é",
    " ",
]


@given(
    name=st.lists(st.sampled_from(_PIECES), min_size=1, max_size=5).map("".join),
    text=st.lists(st.sampled_from(_PIECES), max_size=5).map("".join),
)
@example(name="Clarity", text="is it plain?")
def test_the_quick_way_for_principles_in_the_form_asked_for_finds_what_the_other_finds(name, text):
    item = f"{name} (weight 40%): {text}"
    quick = parsing._principle(item)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parsing, "_AS_ASKED", re.compile(r"(?!)"))
        assert parsing._principle(item) == quick
