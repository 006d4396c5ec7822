r"""Read a sample's text: principles, critique, scores. Pure; never guesses, never crashes (Eq. 7).

Decisions, each a test:
- What stands in `<think>...</think>` is set aside and kept; only the model's own text counts.
- The last well-formed score list counts: `\boxed{8, 5}`, or a line `Scores: 8, 5`.
- An integer may be written `8`, `8.0` or `8/10` where 10 is the top of the scale; full-width and
  other Unicode digits are digits. `7.5`, `7/20`, `0` or `11` on a scale 1..10: `out_of_range`.
- For one response a lone `\boxed{7}` may be the answer to a sum: it counts only from the line `Scores:` on.
- Another number of scores than responses: `wrong_count`; never padded, cut or zipped.
- A text cut at the token limit: `truncated`, whatever it holds, for its last list may be missing.
- A format example with letters in place of numbers is no list; so an echo of it is `no_scores`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from spct.types import FailureReason, ParseFailure, Principle
from spct.untrusted import ScorePattern, fold

# Repeats are possessive (`*+`): none backtracks, so that no text, however long, takes more than linear time.
_NUMBER = r"[+-]?\d++(?:\.\d++)?+(?:[ \t]*+/[ \t]*+\d++)?+"
_WHOLE_NUMBER = re.compile(_NUMBER)
_LIST = rf"\[?[ \t]*+({_NUMBER}(?:[ \t]*+[,;][ \t]*+{_NUMBER})*+)[ \t]*+,?[ \t]*+\]?"
BOXED_SCORES = rf"\\boxed[ \t]*+\{{[ \t]*+{_LIST}[ \t]*+\}}"
SCORES_LINE = rf"^[ \t#*>_-]*+scores?+[ \t*_]*+:[ \t*_]*+{_LIST}[ \t*_.]*+$"
_THINK_END = re.compile(r"</think(?:ing)?>", re.IGNORECASE)
_THINK_START = re.compile(r"<think(?:ing)?>", re.IGNORECASE)
_HEADING = re.compile(
    r"^[ \t#*_>]*+(?:(specific criteria)|(analysis)|score)[ \t*_]*+:?+[ \t*_]*+",
    re.ASCII | re.IGNORECASE | re.MULTILINE,
)
_SCORE_LINE = re.compile(r"^[ \t#*_>]*+score", re.IGNORECASE | re.MULTILINE)
_ITEM = re.compile(r"^[ \t]*(?:\d{1,3}[.):]|[-*•])[ \t]*(?=\S)")
# What stands before a percent sign: "(weight 40" and the like.
_BEFORE_PERCENT = re.compile(
    r"([(\[]? ?)(weight(?:ing)? ?[:=]? ?)?(?<![\d.])(\d{1,3}(?:\.\d+)?) ?$", re.IGNORECASE
)
_CLOSING = re.compile(r" ?[)\]]")
_AS_ASKED = re.compile(
    r"([!-$&')-9;-~]++(?: [!-$&')-9;-~]++)*+) \(weight (\d{1,3})%\): (.*)", re.ASCII | re.DOTALL
)
_MAX_DIGITS = 9
_EDGES = " .,;-–—"  # of a principle's name


class Reading(NamedTuple):
    """What a text says. Exactly one of scores and failure is set; scores are in the order shown."""

    thinking: str
    principles: tuple[Principle, ...]
    critique: str
    scores: tuple[int, ...] | None
    failure: ParseFailure | None


def compile_scores(*patterns: str) -> tuple[ScorePattern, ...]:
    r"""Compile what is read as scores, by default `\boxed{8, 5}` and a line `Scores: 8, 5`."""
    needles = {BOXED_SCORES: "\\boxed", SCORES_LINE: "score"}
    listed = patterns or tuple(needles)
    flags = re.IGNORECASE | re.MULTILINE
    return tuple(ScorePattern(re.compile(p, flags), needles.get(p, "")) for p in listed)


_DEFAULT = compile_scores()


def read(
    text: str,
    *,
    n: int,
    scale: tuple[int, int] = (1, 10),
    patterns: Sequence[ScorePattern] = _DEFAULT,
    finish_reason: str = "",
    headed: bool = True,
) -> Reading:
    r"""Read one sample (Eq. 7).

    Args:
        text: The model's text, as it came.
        n: Scores expected, one a response shown.
        scale: Lowest and highest score, inclusive.
        patterns: What a score list looks like.
        finish_reason: The engine's word; `length` means that the text is cut.
        headed: The form has a line `Scores:`; then one lone number counts only from that line on.

    Returns:
        The parts, and the scores in the order shown or the reason why there are none.

    >>> read("Analysis: the first is right.\nScores: \\boxed{8, 5}", n=2).scores
    (8, 5)
    """
    thinking, body = split_thinking(text)
    principles, critique = _sections(body)
    found = _scores(body, n, scale, patterns, headed and n == 1)
    if finish_reason == "length":
        found = ParseFailure(FailureReason.TRUNCATED, "cut at max_tokens before the model ended its text")
    if isinstance(found, ParseFailure):
        return Reading(thinking, principles, critique, None, found)
    return Reading(thinking, principles, critique, found, None)


def split_thinking(text: str) -> tuple[str, str]:
    """Split a reasoning model's text into thoughts and own text.

    Everything up to the last closing tag is thought (some templates open the tag in the prompt);
    after an opening tag that is never closed, all is thought.

    >>> split_thinking("<think>hm</think>Scores: 3")
    ('hm', 'Scores: 3')
    """
    thoughts, body = "", text
    for end in _THINK_END.finditer(text):
        thoughts, body = text[: end.start()], text[end.end() :]
    opened = _THINK_START.search(body)
    if opened:
        thoughts, body = thoughts + body[opened.end() :], body[: opened.start()]
    return _THINK_START.sub("", thoughts, count=1).strip(), body.strip()


def _scores(
    body: str, n: int, scale: tuple[int, int], patterns: Sequence[ScorePattern], headed: bool
) -> tuple[int, ...] | ParseFailure:
    folded, last = fold(body), list[str]()
    start = _score_line(folded) if headed else 0
    for pattern in patterns:  # a later list counts; so only what follows the last one is of interest
        for match in pattern.finditer(folded, start):
            if numbers := _numbers(match):
                start, last = match.end(), numbers
    if not last:
        return ParseFailure(FailureReason.NO_SCORES, "no score list in the text")
    if len(last) != n:
        return ParseFailure(
            FailureReason.WRONG_COUNT, f"{len(last)} scores for {n} responses: {', '.join(last):.80}"
        )
    values = [_integer(number, scale[1]) for number in last]
    scores = tuple(v for v in values if v is not None and scale[0] <= v <= scale[1])
    if len(scores) != n:
        wanted = f"integers {scale[0]}..{scale[1]}"
        return ParseFailure(
            FailureReason.OUT_OF_RANGE, f"scores are {', '.join(last):.80}, expected {wanted}"
        )
    return scores


def _score_line(folded: str) -> int:
    """Where the last line that opens with `Score` begins; the end of the text where none does."""
    return max((line.start() for line in _SCORE_LINE.finditer(folded)), default=len(folded))


def _numbers(match: re.Match[str]) -> list[str]:
    """Numbers of a list, or [] where what a user's own pattern caught is no list of numbers."""
    caught = next((group for group in match.groups() if group is not None), match.group())
    parts = [part.strip() for part in caught.strip(" \t[]").replace(";", ",").split(",")]
    return parts if all(part.isdecimal() or _WHOLE_NUMBER.fullmatch(part) for part in parts) else []


def _integer(number: str, top: int) -> int | None:
    """Value of `8`, `8.0` or `8/top`; None for a fraction or a number beyond all scales."""
    if number.isdecimal() and len(number) <= _MAX_DIGITS:
        return int(number)
    number, _, denominator = (part.strip() for part in number.partition("/"))
    whole, _, decimals = number.partition(".")
    if decimals.strip("0") or max(len(whole), len(denominator)) > _MAX_DIGITS:
        return None
    if denominator and int(denominator) != top:
        return None
    return int(whole)


def _sections(body: str) -> tuple[tuple[Principle, ...], str]:
    """Principles and critique: what follows the first heading of each, up to the last scores."""
    criteria = analysis = None
    end = len(body)
    for heading in _HEADING.finditer(fold(body)):  # places stay the same
        if heading[1]:
            criteria = criteria or (heading if analysis is None else None)
        elif heading[2] and analysis is None:
            analysis, end = heading, len(body)
        elif not heading[2]:
            end = heading.start()
    critique = body[analysis.end() if analysis else 0 : end].strip()
    if criteria is None:
        return (), critique
    return tuple(read_principles(body[criteria.end() : analysis.start() if analysis else end])), critique


def read_principles(listed: str) -> list[Principle]:
    """Read a numbered or dashed list of `name (weight 40%): text`; lines without a mark continue.

    >>> read_principles("1. Clarity (weight 40%): is it plain?")
    [Principle(name='Clarity', weight=40.0, text='is it plain?')]
    """
    items: list[str] = []
    for line in listed.splitlines():
        mark = _ITEM.match(line if line.isascii() else fold(line))
        if mark:
            items.append(line[mark.end() :].strip())
        elif items and line.strip():
            items[-1] += " " + line.strip()
    return [_principle(item) for item in items]


def _principle(item: str) -> Principle:
    plain, value = " ".join(item.replace("**", "").replace("__", "").split()), None
    if asked := _AS_ASKED.fullmatch(plain):  # the form of the prompt: what follows would find the same
        return Principle(asked[1].strip(_EDGES), float(asked[2]), asked[3].strip())
    folded = fold(plain)  # places stay the same
    if weight := _weight(folded):
        start, end, value = weight
        before, after = plain[:start].rstrip(), plain[end:].lstrip()
        plain = f"{before}{'' if fold(after[:1]) == ':' else ' '}{after}"
        folded = fold(plain)
    name = plain[: len(folded.partition(":")[0])]
    return Principle(name.strip(_EDGES), value, plain[len(name) + 1 :].strip())


def _weight(folded: str) -> tuple[int, int, float] | None:
    """Place and value of a weight: marked by the word or by brackets; a bare one only in the name."""
    bare, percent = None, folded.find("%")
    while percent >= 0:
        before = _BEFORE_PERCENT.search(folded, max(0, percent - 40), percent)
        closing = _CLOSING.match(folded, percent + 1)
        if before:
            value = float(before.group(3))
            if before.group(2) or (closing and before.group(1).strip()):
                return before.start(), closing.end() if closing else percent + 1, value
            if bare is None and ":" not in folded[:percent]:
                bare = before.start(3), percent + 1, value
        percent = folded.find("%", percent + 1)
    return bare


def format_principles(principles: Sequence[Principle | str]) -> list[str]:
    """Write principles as the lines that `read_principles` reads, without the list marks."""
    lines = []
    for p in principles:
        if isinstance(p, str):
            lines.append(p)
            continue
        weight = "" if p.weight is None else f" (weight {p.weight:g}%)"
        lines.append(f"{p.name}{weight}: {p.text}".rstrip(": "))
    return lines
