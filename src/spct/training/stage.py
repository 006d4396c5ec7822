"""A training run's folder: one writer, one config, metrics and checkpoints that survive a kill.

    OUT/manifest.json    settings, data hashes, versions, counts; `finished` once the model is written
    OUT/metrics.jsonl    one line a logged step
    OUT/checkpoints/     the engine's
    OUT/model/           the result, loadable by transformers and vLLM

In a run of many processes the first one writes; the others use the same object and write nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

from spct.errors import InputError
from spct.examples import dump_json
from spct.training.configs import StageConfig, adapter_of

PACKAGES = ("spct", "torch", "transformers", "trl", "peft", "accelerate", "datasets", "vllm", "deepspeed")


def rank() -> int:
    """Number of this process among those of the run, as torchrun and accelerate set it."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """Number of processes of the run."""
    return int(os.environ.get("WORLD_SIZE", "1"))


class Stage:
    """An open run folder of a stage; made by `open_stage`."""

    def __init__(self, path: Path, manifest: dict[str, Any], *, writes: bool) -> None:
        self.path, self.manifest, self.writes = path, manifest, writes

    @property
    def model(self) -> Path:
        """Where the result is written."""
        return self.path / "model"

    @property
    def finished(self) -> bool:
        """True where the folder holds the result of these very settings."""
        return "finished" in self.manifest

    def checkpoint(self) -> Path | None:
        """The last complete checkpoint, to resume from."""
        found = [
            (int(match.group(1)), path)
            for path in self.path.glob("checkpoints/checkpoint-*")
            if (match := re.fullmatch(r"checkpoint-(\d+)", path.name))
            and (path / "trainer_state.json").is_file()
        ]
        return max(found)[1] if found else None

    def append(self, name: str, row: Mapping[str, Any]) -> None:
        """Add one line to a JSONL file of the run."""
        if self.writes:
            with (self.path / name).open("a", encoding="utf-8") as file:
                file.write(dump_json(row) + "\n")

    def rewind(self, step: int) -> None:
        """Forget logged lines after a step: they are computed again from the checkpoint."""
        for path in self.path.glob("*.jsonl") if self.writes else ():
            rows = [line for line in path.read_text(encoding="utf-8").split("\n") if line.endswith("}")]
            kept = [line for line in rows if json.loads(line).get("step", 0) <= step]
            path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")

    def note(self, **facts: Any) -> None:
        """Add facts to the manifest."""
        self.manifest |= facts
        if self.writes:
            temporary = self.path / "manifest.json.tmp"
            temporary.write_text(
                json.dumps(self.manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
            )
            temporary.replace(self.path / "manifest.json")

    def finish(self, **facts: Any) -> None:
        """Mark the run as finished."""
        self.note(**facts, finished=datetime.now(UTC).isoformat(timespec="seconds"))


@contextmanager
def open_stage(config: StageConfig, *, resume: bool) -> Iterator[Stage]:
    """Open the folder of a run for its duration.

    Args:
        config: The resolved settings; a resumed run must have the same.
        resume: Go on with the run in the folder, if one is there.

    Raises:
        InputError: Another process writes to the folder; it holds a run and resume is False; or the
            run there has other settings or data (the difference is shown).
    """
    path, writes = Path(config.out), rank() == 0
    read = [*config.data, *filter(None, [adapter_of(config)])]
    manifest = {
        "settings": config.model_dump(mode="json"),
        "data_hashes": {source: source_hash(source) for source in read},
        "versions": versions(),
        "processes": world_size(),
    }
    if not writes:
        yield Stage(path, manifest, writes=False)
        return
    path.mkdir(parents=True, exist_ok=True)
    with locked(path):
        stage = Stage(path, _resumed(path, manifest, _defaults(config), resume=resume), writes=True)
        stage.note()
        yield stage


@contextmanager
def locked(path: Path) -> Iterator[IO[bytes]]:
    """Hold the folder's lock; a kill of the process releases it.

    Raises:
        InputError: Another process holds it.
    """
    with (path / "run.lock").open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"another process writes to {path}", expected="one run a folder", fix="set another out"
            ) from None
        yield file


def _resumed(
    path: Path, manifest: dict[str, Any], defaults: dict[str, Any], *, resume: bool
) -> dict[str, Any]:
    if not (path / "manifest.json").is_file():
        return manifest
    if not resume:
        raise InputError(
            f"{path} holds a run", expected="a new folder", fix="pass --resume, or set another out"
        )
    old: dict[str, Any] = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    old["settings"] = defaults | old["settings"]  # those that came after the run was begun
    changed = [
        f"  {part}.{name}: {old[part].get(name)!r} in the folder, {manifest[part].get(name)!r} now"
        for part in ("settings", "data_hashes")
        for name in sorted((old[part].keys() | manifest[part].keys()) - {"out"})
        if old[part].get(name) != manifest[part].get(name)
    ]
    if changed:
        raise InputError(
            f"{path} holds a run with other settings or data:\n" + "\n".join(changed),
            expected="the same, to resume it",
            fix="set another out, or go back to the settings of that run",
        )
    return old | {"versions": manifest["versions"], "processes": manifest["processes"]}


def _defaults(config: StageConfig) -> dict[str, Any]:
    fields = type(config).model_fields.items()
    return {name: f.get_default(call_default_factory=True) for name, f in fields if not f.is_required()}


def source_hash(source: str) -> str | None:
    """Hash of a data file, or of those in a folder; None for a name on the hub."""
    path = Path(source)
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    # of a rollout folder or an adapter; what else it holds may change
    names = ("examples.jsonl", "trajectories.jsonl", "adapter_model.safetensors")
    files = sorted(p for p in path.rglob("*") if p.name in names or p.suffix == ".arrow")
    parts = "".join(source_hash(str(p)) or "" for p in files)
    return hashlib.sha256(parts.encode()).hexdigest()[:16] if files else None


def versions() -> dict[str, str]:
    """Versions of the packages that decide a result, of those that are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
