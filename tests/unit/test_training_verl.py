"""The export for verl: one file that reads rollouts exactly as the package does, and the paper's settings."""

import ast
import json
import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spct.errors import ConfigError
from spct.prompts import load_template
from spct.training.configs import GRPOConfig
from spct.training.outcomes import read_rollout
from spct.training.verl import BUNDLED, bundled_source, export, reward_file, verl_overrides

PIECES = st.sampled_from(
    [
        r"\boxed{",
        "8",
        ", ",
        "3",
        "}",
        "Scores: ",
        "\n",
        "10",
        "/10",
        "<think>",
        "</think>",
        "０",
        "７.0",
        "x",
        "11",
        ";",
    ]
)


@pytest.fixture(scope="module")
def compute_score():
    namespace = {"__name__": "exported_reward"}
    exec(compile(reward_file(["pointwise", "single", "llm_judge"]), "reward.py", "exec"), namespace)
    return namespace["compute_score"]


@given(
    text=st.lists(PIECES, max_size=14).map("".join),
    labels=st.permutations([2, 1]),
    order=st.permutations([0, 1]),
)
@example(text=r"Scores: \boxed{8, 3}", labels=[1, 0], order=[1, 0])
@example(text=r"\boxed{2}", labels=[1, 0], order=[1, 0])
def test_exported_file_reads_as_the_package_does(compute_score, text, labels, order):
    for name in ("pointwise", "llm_judge"):
        truth = json.dumps({"labels": labels, "order": order, "template": name})
        ours = read_rollout(text, labels, order, name, cut=False)
        assert compute_score("spct", text, truth) == {
            "score": ours.outcome,
            "acc": ours.outcome > 0,
            "parse_ok": ours.scores is not None,
        }


def test_singles_use_their_own_scale(compute_score):
    truth = json.dumps({"labels": [1.0], "order": [0], "template": "single"})
    assert [compute_score("", rf"Scores: \boxed{{{s}}}", truth)["score"] for s in (1, 0, 5)] == [1, -1, -1]
    assert compute_score("", r"Scores: \boxed{5}", truth)["parse_ok"] == 0
    assert compute_score("", r"The sum is \boxed{1}.", truth)["parse_ok"] == 0


def test_no_name_is_defined_twice_in_the_bundle():
    """The modules share one namespace in the exported file."""
    seen = {}
    for module in BUNDLED:
        for node in ast.parse(bundled_source(module)).body:
            targets = node.targets if isinstance(node, ast.Assign) else [node]
            for name in [getattr(t, "name", getattr(t, "id", None)) for t in targets]:
                assert name is None or seen.setdefault(name, module) == module, (
                    f"{name} in {module} and {seen[name]}"
                )


def config(tmp_path, **settings):
    rows = [{"id": f"e{i}", "prompt": f"q{i}", "responses": ["x", "y"], "labels": [1, 0]} for i in range(8)]
    rows += [{"id": "s", "prompt": "one", "responses": ["x"], "labels": [1], "meta": {"domain": "math"}}]
    data = tmp_path / "d.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return GRPOConfig(
        model="org/model", data=[str(data)], out=str(tmp_path / "run"), **({"batch": 16} | settings)
    )


def test_export_writes_all_that_verl_needs(tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    report = export(config(tmp_path), tmp_path / "verl")
    assert (report["used"], report["train"]) == (9, 9)
    assert report["val"] >= 0
    rows = pq.read_table(tmp_path / "verl" / "train.parquet").to_pylist()
    assert rows[0].keys() == {"data_source", "prompt", "ability", "reward_model", "extra_info"}
    assert [row["extra_info"]["index"] for row in rows] == list(range(9))
    by_id = {row["extra_info"]["example_id"]: row for row in rows}
    truth = json.loads(by_id["s"]["reward_model"]["ground_truth"])
    assert truth == {"labels": [1.0], "order": [0], "template": "single"}
    pair = by_id["e0"]
    order = json.loads(pair["reward_model"]["ground_truth"])["order"]
    text = pair["prompt"][0]["content"]
    shown = [text.index(f"begins]]\n{'xy'[i]}\n") for i in order]
    assert shown == sorted(shown)  # the prompt shows them in the order that the reward undoes
    script = (tmp_path / "verl" / "launch.sh").read_text()
    assert "actor_rollout_ref.actor.kl_loss_coef=0.08" in script
    assert subprocess.run(["sh", "-n", str(tmp_path / "verl" / "launch.sh")], check=False).returncode == 0


def test_exported_file_runs_alone(tmp_path):
    """A fresh isolated interpreter, which cannot import spct, loads the file by path as verl does."""
    path = tmp_path / "reward.py"
    path.write_text(reward_file(["pointwise"]))
    code = (
        "import importlib.util as u, json\n"
        f"spec = u.spec_from_file_location('custom_module', {str(path)!r})\n"
        "module = u.module_from_spec(spec); spec.loader.exec_module(module)\n"
        "truth = json.dumps({'labels': [1, 0], 'order': [1, 0], 'template': 'pointwise'})\n"
        "print(module.compute_score('d', r'\\boxed{3, 8}', truth, extra_info=None, unknown=1)['score'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("1.0\n", "")


def test_overrides_hold_the_papers_objective(tmp_path):
    values = dict(pair.split("=", 1) for pair in verl_overrides(config(tmp_path, batch=512), tmp_path))
    assert values["data.train_batch_size"] == "128"  # 512 rollouts of groups of 4
    assert values["actor_rollout_ref.rollout.n"] == "4"
    assert values["actor_rollout_ref.actor.optim.lr"] == "4e-07"
    assert values["actor_rollout_ref.actor.loss_agg_mode"] == "seq-mean-token-mean"
    assert values["trainer.total_training_steps"] == "900"
    assert not any(
        key.startswith(("custom_reward_function", "reward_model")) for key in values
    )  # ignored by verl 0.9
    with pytest.raises(ConfigError, match="its fields are TRL's"):
        verl_overrides(config(tmp_path, trainer={"optim": "sgd"}), tmp_path)
    with pytest.raises(ConfigError, match="the model without it"):
        verl_overrides(config(tmp_path, adapter="runs/rft/adapter"), tmp_path)


def test_template_keys_are_those_of_the_rows(tmp_path):
    source = reward_file(["single"])
    assert load_template("single").scale == (0, 1)
    assert "'scale': [0, 1]" in source
