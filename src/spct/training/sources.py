"""Where data points come from: Example or preference JSONL, a folder saved by `datasets`, a hub name.

Rows of public sets (§4) are read in their own columns:

    HelpSteer2/3     prompt|context, response_1|response1, ..., preference_strength|overall_preference
    UltraFeedback    instruction, completions: [{response, overall_score}]
    OffsetBias       instruction, output_1, output_2, label (1 or 2)
    verifiable       prompt, answer, samples: [...]
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from spct.errors import InputError, MissingExtraError
from spct.examples import from_row, open_text, read_examples
from spct.sampling import seed_of
from spct.training.answers import final_answer, same_answer
from spct.training.data import Fault, Points, check_labels
from spct.types import Example, as_messages, content_id

STRENGTHS = {1: "slightly better", 2: "better", 3: "much better"}  # HelpSteer2-Preference's own words
_SHOWN = 20  # faults that a message lists


def load_points(
    source: str | Path, *, split: str = "train", skip_bad: bool = False, check: bool = True, **options: Any
) -> Points:
    """Load and check the data points of one source.

    Args:
        source: A JSONL file, a folder of `Dataset.save_to_disk`, or a hub name.
        split: Of a folder or hub data set.
        skip_bad: Leave out rows and examples that cannot be used, and list them.
        check: Whether labels must be usable as they are; False for lists that are to become pairs.
        options: Passed to `datasets.load_dataset`, e.g. `data_dir="preference"`.

    Raises:
        InputError: The source is missing; or rows are unusable and skip_bad is False (which, why).
        MissingExtraError: A data set is asked for without the package `datasets`.
    """
    if not Path(source).is_file():
        examples, faults = _from_rows(dataset_rows(str(source), split, **options), str(source))
    elif _foreign(Path(source)):
        examples, faults = _from_rows(json_rows(Path(source)), str(source))
    else:
        read = read_examples(source, skip_bad=skip_bad)
        examples, faults = read.examples, [Fault(f"line {bad.line}", bad.fault) for bad in read.bad]
    checked = check_labels(examples) if check else Points(examples, [])
    faults += checked.faults
    if faults and not skip_bad:
        raise unusable(str(source), faults, len(examples))
    if not checked.examples:
        raise InputError(f"{source} holds no usable data point", expected="at least one", fix=_listed(faults))
    return Points(checked.examples, faults)


def load_all(sources: Sequence[str | Path], *, skip_bad: bool = False, check: bool = True) -> Points:
    """Load several sources as one; the arguments are those of `load_points`.

    Raises:
        InputError: As `load_points`; or an id stands in two sources.
    """
    home: dict[str, str] = {}
    loaded = [(str(source), load_points(source, skip_bad=skip_bad, check=check)) for source in sources]
    for source, points in loaded:
        for example in points.examples:
            if example.id in home:
                raise InputError(
                    f"id {example.id!r} stands in {home[example.id]} and in {source}",
                    expected="an id of its own for each data point",
                    fix="rename the ids of one file",
                )
            home[example.id] = source
    faults = [Fault(f"{source} {fault.where}", fault.fault) for source, p in loaded for fault in p.faults]
    return Points([e for _, p in loaded for e in p.examples], faults)


def dataset_rows(source: str, split: str, **options: Any) -> Iterable[Mapping[str, Any]]:
    """Rows of a folder that `datasets` saved, or of a data set on the hub.

    Raises:
        InputError: No data set is there, or it has no such split.
        MissingExtraError: The package `datasets` is missing.
    """
    if source.endswith((".jsonl", ".json", ".gz", ".xz")):
        raise InputError(f"{source} is missing", expected="a file, a folder of a data set, or a hub name")
    try:
        import datasets
    except ImportError:
        raise MissingExtraError("datasets", "train") from None
    try:
        loaded: Any
        if Path(source).is_dir():
            loaded = datasets.load_from_disk(source)
        else:
            loaded = datasets.load_dataset(source, split=split, **options)
    except (OSError, ValueError) as error:
        raise InputError(f"{source} holds no data set: {error}", expected="one of `datasets`") from error
    if isinstance(loaded, datasets.DatasetDict):
        if split not in loaded:
            raise InputError(f"{source} has no split {split!r}", expected=f"one of {', '.join(loaded)}")
        loaded = loaded[split]
    return loaded  # type: ignore[no-any-return]


def json_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Objects of a JSONL file, one a line.

    Raises:
        InputError: A line is no JSON object.
    """
    with open_text(path) as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as error:
                    raise InputError(f"{path}:{number}: bad JSON: {error.msg}") from None
                if not isinstance(row, dict):
                    raise InputError(f"{path}:{number}: {line:.60}", expected="one JSON object a line")
                yield row


def _foreign(path: Path) -> bool:
    """Tell whether a JSONL file is in a public set's own columns, by its first row."""
    with open_text(path) as file:
        first = next((line for line in file if line.strip()), "")
    try:
        row = json.loads(first)
    except json.JSONDecodeError:
        return False
    return isinstance(row, dict) and not row.keys() & {"responses", "chosen"}


def _from_rows(rows: Iterable[Mapping[str, Any]], source: str) -> tuple[list[Example], list[Fault]]:
    examples: dict[str, Example] = {}
    faults = []
    for number, row in enumerate(rows, start=1):
        try:
            for example in examples_of_row(row):
                if examples.setdefault(example.id, example) is not example:
                    faults.append(Fault(f"row {number}", f"id {example.id!r} stands above already"))
        except InputError as error:
            faults.append(Fault(f"row {number}", error.got))
    if not examples:
        raise InputError(f"{source} holds no example", expected="rows that hold one", fix=_listed(faults))
    return list(examples.values()), faults


def examples_of_row(row: Mapping[str, Any]) -> Iterator[Example]:
    """Build the examples of one row in any known form; usually one.

    Raises:
        InputError: The row is in no known form, or a field is of the wrong type.
    """
    strength = row.get("preference_strength", row.get("overall_preference"))
    if strength is not None:
        yield _from_strength(row, int(strength))
    elif "completions" in row and "instruction" in row:
        graded = [(c.get("response"), c.get("overall_score")) for c in row["completions"]]
        yield from_row(_plain(row, [r for r, _ in graded], [s for _, s in graded]))
    elif "output_1" in row and "output_2" in row:
        first = row.get("label") == 1
        yield from_row(_plain(row, [row["output_1"], row["output_2"]], [float(first), float(not first)]))
    elif "samples" in row and "answer" in row:
        yield from answer_points(row["prompt"], row["samples"], str(row["answer"]))
    else:
        yield from_row({name: value for name, value in row.items() if value is not None})


def _plain(row: Mapping[str, Any], responses: list[Any], labels: list[Any]) -> dict[str, Any]:
    prompt = next((row[name] for name in ("prompt", "context", "instruction") if name in row), None)
    meta = {name: row[name] for name in ("source", "domain", "language") if row.get(name) is not None}
    return {"prompt": prompt, "responses": responses, "labels": labels, "meta": meta}


def _from_strength(row: Mapping[str, Any], strength: int) -> Example:
    """A HelpSteer row: -3 (the first is much better) .. 3 (the second is); 0 is a tie."""
    responses = [row.get("response_1", row.get("response1")), row.get("response_2", row.get("response2"))]
    plain = _plain(row, responses, [float(max(-strength, 0)), float(max(strength, 0))])
    if isinstance(plain["prompt"], str):
        plain["prompt"] = _turns(plain["prompt"])
    if strength:
        plain["meta"]["hint"] = f"{STRENGTHS[min(abs(strength), 3)]} than the other"
    return from_row(plain)


def _turns(prompt: str) -> list[dict[str, str]]:
    """HelpSteer2 writes a conversation as one text, with NeMo's marks between the turns."""
    parts = ["User", *re.split(r"\n?<extra_id_1>(User|Assistant)\n", prompt)]
    roles = {"User": "user", "Assistant": "assistant"}
    return [{"role": roles[parts[i]], "content": parts[i + 1]} for i in range(0, len(parts), 2)]


def answer_points(query: str | Sequence[Any], samples: Sequence[str], answer: str) -> list[Example]:
    """Single and pair points of sampled answers to a question whose true answer is known (§4).

    Each sample is a single with label 1 where it ends in the true answer, else 0. Right samples are
    matched with wrong ones, each used once, in a seeded order. The true answer goes to `meta` and not to
    `reference`, so that no prompt shows it.
    """
    messages = as_messages(query)
    name = content_id(messages, [answer])
    right = [same_answer(final_answer(sample), answer) for sample in samples]
    meta = {"answer": answer, "domain": "verifiable"}
    singles = [
        Example(f"{name}/{i}", messages, (sample,), labels=(float(ok),), meta=meta)
        for i, (sample, ok) in enumerate(zip(samples, right, strict=True))
    ]
    sides = [[i for i, ok in enumerate(right) if ok is side] for side in (True, False)]
    for side in sides:
        random.Random(seed_of(name, "match")).shuffle(side)
    pairs = [
        Example(f"{name}/{i}-{j}", messages, (samples[i], samples[j]), labels=(1.0, 0.0), meta=meta)
        for i, j in zip(*sides, strict=False)
    ]
    return singles + pairs


def unusable(
    source: str,
    faults: Sequence[Fault],
    count: int,
    expected: str = "labels with exactly one maximum; 0 or 1 for a single response",
) -> InputError:
    """The error for data points that cannot be used, with the first of them."""
    return InputError(
        f"{source}: {len(faults)} of {count} data points are unusable:\n{_listed(faults)}",
        expected=expected,
        fix="mend them, or leave them out with skip_bad = true (--skip-bad)",
    )


def _listed(faults: Sequence[Fault]) -> str:
    lines = [f"  {fault.where}: {fault.fault}" for fault in faults[:_SHOWN]]
    return "\n".join(lines + ([f"  and {len(faults) - _SHOWN} more"] if len(faults) > _SHOWN else []))
