"""What a program can tell of a response for sure: numbers, and the words in which they are told.

`measure` gives the numbers; telling.py puts them into words. Nothing here knows which
response is better. What is found by word lists (a refusal, a warning) is a fact of wording.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from spct.counts import count
from spct.training.answers import final_answer, same_answer

Facts = Mapping[str, float]

_SUM = re.compile(
    r"(?<![\d.)])\$?(-?\d[\d,]*(?:\.\d+)?)%?((?:\s*[-+*/x×÷]\s*\$?\d[\d,]*(?:\.\d+)?)+)\s*=\s*\$?(-?\d[\d,]*(?:\.\d+)?)"
)
_STEP = re.compile(r"([-+*/x×÷])\s*\$?(\d[\d,]*(?:\.\d+)?)")
_NUMBERS = {
    word: number
    for number, word in enumerate(
        ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"), start=2
    )
}


def _listed(*phrases: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w'’])(?:{'|'.join(phrases)})(?![\w])", re.IGNORECASE)


_N = "n[o'’]t"
WORDING = {  # a fact is 1 where one of its phrases stands in the response
    "refusal": _listed(
        rf"(?:i|we) (?:really |just |simply |also )?(?:can?|could|wo|do|would){_N} (?:help|assist|provide"
        r"|support|do (?:that|this|it|so)|recommend|suggest|tell you|give|show you|teach|share|discuss|advise"
        r"|answer|offer|encourage|condone|fulfil\w*|comply|create|write|engage|take part|participate"
        r"|go along|think i should|want to|feel comfortable|and will not|in good conscience)",
        r"not something (?:i|we) (?:can|could|will|am able to|want to)",
        r"not (?:appropriate|right) for me to",
        r"(?:i'm|i am|we are) (?:unable|not able|not going|not willing|not comfortable)\b",
        r"(?:i'm|i am) sorry,? but i",
        r"against my \w+",
        r"i(?: would|'d) rather not|i (?:refuse|must decline|have to decline|will not)",
    ),
    "apology": _listed("sorry", "apologi[sz]e", "my apologies", "forgive me", "i regret"),
    "machine": _listed(
        "as an ai\\b.{0,30}", "i(?:'m| am) (?:just |only )?an? (?:ai|assistant|computer|language model|robot)"
    ),
    "unsure": _listed(
        f"i do{_N} (?:know|understand|really)", "i(?:'m| am) not sure", "i(?:'m| am) confused", "no idea"
    ),
    "warning": _listed(
        "illegal(?:ly)?",
        "against the law",
        "danger(?:ous)?",
        "harm(?:s|ful|ed|ing)?",
        "risks?|risky",
        "unsafe",
        f"should{_N}",
        f"is{_N} (?:ok(?:ay)?|right|good|a good|legal|appropriate|acceptable)",
        "not (?:okay|ok|a good)",
        "wrong",
        "crimes?|criminal",
        "unethical",
        "immoral",
        "inappropriate",
        "offensive",
        "careful",
        "hurt(?:ful|ing)?",
        "never (?:ok|okay|acceptable|appropriate)",
        "consequences",
        "jail|prison|arrested",
    ),
    "guidance": _listed(
        "therapists?",
        "counsel(?:or|ors|ing|lor)",
        "doctors?",
        "professionals?",
        "hotlines?",
        "police",
        "lawyers?|attorney",
        "authorities",
        "talk (?:to|with)",
        "reach out",
        "support groups?",
        "seek \\w+",
        "someone you trust",
        "emergency",
    ),
    "tips": _listed(
        "you (?:can|could|might|may|should|will|need to|'ll)",
        "try(?:ing)? to",
        "make sure",
        "start (?:by|with)",
        "one way",
        "first",
        "here (?:are|is)|here's",
        "for example",
        "i(?:'d| would) (?:recommend|suggest)",
    ),
    "consent": re.compile(
        r"^\W*(?:yes|yeah|sure|of course|ok|okay|absolutely|certainly|great)\b", re.IGNORECASE
    ),
    "denial": re.compile(r"^\W*no\b", re.IGNORECASE),
    "motive": _listed(
        "why (?:do|did|would|are) you", "what makes you", "what do you mean", "what's (?:wrong|going on)"
    ),
    "crude": _listed(
        "fuck\\w*", "shit\\w*", "ass", "asshole\\w*", "bitch\\w*", "stupid", "idiots?", "damn", "crap", "poop"
    ),
    "risky": _listed(
        "kill(?:ing|ed)?",
        "poison\\w*",
        "bombs?",
        "steal\\w*",
        "porn\\w*",
        "drugs?",
        "weapons?|guns?",
        "fire",
        "explo\\w+",
        "knife|knives",
        "hack\\w*",
        "fake",
        "secret(?:ly)?",
        "hide",
        "blackmail\\w*",
        "revenge",
    ),
    "courtesy": _listed(
        "please",
        "thank(?:s| you)",
        "i hope",
        "happy to",
        "glad",
        "welcome",
        "good luck",
        "great question",
        "congrat\\w+",
    ),
    "offer": _listed(
        "let me know", "feel free", "would you like", "do you want (?:me|to)", "can i help", "anything else"
    ),
    "reasons": _listed(
        "because",
        "therefore",
        "for example",
        "for instance",
        "such as",
        "since",
        "due to",
        "so that",
        "which means",
        "however",
        "in order to",
        "as a result",
    ),
    "feeling": _listed(
        "feel(?:ing|s)?",
        "sounds like",
        "understand(?:able)?",
        "difficult",
        "upset",
        "hard for",
        "sad",
        "i hear",
        "worried",
    ),
    "opinion": _listed(
        "i think", "i believe", "in my opinion", "i guess", "i(?:'d| would) say", "it depends"
    ),
    "certain": _listed(
        "definitely", "always", "everyone", "obviously", "clearly", "best", "perfect", "all \\w+ are"
    ),
}


def measure(query: str, response: str, answer: str | None = None) -> dict[str, float]:
    r"""All facts of one response, by name; each a finite number.

    Args:
        query: The last turn of the user.
        response: Any text.
        answer: The true result of a sum, where it is known.

    >>> facts = measure("Name two fruits", "1. apple\n2. pear")
    >>> facts["items"] == math.log1p(2), facts["count"], facts["unfinished"]
    (True, 1.0, 0.0)
    """
    text, counts = response.strip().replace("’", "'"), count(query, response)
    facts = {name: float(bool(pattern.search(text))) for name, pattern in WORDING.items()}
    facts |= {
        "length": math.log1p(counts.words),
        "items": math.log1p(counts.items),
        "sentence": min(counts.sentence, 60.0),
        "specifics": math.log1p(counts.names),
        "overlap": counts.taken / counts.asked if counts.asked else 0.5,
        "repeats": counts.repeated / 100,
        "unfinished": float(bool(text) and text[-1] not in ".!?\"'”’)]}`*:;…|>" and counts.items == 0),
        "questions": float(text.endswith("?")),
        "echo": float(len(query) > 20 and query.strip().lower() in text.lower()),
        "odd": _odd(text),
        "foreign": float(_foreign(text) > 0.2 >= _foreign(query)),
        "markup": math.log1p(counts.bold),
        "paragraphs": math.log1p(counts.paragraphs - 1),
        "code": float("```" in text),
        "format": _format_fit(query, text, counts.items),
        "count": _count_fit(query, counts.items),
        "exclaims": float("!" in text),
    }
    return facts | _sums(query, text, answer)


def _odd(text: str) -> float:
    """Share of long strings that are neither words, numbers nor addresses."""
    parts = text.split()
    odd = sum(len(p) > 24 and not p.startswith(("http", "(http", "www")) and "-" not in p for p in parts)
    odd += sum(bool(re.search(r"</?\w+>|###|\b(?:Human|Assistant|Instruction|Response):", p)) for p in parts)
    return odd / max(len(parts), 1)


def _foreign(text: str) -> float:
    letters = [c for c in text if c.isalpha()]
    return sum(ord(c) > 0x24F for c in letters) / len(letters) if letters else 0.0


def _format_fit(query: str, text: str, items: int) -> float:
    """1 where the form that the query names is there, -1 where it is missing, 0 where none is named."""
    asked = query.lower()
    if re.search(r"\b(?:list|steps?|bullet|enumerate|table)\b", asked):
        return 1.0 if items > 1 or text.count("|") > 5 else -1.0
    if re.search(r"\b(?:code|function|python|javascript|sql|script|c\+\+|html)\b", asked):
        return (
            1.0
            if "```" in text or re.search(r"[;{}]\s*$|\bdef |\bimport |return ", text, re.MULTILINE)
            else -1.0
        )
    if re.search(r"\b(?:poem|haiku|song|lyrics)\b", asked):
        return 1.0 if text.count("\n") >= 2 else -1.0
    return 0.0


def asked_count(query: str) -> int | None:
    """How many things a query asks for: "name five ...", "3 tips ..."; None where it says no number."""
    found = re.search(
        r"\b(?:name|list|give|write|suggest|provide|create|generate|find|tell|are|top)\b[^.?!\n]{0,24}?\b"
        rf"(\d{{1,2}}|{'|'.join(_NUMBERS)})\b"
        r"(?! (?:year|day|hour|minute|word|percent|sentence|paragraph|line))",
        query.lower(),
    )
    if not found:
        return None
    number = _NUMBERS.get(found[1]) or int(found[1])
    return number if 2 <= number <= 30 else None


def _count_fit(query: str, items: int) -> float:
    wanted = asked_count(query)
    return 0.0 if wanted is None or not items else 1.0 if items == wanted else -1.0


def _sums(query: str, text: str, answer: str | None) -> dict[str, float]:
    """Of worked sums: result, arithmetic, use of the given numbers."""
    if answer is None:
        return {}
    wrong, checked = slips(text)
    given = set(re.findall(r"\d+(?:\.\d+)?", query.replace(",", "")))
    used = set(re.findall(r"\d+(?:\.\d+)?", text.replace(",", "")))
    return {
        "result": 1.0 if same_answer(final_answer(text), answer) else -1.0,
        "slips": float(len(wrong)),
        "sums": float(checked),
        "given": len(given & used) / len(given) if given else 0.5,
        "stated": float(bool(re.search(r"(?:^A:|answer is|####)\s*\S", text, re.MULTILINE))),
        "whole": float((final_answer(text) or "x").replace(",", "").lstrip("$").isdigit()),
    }


def slips(text: str) -> tuple[list[str], int]:
    """Calculations that do not hold, as they are written, and how many could be checked.

    >>> slips("2 + 3 = 5, then 5 * 4 = 25 and 10 / 4 = 2.5")
    (['5 * 4 = 25'], 3)
    """
    wrong, checked = [], 0
    for match in _SUM.finditer(text):
        value = _value(match[1], match[2])
        if value is None:
            continue
        checked += 1
        written = float(match[3].replace(",", ""))
        if abs(value - written) > max(0.011 * abs(value), 0.0101):
            wrong.append(" ".join(match[0].replace("$", "").split()))
    return wrong, checked


def _value(first: str, rest: str) -> float | None:
    """Value of `first` and its steps, products before sums; None where it divides by zero or has percents."""
    terms, sign = [float(first.replace(",", ""))], 1.0
    for operator, number in _STEP.findall(rest):
        value = float(number.replace(",", ""))
        if operator in "+-":
            terms.append(value if operator == "+" else -value)
        elif operator in "/÷":
            if value == 0:
                return None
            terms[-1] /= value
        else:
            terms[-1] *= value
    return sign * sum(terms)


COUNTED = {  # facts that are a count, by its name in the prompt
    "length": "words",
    "sentence": "sentence",
    "paragraphs": "paragraphs",
    "items": "items",
    "markup": "bold",
    "specifics": "names",
    "overlap": "asked",
    "repeats": "repeated",
}


def evidence(fact: str, query: str, response: str, most: int = 5) -> str | None:
    """What shows a fact: a count as the prompt states it, or the first words of the response that do.

    None where there are none, or none to be quoted.

    >>> evidence("warning", "?", "I think that it is against the law, and wrong.")
    'against the law'
    >>> evidence("length", "?", "So it is.")
    'words 3'
    """
    if fact in COUNTED:
        return count(query, response).told(COUNTED[fact])
    found = WORDING[fact].search(response.replace("’", "'")) if fact in WORDING else None
    if not found:
        return None
    words = " ".join(response[found.start() : found.end()].split()[:most])
    return words if re.fullmatch(r"[A-Za-z0-9'’ ,.-]+", words) else None


def opening(response: str, most: int = 4) -> str | None:
    """The first plain words of a response, to be quoted; None where it does not begin with three."""
    found: list[str] = []
    for part in response.split():
        if not re.fullmatch(r"[A-Za-z][A-Za-z'’]{0,15}[,.!]?", part):
            break
        found.append(part.rstrip(",.!"))
        if len(found) == most or part[-1] in ",.!":
            break
    return " ".join(found) if len(found) >= 2 else None
