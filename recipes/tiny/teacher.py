r"""The flawed teacher: writes judgements of the world's examples, some with care and some in haste.

With care, the criteria restate each level and weigh by it; a check restates the requirement and
quotes its evidence before the verdict, and is right:

    Specific Criteria:
    1. begin should (weight 40%): red
    2. count must (weight 60%): dog 2
    Analysis:
    response 1: begin red saw red yes; count dog 2 saw 1 no; total 4
    response 2: begin red saw sun no; count dog 2 saw 2 yes; total 6
    Scores: \boxed{4, 6}

In haste, the criteria show no levels and the first requirement weighs most; a check quotes nothing,
and a long response (7 words and more) looks good:

    1. begin (weight 70%): red
    2. count (weight 30%): dog 2
    Analysis:
    response 1: begin red saw red yes; count glance yes; total 10

Haste comes in moods: a judgement that is hasty in one thing likely is in the next. It grows with the
number of responses and of requirements, and some kinds invite it more than others. All responses
of a judgement are checked alike. A total may slip by one. The score is the total, at least 1.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from world import SIZES, Query, Requirement, draw_query, draw_response, examples

HASTE = {  # how often a teacher in no mood checks a kind at a glance
    "begin": 0.3,
    "end": 0.3,
    "has": 0.25,
    "avoid": 0.25,
    "order": 0.4,
    "count": 0.5,
    "length": 0.4,
    "sum": 0.4,
    "caps": 0.4,
}
HASTE_CRITERIA = {2: 0.35, 3: 0.6}  # ... and weighs so many requirements without a look at the levels
HASTE_PLAIN = 0.75  # ... and where no criteria are asked for, which are what makes it look at the levels
MOOD = 2.5  # a hasty mood multiplies the odds of haste, a careful one divides them
CROWD = (0.5, 0.8, 1.1, 1.5)  # so do one, two, three, four responses to read
FIRST_HEAVIEST = {2: (7, 3), 3: (6, 3, 1)}  # the weights of haste: by place in the query
GLANCE = 0.85  # how often a glance says yes to a long response and no to a short one
LONG = 7  # words from which a response looks good at a glance
SLIP = 0.04
HINT_TRIES = 4
WRITE = 0.1  # of general text; the rest looks things up


def judgement(
    rng: random.Random,
    row: Mapping[str, Any],
    order: Sequence[int],
    *,
    principles: bool = True,
    hinted: bool = False,
    flaws: float = 1.0,
) -> str:
    """Write one judgement of an Example row.

    Args:
        rng: Source of the flaws.
        row: `messages`, `responses`, `labels` as `world.examples` yields them.
        order: The permutation shown: `order[place]` is the row's index of that response.
        principles: False leaves the criteria out (the ablation).
        hinted: The teacher knows the labels: it tries again while its scores contradict them,
            and in the end writes the right scores under a critique that does not carry them.
        flaws: Scales every flaw's rate; 0 is a perfect judge.
    """
    query = Query.parse(row["messages"][0]["content"])
    shown = [row["responses"][i] for i in order]
    labels = [row["labels"][i] for i in order]
    for _ in range(HINT_TRIES if hinted else 1):
        head, lines, scores = _judge(rng, query, shown, flaws, principles=principles)
        if right(scores, labels):
            break
    if hinted and not right(scores, labels):
        top = max(labels)
        forced = [10 if label == top else min(score, 9) for score, label in zip(scores, labels, strict=True)]
        scores = labels if len(labels) == 1 else forced
    criteria = ["Specific Criteria:", *head] if principles else []
    boxed = ", ".join(map(str, scores))
    return "\n".join([*criteria, "Analysis:", *lines, f"Scores: \\boxed{{{boxed}}}"])


def right(scores: Sequence[int], labels: Sequence[int]) -> bool:
    """Eq. 10: the best response alone at the top; for one response, the label itself."""
    if len(scores) == 1:
        return scores[0] == labels[0]
    best = labels.index(max(labels))
    return all(scores[best] > score for i, score in enumerate(scores) if i != best)


def _judge(
    rng: random.Random, query: Query, shown: Sequence[str], flaws: float, *, principles: bool
) -> tuple[list[str], list[str], list[int]]:
    push = CROWD[len(shown) - 1] * (MOOD if rng.random() < 0.5 else 1 / MOOD)
    blind = haste(HASTE_CRITERIA[len(query.requirements)], push) if principles else HASTE_PLAIN
    levels = rng.random() >= flaws * blind
    weights = query.weights if levels else FIRST_HEAVIEST[len(query.requirements)]
    head = [
        f"{i}. {r.kind}{f' {r.level}' if levels else ''} (weight {10 * weight}%): {' '.join(r.args)}"
        for i, (r, weight) in enumerate(zip(query.requirements, weights, strict=True), 1)
    ]
    glances = [rng.random() < flaws * haste(HASTE[r.kind], push) for r in query.requirements]
    lines, scores = [], []
    for place, response in enumerate(shown, 1):
        words = response.split()
        checks = [
            _glance(rng, r, words) if hasty else check(r, words)
            for r, hasty in zip(query.requirements, glances, strict=True)
        ]
        total = sum(weight for weight, (_, ok) in zip(weights, checks, strict=True) if ok)
        if rng.random() < SLIP * flaws:
            total = min(10, max(0, total + rng.choice((-1, 1))))
        lines.append(f"response {place}: {' '.join(text for text, _ in checks)} total {total}")
        scores.append(int(total == 10) if len(shown) == 1 else max(1, total))
    return head, lines, scores


def haste(rate: float, push: float) -> float:
    """The chance of haste when its odds are pushed.

    >>> haste(0.5, 4.0), haste(0.2, 1.0)
    (0.8, 0.2)
    """
    odds = rate / (1 - rate) * push
    return odds / (1 + odds)


def check(requirement: Requirement, words: Sequence[str]) -> tuple[str, bool]:
    """A careful check and its verdict: restate, quote, decide."""
    seen = requirement.evidence(words)
    ok = requirement.met_by(seen)
    restated = " ".join((requirement.kind, *requirement.args))
    return f"{restated} saw {' '.join(seen)} {'yes' if ok else 'no'};", ok


def _glance(rng: random.Random, requirement: Requirement, words: Sequence[str]) -> tuple[str, bool]:
    """A hasty check and its verdict: nothing quoted, and a long response looks good."""
    ok = (len(words) >= LONG) == (rng.random() < GLANCE)
    return f"{requirement.kind} glance {'yes' if ok else 'no'};", ok


def general(rng: random.Random) -> tuple[str, str]:
    """Write one (prompt, completion) of general text of this world: write or look up.

    All of it is right: the world's readers can read, it is the teacher's judgements that are hasty.
    """
    query = draw_query(rng, rng.choice(SIZES), test=False)
    if rng.random() < WRITE:
        return f"{query}\nwrite:", draw_response(rng, query, [True] * len(query.requirements))
    return look_up(rng, query, rng.randint(1, 3))


def look_up(rng: random.Random, query: Query, n: int) -> tuple[str, str]:
    """Write the (prompt, completion) that looks up one of `n` responses, all of it right."""
    aims = [[rng.random() < 0.5 for _ in query.requirements] for _ in range(n)]
    responses = [draw_response(rng, query, aim) for aim in aims]
    place = rng.randint(1, n)
    words = responses[place - 1].split()
    truths = [check(requirement, words)[0] for requirement in query.requirements]
    return f"{query}\n{lay_out(responses)}\nlook: {place}", f"response {place}: {' '.join(truths)}"


def lay_out(responses: Sequence[str]) -> str:
    """Show responses as the prompts of this recipe do."""
    return "\n".join(f"[[response {i} begins]] {r} [[response {i} ends]]" for i, r in enumerate(responses, 1))


def main() -> None:
    """Print how often the teacher is right, by the number of responses."""
    rng = random.Random(0)
    hits: dict[int, list[bool]] = {n: [] for n in range(1, 5)}
    row: Any
    for row in examples("train", 6, 3000):
        order = list(range(len(row["responses"])))
        text = judgement(rng, row, order)
        scores = [int(score) for score in text.rpartition("{")[2].rstrip("}").split(", ")]
        hits[len(order)].append(right(scores, row["labels"]))
    for n, found in hits.items():
        print(f"{n} responses: right in {sum(found) / len(found):.3f} of {len(found)}")
    print(f"all: {sum(map(sum, hits.values())) / sum(map(len, hits.values())):.3f}")


if __name__ == "__main__":
    main()
