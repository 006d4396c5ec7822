"""`Judge`: score responses with a generative reward model at any budget.

    with Judge.server("Qwen/Qwen3-8B", "http://localhost:8000", k=8) as judge:
        verdict = judge.score("What is 2+2?", ["4", "5"])

The core is async (`ascore`, `astream`, `ascore_many`, `abest_of_n`); `score`, `score_many` and
`best_of_n` run it on a thread of its own, so that they work in a notebook too. Results stand in
the caller's order, of responses and of examples.
"""

from __future__ import annotations

import asyncio
import gc
import math
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any, NamedTuple, Self

from spct.backends import embedded
from spct.backends.base import Backend
from spct.configs import JudgeConfig, build
from spct.errors import ConfigError, InputError
from spct.examples import read_examples
from spct.job import Job, Shared, cancel
from spct.meta import MetaRM, meta_prompt
from spct.prompts import Shot, load_template
from spct.records import RunFolder
from spct.sampling import next_count
from spct.sync import LoopThread
from spct.types import Example, Message, Trajectory, Verdict
from spct.voting import default_k_meta, verdict

_UNDER_WAY = 1.25  # examples being scored for each request in flight: a few wait, so that no place is empty
_HELD = 16  # times as many may be done and wait for a slow one before them
_YOUNG = 20_000  # objects made between two garbage collections while many examples are under way


class BestOfN(NamedTuple):
    """The chosen response, or None where no sample was valid; and why."""

    best: int | None
    response: str | None
    verdict: Verdict


class Judge:
    """A generative reward model: an engine, settings, and maybe a meta RM and a run folder.

    Args:
        backend: The engine, see `spct.backends`.
        config: Settings; None takes the defaults.
        meta: A meta RM that guides the votes (§5).
        run: An open run folder: what it holds is not drawn again, what is drawn is stored.
        settings: Single settings of `JudgeConfig` by name, e.g. `k=32`.

    Raises:
        ConfigError: A setting is wrong, or settings do not go together.
    """

    def __init__(
        self,
        backend: Backend,
        config: JudgeConfig | None = None,
        *,
        meta: MetaRM | None = None,
        run: RunFolder | None = None,
        **settings: Any,
    ) -> None:
        given = config.model_dump(exclude_unset=True) if config else {}
        self.config = build(JudgeConfig, given | settings)
        self.backend, self.meta, self.run = backend, meta, run
        if meta is not None and self.config.adaptive != "off":
            raise ConfigError(
                "adaptive k stops by plain votes", expected="no meta RM with it", fix="use one of them"
            )
        if meta is None and self.config.k_meta is not None:
            raise ConfigError(f"k_meta is {self.config.k_meta} without a meta RM", fix="pass a meta RM too")
        if self.config.template is not None and load_template(self.config.template).kind == "meta":
            raise ConfigError(
                f"template {self.config.template!r} is for the meta RM", expected="one that asks for scores"
            )
        shots = read_shots(self.config.shots) if self.config.shots else ()
        self._shared = Shared(backend, self.config, run, shots)
        self._thread = LoopThread()

    @classmethod
    def server(
        cls, model: str, base_urls: str | Sequence[str], *, run: RunFolder | None = None, **settings: Any
    ) -> Self:
        """A judge on any OpenAI-compatible server; the key comes from OPENAI_API_KEY."""
        from spct.backends.openai import OpenAIBackend

        return cls(OpenAIBackend(model, base_urls), run=run, **settings)

    @classmethod
    def local(
        cls,
        model: str = "smollm2",
        *,
        adapter: str | None = None,
        run: RunFolder | None = None,
        **settings: Any,
    ) -> Self:
        """A judge in this process, by transformers (extra `local`).

        The embedded model comes with settings of its own, see `spct.backends.embedded.settings`.
        """
        from spct.backends.local import LocalBackend

        if model == embedded.NAME:
            settings = embedded.settings(adapter, hinted=settings.get("hinted", False)) | settings
        return cls(LocalBackend(model, adapter=adapter), run=run, **settings)

    async def ascore(
        self,
        example: Example | str | Sequence[Message | Mapping[str, str]],
        responses: Sequence[str] | None = None,
        **fields: Any,
    ) -> Verdict:
        """Score the responses to one query.

        Args:
            example: An Example; or a query, as a text or a conversation, with `responses`.
            responses: 1..n texts.
            fields: `reference`, `principles`, `labels`, `id`, `meta`.

        Returns:
            The vote over k samples. `rewards` is None where too few of them were valid.

        Raises:
            InputError: The example is not one, or its prompt does not fit the model.
            BackendError: The engine is gone; finished samples are stored.
        """
        if not isinstance(example, Example):
            if responses is None:
                raise InputError("responses is missing", expected="1..n texts")
            example = Example.of(example, responses, **fields)
        elif responses is not None or fields:
            given = ", ".join(["responses"] * (responses is not None) + [*fields])
            raise InputError(
                f"an Example and {given} too", expected="either", fix="put them into the Example"
            )
        job = Job(self._shared, example)
        drawn: list[Trajectory] = []
        while (count := next_count(self.config, len(example.responses), drawn, job.scale)) > len(drawn):
            drawn += await job.draw(len(drawn), count)
        k_meta = None
        if self.meta is not None:
            drawn = await self._with_meta(example, drawn)
            k_meta = self.config.k_meta or default_k_meta(self.config.k)
        return verdict(example.id, drawn, k=self.config.k, min_valid=self.config.min_valid, k_meta=k_meta)

    async def astream(
        self, examples: Iterable[Example], *, on_bad: Callable[[Example, InputError], None] | None = None
    ) -> AsyncIterator[Verdict]:
        """Score many examples, yielding verdicts in their order while later ones are under way.

        Meanwhile Python collects garbage less often, in the whole process: what is under way is
        much and lives long, and going through it again and again took a seventh of the CPU.

        Args:
            examples: Any number; only a window of them is held.
            on_bad: Called with an example whose prompt does not fit the model, which is then left
                out; None raises.
        """
        window: deque[tuple[Example, asyncio.Task[Verdict]]] = deque()
        under_way = math.ceil(_UNDER_WAY * self.backend.max_concurrency)
        room = asyncio.Semaphore(under_way)
        with _rarer_collections():
            try:
                for example in examples:
                    await room.acquire()
                    task = asyncio.create_task(self.ascore(example))
                    task.add_done_callback(lambda _: room.release())
                    window.append((example, task))
                    async for v in _finished(window, on_bad, leave=_HELD * under_way):
                        yield v
                async for v in _finished(window, on_bad, leave=0):
                    yield v
            finally:
                await cancel([task for _, task in window])

    async def ascore_many(self, examples: Iterable[Example]) -> list[Verdict]:
        """Score many examples; verdicts in their order."""
        return [v async for v in self.astream(examples)]

    async def abest_of_n(
        self, query: str | Sequence[Message | Mapping[str, str]], responses: Sequence[str], **fields: Any
    ) -> BestOfN:
        """Choose the best of n responses."""
        v = await self.ascore(query, responses, **fields)
        return BestOfN(v.best, None if v.best is None else responses[v.best], v)

    def score(
        self,
        example: Example | str | Sequence[Message | Mapping[str, str]],
        responses: Sequence[str] | None = None,
        **fields: Any,
    ) -> Verdict:
        """Score the responses to one query; see `ascore`."""
        return self._thread.run(self.ascore(example, responses, **fields))

    def score_many(self, examples: Iterable[Example]) -> list[Verdict]:
        """Score many examples; see `ascore_many`."""
        return self._thread.run(self.ascore_many(examples))

    def best_of_n(
        self, query: str | Sequence[Message | Mapping[str, str]], responses: Sequence[str], **fields: Any
    ) -> BestOfN:
        """Choose the best of n responses; see `abest_of_n`."""
        return self._thread.run(self.abest_of_n(query, responses, **fields))

    async def aclose(self) -> None:
        """Close the engine and the meta RM. A run folder is its opener's to close."""
        await self.backend.aclose()
        if self.meta is not None:
            await self.meta.aclose()

    def close(self) -> None:
        """Close everything; for plain code."""
        self._thread.run(self.aclose())
        self._thread.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _with_meta(self, example: Example, drawn: list[Trajectory]) -> list[Trajectory]:
        """The samples with meta rewards; those in the run folder are not asked for again."""
        assert self.meta is not None
        known = {t.key: self.run.meta_reward(t.key, self.meta.model) if self.run else None for t in drawn}
        asked = [t for t in {t.key: t for t in drawn if t.valid}.values() if known[t.key] is None]
        if asked:
            rewards = await self.meta.score([meta_prompt(example, t) for t in asked])
            fresh = {t.key: reward for t, reward in zip(asked, rewards, strict=True)}
            if self.run is not None:
                self.run.add_meta(fresh, self.meta.model)
            known |= fresh
        return [replace(t, meta_reward=known[t.key]) for t in drawn]


def read_shots(path: str) -> tuple[Shot, ...]:
    """Read worked examples: JSONL of examples, each with the text to imitate in `judgement`.

    Raises:
        InputError: A line has no `judgement`.
    """
    shots = []
    for example in read_examples(path).examples:
        judgement = example.meta.get("judgement")
        if not isinstance(judgement, str):
            raise InputError(
                f"{path}: example {example.id!r} has no judgement", expected='"judgement": a text'
            )
        shots.append(Shot(example, judgement))
    return tuple(shots)


@contextmanager
def _rarer_collections() -> Iterator[None]:
    """Raise the first threshold of the garbage collector, unless the caller has it higher or off."""
    before = gc.get_threshold()
    if 0 < before[0] < _YOUNG:
        gc.set_threshold(_YOUNG, *before[1:])
    try:
        yield
    finally:
        if gc.get_threshold()[0] == _YOUNG:  # nobody else has set it meanwhile
            gc.set_threshold(*before)


async def _finished(
    window: deque[tuple[Example, asyncio.Task[Verdict]]],
    on_bad: Callable[[Example, InputError], None] | None,
    leave: int,
) -> AsyncIterator[Verdict]:
    """Verdicts from the front of the window: those that are done, and as many more as must go."""
    while window and (len(window) > leave or window[0][1].done()):
        example, task = window[0]
        try:
            v = await task
        except InputError as error:
            if on_bad is None:
                raise
            on_bad(example, error)
            window.popleft()
            continue
        window.popleft()
        yield v
