"""What `spct score` and `spct revote` do: a file or a stored run in, verdicts and a summary out."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from spct.backends import embedded, open_backend
from spct.backends.base import Backend
from spct.configs import JudgeConfig, build
from spct.errors import ConfigError, InputError
from spct.examples import Examples, dump_json, read_examples
from spct.judge import Judge
from spct.meta import ClassifyServer, LocalClassifier, MetaRM
from spct.progress import progress
from spct.prompts import check_inputs, choose_template, load_template, render
from spct.records import RunFolder, run_manifest
from spct.sampling import draws
from spct.tally import Tally, verdict_table
from spct.types import Example, Verdict, hash_text
from spct.voting import verdict

TABLE_ROWS = 20  # a longer run is summed up only


class Engine(NamedTuple):
    """Which engine and meta RM a command asks for."""

    backend: str = "auto"
    model: str | None = None
    base_urls: Sequence[str] = ()
    adapter: str | None = None
    concurrency: int | None = None
    extra_body: str | None = None
    meta_url: str | None = None
    meta_model: str | None = None

    @property
    def embedded(self) -> bool:
        """True where the embedded model judges."""
        local = self.backend == "local" or (self.backend == "auto" and not self.base_urls)
        return local and self.model in (None, embedded.NAME)

    def name(self) -> str:
        """Name of the judge for the manifest."""
        model = self.model or (embedded.NAME if self.embedded else self.backend)
        if self.adapter not in (None, embedded.WITHOUT):
            return f"{model}+{self.adapter}"
        return embedded.resolve_adapter(model, self.adapter)[0] if self.embedded else model

    def meta_name(self) -> str | None:
        """Name of the meta RM for the manifest."""
        if self.meta_model and not self.meta_url:
            return embedded.resolve_meta(self.meta_model)[0]
        return self.meta_model or self.meta_url

    def open_backend(self) -> Backend:
        """The engine."""
        return open_backend(
            self.backend,
            model=self.model,
            base_urls=self.base_urls,
            adapter=self.adapter,
            concurrency=self.concurrency,
            extra_body=self.extra_body,
        )

    def open_meta(self) -> MetaRM | None:
        """The meta RM, if one is asked for."""
        if self.meta_url:
            return ClassifyServer(self.meta_url, model=self.meta_model)
        return LocalClassifier(self.meta_model) if self.meta_model else None


def settings(**given: Any) -> dict[str, Any]:
    """Settings of a command line: options that were left out are left to their defaults."""
    if given.get("scale"):
        given["scale"] = parse_scale(given["scale"])
    return {name: value for name, value in given.items() if value is not None}


def parse_scale(text: str) -> tuple[int, int]:
    """Read `1..10`."""
    low, dots, high = text.partition("..")
    try:
        if not dots:
            raise ValueError
        return int(low), int(high)
    except ValueError:
        raise ConfigError(f"--scale is {text!r}", expected="lowest..highest, e.g. 1..10") from None


def judge_config(
    given: dict[str, Any], engine: Engine, protocol: Mapping[str, Any] | None = None
) -> JudgeConfig:
    """The settings, with the embedded model's own defaults.

    Args:
        given: What the user asks for; it wins.
        engine: Of the judge.
        protocol: What a benchmark asks for; an embedded model keeps to the prompt that it was trained with.
    """
    own = embedded.settings(engine.adapter, hinted=given.get("hinted", False)) if engine.embedded else {}
    return build(JudgeConfig, dict(protocol or {}) | own | given)


def score_file(
    source: Path,
    out: Path | None,
    given: dict[str, Any],
    engine: Engine,
    *,
    skip_bad: bool = False,
    dry_run: bool = False,
    as_json: bool = False,
) -> int:
    """Score a file of examples; returns the exit code.

    1 where samples are missing because the engine failed (run again to draw them), 130 after Ctrl-C,
    else 0.
    """
    config = judge_config(given, engine)
    if engine.meta_name() is None and config.k_meta is not None:
        raise ConfigError(
            f"--k-meta is {config.k_meta} without a meta RM", fix="add --meta-url or --meta-model"
        )
    if engine.meta_name() is not None and config.adaptive != "off":
        raise ConfigError(f"--adaptive {config.adaptive} with a meta RM", fix="leave one of the two out")
    read = read_examples(source, skip_bad=skip_bad)
    check_examples(read.examples, config)
    manifest = score_manifest(source, read, config, engine)
    if dry_run:
        print(json.dumps(manifest | {"plan": _plan(read.examples, config)}, indent=2, ensure_ascii=False))
        return 0
    backend = engine.open_backend()
    meta = engine.open_meta()
    run = RunFolder.create(out, manifest, read.examples) if out else None
    tally = Tally(read.examples, read.bad)
    judge = Judge(backend, config, meta=meta, run=run)
    try:
        asyncio.run(_score(judge, read.examples, tally, skip_bad=skip_bad, as_json=as_json))
    except KeyboardInterrupt:
        print(
            "interrupted; finished samples are stored, run the same command again to go on", file=sys.stderr
        )
        return 130
    finally:
        if out is not None and run is not None:
            tally.write_verdicts(out)
            run.note({"dropped": [{"example": name, "fault": fault} for name, fault in tally.left_out]})
            run.close()
    _summary(tally, out, as_json=as_json)
    return 1 if tally.lost else 0


def check_examples(examples: Sequence[Example], config: JudgeConfig) -> None:
    """Refuse, before anything is drawn, examples that lack what their template shows."""
    for example in examples:
        name = "hinted" if config.hinted else config.template or choose_template(example)
        check_inputs(load_template(name), example)


def score_manifest(source: Path, read: Examples, config: JudgeConfig, engine: Engine) -> dict[str, Any]:
    """Manifest of a scoring run. What is under `settings` decides what the samples are."""
    names = ["hinted"] if config.hinted else [config.template] if config.template else []
    templates = sorted({load_template(n).id for n in names or {choose_template(e) for e in read.examples}})
    identity = config.model_dump() | {
        "model": engine.name(),
        "templates": templates,
        "data": hash_text("\n".join(hash_text(repr((e.id, e.messages, e.responses))) for e in read.examples)),
        "extra_body": engine.extra_body,
        "meta_model": engine.meta_name(),
    }
    dropped = [{"line": bad.line, "fault": bad.fault} for bad in read.bad]
    return run_manifest(
        identity, command="score", source=str(source), examples=len(read.examples), bad_lines=dropped
    )


def _plan(examples: Sequence[Example], config: JudgeConfig) -> dict[str, Any]:
    first = examples[0]
    plan = draws(config, len(first.responses), first.id, config.k)
    template = load_template("hinted" if config.hinted else config.template or choose_template(first))
    [prompt] = render(template, first, [plan[0].order], scale=config.scale)
    samples = sum(config.k for _ in examples)
    orders = sum(len({d.order for d in draws(config, len(e.responses), e.id, config.k)}) for e in examples)
    return {
        "examples": len(examples),
        "samples": samples,
        "requests": orders,
        "first_prompt": [{"role": m.role, "content": m.content} for m in prompt],
    }


async def _score(
    judge: Judge, examples: Sequence[Example], tally: Tally, *, skip_bad: bool, as_json: bool
) -> None:
    def leave_out(example: Example, error: InputError) -> None:
        tally.left_out.append((example.id, error.got))
        print(f"left out {example.id}: {error.got}", file=sys.stderr)

    async with judge:
        with progress("scoring", len(examples)) as advance:
            async for v in judge.astream(examples, on_bad=leave_out if skip_bad else None):
                tally.add(v)
                advance(note=tally.note())
                if as_json:
                    print(dump_json(v.to_dict()), flush=True)


def _summary(tally: Tally, out: Path | None, *, as_json: bool) -> None:
    """The table of a small run and the figures of any; on stderr where stdout is for JSON."""
    from rich.console import Console

    console = Console(stderr=as_json)
    if not as_json and len(tally.verdicts) <= TABLE_ROWS:
        console.print(verdict_table(tally.verdicts))
    lines = [*tally.figures(), f"{time.monotonic() - tally.started:.1f} s"]
    if out:
        lines.append(f"stored in {out}; `spct show {out}` shows why, `spct revote {out} -k 1` votes again")
    if tally.lost:
        lines.append("run the same command again to draw the missing samples")
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def revote(path: Path, ks: Sequence[int], k_meta: int | None, min_valid: int, *, as_json: bool) -> None:
    """Vote again over a stored run with the first k samples, for each k; no k means all."""
    run = RunFolder.load(path)
    stored = max((len(found) for _, found in run), default=0)
    for k in ks or [stored]:
        if not 1 <= k <= max(stored, 1):
            raise InputError(
                f"k is {k}", expected=f"1..{stored}, what the run holds", fix=f"spct score ... -k {k}"
            )
        verdicts = stored_verdicts(run, k, k_meta, min_valid)
        if as_json:
            for v in verdicts:
                print(dump_json(v.to_dict()))
        else:
            print(_revote_line(k, k_meta, Tally.of(run.examples, verdicts)))


def stored_verdicts(
    run: RunFolder, k: int, k_meta: int | None = None, min_valid: int = 1
) -> Iterable[Verdict]:
    """Verdicts over the samples 0..k-1 of each example of a run, in its order.

    Raises:
        InputError: k_meta exceeds k, or samples have no meta rewards.
    """
    if k_meta is not None and not 1 <= k_meta <= k:
        raise InputError(f"k_meta is {k_meta}", expected=f"1..{k}", fix="k_meta counts kept samples of k")
    for example, found in run:
        first = [t for t in found if t.sample < k]
        if k_meta is not None:
            first = run.with_meta(first)
        yield verdict(example.id, first, k=k, min_valid=min_valid, k_meta=k_meta)


def _revote_line(k: int, k_meta: int | None, tally: Tally) -> str:
    guided = "" if k_meta is None else f" k_meta {k_meta}"
    accuracy = ""
    if tally.accuracy is not None:
        accuracy = f"  accuracy {100 * tally.accuracy:.2f} % of {len(tally.credits)}"
    return (
        f"k {k}{guided}: {len(tally.verdicts)} examples{accuracy}  parsed {tally.valid}/{tally.samples}"
        f"  ties {tally.tied}  without rewards {tally.empty}"
    )
