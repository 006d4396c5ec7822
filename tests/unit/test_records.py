"""The run folder: what is stored, resumed, refused, and what a kill or a full disk leaves."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from spct.errors import BackendError, InputError
from spct.records import EXAMPLES, MANIFEST, META, TRAJECTORIES, RunFolder, from_json, run_manifest, to_json
from spct.types import Example, FailureReason, Principle, Trajectory, Usage

EXAMPLES_AB = [Example.of("q", ["a", "b"], id="A"), Example.of("r", ["c"], id="B")]
SETTINGS = {"settings": {"k": 4, "model": "m", "seed": 0}}


def sample(example_id="A", index=0, **fields):
    fields = {"scores": (8, 5)} | fields
    if fields.get("failure"):
        fields["scores"] = None
    return Trajectory(
        example_id, index, fields.pop("key", f"{example_id}{index}"), (1, 0), 100 + index, "text", **fields
    )


def create(path, **settings):
    return RunFolder.create(path, {"settings": SETTINGS["settings"] | settings}, EXAMPLES_AB)


FULL = sample(
    thinking="hm", principles=(Principle("Truth", 60.0, "is it?"), Principle("Other")), critique="x\ny",
    finish_reason="stop", usage=Usage(10, 20, 5), latency_s=1.25, model="m", template="t-1", hinted=True,
)  # fmt: skip


@pytest.mark.parametrize(
    "trajectory",
    [
        FULL,
        sample(),
        sample(failure=FailureReason.TRUNCATED, detail="cut"),
        sample(critique="lines\r\n\u2028\x85 日本 🙂 \x00 \ud800"),
    ],
)
def test_a_trajectory_is_one_line_and_comes_back_whole(trajectory):
    line = to_json(trajectory)
    line.encode("utf-8")
    assert "\n" not in line
    assert "\r" not in line
    assert from_json(line) == trajectory


def test_what_is_added_is_there_when_the_run_is_loaded_or_resumed(tmp_path):
    with create(tmp_path / "run") as run:
        run.add([sample("A", 1), FULL])
        run.add([sample("B", 0, failure=FailureReason.NO_SCORES)])
        assert run.get("A1") == sample("A", 1)
    for again in (RunFolder.load(tmp_path / "run"), create(tmp_path / "run")):
        with again:
            assert again.examples == EXAMPLES_AB
            assert again.trajectories("A") == [FULL, sample("A", 1)]  # by sample index
            assert [len(found) for _, found in again] == [2, 1]
            assert again.get("B0").failure is FailureReason.NO_SCORES
            assert again.get("nowhere") is None


@pytest.mark.parametrize("reason", [FailureReason.HTTP, FailureReason.TIMEOUT])
def test_a_sample_that_the_world_failed_counts_as_missing_and_can_be_replaced(tmp_path, reason):
    with create(tmp_path) as run:
        run.add([sample("A", 0, failure=reason)])
        assert run.get("A0") is None
    with create(tmp_path) as run:
        assert run.get("A0") is None
        assert run.trajectories("A")[0].failure is reason  # it still shows in reports
        run.add([sample("A", 0)])
        assert run.trajectories("A") == [sample("A", 0)]
    assert RunFolder.load(tmp_path).trajectories("A") == [sample("A", 0)]


@pytest.mark.parametrize("reason", [r for r in FailureReason if not r.of_the_world])
def test_a_failure_of_the_model_is_kept_as_it_is(tmp_path, reason):
    with create(tmp_path) as run:
        run.add([sample("A", 0, failure=reason)])
        assert run.get("A0").failure is reason


def test_another_configuration_in_the_folder_is_refused_and_the_difference_shown(tmp_path):
    create(tmp_path).close()
    with pytest.raises(InputError) as caught:
        create(tmp_path, model="other", temperature=0.7)
    message = str(caught.value)
    assert "model: 'm' in the folder, 'other' now" in message
    assert "temperature: None in the folder, 0.7 now" in message
    assert "seed" not in message
    assert caught.value.exit_code == 2


def test_k_may_grow_and_not_shrink(tmp_path):
    create(tmp_path).close()
    with create(tmp_path, k=32) as run:
        assert run.manifest["settings"]["k"] == 32
    assert json.loads((tmp_path / MANIFEST).read_text())["settings"]["k"] == 32
    with pytest.raises(InputError, match="k: 32 in the folder, 4 now"):
        create(tmp_path, k=4)


def test_one_writer_at_a_time(tmp_path):
    with create(tmp_path), pytest.raises(InputError, match="another process writes to"):
        create(tmp_path)
    create(tmp_path).close()  # the first is gone


def test_reading_a_run_that_is_written_changes_nothing(tmp_path):
    with create(tmp_path) as run:
        run.add([sample("A", 0)])
        with (tmp_path / TRAJECTORIES).open("ab") as file:
            file.write('{"example_id": "é'.encode()[:-1])  # torn within a character
        before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
        reader = RunFolder.load(tmp_path)
        assert reader.trajectories("A") == [sample("A", 0)]
        assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
        with pytest.raises(InputError, match="open for reading"):
            reader.add([sample("A", 1)])


def test_a_torn_last_line_is_cut_off_on_resume(tmp_path):
    with create(tmp_path) as run:
        run.add([sample("A", 0), sample("A", 1)])
        run.add_meta({"A0": 0.5, "A1": 0.25}, "rm")
    for name in (TRAJECTORIES, META):
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[:-7])
    with create(tmp_path) as run:
        assert run.trajectories("A") == [sample("A", 0)]
        assert (run.meta_reward("A0", "rm"), run.meta_reward("A1", "rm")) == (0.5, None)
        run.add([sample("A", 1)])
        run.add_meta({"A1": 0.75}, "rm")
    run = RunFolder.load(tmp_path)
    assert run.trajectories("A") == [sample("A", 0), sample("A", 1)]
    assert run.meta_reward("A1", "rm") == 0.75


@pytest.mark.parametrize("name", [TRAJECTORIES, META])
@pytest.mark.parametrize(
    "line", [b"garbage", b"{}", b"[1]", b"null", b'{"key": 1}', b"\xff\xfe", b'{"example_id"']
)
def test_a_damaged_line_in_the_middle_is_told_with_its_number(tmp_path, name, line):
    with create(tmp_path) as run:
        run.add([sample("A", 0)])
        run.add_meta({"A0": 0.5}, "rm")
    with (tmp_path / name).open("ab") as file:
        file.write(line + b"\n")
    for attempt in (RunFolder.load, create):
        with pytest.raises(InputError, match=rf"{name}:2 is damaged") as caught:
            attempt(tmp_path)
        assert "fix: delete that line" in str(caught.value)
    with pytest.raises(InputError, match=r":2 is damaged"):
        create(tmp_path)  # the failed attempt left no lock


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty and holds no run"):
        create(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is a file"):
        create(tmp_path / "file")
    with pytest.raises(InputError, match="holds no run"):
        RunFolder.load(tmp_path)
    with pytest.raises(InputError, match="holds no run"):
        RunFolder.load(tmp_path / "nowhere")


def test_examples_of_a_user_are_not_taken_for_a_run_nor_written_over(tmp_path):
    (tmp_path / EXAMPLES).write_text("mine")
    with pytest.raises(InputError, match="holds no run"):
        create(tmp_path)
    assert (tmp_path / EXAMPLES).read_text() == "mine"


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "garbage"])
def test_a_damaged_manifest_is_told(tmp_path, content):
    create(tmp_path).close()
    (tmp_path / MANIFEST).write_text(content)
    for attempt in (RunFolder.load, create):
        with pytest.raises(InputError, match=r"manifest\.json is no JSON object"):
            attempt(tmp_path)


def test_a_kill_at_any_moment_of_the_start_leaves_a_folder_that_can_be_used(tmp_path):
    create(tmp_path / "whole").close()
    whole = {p.name: p.read_bytes() for p in (tmp_path / "whole").iterdir()}
    leftovers = [
        {},
        {"run.lock": b""},
        {"run.lock": b"", "manifest.json.77.tmp": whole[MANIFEST][:10]},
        {"run.lock": b"", MANIFEST: whole[MANIFEST]},
        {"run.lock": b"", MANIFEST: whole[MANIFEST], "examples.jsonl.77.tmp": whole[EXAMPLES][:5]},
        {"run.lock": b"", MANIFEST: whole[MANIFEST], EXAMPLES: whole[EXAMPLES], "manifest.json.77.tmp": b"{"},
    ]
    for i, files in enumerate(leftovers):
        folder = tmp_path / str(i)
        folder.mkdir()
        for name, data in files.items():
            (folder / name).write_bytes(data)
        with create(folder) as run:
            run.add([sample("A", 0)])
        again = RunFolder.load(folder)
        assert again.examples == EXAMPLES_AB, files.keys()
        assert again.trajectories("A") == [sample("A", 0)]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_the_worlds_fault_and_the_sample_does_not_count_as_stored(tmp_path):
    with create(tmp_path) as run:
        (tmp_path / TRAJECTORIES).symlink_to("/dev/full")
        with pytest.raises(
            BackendError, match=r"trajectories\.jsonl cannot be written: .*No space"
        ) as caught:
            run.add([sample("A", 0)])
        assert caught.value.exit_code == 1
        assert run.get("A0") is None
        (tmp_path / META).symlink_to("/dev/full")
        with pytest.raises(BackendError, match=r"meta_rewards\.jsonl cannot be written"):
            run.add_meta({"A0": 0.5}, "rm")
        assert run.meta_reward("A0", "rm") is None


def test_meta_rewards_are_kept_by_meta_rm(tmp_path):
    with create(tmp_path, meta_model="rm") as run:
        run.add([sample("A", 0), sample("A", 1)])
        run.add_meta({"A0": 0.9, "A1": 0.2}, "rm")
        run.add_meta({"A0": 0.1}, "other")
    run = RunFolder.load(tmp_path)
    rewards = [t.meta_reward for t in run.with_meta(run.trajectories("A"))]
    assert rewards == [0.9, 0.2]  # the manifest's own
    assert [t.meta_reward for t in run.with_meta(run.trajectories("A"), "other")] == [0.1, None]


def test_a_run_is_not_resumed_over_other_examples(tmp_path):
    create(tmp_path).close()
    before = (tmp_path / "examples.jsonl").read_bytes()
    other = [replace(EXAMPLES_AB[0], responses=("x", "y")), EXAMPLES_AB[1]]
    with pytest.raises(InputError, match=r"2 examples, these are 2, 2 of the same id"):
        RunFolder.create(tmp_path, SETTINGS, other)
    assert (tmp_path / "examples.jsonl").read_bytes() == before
    assert not [p.name for p in tmp_path.iterdir() if "examples" in p.name and p.name != "examples.jsonl"]
    create(tmp_path).close()  # and the lock is free


def test_facts_can_be_added_to_the_manifest(tmp_path):
    with create(tmp_path) as run:
        run.note({"dropped": ["A"]})
    manifest = RunFolder.load(tmp_path).manifest
    assert manifest["dropped"] == ["A"]
    assert manifest["settings"] == SETTINGS["settings"]
    create(tmp_path).close()  # facts do not stand in the way of a resume


def test_a_manifest_names_versions_and_plain_settings():
    manifest = run_manifest({"k": 8, "scale": (1, 10)}, source="x.jsonl")
    assert manifest["settings"] == {"k": 8, "scale": [1, 10]}
    assert manifest["source"] == "x.jsonl"
    assert set(manifest["versions"]) >= {"spct", "aiohttp"}


def test_closing_twice_is_fine(tmp_path):
    run = create(tmp_path)
    run.close()
    run.close()
