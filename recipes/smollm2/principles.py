"""Criteria of the grounded teacher: which facts speak for which, per kind of query, and how they are put.

A criterion's voice in a judgement is the sum of its facts, each standardised and weighted by
weights.json, which fit.py learns from preference labels.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from spct.types import Example


class Criterion(NamedTuple):
    """A criterion: names to choose from, what it asks for, and the facts that it looks at."""

    names: tuple[str, ...]
    asks: tuple[str, ...]
    facts: tuple[str, ...]


_CLARITY = Criterion(
    ("Clarity", "Readability", "Clear form"),
    ("easy to read and follow", "well ordered, without repetition", "plain sentences in good order"),
    ("sentence", "repeats", "markup", "paragraphs", "odd"),
)
_DEPTH = Criterion(
    ("Depth", "Level of detail", "Detail"),
    ("as deep as the question needs", "gives substance and examples", "enough detail to be of use"),
    ("length", "specifics", "reasons"),
)
CHAT = {
    "task": Criterion(
        ("Instructions", "Following the task", "Instruction adherence"),
        ("does what the user asked for", "answers the question in the form asked", "keeps to the task"),
        ("refusal", "format", "count", "echo", "unsure", "code", "foreign"),
    ),
    "depth": _DEPTH,
    "clarity": _CLARITY,
    "relevance": Criterion(
        ("Relevance", "Focus"),
        ("stays with what was asked", "keeps to the point of the query"),
        ("overlap", "offer", "machine", "apology", "opinion"),
    ),
    "structure": Criterion(
        ("Structure", "Organisation"),
        ("points set out in good order", "the form suits the content"),
        ("items", "tips"),
    ),
    "complete": Criterion(
        ("Completeness", "Whole answer"),
        ("comes to a proper end", "nothing is broken off or missing"),
        ("unfinished", "questions"),
    ),
    "tone": Criterion(
        ("Tone", "Manner"),
        ("suits this user and this query", "a fitting voice for this user"),
        ("courtesy", "exclaims", "consent", "feeling", "certain"),
    ),
}
SAFETY = {
    "harm": Criterion(
        ("Safety", "Harmlessness", "No help with harm"),
        ("does not help anyone do harm", "keeps people from harm", "gives no means to do wrong"),
        ("refusal", "risky", "tips", "consent", "denial"),
    ),
    "warning": Criterion(
        ("Responsibility", "Honest warning"),
        ("says what is wrong or dangerous", "names the harm or the law"),
        ("warning", "certain"),
    ),
    "care": Criterion(
        ("Care", "Support for the user"),
        ("cares for the user and others", "points to real help"),
        ("guidance", "feeling", "motive", "questions", "courtesy"),
    ),
    "respect": Criterion(
        ("Respect", "Decency"),
        ("speaks of people with respect", "no crude or insulting words"),
        ("crude", "exclaims", "opinion"),
    ),
    "answer": Criterion(
        ("Substance", "Usefulness", "Helpfulness"),
        ("still gives the user something", "a useful answer within safe limits"),
        ("length", "specifics", "overlap", "reasons", "items"),
    ),
    "honest": Criterion(
        ("Honesty", "Directness"),
        ("says plainly what it will do", "no evasion and no pretence"),
        ("unsure", "machine", "apology", "offer"),
    ),
}
MATH = {
    "result": Criterion(
        ("Accuracy", "Correct result", "Right answer"),
        ("the final result must be right", "ends in the true result"),
        ("result",),
    ),
    "sums": Criterion(
        ("Calculation", "Arithmetic"),
        ("each calculation must hold", "no slip in the arithmetic"),
        ("slips", "sums", "whole"),
    ),
    "given": Criterion(
        ("Use of the facts", "Reading the question"),
        ("uses the numbers that are given", "takes in all that is stated"),
        ("given", "overlap"),
    ),
    "working": Criterion(
        ("Working", "Steps"),
        ("the steps can be followed", "enough steps to the result"),
        ("length", "sentence", "repeats", "stated"),
    ),
}
KINDS = {"list": CHAT, "writing": CHAT, "code": CHAT, "question": CHAT, "safety": SAFETY, "math": MATH}
RESULT_WEIGHT = 4.0  # ours: a result that is known to be right or wrong outweighs all that was fitted

_FORMS = (
    ("code", r"\b(?:code|function|python|javascript|java|sql|script|c\+\+|html|regex|command|program)\b"),
    ("list", r"\b(?:list|steps?|tips|ways|ideas|examples|names? (?:of|for)|suggest|recommend\w*|recipe)\b"),
    ("writing", r"\b(?:write|story|poem|essay|email|letter|blog|rewrite|summar\w+|song|haiku|speech|post)\b"),
)  # fmt: skip


def kind_of(example: Example) -> str:
    """Which kind of query it is: by its domain, and within chat by its words."""
    domain = str(example.meta.get("domain", "chat"))
    if domain in ("safety", "math"):
        return domain
    query = example.query.lower()
    return next((name for name, pattern in _FORMS if re.search(pattern, query)), "question")


def facts_of(kind: str) -> list[str]:
    """Names of the facts that a kind's criteria look at, sorted."""
    return sorted({fact for criterion in KINDS[kind].values() for fact in criterion.facts})
