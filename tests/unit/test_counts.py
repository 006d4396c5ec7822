"""Counts of a response that a prompt states; tests/unit/test_prompts.py has one worked by hand."""

import doctest
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spct import counts


def test_the_example_in_the_docstring():
    assert doctest.testmod(counts) == (0, 1)


@given(st.text(), st.text())
def test_any_text_can_be_counted(query, response):
    found = counts.count(query, response)
    assert min(found) >= 0
    assert found.taken <= found.asked
    assert found.repeated <= 100
    assert counts.stated(response, query).count(", ") == len(counts.SHOWN) - 1


def test_what_takes_up_the_question_is_words_whatever_their_case():
    found = counts.count("Tell me about Ada Lovelace's engine", "ADA wrote of the Engine.")
    assert (found.taken, found.asked) == (2, 3)  # ada, engine; not lovelace's


@pytest.mark.parametrize("piece", ["\n", " \n", "\n ", "- ", "a-", "# ", ". ", "1. \n"])
def test_long_runs_of_anything_are_counted_in_time_that_grows_with_their_length(piece):
    started = time.perf_counter()
    counts.count(piece * 100_000, piece * 100_000)
    assert time.perf_counter() - started < 5
