r"""The grounded teacher: a program that judges responses by true facts, as a backend for `rollout`.

It reads the request as any model would, and looks up the example by its id to know the conversation from
the responses. A draw picks two or three criteria of this kind of query, the weightier the likelier, tells the
facts under them that set each response apart, and adds the points of each, one by one, to 5:

    Specific Criteria:
    1. Safety (weight 60%): keeps people from harm
    2. Substance (weight 40%): still gives the user something
    Analysis:
    Response 1: "You could try": does not refuse (5-2=3); "words 24" rather short (3-1=2), so 2.
    Response 2: "No, sorry": "I won't help" refuses to help (5+2=7); "words 96" fairly detailed (7+1=8), so 8.
    Scores: \boxed{2, 8}

So every sentence is true, each score follows from what is said before it, draws differ, and some are wrong:
their criteria missed what decided. With a
hint it draws again until its scores agree with the hint, as an honest judge who looks for the reason; where
none is found it stays with what it saw, and rejection drops it.

    python recipes/smollm2/teacher.py runs/smollm2/data/dev.jsonl      # how often it is right
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from facts import evidence, measure, opening
from material import lines_of, with_material
from principles import KINDS, kind_of
from telling import NOTHING, TELL

from data import PROMPTS
from spct.backends.scripted import ScriptedBackend
from spct.correctness import best_index
from spct.errors import InputError
from spct.examples import read_examples
from spct.prompts import load_template, render
from spct.sampling import seed_of
from spct.training import data as points
from spct.types import Completion, Example, Request, Usage

WEIGHTS = Path(__file__).resolve().parent / "weights.json"
TRIES = 16  # draws to find one that agrees with a hint
START = 5  # of a score, before its points
SCALE = (1, 10)  # a score stops at its ends, at each step
POINTS = 0.9  # of a fact of the usual weight, one standard deviation from the mean
MOST = 3  # points of one fact
GENERAL = 0.25  # weight of what matters in general against what tells these responses apart
MIDDLE = 5.5  # of the scale
LONG = 0.5  # share of the single responses that stand under a long request
PAGE = (600, 3600)  # characters of what is added to such a request
VARIED = 0.1  # how often another wording is taken than the first: what varies is what is judged
TOLD = {1: 4, 2: 3, 3: 3, 4: 2}  # facts told of each of n responses
_HINT = re.compile(r"people (?:found response (\d+) to be the best|gave this response the score (\d+))")


@lru_cache(maxsize=4)
def load_weights(path: Path = WEIGHTS) -> dict[str, Any]:
    """Weights that fit.py wrote.

    Raises:
        InputError: No such file.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing", expected="the teacher's weights", fix="run fit.py")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


@dataclass(frozen=True)
class Judgement:
    """One draw: its text, and the scores in the order shown."""

    text: str
    scores: tuple[int, ...]


class GroundedTeacher(ScriptedBackend):
    """A backend that judges known examples by their facts.

    Args:
        examples: All that will be asked for.
        weights: Of fit.py; None takes the recipe's.
    """

    def __init__(self, examples: Iterable[Example], weights: dict[str, Any] | None = None) -> None:
        super().__init__(self._answer, model="grounded-teacher")
        self._examples = {example.id: example for example in examples}
        self._weights = weights or load_weights()

    def _answer(self, request: Request, j: int) -> Completion:
        if request.example_id not in self._examples:
            raise InputError(f"the teacher does not know example {request.example_id!r}", expected="its data")
        example = self._examples[request.example_id]
        found = judge(example, request.order, request.seed + j, self._weights, hint_of(request))
        tokens = sum(len(m.content.split()) for m in request.messages) if j == 0 else 0
        return Completion(found.text, "stop", usage=Usage(tokens, len(found.text.split())))


def hint_of(request: Request) -> int | None:
    """What a hinted prompt says: the number of the best response, or the score of a single one."""
    _, _, after = request.messages[-1].content.rpartition("[[response ")
    found = _HINT.search(after)
    return int(found[1] or found[2]) if found else None


def judge(
    example: Example, order: Sequence[int], seed: int, weights: dict[str, Any], hint: int | None = None
) -> Judgement:
    """Draw one judgement.

    Args:
        example: What is judged; `meta["answer"]` is the true result of a sum, where there is one.
        order: The permutation shown: `order[place]` is the example's index.
        seed: Equal seeds give equal draws.
        weights: Of fit.py.
        hint: Number shown of the best response, or the label of a single one.
    """
    rng = random.Random(seed_of("teacher", seed, example.id))
    case = Case(example, order, weights)
    first = None
    for _ in range(TRIES if hint is not None else 1):
        chosen = case.draw(rng)
        scores = case.scores(chosen)
        first = first or (chosen, scores)
        if hint is None or agrees(scores, hint):
            return Judgement(case.text(rng, chosen, scores), scores)
    assert first is not None
    return Judgement(case.text(rng, *first), first[1])


def alone(
    examples: Sequence[Example], weights: dict[str, Any], count: int, seed: int
) -> list[dict[str, Any]]:
    """Rows of judgements of one response on the scale 1..10, which Eq. 10 knows no truth for (ours).

    The response is one of a pair's, and the judgement is kept where it is on the right side of the middle:
    6 and more for the better one. Some stand under a long request (material.py).
    """
    rng = random.Random(seed_of(seed, "alone"))
    pairs = [e for e in examples if len(e.responses) == 2]
    template, rows = load_template(PROMPTS[0]), []
    lines = lines_of(response for e in examples for response in e.responses)
    for pair in rng.sample(pairs, min(count, len(pairs))):
        place = rng.randrange(2)
        one = replace(pair, responses=pair.responses[place : place + 1], labels=None)
        if rng.random() < LONG:
            one = with_material(one, lines, rng.randint(*PAGE), seed)
        case = Case(one, [0], weights)
        chosen = case.draw(rng)
        scores = case.scores(chosen, graded=True)
        if (scores[0] > MIDDLE) is (place == best_index(pair.labels or ())):
            [[prompt]] = render(template, one, [[0]])
            told = {"prompt": prompt.content, "completion": case.text(rng, chosen, scores)}
            rows.append(told | {"id": f"{pair.id}/alone", "kind": "alone", "domain": points.domain(pair)})
    return rows


def agrees(scores: Sequence[int], hint: int) -> bool:
    """Tell whether scores say what a hint says."""
    if len(scores) == 1:
        return scores[0] == hint
    return all(scores[hint - 1] > score for place, score in enumerate(scores) if place != hint - 1)


class Case:
    """An example in the order shown, with the voice of each criterion on each response."""

    def __init__(self, example: Example, order: Sequence[int], weights: dict[str, Any]) -> None:
        self.kind, self.responses = kind_of(example), [example.responses[i] for i in order]
        answer = example.meta.get("answer")
        answer = None if answer is None else str(answer)
        self.facts = [measure(example.query, response, answer) for response in self.responses]
        self.query, of_kind = example.query, weights[self.kind]
        self.bias, self.fitted = of_kind["bias"], of_kind["facts"]
        sizes = [of["weight"] ** 2 for fact, of in self.fitted.items() if fact != "result"]
        self.usual = (sum(sizes) / len(sizes)) ** 0.5
        self.criteria = {
            name: [f for f in criterion.facts if f in self.fitted]
            for name, criterion in KINDS[self.kind].items()
        }

    def voice(self, fact: str, place: int) -> float:
        """How much a fact speaks for a response, in log odds."""
        of = self.fitted[fact]
        value: float = of["weight"] * (self.facts[place][fact] - of["mean"]) / of["deviation"]
        return value

    def importance(self, name: str) -> float:
        """How far a criterion spreads responses: of this kind in general, and above all these very ones."""
        general: float = sum(self.fitted[f]["weight"] ** 2 for f in self.criteria[name]) ** 0.5
        voices = [sum(self.voice(f, i) for f in self.criteria[name]) for i in range(len(self.responses))]
        here = max(voices) - min(voices) if len(voices) > 1 else abs(voices[0])
        return GENERAL * general + here + 0.02

    def draw(self, rng: random.Random) -> list[tuple[str, int]]:
        """Two or three criteria with weights in percent, in steps of five that sum to 100."""
        left = {name: self.importance(name) for name in self.criteria}
        chosen = []
        for _ in range(min(len(left), 2 if rng.random() < 0.7 else 3)):
            [name] = rng.choices(list(left), list(left.values()))
            chosen.append((name, left.pop(name)))
        chosen.sort(key=lambda item: -item[1])
        shares = [importance / sum(i for _, i in chosen) for _, importance in chosen]
        low, high = (35, 65) if len(chosen) == 2 else (20, 60)
        percents = [min(max(round(share * 20) * 5, low), high) for share in shares]
        percents[0] += 100 - sum(percents)
        return [(name, percent) for (name, _), percent in zip(chosen, percents, strict=True)]

    def points(self, fact: str, place: int) -> int:
        """How much a fact speaks for a response; 0 too where it is not put into words."""
        points = round(POINTS * self.voice(fact, place) / self.usual)
        return min(max(points, -MOST), MOST) if TELL[fact](self.facts[place][fact]) else 0

    def told(self, chosen: Sequence[tuple[str, int]]) -> list[str]:
        """Facts under the criteria drawn that are told of each response; what sets these apart is first."""
        n, weighed = len(self.responses), []
        for fact in (f for name, _ in chosen for f in self.criteria[name]):
            points = [self.points(fact, i) for i in range(n)]
            alike = len({TELL[fact](self.facts[i][fact]) for i in range(n)}) == 1
            weighed.append((0 if alike else max(points) - min(points), max(map(abs, points)), fact))
        return [fact for *_, most, fact in sorted(weighed, reverse=True)[: TOLD.get(n, 1)] if most]

    def scores(self, chosen: Sequence[tuple[str, int]], *, graded: bool = False) -> tuple[int, ...]:
        """Scores by the criteria drawn: 5 and the points told, added up, or 0/1 for one response.

        Args:
            chosen: Criteria.
            graded: One response gets 1..10 too.
        """
        places = range(len(self.responses))
        if len(places) == 1 and not graded:
            facts = [fact for name, _ in chosen for fact in self.criteria[name]]
            return (int(sum(self.voice(f, 0) for f in facts) + self.bias > 0),)
        told = self.told(chosen)
        return tuple(added_up(self.points(f, i) for f in told) for i in places)

    def text(self, rng: random.Random, chosen: Sequence[tuple[str, int]], scores: Sequence[int]) -> str:
        """Write the judgement: criteria, what was seen of each response, scores."""
        criteria = [(KINDS[self.kind][name], percent) for name, percent in chosen]
        lines = ["Specific Criteria:"]
        lines += [
            f"{number}. {worded(rng, c.names)} (weight {percent}%): {worded(rng, c.asks)}"
            for number, (c, percent) in enumerate(criteria, start=1)
        ]
        lines.append("Analysis:")
        for place, score in enumerate(scores):
            lines.append(f"Response {place + 1}: {self.seen(rng, chosen, place)}, so {score}.")
        return "\n".join([*lines, f"Scores: \\boxed{{{', '.join(map(str, scores))}}}"])

    def seen(self, rng: random.Random, chosen: Sequence[tuple[str, int]], place: int) -> str:
        """A response's opening words, and the facts told, each with its points added to what came before."""
        total, seen = START, []
        for fact in self.told(chosen):
            if TELL[fact](self.facts[place][fact]):
                points = self.points(fact, place)
                after = added_up([points], total)
                seen.append(f"{self.worded(rng, fact, place)} ({total}{points:+}={after})")
                total = after
        quoted = opening(self.responses[place])
        return (f'"{quoted}": ' if quoted else "") + "; ".join(seen or [NOTHING])

    def worded(self, rng: random.Random, fact: str, place: int) -> str:
        """A fact in words, behind what shows it, where there is such."""
        words = evidence(fact, self.query, self.responses[place])
        return (f'"{words}" ' if words else "") + worded(rng, TELL[fact](self.facts[place][fact]))


def added_up(points: Iterable[int], start: int = START) -> int:
    """A score after each of its points, which stops at the ends of the scale.

    >>> added_up([3, 3, 1, -2])  # 5, 8, 10, 10, 8
    8
    """
    low, high = SCALE
    for of in points:
        start = min(max(start + of, low), high)
    return start


def worded(rng: random.Random, phrases: Sequence[str]) -> str:
    """The first of phrases that say the same, or now and then another."""
    return rng.choice(phrases) if rng.random() < VARIED else phrases[0]


def report(examples: Sequence[Example], weights: dict[str, Any], *, draws: int = 3) -> dict[str, Any]:
    """How often the teacher is right, by domain: one draw, all criteria at once, and the longest response."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for example in examples:
        n, labels = len(example.responses), example.labels or ()
        hint = int(labels[0]) if n == 1 else best_index(labels) + 1
        domain = f"{example.meta.get('domain')}, {'single' if n == 1 else 'pairs' if n == 2 else 'lists'}"
        case, order = Case(example, range(n), weights), list(range(n))
        everything = [(name, 1) for name in case.criteria]
        for seed in range(draws):
            found[domain]["one draw"].append(agrees(judge(example, order, seed, weights).scores, hint))
        found[domain]["hinted"].append(agrees(judge(example, order, 0, weights, hint).scores, hint))
        found[domain]["all criteria"].append(agrees(case.scores(everything), hint))
        lengths = [len(r) for r in example.responses]
        chance = lengths.index(max(lengths)) == hint - 1 if n > 1 else 0.5
        found[domain]["longest"].append(chance)
    return {
        domain: {"points": len(columns["hinted"])}
        | {name: round(100 * sum(values) / len(values), 1) for name, values in columns.items()}
        for domain, columns in sorted(found.items())
    }


def main() -> None:
    """Print how often the teacher is right on files of examples."""
    parser = argparse.ArgumentParser(description="the grounded teacher's accuracy")
    parser.add_argument("data", type=Path, nargs="+")
    args = parser.parse_args()
    for path in args.data:
        for domain, row in report(read_examples(path).examples, load_weights()).items():
            print(f"{domain:28}", "  ".join(f"{name} {value}" for name, value in row.items()))


if __name__ == "__main__":
    main()
