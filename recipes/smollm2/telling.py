"""Facts put into words: every phrase is true of the number it tells, whichever response is better.

Words are plain and lines short, so that each judgement fits the form that constrained decoding allows.
"""

from __future__ import annotations

import math
from collections.abc import Callable

Phrases = tuple[str, ...]
_Told = Callable[[float], Phrases]


def _yes(present: Phrases, absent: Phrases = ()) -> _Told:
    return lambda value: present if value else absent


def _bands(*bands: tuple[float, Phrases]) -> _Told:
    """Phrases of the first band whose upper bound lies above the value."""
    return lambda value: next(phrases for top, phrases in bands if value < top)


NOTHING = "nothing stands out"  # where there is no fact to tell
_TOP = math.inf
_LENGTH = _bands(
    (math.log1p(4), ("hardly a word", "almost empty")),
    (math.log1p(15), ("very short", "one brief remark")),
    (math.log1p(40), ("rather short", "only a few sentences")),
    (math.log1p(90), ("a paragraph or two", "of modest length")),
    (math.log1p(200), ("fairly detailed", "of good length")),
    (_TOP, ("long and detailed", "goes on at length")),
)
TELL: dict[str, _Told] = {
    "length": _LENGTH,
    "specifics": _bands(
        (0.5, ("no names or numbers", "nothing specific")),
        (math.log1p(8), ("some specifics", "a few names or numbers")),
        (_TOP, ("many specifics", "many names or numbers")),
    ),
    "reasons": _yes(("gives reasons or examples", "spells out reasons"), ("no reasons spelled out",)),
    "sentence": _bands(
        (9, ("short sentences",)), (24, ("sentences of easy length",)), (_TOP, ("long sentences",))
    ),
    "repeats": _bands(
        (0.05, ("no repetition",)), (0.2, ("some repetition",)), (_TOP, ("repeats itself much",))
    ),
    "markup": _yes(("headings or bold type",), ("nothing in bold type",)),
    "paragraphs": _bands((0.5, ("one block of text",)), (_TOP, ("set out in paragraphs",))),
    "odd": _bands((1e-9, ()), (_TOP, ("odd strings in it", "stray marks in it"))),
    "refusal": _yes(("refuses to help", "declines to do it"), ("does not refuse", "no refusal")),
    "format": lambda v: (
        () if v == 0 else ("has the form asked for",) if v > 0 else ("not in the form asked for",)
    ),
    "count": lambda v: (
        () if v == 0 else ("the right number of items",) if v > 0 else ("wrong number of items",)
    ),
    "echo": _yes(("repeats the question",)),
    "unsure": _yes(("does not claim to know", "says it is unsure"), ()),
    "code": _yes(("shows code",)),
    "foreign": _yes(("in another language",)),
    "overlap": _bands(
        (0.2, ("hardly takes up the question", "other words than the question")),
        (0.6, ("partly takes up the question",)),
        (_TOP, ("takes up the question", "stays close to the question")),
    ),
    "offer": _yes(("offers more help", "asks for more")),
    "machine": _yes(("talks of being a machine", "speaks as a machine")),
    "apology": _yes(("says sorry", "begs pardon"), ("no apology",)),
    "opinion": _yes(("gives an opinion", "speaks of what it thinks")),
    "items": _bands(
        (0.5, ("running text", "no list")),
        (math.log1p(3), ("a short list",)),
        (_TOP, ("a list of several points", "a clear list")),
    ),
    "tips": _yes(("tells the user what to do", "gives advice"), ("no advice in it",)),
    "unfinished": _yes(("no proper end", "ends without a full stop"), ("comes to a proper end",)),
    "questions": _yes(("ends with a question",), ("no closing question",)),
    "courtesy": _yes(("friendly words", "polite words")),
    "exclaims": _yes(("uses exclamation marks",)),
    "consent": _yes(("agrees at once", "begins by agreeing")),
    "denial": _yes(("begins with a no",)),
    "feeling": _yes(("speaks to feelings", "shows feeling"), ("no word on feelings",)),
    "certain": _yes(("sweeping words", "very sure of itself")),
    "risky": _yes(("speaks of risky things", "names risky things"), ("no risky words",)),
    "warning": _yes(("speaks of harm or wrong", "uses words of warning"), ("no word of warning",)),
    "guidance": _yes(("speaks of people to turn to", "names where to find help"), ("points to no help",)),
    "motive": _yes(("asks what is behind it",)),
    "crude": _yes(("crude words", "coarse language"), ("no crude words", "clean language")),
    "result": lambda v: (
        ("the result is right", "ends in the right result") if v > 0 else ("the result is wrong",)
    ),
    "slips": _yes(("a calculation does not hold", "a slip in the sums"), ("no slip in the sums",)),
    "sums": _bands((0.5, ("no calculation to check",)), (_TOP, ("calculations are written out",))),
    "whole": _yes(("ends in a whole number",), ("not a whole number",)),
    "given": _bands(
        (0.5, ("given numbers do not appear",)), (0.99, ()), (_TOP, ("all given numbers appear",))
    ),
    "stated": _yes(("the answer is stated apart",), ()),
}
