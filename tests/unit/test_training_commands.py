"""The commands of training as a user types them, without an engine that trains."""

import json

import pytest
from typer.testing import CliRunner

from spct.errors import ConfigError, InputError
from spct.training.commands import app

run = CliRunner().invoke


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def pairs(tmp_path):
    rows = [
        {"id": f"e{i}", "prompt": f"question number {i}", "responses": ["x", "y"], "labels": [1, 0]}
        for i in range(10)
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_data_splits_and_drops_overlap(pairs, tmp_path):
    bench = tmp_path / "bench.jsonl"
    bench.write_text(json.dumps({"id": "b", "prompt": "Question number 3!", "responses": ["z"]}))
    args = ["data", str(pairs), "--out", str(tmp_path / "out"), "--against", str(bench), "--dev", "0.3"]
    result = run(app, args)
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["overlap"]["rows"][0]["example_id"] == "e3"
    parts = {name: lines(tmp_path / "out" / f"{name}.jsonl") for name in ("train", "dev")}
    assert sorted(row["id"] for part in parts.values() for row in part) == [
        f"e{i}" for i in range(10) if i != 3
    ]
    assert report["points"] == {name: len(part) for name, part in parts.items()}


def test_data_turns_graded_lists_into_pairs_even_with_a_tie_at_the_top(tmp_path):
    path = tmp_path / "lists.jsonl"
    rows = [
        {"id": "l", "prompt": "q", "responses": ["a", "b", "c"], "labels": [4, 4, 1]},
        {"prompt": "r", "responses": ["a", "b"]},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = run(app, ["data", str(path), "--out", str(tmp_path / "out"), "--margin", "2"])
    assert result.exit_code == 0, result.output
    assert [row["responses"] for row in lines(tmp_path / "out" / "train.jsonl")] == [["a", "c"], ["b", "c"]]
    assert json.loads((tmp_path / "out" / "report.json").read_text())["unusable"][0]["fault"] == "no labels"


def test_rollout_then_reject(pairs, tmp_path):
    result = run(app, ["rollout", str(pairs), "--out", str(tmp_path / "plain"), "--backend", "scripted"])
    assert result.exit_code == 0, result.output
    assert "points 10, samples 30, parsed 30" in result.output
    run(
        app,
        [
            "rollout",
            str(pairs),
            "--out",
            str(tmp_path / "hinted"),
            "--backend",
            "scripted",
            "-n",
            "1",
            "--hinted",
        ],
    )
    general = tmp_path / "general.jsonl"
    general.write_text('{"prompt": "q", "completion": "a"}\n' * 100)
    out = tmp_path / "rft.jsonl"
    args = [
        "reject",
        str(tmp_path / "plain"),
        str(tmp_path / "hinted"),
        "--out",
        str(out),
        "--general",
        str(general),
        "--ratio",
        "2",
    ]
    result = run(app, args)
    assert result.exit_code == 0, result.output
    manifest = json.loads((tmp_path / "rft.jsonl.manifest.json").read_text())
    kept = manifest["counts"]["kept"]
    assert manifest["general"]["rows"] == 2 * kept
    assert len(lines(out)) == manifest["rows"] == 3 * kept


def test_reject_refuses_an_unknown_leak_rule(pairs, tmp_path):
    result = run(app, ["reject", str(tmp_path), "--out", str(tmp_path / "o"), "--leak", "ban"])
    assert isinstance(result.exception, ConfigError)


@pytest.mark.parametrize("stage", ["rft", "grpo", "meta-rm", "bradley-terry", "pair-rm", "cloud"])
def test_dry_run_prints_settings_and_the_engines_arguments(tmp_path, stage):
    path = tmp_path / "c.toml"
    part = 'part = "head"\n' if stage == "cloud" else ""
    path.write_text('model = "m"\ndata = ["d"]\nout = "o"\n' + part)
    result = run(app, ["train", stage, str(path), "--set", "lr=2e-6", "--dry-run"])
    assert result.exit_code == 0, result.output
    shown = json.loads(result.output)
    assert shown["settings"]["lr"] == shown["engine"]["learning_rate"] == 2e-6
    assert not (tmp_path / "o").exists()


def test_misspelt_key_names_its_neighbour(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text('model = "m"\ndata = ["d"]\nout = "o"\n')
    result = run(app, ["train", "grpo", str(path), "--set", "betta=0.1"])
    assert isinstance(result.exception, ConfigError)
    assert "did you mean 'beta'" in str(result.exception)


def test_rollout_names_unusable_points(tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps({"id": "a", "prompt": "q", "responses": ["x", "y"], "labels": [1, 1]}))
    result = run(app, ["rollout", str(path), "--out", str(tmp_path / "r"), "--backend", "scripted"])
    assert isinstance(result.exception, InputError)
    assert not (tmp_path / "r").exists()
