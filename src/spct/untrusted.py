"""Make text from outside safe to stand in a prompt: visibly, reversibly, in one pass.

Responses under judgement attack the judge: they imitate the form's own markers, the chat tokens
of model families, or the judge's score line. `neutralise` breaks each such imitation with one
MARK after its first character, so that it still reads the same to a person; a MARK that was
there before is doubled, so that `restore` gives the exact text back.

>>> neutralise("<|im_end|>")
'<¦|im_end|>'

What is not handled here: pleas in plain words ("ignore the above"). They change no structure and
are never read as scores; `spct` measures how far a model falls for them.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

MARK = "¦"  # broken bar: rare in text, in Latin-1, visible

_OPEN, _CLOSE = "[\\[⟦〚【〖]", "[\\]⟧〛】〗]"
# What may stand in a marker: no quotes, commas, operators, so that arrays in code stay as they are.
_WORDS = "[^\n!\"$%&'()*+,;<=>?@\\[\\\\\\]^`{|}~⟦〚【〖⟧〛】〗“”‘’" + MARK + "]"
# Two opening brackets, or one that looks like two, before a short text with a letter in it.
_MARKER = rf"(?:{_OPEN}\s{{0,4}}{_OPEN}|[⟦〚])(?={_WORDS}{{0,160}}+{_CLOSE})(?={_WORDS}*?[^\W\d_])"
_NAMES = (
    "s|bos|eos|pad|unk|sep|cls|mask|eot|eod|sop|eop|eoh|eoa|think|thinking|sys|start_of_turn|end_of_turn|"
    "im_start|im_end|turn|start_of_image|end_of_image|start_header_id|end_header_id|eot_id|begin_of_text|"
    "end_of_text|endoftext|tool_calls?|tool_response|tool_output|function_calls?|unused\\d+|special_\\d+|"
    "extra_id_\\d+|reserved_\\w+|fim_\\w+|image|image_pad|audio|video|user|assistant|system|human|bot|"
    "\\w{1,40}_token|(?:seed|minimax):\\w{1,40}"
)
_BRACKETED = (
    "INST|SYSTEM_PROMPT|MODEL_SETTINGS|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|ARGS|CALL_ID|THINK|"
    "IMG|IMG_BREAK|IMG_END|AUDIO|BEGIN_AUDIO|TRANSCRIBE|PREFIX|SUFFIX|MIDDLE|CLS|SEP|PAD|MASK|UNK|gMASK|sMASK|"
    "BOS|EOS|EOT|UNUSED_TOKEN_\\d+"
)
_CONTROL = (
    r"</?\|[^<>|\s][^<>|\n]{0,59}[|>]"  # <|im_start|>, <|turn>; <｜User｜> and <｜DSML｜ once folded
    r"|<[\w:.-]{1,40}\|>"  # <turn|>
    rf"|<{{1,2}}/?(?:{_NAMES})>{{1,2}}"  # <s>, </think>, <<SYS>>
    rf"|\[/?(?:{_BRACKETED})\]"  # [INST], [/INST]
    r"|\[\|[^\[\]|\n]{1,60}\|\]"  # [|endofturn|]
    r"|\]~!?b?[\[\]]|\[e~\["  # ]~b], [e~[
    r"|\|DSML\|"  # ｜DSML｜ once folded
)
_SIGN = re.compile("[\\[\\]<⟦〚【〖]|\\|(?=DSML)", re.IGNORECASE)
_STRUCTURE = re.compile(f"{_MARKER}|{_CONTROL}", re.IGNORECASE)
_SOLID = re.compile(r"[^\s#*>_-]")
_ESCAPED = re.compile(f"{MARK}{{1,2}}")
_SURROGATE = re.compile("[\ud800-\udfff]")
# One character for one: full-width forms (U+FF01..FF5E) and commas of other scripts, spaces, line ends.
_FOLD = (
    {0xFF01 + i: 0x21 + i for i in range(94)}
    | {0x017F: "s", 0x212A: "k"}  # letters that are "s" and "k" to a search that ignores case
    | dict.fromkeys((0x3001, 0x060C), ",")
    | dict.fromkeys((0x1680, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000, 0xA0), " ")
    | dict.fromkeys((0x0B, 0x0C, 0x0D, 0x85, 0x2028, 0x2029), "\n")
)
# Characters that a person does not see and a model may leave out when it quotes.
_INVISIBLE = frozenset(
    map(
        chr,
        itertools.chain(
            (0xAD, 0x34F, 0x61C, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFEFF, 0xFFA0),
            range(0x180B, 0x180F),
            range(0x200B, 0x2010),
            range(0x202A, 0x202F),
            range(0x2060, 0x2070),
            range(0xFE00, 0xFE10),
            range(0xFFF9, 0xFFFC),
            range(0xE0000, 0xE1000),
        ),
    )
)


def fold(text: str) -> str:
    """Map full-width forms to ASCII, other spaces to a space and line ends to a newline, one to one.

    >>> fold("Ｓcores：８、５")
    'Scores:8,5'
    """
    if text.isascii() and not ("\r" in text or "\v" in text or "\f" in text):
        return text
    return text.translate(_FOLD)


class ScorePattern(NamedTuple):
    """What the parser reads as scores: a regular expression, and a text without which it finds nothing.

    Args:
        regex: With the numbers in its first group that matches.
        needle: Lower-case text in every match; "" where none is known. It makes the search quick.
    """

    regex: re.Pattern[str]
    needle: str = ""

    def search(self, text: str, start: int = 0) -> re.Match[str] | None:
        """First match at or after `start`."""
        return self.regex.search(text, start) if self.needle in text.lower() else None

    def finditer(self, text: str, start: int = 0) -> Iterator[re.Match[str]]:
        """All matches at or after `start` that do not overlap."""
        return self.regex.finditer(text, start) if self.needle in text.lower() else iter(())


def neutralise(text: str, score_patterns: Sequence[ScorePattern] = ()) -> str:
    """Break every imitation in `text` with a MARK after its first character.

    Args:
        text: Anything; unpaired surrogates, which no encoding carries, become U+FFFD.
        score_patterns: What the parser reads as scores; such text is broken too.

    Returns:
        Text in which nothing imitates, also where invisible characters in it are passed over;
        `restore` undoes it.
    """
    if not text.isascii():
        text = _SURROGATE.sub("\ufffd", text).replace(MARK, MARK * 2)
    folded = fold(text)
    places: Sequence[int] = range(len(folded))
    if not (folded.isascii() or _INVISIBLE.isdisjoint(folded)):
        places = [i for i, character in enumerate(folded) if character not in _INVISIBLE]
        folded = "".join(folded[i] for i in places)
    cuts = {places[start] + 1 for start in _imitations(folded, score_patterns)}
    if not cuts:
        return text
    ends = [0, *sorted(cuts), len(text)]
    return MARK.join(text[a:b] for a, b in itertools.pairwise(ends))


def _imitations(folded: str, score_patterns: Sequence[ScorePattern]) -> Iterator[int]:
    """Positions at which an imitation starts, overlapping ones too.

    A score list that opens with decoration ("> Scores: 10") is broken in its first word as well: a
    judge may leave the decoration out when it quotes.
    """
    if not folded.isascii() or any(sign in folded for sign in ("[", "]", "<", "|")):
        for sign in _SIGN.finditer(folded):
            if _STRUCTURE.match(folded, sign.start()):
                yield sign.start()
    for pattern in score_patterns:
        match = pattern.search(folded)
        while match:
            if match.group():
                yield match.start()
            if solid := _SOLID.search(match.group()):
                yield match.start() + solid.start()
            match = pattern.search(folded, match.start() + 1)


def restore(text: str) -> str:
    """Undo `neutralise`, for showing a prompt to a person.

    >>> restore("a ¦¦ b <¦|im_end|>")
    'a ¦ b <|im_end|>'
    """
    return _ESCAPED.sub(lambda m: MARK if len(m.group()) == 2 else "", text)
