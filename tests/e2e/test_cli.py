"""The commands as a user types them, against a mock server in a process of its own."""

import json
import signal
import subprocess
import sys
import tarfile
import time
import urllib.request
from pathlib import Path

import pytest

from mock_server import MODEL, mock_process
from spct.cli import main
from spct.records import RunFolder

EXAMPLES = Path(__file__).parents[2] / "examples"
RMB = Path(__file__).parents[3] / "shared" / "data" / "RMB.tar.xz"


@pytest.fixture(scope="module")
def server():
    with mock_process() as url:
        yield url


@pytest.fixture
def spct(monkeypatch, capsys):
    """Run a command in this process: `code, out, err = spct("score", ...)`."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["spct", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        printed = capsys.readouterr()
        return end.value.code or 0, printed.out, printed.err

    return run


def write(path, *rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def pairs(path, count):
    rows = [
        {
            "id": f"q{i}",
            "prompt": f"question {i}",
            "responses": [f"first {i}", f"second {i}"],
            "labels": [1, 0],
        }
        for i in range(count)
    ]
    return write(path, *rows)


def test_score_show_revote(spct, server, tmp_path):
    run = tmp_path / "run"
    engine = ["--base-url", server, "--model", MODEL]
    code, out, _ = spct("score", EXAMPLES / "demo.jsonl", "--out", run, "-k", 6, *engine)
    assert code == 0
    assert "7 examples, 42 samples, parsed 42/42" in out
    verdicts = [json.loads(line) for line in (run / "verdicts.jsonl").read_text().splitlines()]
    assert [v["example_id"] for v in verdicts][:3] == ["tides", "refund", "packing"]
    assert [len(v["rewards"]) for v in verdicts] == [2, 2, 4, 2, 2, 2, 1]

    code, out, _ = spct("revote", run, "-k", 1, "-k", 6)
    assert code == 0
    assert [line.split(":")[0] for line in out.splitlines()] == ["k 1", "k 6"]
    code, out, _ = spct("show", run, "tides")
    assert code == 0
    assert "Correctness" in out
    assert "sample 5: scores" in out
    page = tmp_path / "page.html"
    assert spct("show", run, "--html", page)[0] == 0
    assert "You are too late" in page.read_text()
    assert "http" not in page.read_text().replace(server, "")  # self-contained: nothing is fetched


def test_json_has_verdicts_on_stdout_and_nothing_else(spct, server):
    code, out, err = spct(
        "score", EXAMPLES / "demo.jsonl", "--base-url", server, "--model", MODEL, "-k", 2, "--json"
    )
    assert code == 0
    assert [json.loads(line)["k"] for line in out.splitlines()] == [2] * 7
    assert "parsed 14/14" in err


def test_a_second_run_draws_only_what_is_missing_and_k_may_grow(spct, tmp_path):
    source, run = pairs(tmp_path / "in.jsonl", 10), tmp_path / "run"
    with mock_process() as url:
        base = ["score", source, "--out", run, "--base-url", url, "--model", MODEL]
        for k, calls in (
            (2, 20),
            (2, 20),
            (4, 40),
        ):  # two orders an example: 20 calls, then 20 more for k = 4
            assert spct(*base, "-k", k)[0] == 0
            assert stats(url)["calls"] == calls
        code, _, err = spct(*base, "-k", 4, "--seed", 1)
        assert code == 2
        assert "seed: 0 in the folder, 1 now" in err
    assert len((run / "trajectories.jsonl").read_text().splitlines()) == 40


def stats(url):
    with urllib.request.urlopen(f"{url}/_stats") as answer:
        return json.load(answer)


def test_dry_run_scores_nothing_and_writes_nothing(spct, tmp_path):
    source = pairs(tmp_path / "in.jsonl", 3)
    code, out, _ = spct(
        "score", source, "--out", tmp_path / "run", "-k", 8, "--backend", "scripted", "--dry-run"
    )
    assert code == 0
    plan = json.loads(out)["plan"]
    assert (plan["samples"], plan["requests"]) == (24, 6)  # 3 x 8 samples, 3 x 2 orders
    assert "[[response 2 begins]]" in plan["first_prompt"][0]["content"]
    assert not (tmp_path / "run").exists()


def test_a_published_checkpoints_prompt(spct, server, tmp_path):
    run = tmp_path / "run"
    words = ["--template", EXAMPLES / "terse.j2", "--base-url", server, "--model", MODEL, "-k", 2]
    assert spct("score", EXAMPLES / "demo.jsonl", "--out", run, *words)[0] == 0
    templates = {t.template for _, found in RunFolder.load(run) for t in found}
    assert [t.rsplit("-", 1)[0] for t in templates] == ["terse"]


BAD_INPUT = {
    "missing": (None, "is missing"),
    "empty": ([], "holds no example"),
    "bad json": (['{"id": 1,'], "in.jsonl:1: bad JSON"),
    "no responses": ([{"id": "a", "prompt": "q", "responses": []}], "in.jsonl:1: responses is []"),
    "no text": ([{"id": "a", "prompt": "q", "responses": [3]}], "in.jsonl:1: a response is 3"),
    "labels": ([{"id": "a", "prompt": "q", "responses": ["x"], "labels": [1, 2]}], "has 2 labels"),
    "twice": ([{"id": "a", "prompt": "q", "responses": ["x"]}] * 2, "in.jsonl:2: id 'a' stands on line 1"),
}


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_is_named_and_nothing_is_written(spct, tmp_path, name):
    rows, words = BAD_INPUT[name]
    source = tmp_path / "in.jsonl"
    if rows is not None:
        write(source, *rows)
    code, out, err = spct("score", source, "--out", tmp_path / "run", "--backend", "scripted")
    assert code == 2
    assert out == ""
    assert words in err
    assert not (tmp_path / "run").exists()


BAD_OPTIONS = {
    "-k 0": "k is 0",
    "-k 4 --k-meta 5 --meta-model x": "k_meta is 5",
    "--k-meta 2": "without a meta RM",
    "--order sorted": "order is 'sorted'",
    "--scale 10": "expected: lowest..highest",
    "--scale 10..1": "lowest < highest",
    "--template nowhere.j2": "is no file",
    "--template hinted": "has no labels",
    "--hinted": "has no labels",
    "--temperature 3": "temperature is 3",
    "--backend engine": "backend is 'engine'",
    "--backend openai": "no --base-url",
    "--adapter x": "--adapter goes with backend 'local'",
    "--adaptive exact --meta-model x": "adaptive",
}


@pytest.mark.parametrize("words", BAD_OPTIONS)
def test_bad_options_are_named_and_nothing_is_written(spct, tmp_path, words):
    source = write(tmp_path / "in.jsonl", {"id": "a", "prompt": "q", "responses": ["x", "y"]})
    backend = [] if "--backend" in words else ["--backend", "scripted"]
    code, _, err = spct("score", source, "--out", tmp_path / "run", *backend, *words.split())
    assert code == 2
    assert BAD_OPTIONS[words] in err
    assert not (tmp_path / "run").exists()


def test_skip_bad_lists_what_it_left_out(spct, tmp_path):
    source = write(
        tmp_path / "in.jsonl", {"id": "a", "prompt": "q", "responses": ["x", "y"]}, "no json", {"id": 7}
    )
    code, out, _ = spct("score", source, "--out", tmp_path / "run", "--backend", "scripted", "--skip-bad")
    assert code == 0
    assert "left out: 2 bad lines" in out
    bad = json.loads((tmp_path / "run" / "manifest.json").read_text())["bad_lines"]
    assert [b["line"] for b in bad] == [2, 3]


FATAL = {"unknown_model": "does not exist", "401": "401", "context": "q0"}


@pytest.mark.parametrize("fault", FATAL)
def test_a_server_that_can_never_answer_ends_the_run(spct, tmp_path, fault):
    source = pairs(tmp_path / "in.jsonl", 3)
    with mock_process("--fault", fault) as url:
        code, _, err = spct(
            "score", source, "--out", tmp_path / "run", "--base-url", url, "--model", MODEL, "-k", 2
        )
    assert code == (2 if fault == "context" else 1)
    assert FATAL[fault] in err


def test_finished_work_survives_a_server_that_goes_away(spct, tmp_path):
    source, run = pairs(tmp_path / "in.jsonl", 20), tmp_path / "run"
    words = ["--model", MODEL, "-k", 2, "--concurrency", 4]
    with mock_process("--times", "12", "--then", "401") as url:  # the first 12 calls are fine
        code, _, err = spct("score", source, "--out", run, "--base-url", url, *words)
    assert code == 1
    assert "401" in err
    finished = len((run / "trajectories.jsonl").read_text().splitlines())
    assert 8 <= finished <= 12
    with mock_process() as url:
        assert spct("score", source, "--out", run, "--base-url", url, *words)[0] == 0
        assert stats(url)["calls"] == 40 - finished


def test_ctrl_c_leaves_a_resumable_run(tmp_path):
    source, run = pairs(tmp_path / "in.jsonl", 40), tmp_path / "run"
    with mock_process("--latency-ms", "100") as url:
        command = [
            sys.executable,
            "-m",
            "spct.cli",
            "score",
            source,
            "--out",
            run,
            "-k",
            "2",
            "--concurrency",
            "2",
        ]
        command += ["--base-url", url, "--model", MODEL]
        process = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True)
        try:
            wait_for_lines(run / "trajectories.jsonl", 4)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 130
    assert "again" in err
    assert "Traceback" not in err
    assert 4 <= len((run / "trajectories.jsonl").read_text().splitlines()) < 80
    assert not (run / "verdicts.jsonl").exists()


def wait_for_lines(path, count, timeout_s=30):
    end = time.monotonic() + timeout_s
    while not path.is_file() or path.read_text().count("\n") < count:
        assert time.monotonic() < end, f"{path} has not {count} lines after {timeout_s} s"
        time.sleep(0.02)


@pytest.mark.parametrize("name", ["best_of_n", "own_template", "principles", "server"])
def test_examples_run(server, tmp_path, name):
    words = [server, MODEL]
    if name == "server":
        words = [str(EXAMPLES / "demo.jsonl"), str(tmp_path / "run"), *words]
    done = subprocess.run([sys.executable, EXAMPLES / f"{name}.py", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert "None" not in done.stdout


def test_examples_are_short():
    lengths = {path.name: len(path.read_text().splitlines()) for path in EXAMPLES.glob("*.py")}
    assert len(lengths) >= 5
    assert max(lengths.values()) <= 40, lengths


def rmb_pairs(count):
    """The first pairs of RMB's official file, every 20th, as preference rows."""
    rows = []
    with tarfile.open(RMB) as archive:
        for member in archive:
            if member.isfile() and "Pairwise" in member.name and member.name.endswith(".json"):
                for row in json.load(archive.extractfile(member))[::20]:
                    rows.append(
                        {
                            "id": row["pair_uid"],
                            "messages": row["conversation_input"],
                            "responses": [row["chosen"]["answer"], row["reject"]["answer"]],
                            "labels": [1, 0],
                        }
                    )
            if len(rows) >= count:
                return rows[:count]
    return rows


@pytest.mark.skipif(not RMB.is_file(), reason=f"{RMB} is not there")
def test_two_hundred_pairs_of_rmb(spct, tmp_path):
    source = write(tmp_path / "rmb.jsonl", *rmb_pairs(200))
    run = tmp_path / "run"
    with mock_process() as url:
        words = ["score", source, "--out", run, "--base-url", url, "--model", MODEL, "-k", 4]
        code, out, _ = spct(*words)
        assert code == 0
        assert "200 examples, 800 samples, parsed 800/800" in out
        calls = stats(url)["calls"]
        assert calls == 400  # two orders of each pair, n = 2
        assert spct(*words)[0] == 0
        assert stats(url)["calls"] == calls  # all is stored: nothing is asked again


def test_doctor(spct, server):
    code, out, _ = spct("doctor", "--base-url", server, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["servers"][server]["models"] == [MODEL]
    assert set(found["extras"]) >= {"local", "vllm"}
    code, out, _ = spct("doctor", "--base-url", "http://127.0.0.1:9")
    assert code == 1
    assert "start the server" in out


def test_help_shows_every_default_and_no_markup_swallows_one():
    from typer.testing import CliRunner

    from spct.cli import app

    shown = CliRunner().invoke(app, ["score", "--help"], env={"COLUMNS": "250"}, color=False).output
    for default in ("balanced", "off", "0.01", "ceil(k/2)", "2048; smollm2: 256"):
        assert f"(default: {default})" in shown
