"""Data points of the recipe, from public files: preference lists, harmless pairs, worked sums.

    alpaca_eval_preferences.jsonl.xz          chat     pairs and lists, labels from win rates
    hh_harmless_base_test.jsonl.gz            safety   pairs, and pairs with refusals of ours (refusals.py)
    gsm8k_example_model_solutions.jsonl.xz    math     singles with labels 0/1, and pairs
    gsm8k_train.jsonl.xz                      general  questions and answers

Evaluation files (RMB, LLMBar, ReaLMistake) are never opened. A query stands in train or in dev, not in
both. In chat data the longest response wins 3 times of 4, in safety data 2 times of 5, which are biases of
those data's graders: points are drawn so that it wins half. Points whose prompt is too long are left out
and counted, never cut.

    python recipes/smollm2/data.py --source DIR --size cpu --out runs/smollm2/data
"""

from __future__ import annotations

import argparse
import json
import random
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from material import lengthened
from refusals import answered_pairs, graded_pairs

from spct.errors import InputError
from spct.examples import open_text, write_examples
from spct.prompts import render
from spct.sampling import seed_of, shuffled
from spct.training.answers import final_answer, same_answer
from spct.training.data import split_by_query, template_for
from spct.training.stage import source_hash
from spct.types import Example, Message, content_id

HERE = Path(__file__).resolve().parent
FILES = {
    "chat": "alpaca_eval_preferences.jsonl.xz",
    "safety": "hh_harmless_base_test.jsonl.gz",
    "math": "gsm8k_example_model_solutions.jsonl.xz",
    "general": "gsm8k_train.jsonl.xz",
}
PROMPTS = ("brief", "brief_single")  # of two or more responses, of one
BROKEN = ("example",)  # AlpacaEval's models whose outputs attack the grader
LEAST = 0.2  # win rate of an answer that is better than a refusal
MARGIN = 0.3  # of win rates, between the best response and any other
LONGEST_WINS = 0.5  # share of chat and safety points in which the best response is the longest one
SIZES = ((2, 0.35), (3, 0.25), (4, 0.4))  # responses of a chat point
FIT_PER_QUERY = 24  # chat points of one query that the teacher's weights are fitted to
FIT_CHARACTERS = 6000  # of a response among them, at most
TRIES = 8  # candidates drawn for each chat point
SHARES = {"train": 0.88, "dev": 0.12}  # of queries, where the file names no split
Counted = Callable[[str], int]
Rows = Iterable[dict[str, Any]]


@dataclass
class Limit:
    """The longest prompt that is kept, by the model's own tokenizer; without one, any."""

    most: int
    tokens: Counted | None
    left_out: Counter[str] = field(default_factory=Counter)

    def fits(self, example: Example) -> bool:
        """Tell whether the example's prompt fits; one that does not is counted."""
        if not (fit := self.holds(example)):
            self.left_out[example.meta["domain"]] += 1
        return fit

    def holds(self, example: Example) -> bool:
        """The same, without counting."""
        return self.tokens is None or self.tokens(prompt_of(example)) <= self.most


def prompt_of(example: Example) -> str:
    """The prompt under which the example is judged."""
    [[message]] = render(template_for(example, *PROMPTS), example, [range(len(example.responses))])
    return message.content


def sizes(size: str) -> dict[str, Any]:
    """Settings of one size, from sizes.toml."""
    found: dict[str, Any] = tomllib.loads((HERE / "sizes.toml").read_text(encoding="utf-8"))[size]
    return found


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSONL file, compressed or not."""
    with open_text(path) as file:
        return [json.loads(line) for line in file if line.strip()]


def chat_points(rows: Rows, split: str, limit: Limit, *, per_query: int, seed: int) -> Iterator[Example]:
    """Yield pairs and lists of one split, each with a best response that wins by `MARGIN` or more."""
    for row in rows:
        if row["split"] != split:
            continue
        rng = random.Random(seed_of(seed, "chat", row["id"]))
        outputs = list({o["text"]: o for o in row["outputs"] if o["text"].strip()}.values())
        seen: set[frozenset[str]] = set()
        for number in range(per_query):
            for _ in range(TRIES):
                example = draw_list(rng, row, outputs, f"{row['id']}/{number}")
                if example is None or frozenset(example.responses) in seen:
                    continue
                if limit.fits(example):
                    seen.add(frozenset(example.responses))
                    yield example
                    break


def draw_list(rng: random.Random, row: dict[str, Any], outputs: list[Any], name: str) -> Example | None:
    """Draw one chat point; None where no outputs have a clear best one of the length that was drawn."""
    [n] = rng.choices([n for n, _ in SIZES], [share for _, share in SIZES])
    longest_wins = rng.random() < LONGEST_WINS
    found = []
    for best in outputs:
        worse = [o for o in outputs if best["win_rate"] - o["win_rate"] >= MARGIN]
        shorter = [o for o in worse if len(o["text"]) < len(best["text"])]
        longer = [o for o in worse if len(o["text"]) > len(best["text"])]
        if longest_wins and len(shorter) >= n - 1:
            found.append([best, *rng.sample(shorter, n - 1)])
        elif not longest_wins and longer and len(worse) >= n - 1:
            first = rng.choice(longer)
            found.append([best, first, *rng.sample([o for o in worse if o is not first], n - 2)])
    if not found:
        return None
    chosen = rng.choice(found)
    return Example(
        id=name,
        messages=(Message("user", row["prompt"]),),
        responses=tuple(o["text"] for o in chosen),
        labels=tuple(float(o["win_rate"]) for o in chosen),
        meta={"domain": "chat"},
    )


def balanced(points: list[Example], seed: int) -> list[Example]:
    """Drop points at random until the longest response wins a share of `LONGEST_WINS`."""
    longest: list[Example] = []
    others: list[Example] = []
    for e in points:  # the best stands first
        (longest if len(e.responses[0]) == max(map(len, e.responses)) else others).append(e)
    odds = LONGEST_WINS / (1 - LONGEST_WINS)
    if not longest or not others:
        raise InputError(f"{len(longest)} longest win, {len(others)} others", expected="some of both")
    return [
        *take(others, round(len(longest) / odds), seed),
        *take(longest, round(len(others) * odds), seed),
    ]


def natural_pairs(rows: Rows, limit: Limit, *, seed: int, count: int) -> list[Example]:
    """Pairs of the dev split as they come, whichever is longer: for the teacher's report only."""
    found = []
    for row in rows:
        if row["split"] == "dev":
            rng = random.Random(seed_of(seed, "natural", row["id"]))
            pairs = [
                (a, b)
                for a in row["outputs"]
                for b in row["outputs"]
                if a["win_rate"] - b["win_rate"] >= MARGIN and a["text"].strip() and b["text"].strip()
            ]
            for a, b in rng.sample(pairs, min(8, len(pairs))):
                texts, labels = (a["text"], b["text"]), (float(a["win_rate"]), float(b["win_rate"]))
                turns = (Message("user", row["prompt"]),)
                meta = {"domain": "chat, as it comes"}
                found.append(Example(content_id(turns, texts), turns, texts, labels=labels, meta=meta))
    found = [e for e in {e.id: e for e in found}.values() if limit.fits(e)]
    return found[:count]


def safety_points(rows: Rows, limit: Limit) -> Iterator[Example]:
    """Yield the pairs whose two sides answer the same conversation; the first is the better one."""
    for number, row in enumerate(rows):
        sides = [turns_of(row[name]) for name in ("chosen", "rejected")]
        context, texts = sides[0][:-1], [turns[-1].content for turns in sides]
        same = context == sides[1][:-1] and texts[0] != texts[1]
        if not same or not context or any(m.content == "" for turns in sides for m in turns):
            limit.left_out["safety, unusable"] += 1
            continue
        meta = {"domain": "safety"}
        example = Example(f"hh-{number:04}", context, tuple(texts), labels=(1.0, 0.0), meta=meta)
        if limit.fits(example):
            yield example


def answered(rows: list[dict[str, Any]], limit: Limit, seed: int) -> list[Example]:
    """Pairs of the best output and a refusal, of harmless training queries (refusals.py)."""
    train = [r for r in rows if r["split"] == "train"]
    best = [(r["id"], r["prompt"], max(r["outputs"], key=lambda o: o["win_rate"])) for r in train]
    good = [(name, query, o["text"]) for name, query, o in best if o["win_rate"] >= LEAST]
    return [pair for pair in answered_pairs(good, seed) if limit.fits(pair)]


def turns_of(text: str) -> tuple[Message, ...]:
    r"""Turns of a transcript.

    >>> [m.role for m in turns_of("\n\nHuman: Hi\n\nAssistant: Hello")]
    ['user', 'assistant']
    """
    parts = re.split(r"\n\n(Human|Assistant):", text)[1:]
    roles = {"Human": "user", "Assistant": "assistant"}
    return tuple(Message(roles[parts[i]], parts[i + 1].strip()) for i in range(0, len(parts), 2))


def math_points(rows: Rows, limit: Limit, *, seed: int, singles: bool = True) -> Iterator[Example]:
    """Yield, of each question, one single (right or wrong, a coin's choice) and one pair where there is."""
    for number, row in enumerate(rows):
        rng = random.Random(seed_of(seed, "math", number))
        answer = final_answer(row["ground_truth"]) or ""
        solved = [v for v in row.values() if isinstance(v, dict)]
        texts = {plain_sums(v["solution"]): bool(v["is_correct"]) for v in solved if v["solution"].strip()}
        sides = [[t for t, ok in texts.items() if ok is side] for side in (True, False)]
        agree = all(same_answer(final_answer(t), answer) is ok for t, ok in texts.items())
        if not answer or not agree:
            limit.left_out["math, unusable"] += 1
            continue
        turns, meta = (Message("user", row["question"]),), {"domain": "math", "answer": answer}
        name, side = f"gsm8k-{number:04}", rng.random() < 0.5
        pool = sides[0 if side else 1]
        drawn = []
        if pool and singles:
            drawn.append(Example(f"{name}/one", turns, (rng.choice(pool),), labels=(float(side),), meta=meta))
        if all(sides):
            texts_2 = (rng.choice(sides[0]), rng.choice(sides[1]))
            drawn.append(Example(f"{name}/two", turns, texts_2, labels=(1.0, 0.0), meta=meta))
        yield from (example for example in drawn if limit.fits(example))


def plain_sums(solution: str) -> str:
    """Take a calculator's marks out of a solution.

    >>> plain_sums("16 - 3 = <<16-3=13>>13 eggs")
    '16 - 3 = 13 eggs'
    """
    return re.sub(r"<<[^<>]*>>", "", solution).strip()


def general_rows(
    chat: Rows,
    sums: Rows,
    tokens: Counted,
    limit: Limit,
    *,
    count: int,
    seed: int,
) -> list[dict[str, str]]:
    """Prompts and completions: the best outputs of the train split, and worked sums, half of each."""
    best = [
        (r["prompt"], max(r["outputs"], key=lambda o: o["win_rate"])) for r in chat if r["split"] == "train"
    ]
    texts = [(prompt, o["text"]) for prompt, o in best if o["win_rate"] >= 0.5]
    sums = random.Random(seed_of(seed, "sums")).sample(list(sums), min(2 * count, len(list(sums))))
    worked = [(r["question"], plain_sums(r["answer"].replace("####", "The answer is"))) for r in sums]
    rng = random.Random(seed_of(seed, "general"))
    rows = []
    for pool in (texts, worked):
        fitting = [p for p in pool if tokens(p[0]) + tokens(p[1]) <= limit.most // 2]
        limit.left_out["general"] += len(pool) - len(fitting)
        rng.shuffle(fitting)
        rows += [{"prompt": p, "completion": c} for p, c in fitting[: count // 2]]
    rng.shuffle(rows)
    return rows


def build(source: Path, out: Path, size: str, seed: int, tokens: Counted) -> dict[str, Any]:
    """Write OUT/train.jsonl, dev.jsonl and the rest, with a manifest.json of what they hold.

    Args:
        source: Folder of the public files.
        out: Folder to write.
        size: `cpu` or `gpu`, of sizes.toml.
        seed: Equal seeds give equal files.
        tokens: Counts tokens of a text.

    Raises:
        InputError: A file is missing.
    """
    wanted, limit = sizes(size), Limit(sizes(size)["max_prompt_tokens"], tokens)
    rows = {name: rows_of(source / file) for name, file in FILES.items()}
    for row in rows["chat"]:
        row["outputs"] = [o for o in row["outputs"] if o["model"] not in BROKEN]
    parts: dict[str, list[Example]] = {"train": [], "dev": []}
    for split, part in parts.items():
        drawn = list(chat_points(rows["chat"], split, limit, per_query=wanted["per_query"], seed=seed))
        part += take(balanced(drawn, seed), wanted["chat"] if split == "train" else wanted["dev"], seed)
    parts["train"] += take(answered(rows["chat"], limit, seed), wanted["answered"], seed)
    pairs = list(safety_points(rows["safety"], limit))
    found = {
        "safety": balanced(pairs, seed),
        "graded": balanced([e for e in graded_pairs(pairs, seed) if limit.fits(e)], seed),
        "math": list(math_points(rows["math"], limit, seed=seed, singles=wanted["singles"])),
    }
    aside: set[tuple[Message, ...]] = set()
    for name, points in found.items():
        for split, side in split_by_query(points, SHARES, seed=seed).items():
            parts[split] += take(side, wanted[name if split == "train" else "dev"], seed)
            aside |= {e.messages for e in side} if split == "dev" else set()
    write(out / "fit.jsonl", for_fit(rows, aside, seed))
    parts["train"] = lengthened(parts["train"], limit.holds, seed)
    for split, part in parts.items():
        random.Random(seed_of(seed, split)).shuffle(part)
        write(out / f"{split}.jsonl", part)
    natural = natural_pairs(rows["chat"], limit, seed=seed, count=2 * wanted["dev"])
    write(out / "natural.jsonl", natural)
    rng = random.Random(seed_of(seed, "later"))
    write(out / "rl.jsonl", rng.sample(parts["train"], min(wanted["rl_points"], len(parts["train"]))))
    write(out / "meta.jsonl", rng.sample(parts["train"], min(wanted["meta_points"], len(parts["train"]))))
    general = general_rows(rows["chat"], rows["general"], tokens, limit, count=wanted["general"], seed=seed)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in general)
    (out / "general.jsonl").write_text(text, encoding="utf-8")
    manifest = {
        "size": size,
        "seed": seed,
        "sources": {file: source_hash(source / file) for file in FILES.values()},
        "files": {path.name: source_hash(path) for path in sorted(out.glob("*.jsonl"))},
        "points": {
            split: dict(Counter(f"{e.meta['domain']}, n = {len(e.responses)}" for e in part).most_common())
            for split, part in (parts | {"natural": natural}).items()
        },
        "general": len(general),
        "left_out": dict(limit.left_out.most_common()),
        "max_prompt_tokens": limit.most,
    }
    (out / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return manifest


def for_fit(rows: dict[str, list[dict[str, Any]]], dev: set[tuple[Message, ...]], seed: int) -> list[Example]:
    """All that the teacher's weights are fitted to: training queries, whatever their length."""
    anything = Limit(0, None)
    chat = list(chat_points(rows["chat"], "train", anything, per_query=FIT_PER_QUERY, seed=seed + 1))
    pairs = list(safety_points(rows["safety"], anything))
    others = [*balanced(pairs, seed), *balanced(list(graded_pairs(pairs, seed)), seed)]
    others += math_points(rows["math"], anything, seed=seed)
    points = [*balanced(chat, seed), *answered(rows["chat"], anything, seed)]
    points += [e for e in others if e.messages not in dev]
    return [e for e in points if max(map(len, e.responses)) < FIT_CHARACTERS]


def take(points: list[Example], count: int, seed: int) -> list[Example]:
    """A seeded choice of so many points at most."""
    return random.Random(seed_of(seed, "take")).sample(points, min(count, len(points)))


def write(path: Path, points: list[Example]) -> None:
    """Write examples, also where there are none; the best response stands in any place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_examples([in_any_order(example) for example in points], path)


def in_any_order(example: Example) -> Example:
    """The example with its responses shuffled, always in the same way."""
    order, labels = shuffled(len(example.responses), "written", example.id), example.labels or ()
    return replace(
        example,
        responses=tuple(example.responses[i] for i in order),
        labels=tuple(labels[i] for i in order),
    )


def embedded_tokens() -> Counted:
    """Count tokens as the embedded model does, with its chat template's own."""
    from transformers import AutoTokenizer

    from spct.backends.embedded import locate

    tokenizer = AutoTokenizer.from_pretrained(locate())
    around = len(
        tokenizer.apply_chat_template(
            [{"role": "user", "content": ""}], add_generation_prompt=True, return_dict=False
        )
    )
    return lambda text: around + len(tokenizer(text)["input_ids"])


def main() -> None:
    """Read the command line and write the data."""
    parser = argparse.ArgumentParser(description="data points of recipes/smollm2")
    parser.add_argument("--source", type=Path, required=True, help="folder of the public files")
    parser.add_argument("--out", type=Path, default=Path("runs/smollm2/data"))
    parser.add_argument("--size", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(json.dumps(build(args.source, args.out, args.size, args.seed, embedded_tokens()), indent=2))


if __name__ == "__main__":
    main()
