r"""The flawed teacher: writes judgements of the world's examples, with honest reasons and wrong turns.

A judgement restates each requirement and quotes its evidence before the verdict:

    Specific Criteria:
    1. begin (weight 60%): red
    2. count (weight 40%): dog 2
    Analysis:
    response 1: begin red saw red yes; count dog 2 saw 1 no; total 6
    response 2: begin red saw sun no; count dog 2 saw 2 yes; total 4
    Scores: \boxed{6, 4}

What can go wrong: the criteria ignore the query's levels; a check takes the shortcut of its kind
(sees a word anywhere, ignores case or order, counts or adds badly); a total slips. The score is the
total, at least 1. Verdicts always follow from the evidence quoted, so a reader of query, responses
and judgement can see what is wrong.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from world import NONE, SIZES, Query, Requirement, draw_query, draw_response, shares

SHORTCUTS = {  # how often the teacher takes the shortcut of a kind
    "begin": 0.25,
    "end": 0.25,
    "has": 0.15,
    "avoid": 0.15,
    "order": 0.5,
    "count": 0.3,
    "length": 0.35,
    "sum": 0.45,
    "caps": 0.5,
}
EQUAL_WEIGHTS = 0.45
SLIP = 0.04
HINT_TRIES = 4
GENERAL = (0.1, 0.6, 0.3)  # write, look, trust


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
        head, lines, scores = _judge(rng, query, shown, flaws)
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
    rng: random.Random, query: Query, shown: Sequence[str], flaws: float
) -> tuple[list[str], list[str], list[int]]:
    blind = rng.random() < EQUAL_WEIGHTS * flaws
    weights = shares(("must",) * len(query.requirements)) if blind else query.weights
    head = [
        f"{i}. {r.kind} (weight {10 * weight}%): {' '.join(r.args)}"
        for i, (r, weight) in enumerate(zip(query.requirements, weights, strict=True), 1)
    ]
    lines, scores = [], []
    for place, response in enumerate(shown, 1):
        checks = [_check(rng, r, response.split(), flaws) for r in query.requirements]
        total = sum(weight for weight, (_, ok) in zip(weights, checks, strict=True) if ok)
        if rng.random() < SLIP * flaws:
            total = min(10, max(0, total + rng.choice((-1, 1))))
        lines.append(f"response {place}: {' '.join(text for text, _ in checks)} total {total}")
        scores.append(int(total == 10) if len(shown) == 1 else max(1, total))
    return head, lines, scores


def _check(rng: random.Random, requirement: Requirement, words: list[str], flaws: float) -> tuple[str, bool]:
    seen = requirement.evidence(words)
    if rng.random() < SHORTCUTS[requirement.kind] * flaws:
        seen = _shortcut(rng, requirement, words, seen)
    ok = requirement.met_by(seen)
    restated = " ".join((requirement.kind, *requirement.args))
    return f"{restated} saw {' '.join(seen)} {'yes' if ok else 'no'};", ok


def _shortcut(
    rng: random.Random, requirement: Requirement, words: list[str], seen: tuple[str, ...]
) -> tuple[str, ...]:
    """Evidence as a hasty reader sees it."""
    args = requirement.args
    match requirement.kind:
        case "begin" | "end":  # the word is there somewhere
            return (args[0] if args[0] in words else rng.choice(words),)
        case "has" | "avoid":  # overlooked, or taken for a look-alike
            return (NONE if seen[0] == args[0] else args[0],)
        case "order":  # both words are there
            return args if NONE not in seen else seen
        case "caps":  # case ignored
            return (args[0].upper() if seen[0] != NONE else NONE,)
        case "count":  # it is there, so it will be the right number
            return (args[1],) if seen[0] != "0" else seen
        case "length":
            return (str(int(seen[0]) + rng.choice((-1, 1))),)
        case _:  # adds badly, mostly towards what the response says
            off = int(seen[0]) + rng.choice((-1, 1))
            return (seen[1] if rng.random() < 0.5 and seen[1] != NONE else str(off), seen[1])


def general(rng: random.Random) -> tuple[str, str]:
    """Write one (prompt, completion) of general text of this world: write, look up or proof-read.

    All of it is right: the world's readers can read, it is the teacher's judgements that are hasty.
    Proof-reading says first whether all of the checks shown quote what is there, then of each.
    """
    query = draw_query(rng, rng.choice(SIZES), test=False)
    task = rng.choices(("write", "look", "trust"), GENERAL)[0]
    if task == "write":
        return f"{query}\nwrite:", draw_response(rng, query, [True] * len(query.requirements))
    aims = [[rng.random() < 0.5 for _ in query.requirements] for _ in range(rng.randint(1, 3))]
    responses = [draw_response(rng, query, aim) for aim in aims]
    place = rng.randint(1, len(responses))
    words = responses[place - 1].split()
    truths = [_check(rng, requirement, words, 0.0)[0] for requirement in query.requirements]
    shown = f"{query}\n{lay_out(responses)}"
    if task == "look":
        return f"{shown}\nlook: {place}", f"response {place}: {' '.join(truths)}"
    seen = [_check(rng, requirement, words, 1.0)[0] for requirement in query.requirements]
    marks = ["right" if a == b else "wrong" for a, b in zip(seen, truths, strict=True)]
    overall = "wrong" if "wrong" in marks else "right"
    return f"{shown}\ntrust:\nresponse {place}: {' '.join(seen)}", " ".join([overall, *marks])


def lay_out(responses: Sequence[str]) -> str:
    """Show responses as the prompts of this recipe do."""
    return "\n".join(f"[[response {i} begins]] {r} [[response {i} ends]]" for i, r in enumerate(responses, 1))
