"""The meta RM (§5): BCE on one logit; the folder serves LocalClassifier with the same numbers."""

import asyncio
import json

import pytest

from spct.backends.scripted import ScriptedBackend
from spct.errors import InputError
from spct.training.configs import MetaRMConfig
from spct.training.rollouts import rollout

from .conftest import TEMPLATES

pytestmark = pytest.mark.filterwarnings("ignore:.*will be removed in v6:FutureWarning")
META = str(TEMPLATES / "meta.j2")


@pytest.fixture(scope="module")
def rollouts(points, tmp_path_factory):
    """Three samples a point: sometimes right, sometimes wrong, sometimes unreadable."""

    def answer(request, j):
        lists = (
            [r"\boxed{8, 3}", r"\boxed{3, 8}", "fine"]
            if len(request.order) == 2
            else [r"\boxed{1}", r"\boxed{0}", "fine"]
        )
        return lists[(request.samples[j] + len(request.example_id)) % 3]

    folder = tmp_path_factory.mktemp("rollouts") / "run"
    templates = {"template": str(TEMPLATES / "judge.j2"), "single_template": str(TEMPLATES / "grade.j2")}
    rollout([points], folder, ScriptedBackend(answer), n=3, **templates)
    return str(folder)


def config(model, data, out, **settings):
    common = {
        "batch": 8,
        "micro_batch": 8,
        "steps": 3,
        "max_tokens": 40,
        "lr": 1e-3,
        "template": META,
        "held_out": 0.3,
    }
    return MetaRMConfig(
        model=model,
        data=[data],
        out=str(out),
        gradient_checkpointing=False,
        curves=False,
        **(common | settings),
    )


def logged(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_only_readable_and_non_hinted_trajectories_are_used(rollouts, points, tmp_path):
    from spct.training.meta_rm import judged

    found, counts = judged([rollouts], META)
    assert (len(found), counts) == (
        32,
        {"hinted": 0, "unparsed": 16, "unlabelled": 0, "not_mixed": 0},
    )  # 16 points x 3 samples
    hinted = rollout(
        [points], tmp_path / "h", ScriptedBackend(lambda r, j: r"\boxed{8, 3}"), n=1, hinted=True
    )
    assert judged([hinted.path], META)[1]["hinted"] == 16
    first = found[0]
    assert first.prompt.startswith("q0")


def test_data_points_that_are_all_right_or_all_wrong_can_be_left_out(points, tmp_path):
    from spct.training.meta_rm import judged

    def answer(request, j):  # odd points: the first sample disagrees with the second
        favoured = request.samples[j] if int(request.example_id[1:]) % 2 else 0
        if len(request.order) == 1:
            return rf"\boxed{{{favoured}}}"
        scores = ", ".join("8" if i == favoured else "3" for i in request.order)
        return rf"\boxed{{{scores}}}"

    templates = {"template": str(TEMPLATES / "judge.j2"), "single_template": str(TEMPLATES / "grade.j2")}
    run = rollout([points], tmp_path / "run", ScriptedBackend(answer), n=2, **templates)
    found, counts = judged([run.path], META, only_mixed=True)
    assert {row.example.id for row in found} == {f"p{i}" for i in range(1, 12, 2)} | {"s1", "s3"}
    assert (len(found), counts["not_mixed"]) == (16, 16)  # 8 of the 16 points, 2 samples each
    assert sum(row.correct for row in found) == 8


def test_loss_is_binary_cross_entropy(tiny_model, rollouts, tmp_path):
    """The first step over all rows in one batch equals torch's own BCE on plain logits."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, set_seed

    from spct.training.meta_rm import load_data, run

    settings = config(tiny_model, rollouts, tmp_path / "r", steps=1, held_out=0.01, batch=32, micro_batch=32)
    run(settings)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    parts, _ = load_data(settings, tokenizer)
    assert len(parts["train"]) == 32
    set_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(tiny_model, num_labels=1).eval()
    with torch.no_grad():
        logits = torch.stack([model(torch.tensor([row["input_ids"]])).logits[0] for row in parts["train"]])
    labels = torch.tensor([row["labels"] for row in parts["train"]])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
    assert logged(tmp_path / "r")[0]["loss"] == pytest.approx(expected.item(), abs=1e-6)


def test_the_folder_serves_the_judge_with_the_trained_numbers(tiny_model, rollouts, tmp_path):
    from spct.meta import LocalClassifier
    from spct.training.meta_rm import judged, load_data, run

    settings = config(tiny_model, rollouts, tmp_path / "r")
    folder = run(settings)
    report = json.loads((tmp_path / "r" / "report.json").read_text())
    from transformers import AutoTokenizer

    parts, _ = load_data(settings, AutoTokenizer.from_pretrained(folder))
    assert report["count"] == len(parts["held_out"]) > 0
    assert {"bce", "roc_auc", "ece", "reliability", "accuracy"} <= report.keys()
    prompts = [row.prompt for row in judged([rollouts], META)[0]]
    rewards = asyncio.run(LocalClassifier(str(folder), dtype="float32").score(prompts))
    assert all(0 < reward < 1 for reward in rewards)
    texts = {
        tuple(AutoTokenizer.from_pretrained(folder)(p)["input_ids"]): r
        for p, r in zip(prompts, rewards, strict=True)
    }
    held_out = [texts[tuple(row["input_ids"])] for row in parts["held_out"]]
    labels = [int(row["labels"][0]) for row in parts["held_out"]]
    from spct.training.calibration import calibration_report

    again = calibration_report(held_out, labels)
    assert again["bce"] == pytest.approx(report["bce"], abs=1e-5)
    assert json.loads((folder / "config.json").read_text())["architectures"] == [
        "LlamaForSequenceClassification"
    ]


def test_lora_is_merged_into_a_classifier(tiny_model, rollouts, tmp_path):
    from spct.meta import LocalClassifier
    from spct.training.meta_rm import run

    folder = run(config(tiny_model, rollouts, tmp_path / "r", steps=1, lora_rank=2))
    assert len(asyncio.run(LocalClassifier(str(folder)).score(["q0 good bad"]))) == 1


def test_one_class_is_refused(tiny_model, points, tmp_path):
    from spct.training.meta_rm import run

    templates = {"template": str(TEMPLATES / "judge.j2"), "single_template": str(TEMPLATES / "grade.j2")}
    wrong = ScriptedBackend(lambda r, j: r"\boxed{5, 5}" if len(r.order) == 2 else "none")
    rollout([points], tmp_path / "wrong", wrong, n=1, **templates)
    with pytest.raises(InputError, match=r"0 of \d+ trajectories are correct"):
        run(config(tiny_model, str(tmp_path / "wrong"), tmp_path / "r"))
