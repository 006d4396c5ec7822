"""What is kept of rollouts for fine-tuning (§3). Pure, but for `reject_runs`, which reads and writes files.

    non-hinted   incorrect ones are dropped (Eq. 10); all of a data point where all N are correct
    hinted       dropped only where incorrect

Differs from the paper: hinted critiques that speak of the hint can be flagged or dropped. A hinted
trajectory becomes training text under the prompt without the hint, in the order that it saw.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast, get_args

from spct.correctness import is_correct
from spct.errors import ConfigError, InputError
from spct.examples import dump_json
from spct.prompts import render
from spct.records import RunFolder
from spct.training.data import domain, label_fault, template_for
from spct.training.general import load_general
from spct.types import Example, Trajectory

Leak = Literal["off", "flag", "drop"]
_BEST = r"(?:best|correct|right|preferred|top|chosen)"
_LEAKS = re.compile(
    r"\bhint(?:s|ed)?\b|\bground[- ]truth\b|\bfor my eyes\b|\bthe note (?:above|says|states)\b"
    rf"|\b(?:told|informed|advised|given) (?:that|to|in advance|beforehand)\b.{{0,40}}\b{_BEST}\b"
    rf"|\b(?:known|said|stated|labell?ed|annotated|indicated|noted|marked|designated) (?:to be|as)"
    rf" (?:the |being )?{_BEST}\b"
    rf"|\b(?:given|provided|known|stated|supplied) {_BEST} (?:response|answer|label)\b"
    r"|\b(?:careful people|human annotators?|the annotators?) (?:found|gave|judged|preferred|said)\b",
    re.IGNORECASE,
)


class Kept(NamedTuple):
    """A trajectory to learn from."""

    example: Example
    trajectory: Trajectory


class Dropped(NamedTuple):
    """A rejected trajectory: `wrong`, `unparsed`, `too_easy`, `leak`, or `lost` by the engine."""

    example_id: str
    sample: int
    hinted: bool
    reason: str


class Rejection(NamedTuple):
    """What is kept and what is not; `leaks` are hinted critiques that speak of the hint, with the phrase."""

    kept: list[Kept]
    dropped: list[Dropped]
    leaks: list[tuple[str, str]]

    def counts(self) -> dict[str, int]:
        """Numbers for the manifest: kept, and dropped by reason."""
        found = Counter(f"kept_{'hinted' if k.trajectory.hinted else 'non_hinted'}" for k in self.kept)
        found.update(d.reason for d in self.dropped)
        easy = {d.example_id for d in self.dropped if d.reason == "too_easy"}
        return {"kept": len(self.kept), **dict(sorted(found.items())), "too_easy_points": len(easy)} | (
            {"leaks": len(self.leaks)} if self.leaks else {}
        )


def check_leak(value: str) -> Leak:
    """Read the setting.

    Raises:
        ConfigError: Another word.
    """
    if value not in get_args(Leak):
        raise ConfigError(f"leak is {value!r}", expected="off, flag or drop")
    return cast(Leak, value)


def reject(
    points: Iterable[tuple[Example, Sequence[Trajectory]]], *, leak: Leak = "flag", keep_easy: bool = False
) -> Rejection:
    """Choose the trajectories to learn from (§3).

    Args:
        points: Each data point with all its trajectories; N is the number of its non-hinted ones.
        leak: `flag` reports hinted critiques that speak of the hint, `drop` rejects them too.
        keep_easy: Keep data points that are right in all N samples (ours): for trajectories of another
            model than the one that is to learn, as what is easy for a teacher is not yet so for its pupil.

    Raises:
        InputError: An example has no usable labels.
    """
    result = Rejection([], [], [])
    for example, trajectories in points:
        fault = label_fault(example)
        if fault:
            raise InputError(f"example {example.id!r}: {fault}", expected="labels with exactly one maximum")
        plain = [t for t in trajectories if not t.hinted]
        always_right = bool(plain) and all(is_correct(t.scores, example.labels or ()) for t in plain)
        for t in trajectories:
            reason = _reason(example, t, too_easy=always_right and not keep_easy)
            phrase = leaked(t) if t.hinted and reason is None and leak != "off" else None
            if phrase:
                result.leaks.append((example.id, phrase))
                reason = "leak" if leak == "drop" else None
            if reason:
                result.dropped.append(Dropped(example.id, t.sample, t.hinted, reason))
            else:
                result.kept.append(Kept(example, t))
    return result


def _reason(example: Example, t: Trajectory, *, too_easy: bool) -> str | None:
    if t.failure is not None:
        return "lost" if t.failure.of_the_world else "unparsed"
    if not is_correct(t.scores, example.labels or ()):
        return "wrong"
    return "too_easy" if too_easy and not t.hinted else None


def leaked(trajectory: Trajectory) -> str | None:
    """The phrase in which a hinted trajectory speaks of its hint, or None. Heuristic, in English.

    The model's own principles and critique are searched, not what it quotes.
    """
    text = re.sub(r'"[^"\n]*"', '""', trajectory.text)
    found = _LEAKS.search(text)
    return found.group() if found else None


def sft_row(
    example: Example,
    trajectory: Trajectory,
    *,
    template: str | None = None,
    single: str = "single",
    scale: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """Prompt and completion of a kept trajectory, as message lists.

    Raises:
        InputError: The trajectory was sampled with another template than the prompt has.
    """
    chosen = template_for(example, template, single)
    if not trajectory.hinted and trajectory.template != chosen.id:
        raise InputError(
            f"example {example.id!r} was sampled with template {trajectory.template}",
            expected=f"{chosen.id}, with which it is to be trained",
            fix="pass the template of the rollouts: --template, --single-template",
        )
    [prompt] = render(
        chosen, example, [trajectory.order], scale=scale if len(example.responses) > 1 else None
    )
    return {
        "prompt": [{"role": m.role, "content": m.content} for m in prompt],
        "completion": [{"role": "assistant", "content": trajectory.text}],
        "id": f"{example.id}/{'hinted' if trajectory.hinted else trajectory.sample}",
        "kind": "hinted" if trajectory.hinted else "non_hinted",
        "domain": domain(example),
    }


def mix(
    rows: Sequence[Mapping[str, Any]], general: Sequence[Mapping[str, Any]], ratio: float, *, seed: int = 0
) -> list[Mapping[str, Any]]:
    """Mix kept trajectories with general instruction data, shuffled.

    Args:
        rows: Kept trajectories.
        general: At least `ratio * len(rows)` rows; a seeded choice is taken.
        ratio: General rows per kept trajectory. Paper: 1070K / 186K = 5.75.
        seed: Of the choice and the shuffle.

    Raises:
        InputError: ratio < 0, or too few general rows.
    """
    wanted = round(ratio * len(rows))
    if ratio < 0 or wanted > len(general):
        raise InputError(
            f"{len(general)} general rows for {len(rows)} trajectories",
            expected=f"{wanted}, {ratio:g} for each",
            fix="lower --ratio, or add general data",
        )
    rng = random.Random(seed)
    mixed = [*rows, *rng.sample(list(general), wanted)]
    rng.shuffle(mixed)
    return mixed


def reject_runs(
    runs: Sequence[str | Path],
    out: str | Path,
    *,
    general: Sequence[str | Path] = (),
    ratio: float = 0.0,
    leak: Leak = "flag",
    keep_easy: bool = False,
    template: str | None = None,
    single: str = "single",
    min_points: int = 1,
    allow_missing: bool = False,
    seed: int = 0,
) -> dict[str, Any]:
    """Read rollout folders and write the fine-tuning file and its manifest.

    Args:
        runs: Folders of `spct rollout`, hinted and not, of the same data points.
        out: JSONL to write; the manifest stands beside it as `OUT.manifest.json`.
        general: Sources of general instruction data.
        ratio: General rows per kept trajectory.
        leak: See `reject`.
        keep_easy: See `reject`.
        template: Prompt of two or more responses, as in the rollouts.
        single: Prompt of one response.
        min_points: Fewer data points with a kept trajectory are an error.
        allow_missing: Go on where samples are missing.
        seed: Of the mix.

    Returns:
        The manifest.

    Raises:
        InputError: Samples are missing, or too few data points are left (counts per reason).
    """
    folders = [RunFolder.load(run) for run in runs]
    points = merge_runs(folders, allow_missing=allow_missing)
    result = reject(points, leak=leak, keep_easy=keep_easy)
    counts = {"points": len(points), "samples": sum(len(ts) for _, ts in points), **result.counts()}
    _enough(result, counts, min_points)
    scale = folders[0].manifest["settings"].get("scale")
    scale = tuple(scale) if scale else None
    rows = [sft_row(e, t, template=template, single=single, scale=scale) for e, t in result.kept]
    mixed = mix(rows, [row for source in general for row in load_general(source)], ratio, seed=seed)
    manifest = {
        "command": "reject",
        "runs": [str(run) for run in runs],
        "models": sorted({t.model for _, ts in points for t in ts}),
        "general": {"sources": [str(s) for s in general], "ratio": ratio, "rows": len(mixed) - len(rows)},
        "settings": {"leak": leak, "keep_easy": keep_easy, "seed": seed}
        | {"template": template, "single_template": single},
        "counts": counts,
        "rows": len(mixed),
        "leaks": [{"example": name, "phrase": phrase} for name, phrase in result.leaks],
        "dropped": [d._asdict() for d in result.dropped],
    }
    _write(Path(out), mixed, manifest)
    return manifest


def _write(out: Path, rows: Sequence[Mapping[str, Any]], manifest: Mapping[str, Any]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("".join(dump_json(row) + "\n" for row in rows), encoding="utf-8")
    Path(f"{out}.manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _enough(result: Rejection, counts: Mapping[str, int], wanted: int) -> None:
    left = len({kept.example.id for kept in result.kept})
    if left < wanted:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise InputError(
            f"{left} data points are left after rejection ({listed})",
            expected=f"at least {wanted}",
            fix="roll out more data, add hinted samples, or start from another model",
        )


def merge_runs(
    folders: Sequence[RunFolder], *, allow_missing: bool = False
) -> list[tuple[Example, list[Trajectory]]]:
    """Trajectories of the same data points from several runs, in the first run's order.

    Raises:
        InputError: One id names different content in two runs; or samples are missing.
    """
    examples: dict[str, Example] = {}
    found: dict[str, list[Trajectory]] = {}
    for folder in folders:
        missing = 0
        for example, trajectories in folder:
            known = examples.setdefault(example.id, example)
            if (known.messages, known.responses) != (example.messages, example.responses):
                raise InputError(
                    f"id {example.id!r} names other content in {folder.path} than in another run",
                    expected="runs over the same data",
                )
            drawn = [t for t in trajectories if t.failure is None or not t.failure.of_the_world]
            missing += int(folder.manifest["settings"]["k"]) - len(drawn)
            found.setdefault(example.id, []).extend(trajectories)
        if missing > 0 and not allow_missing:
            raise InputError(
                f"{folder.path} lacks {missing} samples",
                expected="a finished run",
                fix="run the same `spct rollout` again, or pass --allow-missing",
            )
    return [(examples[name], found[name]) for name in examples]
