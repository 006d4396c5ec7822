r"""What a small model cannot count of a response: a template states it beside the text (ours).

    [[response 1 begins: {{ response | counts(messages[-1].content) }}]]

>>> stated("1. apple\n2. pear", "Name two red fruits")
'words 2, sentence 1, paragraphs 1, items 2, bold 0, names 2, asked 0 of 4, repeated 0%'
"""

from __future__ import annotations

import re
from typing import NamedTuple

_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_SPECIFIC = re.compile(r"(?<=[a-z,] )[A-Z][a-z]+|\d+")
_ITEM = re.compile(r"^[ \t]*(?:\d{1,2}[.):]|[-*•–])\s+\S", re.MULTILINE)
_BOLD = re.compile(r"^#{1,4} |\*\*\w", re.MULTILINE)
_STOP = frozenset(
    """a about above after all also an and any are as at be because been but by can could did do does doing
    for from get give had has have he how i if in into is it its just like make me more most my no not of on
    one or our out please same she should so some such tell than that the their them then there these they
    this to up us use using want was we what when where which who why will with would write you
    your""".split()  # noqa: SIM905
)


class Counts(NamedTuple):
    """Counts of a response.

    Args:
        words: Words, without numbers.
        sentence: Words a sentence, rounded.
        paragraphs: Blocks of text between empty lines.
        items: Lines that begin as those of a list do.
        bold: Headings, and passages in bold type.
        names: Capitalised words within a sentence, and numbers.
        taken: Words of the query, without the commonest, that the response takes up.
        asked: How many the query has.
        repeated: Runs of three words that stood before, in percent.
    """

    words: int
    sentence: int
    paragraphs: int
    items: int
    bold: int
    names: int
    taken: int
    asked: int
    repeated: int

    def told(self, name: str) -> str:
        """A count as it stands in a prompt, by its name there."""
        if name == "asked":
            return f"asked {self.taken} of {self.asked}"
        return f"{name} {getattr(self, name)}{'%' if name == 'repeated' else ''}"


SHOWN = tuple(name for name in Counts._fields if name != "taken")


def count(query: str, response: str) -> Counts:
    """Count.

    Args:
        query: What was asked, for `taken` and `asked`.
        response: Any text.
    """
    text = response.strip().replace("’", "'")
    words = _WORD.findall(text.lower())
    asked = {w for w in _WORD.findall(query.lower()) if w not in _STOP and len(w) > 2}
    sentences = max(1, len(re.findall(r"[.!?](?:\s|$)", text)))
    runs = list(zip(words, words[1:], words[2:], strict=False))
    return Counts(
        words=len(words),
        sentence=round(len(words) / sentences),
        paragraphs=len(re.findall(r"\n\s*\n", text)) + 1,
        items=len(_ITEM.findall(text)),
        bold=len(_BOLD.findall(text)),
        names=len(_SPECIFIC.findall(text)),
        taken=len(asked.intersection(words)),
        asked=len(asked),
        repeated=round(100 * (1 - len(set(runs)) / len(runs))) if runs else 0,
    )


def stated(response: str, query: str) -> str:
    """All counts of a response in one line: the filter `counts` of templates."""
    found = count(query, response)
    return ", ".join(found.told(name) for name in SHOWN)
