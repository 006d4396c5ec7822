"""One example under way: plan its samples, and get each from the store, a twin or the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from spct.backends.base import Backend
from spct.configs import JudgeConfig
from spct.errors import InputError
from spct.output_form import output_regex
from spct.prompts import Shot, choose_template, load_template, render
from spct.records import RunFolder
from spct.sampling import Draw, draws, requests
from spct.types import Completion, Example, Message, Request, SamplingParams, Trajectory, Usage, hash_text

Drawing = asyncio.Future[dict[str, Trajectory]]  # samples by key: those that came, once it is over
_output_regex = lru_cache(maxsize=256)(output_regex)
_text = lru_cache(maxsize=256)(str)


@dataclass(frozen=True, slots=True)
class Shared:
    """What the examples of one judge share. `under_way` holds who is drawing a sample, by its key."""

    backend: Backend
    config: JudgeConfig
    run: RunFolder | None = None
    shots: Sequence[Shot] = ()
    under_way: dict[str, Drawing] = field(default_factory=dict)


class Job:
    """One example under way: its template, scale, plan and prompts.

    Raises:
        InputError: The template does not fit the example.
    """

    def __init__(self, shared: Shared, example: Example) -> None:
        config, n = shared.config, len(example.responses)
        name = "hinted" if config.hinted else config.template or choose_template(example)
        self.shared, self.example, self.template = shared, example, load_template(name)
        if self.template.kind == "choice" and n < 2:
            raise InputError(
                f"example {example.id!r} has one response", expected="two or more to choose from"
            )
        self.scale = (0, 1) if self.template.kind == "choice" else config.scale or self.template.scale
        regex = None
        if config.constrain:
            regex = _output_regex(self.template, n, config.scale, max_tokens=config.max_tokens)
        self.params = SamplingParams(config.effective_temperature, config.top_p, config.max_tokens, regex)
        self.plan = draws(config, n, example.id, config.k + config.resample)
        self._what = f"{shared.backend.model}\x1f{self.template.id}\x1f{self.scale}\x1f{_text(self.params)}"
        self._prompts: dict[tuple[int, ...], tuple[Message, ...]] = {}
        self._key_bases: dict[tuple[int, ...], str] = {}

    async def draw(self, start: int, stop: int) -> list[Trajectory]:
        """Samples start..stop-1 of the plan, each stored before it is returned."""
        wanted = self.plan[start:stop]
        self._render(wanted)
        keys = self._keys(wanted)
        ready: dict[str, Trajectory] = {}
        while missing := _without(ready, wanted, keys):
            await self._draw_missing(missing, keys, ready)
        return self._own(wanted, keys, ready)

    async def _draw_missing(
        self, missing: Sequence[Draw], keys: Mapping[int, str], ready: dict[str, Trajectory]
    ) -> None:
        """One pass: a key that another job was drawing, and gave up, is left for the next."""
        fresh, theirs = self._claim(missing, keys, ready)
        if fresh:
            mine: Drawing = asyncio.get_running_loop().create_future()
            drawn: dict[str, Trajectory] = {}
            self.shared.under_way.update(dict.fromkeys(fresh, mine))
            try:
                asked = requests(list(fresh.values()), self._prompts, self.params, self.example.id)
                await together(self._asks(asked, keys, drawn))
            finally:
                for key in fresh:
                    del self.shared.under_way[key]
                mine.set_result(drawn)
            ready |= drawn
        if theirs:
            await asyncio.wait(set(theirs.values()))
            for key, drawing in theirs.items():
                if key in drawing.result():
                    ready[key] = drawing.result()[key]

    def _claim(
        self, missing: Sequence[Draw], keys: Mapping[int, str], ready: dict[str, Trajectory]
    ) -> tuple[dict[str, Draw], dict[str, Drawing]]:
        """Put what is stored into `ready`; what nobody draws yet, and what another job draws, by key."""
        run, under_way = self.shared.run, self.shared.under_way
        fresh: dict[str, Draw] = {}
        theirs: dict[str, Drawing] = {}
        for d in missing:
            key = keys[d.sample]
            stored = run.get(key) if run is not None else None
            if stored is not None:
                ready[key] = stored
            elif key in under_way:
                theirs[key] = under_way[key]
            else:
                fresh.setdefault(key, d)
        return fresh, theirs

    def _asks(
        self, asked: Sequence[Request], keys: Mapping[int, str], drawn: dict[str, Trajectory]
    ) -> list[Coroutine[Any, Any, None]]:
        return [self._ask(request, keys, drawn) for request in asked]

    async def _ask(self, request: Request, keys: Mapping[int, str], drawn: dict[str, Trajectory]) -> None:
        completions = await self.shared.backend.generate(request)
        trajectories = self._read(request, keys, completions)
        if self.shared.run is not None:
            self.shared.run.add(trajectories)
        drawn.update((t.key, t) for t in trajectories)

    def _own(
        self, wanted: Sequence[Draw], keys: Mapping[int, str], ready: Mapping[str, Trajectory]
    ) -> list[Trajectory]:
        """Samples under this example's name; one that an identical request gave is stored as its own."""
        owned, copies = [], []
        for d in wanted:
            t = ready[keys[d.sample]]
            if (t.example_id, t.sample) != (self.example.id, d.sample):
                t = replace(t, example_id=self.example.id, sample=d.sample, usage=Usage(), latency_s=0.0)
                copies.append(t)
            owned.append(t)
        run = self.shared.run
        if run is not None and copies:
            have = {(t.sample, t.key) for t in run.trajectories(self.example.id)}
            run.add([t for t in copies if (t.sample, t.key) not in have])
        return owned

    def _render(self, wanted: Sequence[Draw]) -> None:
        orders = sorted({d.order for d in wanted} - self._prompts.keys())
        scale = self.shared.config.scale
        prompts = render(self.template, self.example, orders, scale=scale, shots=self.shared.shots)
        self._prompts.update(zip(orders, prompts, strict=True))

    def _keys(self, wanted: Sequence[Draw]) -> dict[int, str]:
        """Hash of all that determines a sample, by sample; at temperature 0 the seed does not."""
        keys = {}
        for d in wanted:
            if d.order not in self._key_bases:
                prompt = "\x1f".join([m.content for m in self._prompts[d.order]])
                self._key_bases[d.order] = hash_text(f"{self._what}\x1f{d.order}\x1f{prompt}")
            seed = "greedy" if self.params.temperature == 0 else d.seed
            keys[d.sample] = hash_text(f"{self._key_bases[d.order]}:{seed}")[:32]
        return keys

    def _read(
        self, request: Request, keys: Mapping[int, str], completions: Sequence[Completion]
    ) -> list[Trajectory]:
        """Trajectories of a request's completions; scores in the caller's order."""
        order, template, scale = request.order, self.template, self.shared.config.scale
        found = []
        for j, (sample, completion) in enumerate(zip(request.samples, completions, strict=True)):
            reading = template.read(
                completion.text, len(order), scale=scale, finish_reason=completion.finish_reason
            )
            failure, detail, scores = completion.failure, completion.detail, None
            if failure is None and reading.failure is not None:
                failure, detail = reading.failure.reason, reading.failure.detail
            if failure is None and reading.scores is not None:
                scores = tuple([score for _, score in sorted(zip(order, reading.scores, strict=True))])
            found.append(
                Trajectory(
                    example_id=self.example.id,
                    sample=sample,
                    key=keys[sample],
                    order=order,
                    seed=request.seed + j,
                    text=completion.text,
                    thinking="\n".join(filter(None, (completion.thinking, reading.thinking))),
                    principles=reading.principles,
                    critique=reading.critique,
                    scores=scores,
                    failure=failure,
                    detail=detail,
                    finish_reason=completion.finish_reason,
                    usage=completion.usage,
                    latency_s=completion.latency_s,
                    model=self.shared.backend.model,
                    template=template.id,
                    hinted="best" in template.needs,
                )
            )
        return found


def _without(ready: Mapping[str, Trajectory], wanted: Sequence[Draw], keys: Mapping[int, str]) -> list[Draw]:
    return [d for d in wanted if keys[d.sample] not in ready]


async def together(work: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Run coroutines side by side; the first error cancels the rest and is raised as itself."""
    if len(work) < 2:
        for only in work:
            await only
        return
    try:
        async with asyncio.TaskGroup() as group:
            for other in work[1:]:
                group.create_task(other)
            await work[0]  # in this task: one less
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def cancel(tasks: Sequence[asyncio.Future[Any]]) -> None:
    """Cancel what is not done, and wait until it has cleaned up.

    Those that are done are waited for too: an error that nobody asks for is logged by asyncio.
    """
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
