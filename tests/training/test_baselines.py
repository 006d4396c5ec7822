"""Trained baselines (§7): the losses by hand, and the saved folder scores as it did in training."""

import asyncio
import json
import math
import shutil

import pytest

from spct.backends.scripted import ScriptedBackend
from spct.errors import InputError
from spct.training.configs import BradleyTerryConfig, CloudConfig, PairRMConfig, load_config

pytestmark = pytest.mark.filterwarnings("ignore:.*will be removed in v6:FutureWarning")
KINDS = {"bradley-terry": BradleyTerryConfig, "pair-rm": PairRMConfig, "cloud": CloudConfig}


def rows():
    """20 pairs, in which `good` is better; and a list of three with a tie at the top, which has 2 pairs."""
    found = [
        {
            "id": f"p{i}",
            "prompt": f"q{i % 4} " + "fine " * (i // 4),
            "responses": ["good", "bad grade"] if i % 3 else ["bad grade", "good"],
            "labels": [1, 0] if i % 3 else [0, 1],
            "critiques": ["fine", "judge"] if i % 3 else ["judge", " fine "],
        }
        for i in range(20)
    ]
    graded = {"id": "l", "prompt": "q0 q1", "responses": ["good", "good good", "bad"], "labels": [4, 4, 1]}
    return [*found, graded | {"critiques": ["fine", "fine fine", "judge"]}]


def write(path, listed):
    path.write_text("".join(json.dumps(row) + "\n" for row in listed))
    return str(path)


@pytest.fixture
def data(tmp_path):
    return write(tmp_path / "data.jsonl", rows())


def config(stage, model, data, out, **settings):
    common = {"batch": 4, "micro_batch": 2, "steps": 5, "max_tokens": 100, "lr": 1e-2, "held_out": 0.3}
    common |= {"gradient_checkpointing": False, "curves": False, "save_steps": 2, "keep": 9}
    common |= {"part": "head"} if stage == "cloud" else {}
    return KINDS[stage](model=model, data=[data], out=str(out), **(common | settings))


def logged(run, name="loss"):
    listed = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row[name] for row in listed if name in row]


def reward_model(folder):
    from spct.baselines.reward_model import LocalRewardModel

    return LocalRewardModel(str(folder), batch_size=3)


def held_out_pairs(settings):
    from spct.training.baselines import load_pairs
    from spct.training.data import held_out

    pairs, _ = load_pairs(settings)
    aside = held_out([pair.example for pair in pairs], settings.held_out, seed=settings.seed)
    return [pair for pair, apart in zip(pairs, aside, strict=True) if apart]


def bradley_terry_loss(chosen, rejected):
    """-log sigmoid(chosen - rejected) = log(1 + exp(rejected - chosen))."""
    return math.log1p(math.exp(rejected - chosen))


def test_the_loss_of_bradley_terry_is_the_formula(tiny_model, data, tmp_path):
    # rewards 1 and 0: log(1 + e^-1) = log(1 + 0.367879) = 0.313262; equal rewards: log 2 = 0.693147
    assert bradley_terry_loss(1, 0) == pytest.approx(0.313262, abs=1e-6)
    assert bradley_terry_loss(3, 3) == pytest.approx(0.693147, abs=1e-6)
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, set_seed

    from spct.training.baselines import load_data, run

    settings = config("bradley-terry", tiny_model, data, tmp_path / "r", steps=1, held_out=0, batch=22)
    run(settings)
    parts, counts = load_data(settings, AutoTokenizer.from_pretrained(tiny_model))
    assert (counts["pairs"], len(parts["train"]), len(parts["held_out"])) == (22, 22, 0)
    set_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(tiny_model, num_labels=1).eval()

    def reward(ids):
        with torch.no_grad():
            return model(torch.tensor([ids])).logits.item()

    pairs = [(reward(row["chosen_ids"]), reward(row["rejected_ids"])) for row in parts["train"]]
    expected = sum(bradley_terry_loss(*pair) for pair in pairs) / len(pairs)
    assert logged(tmp_path / "r") == [pytest.approx(expected, abs=1e-5)]
    assert logged(tmp_path / "r", "accuracy") == [pytest.approx(sum(c > r for c, r in pairs) / 22)]
    assert json.loads((tmp_path / "r" / "report.json").read_text()) == {"count": 0}


def test_the_loss_of_pair_rm_is_cross_entropy_over_both_orders(tiny_model, data, tmp_path):
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, set_seed

    from spct.training.baselines import load_data, run

    every = {"steps": 1, "held_out": 0, "batch": 44, "micro_batch": 44}
    settings = config("pair-rm", tiny_model, data, tmp_path / "r", **every)
    run(settings)
    table = load_data(settings, AutoTokenizer.from_pretrained(tiny_model))[0]["train"]
    assert [row["labels"] for row in table] == [[1.0], [0.0]] * 22
    set_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(tiny_model, num_labels=1).eval()
    with torch.no_grad():
        logits = [model(torch.tensor([row["input_ids"]])).logits.item() for row in table]
    # cross-entropy with labels 1, 0, 1, 0, ...: log(1 + e^-x) for the right order, log(1 + e^x) for the other
    expected = sum(math.log1p(math.exp(x if i % 2 else -x)) for i, x in enumerate(logits)) / 44
    assert logged(tmp_path / "r") == [pytest.approx(expected, abs=1e-5)]


def test_a_bradley_terry_folder_scores_as_in_training(tiny_model, data, tmp_path):
    from spct.baselines.bradley_terry import BradleyTerry
    from spct.training.baselines import run

    settings = config("bradley-terry", tiny_model, data, tmp_path / "r")
    scorer = BradleyTerry(reward_model(run(settings)))
    assert len(logged(tmp_path / "r")) == 5
    pairs = held_out_pairs(settings)
    rewards = [asyncio.run(scorer.rewards(pair.example, 0)) for pair in pairs]
    sides = [(r[pair.better], r[pair.worse]) for r, pair in zip(rewards, pairs, strict=True)]
    report = json.loads((tmp_path / "r" / "report.json").read_text())
    assert report["count"] == len(sides) > 2
    assert report["margin"] == pytest.approx(sum(b - w for b, w in sides) / len(sides), abs=1e-5)
    assert report["loss"] == pytest.approx(
        sum(bradley_terry_loss(*side) for side in sides) / len(sides), abs=1e-5
    )
    assert report["accuracy"] == pytest.approx(sum(b > w for b, w in sides) / len(sides), abs=1e-9)


def test_a_pair_rm_folder_scores_as_in_training(tiny_model, data, tmp_path):
    from spct.baselines.pair_rm import PairRM, pair_turn
    from spct.meta import sigmoid
    from spct.training.baselines import run
    from spct.training.calibration import calibration_report

    settings = config("pair-rm", tiny_model, data, tmp_path / "r")
    model = reward_model(run(settings))
    pairs = held_out_pairs(settings)
    turns = [pair_turn(e, *places) for e, b, w in pairs for places in ((b, w), (w, b))]
    logits = asyncio.run(model.logits(turns))
    again = calibration_report([sigmoid(x) for x in logits], [1, 0] * len(pairs))
    report = json.loads((tmp_path / "r" / "report.json").read_text())
    assert report["count"] == len(turns) > 4
    assert report["bce"] == pytest.approx(again["bce"], abs=1e-5)
    won = asyncio.run(PairRM(model).rewards(pairs[0].example, 0))
    assert sum(won) == 1


def test_cloud_learns_critiques_and_scores_as_in_training(tiny_model, data, tmp_path):
    """Critiques drawn by an engine, the critic, then the head; the same engine's critiques are scored."""
    from transformers import AutoModelForCausalLM

    from spct.baselines.cloud import Cloud
    from spct.training.baselines import run
    from spct.training.critiques import draw_critiques

    def critic():
        return ScriptedBackend(lambda request, j: "fine " * request.order[0] + "judge ")

    drawn = str(draw_critiques([data], tmp_path / "drawn", critic()).path)
    spoken = run(config("cloud", tiny_model, drawn, tmp_path / "c", part="critic", lr=1e-3))
    manifest = json.loads((tmp_path / "c" / "manifest.json").read_text())
    assert manifest["counts"]["kinds"] == {"critique": 43}  # 20 x 2 + 3 responses
    assert AutoModelForCausalLM.from_pretrained(spoken).config.architectures == ["LlamaForCausalLM"]
    settings = config("cloud", str(spoken), drawn, tmp_path / "h")
    scorer = Cloud(critic(), reward_model(run(settings)))
    sides = [
        (rewards[pair.better], rewards[pair.worse])
        for pair in held_out_pairs(settings)
        if (rewards := asyncio.run(scorer.rewards(pair.example, 0)))
    ]
    report = json.loads((tmp_path / "h" / "report.json").read_text())
    assert report["count"] == len(sides) > 2
    assert report["margin"] == pytest.approx(sum(b - w for b, w in sides) / len(sides), abs=1e-5)


def test_critiques_may_stand_in_the_data(tiny_model, data, tmp_path):
    from spct.training.baselines import conversations, load_pairs

    settings = config("cloud", tiny_model, data, tmp_path / "r")
    pairs, _ = load_pairs(settings)
    better, worse = conversations(pairs[0], settings)  # p0: the second response is better
    assert better[-1].content == "good\n\n[[critique begins]]\nfine\n[[critique ends]]"
    assert worse[-1].content == "bad grade\n\n[[critique begins]]\njudge\n[[critique ends]]"


def test_bradley_terry_learns_and_lora_is_merged(tiny_model, data, tmp_path):
    from spct.baselines.bradley_terry import BradleyTerry
    from spct.training.baselines import run

    settings = {"lora_rank": 4, "steps": 30, "curves": True, "gradient_checkpointing": True}
    settings = config("bradley-terry", tiny_model, data, tmp_path / "r", **settings)
    scorer = BradleyTerry(reward_model(run(settings)))
    assert logged(tmp_path / "r")[-1] < 0.1 < logged(tmp_path / "r")[0]
    report = json.loads((tmp_path / "r" / "report.json").read_text())
    assert report["accuracy"] == 1
    pairs = held_out_pairs(settings)
    rewards = [asyncio.run(scorer.rewards(pair.example, 0)) for pair in pairs]
    margins = [r[pair.better] - r[pair.worse] for r, pair in zip(rewards, pairs, strict=True)]
    assert report["margin"] == pytest.approx(sum(margins) / len(margins), abs=1e-5)
    assert (tmp_path / "r" / "curves.png").is_file()


def test_resumed_run_is_the_straight_run(tiny_model, data, tmp_path):
    from safetensors.torch import load_file

    from spct.training.baselines import run

    run(config("bradley-terry", tiny_model, data, tmp_path / "straight"))
    killed = tmp_path / "killed"
    shutil.copytree(tmp_path / "straight", killed)
    shutil.rmtree(killed / "model")
    shutil.rmtree(killed / "checkpoints" / "checkpoint-5")
    shutil.rmtree(killed / "checkpoints" / "checkpoint-4")
    manifest = json.loads((killed / "manifest.json").read_text())
    del manifest["finished"]
    (killed / "manifest.json").write_text(json.dumps(manifest))
    run(config("bradley-terry", tiny_model, data, killed), resume=True)
    ours, theirs = (load_file(f / "model" / "model.safetensors") for f in (killed, tmp_path / "straight"))
    assert all((ours[name] == theirs[name]).all() for name in theirs)
    assert logged(killed) == logged(tmp_path / "straight")


def test_conversations_do_not_end_in_the_padding(tiny_model, data, tmp_path):
    """With padding = end of turn, transformers would read the logit one token before vLLM does."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from spct.training.baselines import pad_apart, run

    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(model)
    folder = run(config("bradley-terry", str(model), data, tmp_path / "r", steps=1))
    trained = AutoTokenizer.from_pretrained(folder)
    turns = [{"role": "user", "content": "q0"}, {"role": "assistant", "content": "good"}]
    ids = trained.apply_chat_template(turns, return_dict=False)
    assert ids[-1] == trained.eos_token_id != trained.pad_token_id
    net = AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        last = net.score(net.model(torch.tensor([ids])).last_hidden_state[0, -1]).item()
        assert net(torch.tensor([ids])).logits.item() == pytest.approx(last, abs=1e-6)
    with pytest.raises(InputError, match="conversations end in the padding token"):
        pad_apart(trained, set(range(len(trained))))


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"labels": [1, 1]}, r"bad: labels \(1.0, 1.0\) lie less than 1e-06 apart"),
        ({}, "bad: no labels"),
        ({"responses": ["x"], "labels": [1]}, "bad: one response, which makes no pair"),
    ],
)
def test_what_gives_no_pair_is_named_or_counted(tiny_model, tmp_path, row, fault):
    from spct.training.baselines import load_pairs, run

    bad = write(
        tmp_path / "bad.jsonl", [*rows(), {"id": "bad", "prompt": "q", "responses": ["x", "y"]} | row]
    )
    with pytest.raises(InputError, match=rf"(?s)1 of 22 data points are unusable.*{fault}"):
        run(config("bradley-terry", tiny_model, bad, tmp_path / "r"))
    assert not (tmp_path / "r" / "model").exists()
    _, counts = load_pairs(config("bradley-terry", tiny_model, bad, tmp_path / "r", skip_bad=True))
    assert counts == {"points": 22, "unusable": 1, "pairs": 22}


def test_margin_and_cap_choose_the_pairs(tiny_model, tmp_path):
    from spct.training.baselines import load_pairs

    graded = {"id": "l", "prompt": "q", "responses": list("abcd"), "labels": [4, 4, 3, 1]}
    path = write(tmp_path / "l.jsonl", [graded])

    def places(**settings):
        return [
            pair[1:]
            for pair in load_pairs(config("pair-rm", tiny_model, path, tmp_path / "r", **settings))[0]
        ]

    assert places() == [(0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    assert places(margin=2) == [(0, 3), (1, 3), (2, 3)]
    assert len(places(max_pairs=2)) == 2
    with pytest.raises(InputError, match="lie less than 5 apart"):
        places(margin=5)


def test_long_pairs_are_named_or_dropped_never_cut(tiny_model, data, tmp_path):
    from transformers import AutoTokenizer

    from spct.training.baselines import load_data

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    # <user> q fine*n <judge> bad grade <end>: 6 tokens and n = 0..4; p16 to p19 have the most
    with pytest.raises(InputError, match=r"4 of 22 sequences are longer than 9 tokens: p16/0-1 \(10\)"):
        load_data(config("bradley-terry", tiny_model, data, tmp_path / "r", max_tokens=9), tokenizer)
    settings = config("bradley-terry", tiny_model, data, tmp_path / "r", max_tokens=9, over_length="drop")
    parts, counts = load_data(settings, tokenizer)
    assert (counts["too_long"], counts["longest"]) == (4, 9)
    assert len(parts["train"]) + len(parts["held_out"]) == 18
    with pytest.raises(InputError, match="all pairs are held out"):
        load_data(config("bradley-terry", tiny_model, data, tmp_path / "r", held_out=0.9999999), tokenizer)


def test_wrong_settings_are_named(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text('model = "m"\ndata = ["d"]\nout = "o"\n')
    with pytest.raises(InputError, match="did you mean 'margin'"):
        load_config(BradleyTerryConfig, path, ["margn=1"])
    with pytest.raises(InputError, match="margin"):
        load_config(PairRMConfig, path, ["margin=0"])
    with pytest.raises(InputError, match="part"):
        load_config(CloudConfig, path)
