"""The run folder: what was asked, and every finished sample, append-only.

    manifest.json        what the run is: settings, model, data hash, versions, dropped lines
    examples.jsonl       what is judged
    trajectories.jsonl   one finished sample a line, keyed by the hash of all that determines it
    meta_rewards.jsonl   one meta reward a line, keyed by trajectory and meta RM
    run.lock             held while a process writes

A line is written in one call, so a kill loses at most the sample being written; a torn last line
is cut off at the next start. Votes, curves and reports are recomputed from the folder offline.
"""

from __future__ import annotations

import contextlib
import fcntl
import filecmp
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from spct.errors import BackendError, InputError
from spct.examples import dump_json, read_examples, write_examples
from spct.types import Example, FailureReason, Principle, Trajectory, Usage

MANIFEST, EXAMPLES, TRAJECTORIES, META = (
    "manifest.json",
    "examples.jsonl",
    "trajectories.jsonl",
    "meta_rewards.jsonl",
)
GROWS = "k"  # the one setting that may rise when a run is resumed: samples do not depend on it


def to_json(t: Trajectory) -> str:
    """One line of `trajectories.jsonl`; fields at their defaults are left out."""
    row: dict[str, Any] = {
        "example_id": t.example_id,
        "sample": t.sample,
        "key": t.key,
        "order": t.order,
        "seed": t.seed,
        "text": t.text,
        "model": t.model,
        "template": t.template,
    }
    if t.scores is not None:
        row["scores"] = t.scores
    else:
        row["failure"], row["detail"] = str(t.failure), t.detail
    if t.principles:
        row["principles"] = [[p.name, p.weight, p.text] for p in t.principles]
    for name in ("thinking", "critique", "finish_reason", "hinted"):
        if getattr(t, name):
            row[name] = getattr(t, name)
    row["usage"] = [t.usage.prompt_tokens, t.usage.completion_tokens, t.usage.cached_tokens]
    row["latency_s"] = round(t.latency_s, 4)
    return dump_json(row)


def from_json(line: str | bytes) -> Trajectory:
    """Read one line of `trajectories.jsonl`."""
    row = json.loads(line)
    scores, failure = row.get("scores"), row.get("failure")
    return Trajectory(
        example_id=row["example_id"],
        sample=row["sample"],
        key=row["key"],
        order=tuple(row["order"]),
        seed=row["seed"],
        text=row["text"],
        thinking=row.get("thinking", ""),
        principles=tuple(Principle(*p) for p in row.get("principles", ())),
        critique=row.get("critique", ""),
        scores=None if scores is None else tuple(scores),
        failure=None if failure is None else FailureReason(failure),
        detail=row.get("detail", ""),
        finish_reason=row.get("finish_reason", ""),
        usage=Usage(*row["usage"]),
        latency_s=row["latency_s"],
        model=row["model"],
        template=row["template"],
        hinted=row.get("hinted", False),
    )


class RunFolder:
    """An open run folder; one writer at a time.

    Use `create` to start or resume a run, `load` to read one. A sample that the world failed
    (`timeout`, `http`) counts as missing when the run is resumed; the bad and the good of the
    model are kept as they are.
    """

    def __init__(self, path: Path, manifest: dict[str, Any], examples: list[Example]) -> None:
        self.path, self.manifest, self.examples = path, manifest, examples
        self._by_key: dict[str, Trajectory] = {}
        self._by_example: dict[str, dict[int, Trajectory]] = {}
        self._meta: dict[tuple[str, str], float] = {}
        self._files: dict[str, IO[bytes]] = {}
        self._lock: IO[bytes] | None = None

    @classmethod
    def create(cls, path: str | Path, manifest: dict[str, Any], examples: Iterable[Example]) -> Self:
        """Start a run in a new folder, or resume the same run in its folder.

        Args:
            path: The folder; made if it is not there.
            manifest: What the run is; `settings` must equal those of a run that is resumed, but for
                a higher k.
            examples: What is judged; of a run that is resumed, the same ones.

        Raises:
            InputError: The folder holds another run (the difference is shown), something else, or
                another process writes to it.
        """
        path, examples = Path(path), list(examples)
        if path.exists() and not path.is_dir():
            raise InputError(f"{path} is a file", expected="a folder for the run")
        resumed = (path / MANIFEST).is_file()
        if not resumed and path.is_dir() and any(not _left_by_a_kill(p.name) for p in path.iterdir()):
            raise InputError(
                f"{path} is not empty and holds no run", expected="a new folder, or a run to resume"
            )
        if resumed:
            manifest = _merged(path, _read_manifest(path), manifest)
        path.mkdir(parents=True, exist_ok=True)
        run = cls(path, manifest, examples)
        run._acquire()
        try:
            run._write_manifest()  # first: from here on the folder is this run's, whenever a kill comes
            run._keep_examples()
            for name in (TRAJECTORIES, META):
                _cut_torn_line(path / name)
            run._read()
        except BaseException:
            run.close()
            raise
        return run

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a run, finished or not, without writing to it.

        Raises:
            InputError: No run is there, or a line in its middle is damaged.
        """
        path = Path(path)
        if not (path / MANIFEST).is_file():
            raise InputError(
                f"{path} holds no run", expected=f"a folder with {MANIFEST}, as `spct score --out` writes"
            )
        run = cls(path, _read_manifest(path), read_examples(path / EXAMPLES).examples)
        run._read()
        return run

    def get(self, key: str) -> Trajectory | None:
        """The sample of that key, if it is finished."""
        return self._by_key.get(key)

    def trajectories(self, example_id: str) -> list[Trajectory]:
        """Finished samples of an example, by index."""
        found = self._by_example.get(example_id, {})
        return [found[i] for i in sorted(found)]

    def __iter__(self) -> Iterator[tuple[Example, list[Trajectory]]]:
        for example in self.examples:
            yield example, self.trajectories(example.id)

    def add(self, trajectories: Iterable[Trajectory]) -> None:
        """Store finished samples; what was written survives a kill of the process.

        Raises:
            BackendError: The disk does not take them.
        """
        finished = list(trajectories)
        self._append(TRAJECTORIES, "".join(to_json(t) + "\n" for t in finished))
        for t in finished:
            self._keep(t)

    def meta_reward(self, key: str, meta_model: str) -> float | None:
        """The stored meta reward of a sample under a meta RM."""
        return self._meta.get((key, meta_model))

    def add_meta(self, rewards: Mapping[str, float], meta_model: str) -> None:
        """Store meta rewards by trajectory key.

        Raises:
            BackendError: The disk does not take them.
        """
        rows = [{"key": key, "meta_model": meta_model, "meta_reward": r} for key, r in rewards.items()]
        self._append(META, "".join(json.dumps(row) + "\n" for row in rows))
        self._meta.update({(key, meta_model): reward for key, reward in rewards.items()})

    def with_meta(
        self, trajectories: Iterable[Trajectory], meta_model: str | None = None
    ) -> list[Trajectory]:
        """The samples with their stored meta rewards; of the manifest's meta RM by default."""
        model = meta_model or self.manifest.get("settings", {}).get("meta_model") or ""
        return [replace(t, meta_reward=self._meta.get((t.key, model))) for t in trajectories]

    def note(self, facts: Mapping[str, Any]) -> None:
        """Add facts to the manifest, e.g. what was left out."""
        self.manifest = self.manifest | dict(facts)
        self._write_manifest()

    def close(self) -> None:
        """Close files and release the lock; twice is fine."""
        for file in self._files.values():
            file.close()
        self._files.clear()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write_manifest(self) -> None:
        _replace_text(self.path / MANIFEST, json.dumps(self.manifest, indent=2, ensure_ascii=False) + "\n")

    def _keep_examples(self) -> None:
        """Write the examples, or see that they are those of the run that is resumed."""
        stored, given = self.path / EXAMPLES, _temporary(self.path / EXAMPLES)
        write_examples(self.examples, given)
        if not stored.is_file():
            given.replace(stored)
            return
        same = filecmp.cmp(given, stored, shallow=False)
        given.unlink()
        if not same:
            was, now = (
                {e.id for e in examples} for examples in (read_examples(stored).examples, self.examples)
            )
            raise InputError(
                f"{self.path} is a run over {len(was)} examples, these are {len(now)}, {len(was & now)} of"
                " the same id",
                expected="the same examples in the same order",
                fix="use another folder",
            )

    def _keep(self, t: Trajectory) -> None:
        if t.failure is None or not t.failure.of_the_world:
            self._by_key[t.key] = t
        self._by_example.setdefault(t.example_id, {})[t.sample] = t

    def _keep_meta(self, line: bytes) -> None:
        row = json.loads(line)
        self._meta[row["key"], row["meta_model"]] = row["meta_reward"]

    def _read(self) -> None:
        keepers: dict[str, Callable[[bytes], None]] = {
            TRAJECTORIES: lambda line: self._keep(from_json(line)),
            META: self._keep_meta,
        }
        for name, keep in keepers.items():
            for number, line in _complete_lines(self.path / name):
                try:
                    keep(line)
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    raise InputError(
                        f"{self.path / name}:{number} is damaged: {error!r}",
                        expected="one sample a line",
                        fix="delete that line; what it held is drawn again on resume",
                    ) from None

    def _append(self, name: str, text: str) -> None:
        if self._lock is None:
            raise InputError(f"{self.path} is open for reading", expected="a run opened by RunFolder.create")
        data = memoryview(text.encode("utf-8"))
        try:
            if name not in self._files:
                self._files[name] = (self.path / name).open("ab", buffering=0)
            while data:
                data = data[self._files[name].write(data) :]
        except OSError as error:
            with contextlib.suppress(OSError):
                _cut_torn_line(self.path / name)
            raise BackendError(
                f"{self.path / name} cannot be written: {error}",
                expected="a disk with room",
                fix="make room, then run the same command again to go on",
            ) from error

    def _acquire(self) -> None:
        self._lock = (self.path / "run.lock").open("ab")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise InputError(
                f"another process writes to {self.path}",
                expected="one process a run folder",
                fix="wait for it, or use another --out",
            ) from None


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        if not isinstance(manifest, dict):
            raise ValueError(f"it is a {type(manifest).__name__}")
    except ValueError as error:
        raise InputError(f"{path / MANIFEST} is no JSON object: {error}", fix="use a new folder") from None
    return manifest


def _merged(path: Path, old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The manifest of a resumed run: what it was, with k raised if asked."""
    before, now = dict(old.get("settings", {})), dict(new.get("settings", {}))
    if isinstance(before.get(GROWS), int) and now.get(GROWS, 0) >= before[GROWS]:
        before[GROWS] = now[GROWS]
    differences = [
        f"  {name}: {before.get(name)!r} in the folder, {now.get(name)!r} now"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]
    if differences:
        raise InputError(
            f"{path} holds a run with other settings:\n" + "\n".join(differences),
            expected="the same settings, to resume it",
            fix="use another --out, or the settings of that run",
        )
    return old | {"settings": now}


def _temporary(path: Path) -> Path:
    return path.with_name(f"{path.name}.{os.getpid()}.tmp")


def _left_by_a_kill(name: str) -> bool:
    """True for what a run that was killed at its very start leaves."""
    return name == "run.lock" or (name.startswith(MANIFEST) and name.endswith(".tmp"))


def _replace_text(path: Path, text: str) -> None:
    _temporary(path).write_text(text, encoding="utf-8")
    _temporary(path).replace(path)


def _cut_torn_line(path: Path) -> None:
    """Cut what follows the last line end: the write that a kill interrupted."""
    if not path.is_file():
        return
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        end, block = size, 1 << 16
        while end > 0:
            start = max(0, end - block)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                end = start + found + 1
                break
            end = start
        if end < size:
            file.truncate(end)


def _complete_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines with their numbers; as bytes, for a torn last one may end within a character."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.endswith(b"\n"):
                yield number, line


def run_manifest(settings: Mapping[str, Any], **facts: Any) -> dict[str, Any]:
    """A manifest: settings decide what the samples are, facts are for the record."""
    from importlib.metadata import version

    packages = {name: version(name) for name in ("spct", "aiohttp", "jinja2", "pydantic")}
    return {"settings": json.loads(json.dumps(settings)), **facts, "versions": packages}
