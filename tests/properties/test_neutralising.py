"""Nothing imitates after neutralising, whatever the text; and every text comes back."""

import re

from hypothesis import given
from hypothesis import strategies as st
from nasty import fuzzed, texts

from spct.parsing import compile_scores
from spct.prompts import SHIPPED, load_template, render
from spct.types import Example
from spct.untrusted import MARK, fold, neutralise, restore

PATTERNS = compile_scores()
NAMES = sorted(path.stem for path in SHIPPED.glob("*.j2"))
IMITATIONS = re.compile(
    r"\[\[[\w ]*[a-z][\w ]*\]|<\|\w+\|?>|<\w+\|>|\[/?INST\]|</?s>|</?think>|<<SYS>>|\[\|\w+\|\]|\]~b\]", re.I
)
SURROGATES = re.compile("[\ud800-\udfff]")


@given(texts)
def test_nothing_imitates_after_it_and_the_text_comes_back(text):
    shown = neutralise(text, PATTERNS)
    assert not IMITATIONS.search(fold(shown))
    assert not any(pattern.search(fold(shown)) for pattern in PATTERNS)
    assert restore(shown) == SURROGATES.sub("\ufffd", text)
    shown.encode("utf-8")


@given(texts)
def test_only_marks_are_added(text):
    shown = neutralise(text, PATTERNS)
    assert shown.replace(MARK, "") == SURROGATES.sub("\ufffd", text).replace(MARK, "")


@given(texts)
def test_twice_is_as_safe_and_comes_back_too(text):
    once = neutralise(text, PATTERNS)
    twice = neutralise(once, PATTERNS)
    assert restore(restore(twice)) == restore(once)
    assert not IMITATIONS.search(fold(twice))
    assert once == twice or MARK in once  # what holds no mark imitates nothing and stays as it is


@given(texts, texts)
def test_texts_side_by_side_imitate_nothing_together(one, other):
    """As a list of principles stands: each on its line."""
    both = f"{neutralise(one, PATTERNS)}\n{neutralise(other, PATTERNS)}"
    assert not IMITATIONS.search(fold(both))
    assert not any(pattern.search(fold(both)) for pattern in PATTERNS)


def test_fuzzed_strings_come_back():
    for text in fuzzed(20_000, seed=7):
        shown = neutralise(text, PATTERNS)
        assert restore(shown) == SURROGATES.sub("\ufffd", text)
        assert not IMITATIONS.search(fold(shown)), repr(text)


def test_brackets_without_a_letter_are_no_marker_and_stay():
    assert neutralise("[[]] and [[1, 2], [3, 4]]", PATTERNS) == "[[]] and [[1, 2], [3, 4]]"
    assert neutralise("[[a]]", PATTERNS) != "[[a]]"


@given(st.lists(texts, min_size=2, max_size=4), texts, st.sampled_from(NAMES), st.randoms())
def test_the_structure_of_a_prompt_does_not_depend_on_its_texts(responses, query, name, order):
    n, template = len(responses), load_template(name)
    shown = order.sample(range(n), n)
    judgement = "j" if "judgement" in template.needs else None

    def markers(query, responses):
        labels = (1, *[0] * (n - 1))
        example = Example.of(query, responses, labels=labels, reference="r", principles=["p"])
        [(message,)] = render(template, example, [shown], judgement=judgement)
        found = [m for m in re.findall(r"\[\[[^¦\n]*?\]\]", message.content) if re.search(r"[^\W\d_]", m)]
        return [re.sub(r"(?<=begins): words \d+, [a-z0-9 ,]+%", "", m) for m in found]

    assert markers(query, responses) == markers("q", ["r"] * n)
