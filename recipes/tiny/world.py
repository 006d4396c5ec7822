"""A world of checkable instructions: a seeded program writes queries and responses and knows the truth.

A query sets 2 or 3 requirements of different kinds, each at a level that says how much it matters:

    must begin with red, should say dog 2 times, may give 3 plus 4

A response is a line of words. Its quality is the share of weight whose requirements it meets, in
tenths (0..10); the weights follow from the levels of *this* query (`shares`). Examples have one
best response; a single response is right (1) where it meets all, else wrong (0). Combinations of
kinds are split: about a fifth of them never occurs in training (`held_out`).

    python world.py --split train --seed 0 --size 10000 --out train.jsonl
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

# fmt: off
WORDS = ("ant", "bee", "cat", "dog", "elk", "fox", "hen", "owl",
         "fir", "fog", "ice", "mud", "oak", "sea", "sky", "sun")
# fmt: on
LEVELS = {"must": 5, "should": 3, "may": 1}
DOMAINS = {
    "begin": "place",
    "end": "place",
    "has": "words",
    "avoid": "words",
    "order": "order",
    "count": "number",
    "length": "number",
    "sum": "arithmetic",
    "caps": "case",
}
KINDS = tuple(DOMAINS)
PHRASES = {
    "begin": "begin with {}",
    "end": "end with {}",
    "has": "use {}",
    "avoid": "avoid {}",
    "order": "put {} before {}",
    "count": "say {} {} times",
    "length": "have {} words",
    "sum": "give {} plus {}",
    "caps": "shout {}",
}
SIZES = (2, 3)  # requirements of a query
SHORTEST, LONGEST = 5, 9  # words of a response
NONE = "none"


@dataclass(frozen=True, slots=True)
class Requirement:
    """One thing that a response must, should or may do; `args` are words or numerals."""

    kind: str
    args: tuple[str, ...]
    level: str

    def __str__(self) -> str:
        return f"{self.level} {PHRASES[self.kind].format(*self.args)}"

    def evidence(self, words: Sequence[str]) -> tuple[str, ...]:
        """Quote from the response what decides whether it meets this requirement."""
        return _EVIDENCE[self.kind](self.args, words)

    def met_by(self, evidence: Sequence[str]) -> bool:
        """Judge quoted evidence; wrong evidence gives a wrong verdict, as in a critique."""
        return _VERDICT[self.kind](self.args, evidence)

    def met(self, response: str) -> bool:
        """Tell the truth: does the response meet this requirement?"""
        return self.met_by(self.evidence(response.split()))


def _found(word: str, words: Sequence[str]) -> str:
    return word if word in words else NONE


def _seen_order(args: tuple[str, ...], words: Sequence[str]) -> tuple[str, ...]:
    seen = sorted((words.index(word), word) for word in args if word in words)
    return (*(word for _, word in seen), NONE, NONE)[:2]


def _sum(args: tuple[str, ...], words: Sequence[str]) -> tuple[str, ...]:
    return str(int(args[0]) + int(args[1])), next((word for word in words if word.isdigit()), NONE)


def _case(args: tuple[str, ...], words: Sequence[str]) -> tuple[str, ...]:
    return (next((word for word in words if word.lower() == args[0]), NONE),)


_Args = tuple[str, ...]
_EVIDENCE: dict[str, Callable[[_Args, Sequence[str]], _Args]] = {
    "begin": lambda args, words: (words[0],),
    "end": lambda args, words: (words[-1],),
    "has": lambda args, words: (_found(args[0], words),),
    "avoid": lambda args, words: (_found(args[0], words),),
    "order": _seen_order,
    "count": lambda args, words: (str(words.count(args[0])),),
    "length": lambda args, words: (str(len(words)),),
    "sum": _sum,
    "caps": _case,
}
_VERDICT: dict[str, Callable[[_Args, Sequence[str]], bool]] = {
    "begin": lambda args, seen: seen[0] == args[0],
    "end": lambda args, seen: seen[0] == args[0],
    "has": lambda args, seen: seen[0] == args[0],
    "avoid": lambda args, seen: seen[0] == NONE,
    "order": lambda args, seen: tuple(seen) == args,
    "count": lambda args, seen: seen[0] == args[1],
    "length": lambda args, seen: seen[0] == args[0],
    "sum": lambda args, seen: seen[0] == seen[1],
    "caps": lambda args, seen: seen[0] == args[0].upper(),
}


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked: requirements of different kinds."""

    requirements: tuple[Requirement, ...]

    def __str__(self) -> str:
        return ", ".join(str(requirement) for requirement in self.requirements)

    @property
    def combination(self) -> str:
        """The kinds, sorted: what the split holds out."""
        return "+".join(sorted(requirement.kind for requirement in self.requirements))

    @property
    def weights(self) -> tuple[int, ...]:
        """Tenths of weight per requirement; they add up to 10."""
        return shares(tuple(requirement.level for requirement in self.requirements))

    @property
    def domain(self) -> str:
        """The family of the heaviest requirement (the first of a tie)."""
        heaviest = max(range(len(self.requirements)), key=lambda i: (self.weights[i], -i))
        return DOMAINS[self.requirements[heaviest].kind]

    def quality(self, response: str) -> int:
        """Tenths of weight that the response earns, 0..10."""
        met = (requirement.met(response) for requirement in self.requirements)
        return sum(weight for weight, ok in zip(self.weights, met, strict=True) if ok)

    @classmethod
    def parse(cls, text: str) -> Query:
        """Read a query back from its text.

        >>> str(Query.parse("must use cat, may have 6 words"))
        'must use cat, may have 6 words'
        """
        return cls(tuple(_parse_requirement(part) for part in text.split(", ")))


def _parse_requirement(text: str) -> Requirement:
    level, _, phrase = text.partition(" ")
    for kind, pattern in PHRASES.items():
        match = re.fullmatch(pattern.replace("{}", r"(\w+)"), phrase)
        if match and level in LEVELS:
            return Requirement(kind, match.groups(), level)
    raise ValueError(f"not a requirement of this world: {text!r}")


def shares(levels: tuple[str, ...]) -> tuple[int, ...]:
    """Split ten tenths by level (5 : 3 : 1), largest remainders first, heavier and earlier before.

    >>> shares(("must", "should", "may"))
    (6, 3, 1)
    """
    points = [LEVELS[level] for level in levels]
    exact = [10 * point / sum(points) for point in points]
    tenths = [int(value) for value in exact]
    by_remainder = sorted(range(len(levels)), key=lambda i: (tenths[i] - exact[i], -points[i], i))
    for i in by_remainder[: 10 - sum(tenths)]:
        tenths[i] += 1
    return tuple(tenths)


def truth(query: str, response: str) -> float:
    """Quality of a response in [0, 1], from the texts alone: a reward that no model knows.

    An empty response meets nothing that must be shown; words outside the world are just words.
    """
    parsed = Query.parse(query)
    return parsed.quality(response) / 10 if response.split() else 0.0


def held_out(combination: str) -> bool:
    """True for the fifth of all combinations of kinds that training never sees."""
    return hashlib.sha256(combination.encode()).digest()[0] % 5 == 0


def all_combinations() -> list[str]:
    """Every combination of 2 or 3 different kinds."""
    return ["+".join(sorted(kinds)) for size in SIZES for kinds in combinations(KINDS, size)]


def draw_query(rng: random.Random, size: int, *, test: bool) -> Query:
    """Draw a query of `size` requirements from the training or the held-out combinations."""
    while True:
        kinds = rng.sample(KINDS, size)
        if held_out("+".join(sorted(kinds))) == test:
            break
    spare = rng.sample(WORDS, len(WORDS))  # no word serves two requirements
    return Query(tuple(Requirement(k, _draw_args(rng, k, spare), rng.choice(list(LEVELS))) for k in kinds))


def _draw_args(rng: random.Random, kind: str, spare: list[str]) -> tuple[str, ...]:
    if kind == "sum":
        return str(rng.randint(1, 9)), str(rng.randint(1, 9))
    if kind == "length":
        return (str(rng.randint(SHORTEST, LONGEST)),)
    if kind == "order":
        return spare.pop(), spare.pop()
    return (spare.pop(), str(rng.randint(1, 3))) if kind == "count" else (spare.pop(),)


def draw_response(rng: random.Random, query: Query, aim: Sequence[bool]) -> str:
    """Write a response that meets the requirements that `aim` marks and misses the others narrowly."""
    words: list[str] = []
    for _ in range(30):
        words = [rng.choice(WORDS) for _ in range(rng.randint(SHORTEST, LONGEST))]
        steps = sorted(zip(query.requirements, aim, strict=True), key=lambda step: _STEP.index(step[0].kind))
        for requirement, meet in steps:
            _write(rng, words, requirement, meet)
        if all(r.met(" ".join(words)) == meet for r, meet in zip(query.requirements, aim, strict=True)):
            break
    return " ".join(words)


_STEP = ("length", "has", "avoid", "sum", "count", "order", "caps", "begin", "end")


def _write(rng: random.Random, words: list[str], requirement: Requirement, meet: bool) -> None:
    """Change `words` towards meeting or narrowly missing one requirement."""
    args, places = requirement.args, rng.sample(range(len(words)), min(4, len(words)))
    match requirement.kind:
        case "begin" | "end":
            place = 0 if requirement.kind == "begin" else -1
            if meet:
                words[place] = args[0]
            elif rng.random() < 0.5:
                words[rng.randrange(1, len(words) - 1)] = args[0]
        case "has" | "avoid" | "caps":
            present = meet != (requirement.kind == "avoid")
            if requirement.kind == "caps" and present:
                words[places[0]] = args[0].upper()
            elif present or (requirement.kind == "caps" and rng.random() < 0.6):
                words[places[0]] = args[0]
        case "order":
            early, late = sorted(places[:2])
            first, second = args if meet else args[::-1]
            words[early] = first
            if meet or rng.random() < 0.7:
                words[late] = second
        case "count":
            wanted = int(args[1])
            number = wanted if meet else rng.choice([k for k in range(5) if 1 <= abs(k - wanted) <= 2])
            for place in places[:number]:
                words[place] = args[0]
        case "length":
            wanted = int(args[0])
            near = [k for k in range(SHORTEST, LONGEST + 1) if 1 <= abs(k - wanted) <= 2]
            size = wanted if meet else rng.choice(near)
            words[:] = [rng.choice(WORDS) for _ in range(size)]
        case "sum":
            right = int(args[0]) + int(args[1])
            wrong = rng.choice([k for k in range(1, 19) if 1 <= abs(k - right) <= 3])
            words[places[0]] = str(right if meet else wrong)


def draw_example(rng: random.Random, name: str, *, n: int, test: bool) -> dict[str, object]:
    """Draw one Example row: `n` responses with one best, or a single one with a 0/1 label.

    In four of ten rows with several responses the best one is not the one that meets most
    requirements, so that a judge has to weigh them as the query says.
    """
    size = rng.choices(SIZES, (2, 3))[0]
    tricky = n > 1 and rng.random() < 0.4
    while True:
        query = draw_query(rng, size, test=test)
        keep = 0.5 if n > 1 else rng.choice((1.0, 0.6))  # half of the singles aim at all met
        aims = [[rng.random() < keep for _ in query.requirements] for _ in range(n)]
        if tricky and not _misleads(query, aims):
            continue
        responses = [draw_response(rng, query, aim) for aim in aims]
        labels = [query.quality(response) for response in responses]
        if n == 1 or (labels.count(max(labels)) == 1 and max(labels) >= 2):
            break
    return {
        "id": name,
        "messages": [{"role": "user", "content": str(query)}],
        "responses": responses,
        "labels": [int(labels[0] == 10)] if n == 1 else labels,
        "meta": {"domain": query.domain, "combination": query.combination, "n": n},
    }


def _misleads(query: Query, aims: Sequence[Sequence[bool]]) -> bool:
    """True where counting the met requirements does not single out the response of most weight."""
    weighed = [sum(w for w, meet in zip(query.weights, aim, strict=True) if meet) for aim in aims]
    counts = [sum(aim) for aim in aims]
    best = weighed.index(max(weighed))
    return any(counts[i] >= counts[best] for i in range(len(aims)) if i != best)


def examples(
    split: str, seed: int, size: int, mix: Sequence[float] = (0.12, 0.38, 0.26, 0.24)
) -> Iterator[dict[str, object]]:
    """Yield `size` Example rows; equal arguments give equal rows.

    Args:
        split: `test` draws from the held-out combinations, any other name from the rest; the
            name is part of the seed, so `train`, `rl`, `dev` do not share rows but by chance.
        seed: Any integer.
        size: Number of rows.
        mix: Shares of rows with 1, 2, 3, 4 responses.
    """
    rng = random.Random(f"{split}:{seed}")
    for index in range(size):
        n = rng.choices((1, 2, 3, 4), mix)[0]
        yield draw_example(rng, f"{split}-{seed}-{index}", n=n, test=split == "test")


def main() -> None:
    """Write one split as JSONL."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--split", default="train")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=1000)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    with args.out.open("w", encoding="utf-8") as out:
        for row in examples(args.split, args.seed, args.size):
            out.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
