"""RL (§4): the loss is Eq. 15, a resumed run is the straight run, and what is logged is right."""

import dataclasses
import json
import shutil

import pytest

from spct.correctness import outcome
from spct.errors import ConfigError, InputError
from spct.training.configs import GRPOConfig
from spct.training.outcomes import OutcomeReward, read_rollout
from spct.types import SamplingParams

from .conftest import TEMPLATES

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*will be removed in v6:FutureWarning"
)  # TRL calls transformers by old names


def config(model, data, out, **settings):
    common = {
        "template": str(TEMPLATES / "judge.j2"),
        "single_template": str(TEMPLATES / "grade.j2"),
        "batch": 16,
        "micro_batch": 8,
        "steps": 5,
        "max_tokens": 40,
        "max_new_tokens": 6,
        "lr": 1e-3,
        "save_steps": 2,
        "sample_steps": 2,
        "sample_rollouts": 3,
        "gradient_checkpointing": False,
        "curves": False,
    }
    return GRPOConfig(model=model, data=[data], out=str(out), **(common | settings))


def metrics(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def straight(tiny_model, points, tmp_path_factory):
    from spct.training.grpo import run

    out = tmp_path_factory.mktemp("grpo") / "run"
    run(config(tiny_model, points, out, curves=True))
    return out


def test_paper_fields_exist_in_trl_and_have_the_papers_values():
    from trl import GRPOConfig as TRLConfig

    from spct.training.grpo import PAPER, paper_grpo_config

    assert PAPER.keys() <= {field.name for field in dataclasses.fields(TRLConfig)}
    args = paper_grpo_config(
        output_dir="x",
        use_cpu=True,
        bf16=False,
        per_device_train_batch_size=4,
        activation_checkpointing=False,
    )
    assert (args.num_generations, args.beta, args.loss_type, args.scale_rewards) == (4, 0.08, "grpo", "group")
    assert (args.learning_rate, args.lr_scheduler_type, args.num_iterations) == (4e-7, "constant", 1)
    assert not args.use_bias_correction_kl
    assert not args.vllm_importance_sampling_correction
    with pytest.raises(
        ConfigError, match=r"trainer\.epsilom is no field of GRPOConfig; did you mean 'epsilon'"
    ):
        paper_grpo_config(epsilom=0.3)


def test_loss_and_gradient_are_equation_15(tiny_model, points, tmp_path):
    """Policy, old policy and reference all differ; sequences differ in length; temperature is not 1."""
    import torch

    from spct.training.engine import load_tokenizer
    from spct.training.grpo import load_rows, make_trainer
    from spct.training.stage import open_stage

    settings = config(
        tiny_model, points, tmp_path / "run", iterations=2, temperature=0.7, batch=16, micro_batch=16
    )
    with open_stage(settings, resume=False) as stage:
        tokenizer = load_tokenizer(settings, room=46)
        rows, _ = load_rows(settings, tokenizer)
        trainer = make_trainer(settings, stage, tokenizer, rows)
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    reference = plain_copy(trainer.model, tiny_model)
    shift(trainer.model, seed=1)
    old = plain_copy(trainer.model, tiny_model)
    inputs = trainer._generate_and_score_completions([rows[i // 4] for i in range(16)])
    rewards = torch.tensor([float(r.outcome) for r in trainer.reward_funcs[0].last])
    assert 0 < (rewards > 0).sum() < 16  # else there is nothing to compare
    assert len(set(inputs["completion_mask"].sum(1).tolist())) > 1
    shift(trainer.model, seed=2)

    trainer.model.zero_grad()
    loss = trainer._compute_loss(trainer.model, inputs)
    loss.backward()
    theirs = flat_gradient(trainer.model)
    assert trainer._metrics["train"]["clip_ratio/region_mean"][-1] > 0  # the clip is at work too

    policy = plain_copy(trainer.model, tiny_model)
    expected = equation_15(
        policy, old, reference, inputs, rewards, group=4, beta=0.08, clip=0.2, temperature=0.7
    )
    expected.backward()
    ours = flat_gradient(policy)
    assert expected.item() == pytest.approx(loss.item(), abs=1e-6)
    assert float((theirs - ours).norm() / ours.norm()) < 1e-5


def plain_copy(model, folder):
    """A model of its own with the same weights; TRL patches the forward of its own."""
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(folder)
    plain.load_state_dict(model.state_dict())
    return plain.eval()


def shift(model, seed):
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)


def flat_gradient(model):
    import torch

    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).clone()


def equation_15(policy, old, reference, batch, rewards, *, group, beta, clip, temperature):
    """Eq. 15 written out, one sequence at a time; to be minimised."""
    import torch

    def token_logprobs(model, row):
        ids = torch.cat([batch["prompt_ids"][row], batch["completion_ids"][row]])
        mask = torch.cat([batch["prompt_mask"][row], batch["completion_mask"][row]])
        logits = model(input_ids=ids[None], attention_mask=mask[None]).logits[0] / temperature
        length, start = int(batch["completion_mask"][row].sum()), len(batch["prompt_ids"][row])
        rows = torch.log_softmax(logits[start - 1 : start - 1 + length], dim=-1)
        return rows[torch.arange(length), ids[start : start + length]]

    total = torch.zeros(())
    for row in range(len(rewards)):
        mates = rewards[row // group * group : (row // group + 1) * group]
        advantage = (rewards[row] - mates.mean()) / (mates.std() + 1e-4)
        pi = token_logprobs(policy, row)
        with torch.no_grad():
            pi_old, pi_ref = token_logprobs(old, row), token_logprobs(reference, row)
        ratio = (pi - pi_old).exp()
        surrogate = torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)
        kl = (pi_ref - pi).exp() - (pi_ref - pi) - 1
        total = total + (surrogate - beta * kl).mean()
    return -total / len(rewards)


def test_five_steps_log_everything(straight):
    rows = [row for row in metrics(straight) if "loss" in row]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5]
    for row in rows:
        assert row["outcome"] == pytest.approx(2 * row["accuracy"] - 1)
        assert row["outcome"] == pytest.approx(row["reward"])  # TRL's own count of the same
        assert row["zero_variance"] == pytest.approx(row["frac_reward_zero_std"])
        assert row["accuracy"] <= row["parse_rate"] <= 1
        assert {"kl", "entropy", "length", "grad_norm"} <= row.keys()
    names = {"outcome", "accuracy", "parse_rate", "length", "zero_variance", "kl", "entropy"}
    seen = {key for row in rows for key in row if key.startswith("domain/")}
    assert seen == {f"domain/{part}/{name}" for part in ("even", "odd", "single") for name in names}


def test_means_by_domain_add_up_to_the_mean(straight, points, tmp_path, tiny_model):
    """16 rollouts of 4 points: per-domain means, weighted by the stored rollouts, give the overall mean."""
    from spct.training.grpo import run

    run(config(tiny_model, points, tmp_path / "r", steps=1, sample_rollouts=16))
    [row] = [row for row in metrics(tmp_path / "r") if "loss" in row]
    rollouts = [json.loads(line) for line in (tmp_path / "r" / "rollouts.jsonl").read_text().splitlines()]
    assert len(rollouts) == 16
    for part in {r["domain"] for r in rollouts}:
        mine = [r["outcome"] for r in rollouts if r["domain"] == part]
        assert row[f"domain/{part}/outcome"] == pytest.approx(sum(mine) / len(mine))
    assert row["outcome"] == pytest.approx(sum(r["outcome"] for r in rollouts) / 16)
    labels = {r["example_id"]: r["labels"] for r in rollouts}
    for r in rollouts:  # stored scores are the caller's order
        assert r["outcome"] == outcome(r["scores"], labels[r["example_id"]])


def test_sample_rollouts_every_second_step(straight):
    steps = [json.loads(line)["step"] for line in (straight / "rollouts.jsonl").read_text().splitlines()]
    assert steps == [1, 1, 1, 3, 3, 3, 5, 5, 5]


def test_result_loads_and_the_curves_are_drawn(straight):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    AutoModelForCausalLM.from_pretrained(straight / "model")
    assert AutoTokenizer.from_pretrained(straight / "model").chat_template
    assert (straight / "curves.png").read_bytes().startswith(b"\x89PNG")
    manifest = json.loads((straight / "manifest.json").read_text())
    assert manifest["counts"] == {"points": 16, "unusable": 0, "easy": 0, "too_long": 0, "used": 16}
    assert manifest["finished"]


@pytest.mark.parametrize("lost", ["checkpoint-5", "none"])  # killed in the last step, or behind it
def test_resumed_run_is_the_straight_run(straight, tiny_model, points, tmp_path, lost):
    from safetensors.torch import load_file

    from spct.training.grpo import run

    killed = tmp_path / "killed"
    shutil.copytree(straight, killed)
    shutil.rmtree(killed / "model")
    shutil.rmtree(killed / "checkpoints" / lost, ignore_errors=True)
    manifest = json.loads((killed / "manifest.json").read_text())
    del manifest["finished"]
    (killed / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="pass --resume"):
        run(config(tiny_model, points, killed, curves=True))
    run(config(tiny_model, points, killed, curves=True), resume=True)
    ours, theirs = (load_file(folder / "model" / "model.safetensors") for folder in (killed, straight))
    assert all((ours[name] == theirs[name]).all() for name in theirs)
    timing = ("runtime", "per_second", "time")
    kept = [
        [{k: v for k, v in row.items() if not k.endswith(timing)} for row in metrics(run_) if "loss" in row]
        for run_ in (killed, straight)
    ]
    assert kept[0] == kept[1]


def test_micro_batches_do_not_change_the_step(tiny_model, points, tmp_path):
    from spct.training.grpo import run

    norms = []
    for micro in (16, 4):
        run(config(tiny_model, points, tmp_path / str(micro), steps=1, micro_batch=micro))
        norms.append(metrics(tmp_path / str(micro))[0]["grad_norm"])
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


def test_rl_learns_to_write_scores(tiny_model, points, tmp_path):
    """A random model parses sometimes; the outcome alone, without format reward, teaches it to."""
    from spct.training.grpo import run

    run(config(tiny_model, points, tmp_path / "r", steps=25, lr=1e-2, batch=32, micro_batch=32, group_size=8))
    rates = [row["parse_rate"] for row in metrics(tmp_path / "r") if "loss" in row]
    assert sum(rates[-5:]) / 5 > sum(rates[:5]) / 5 + 0.2


def test_lora_result_is_merged(tiny_model, points, tmp_path):
    from transformers import AutoModelForCausalLM

    from spct.training.grpo import run

    folder = run(config(tiny_model, points, tmp_path / "r", steps=2, lora_rank=2, lora_alpha=4, lr=1e-2))
    assert (tmp_path / "r" / "adapter" / "adapter_config.json").is_file()
    before, after = (AutoModelForCausalLM.from_pretrained(f).state_dict() for f in (tiny_model, folder))
    assert before.keys() == after.keys()
    changed = {name for name in before if not (before[name] == after[name]).all()}
    assert changed
    assert not any("embed" in name or "norm" in name for name in changed)


def test_rl_goes_on_with_an_adapter(tiny_model, points, tmp_path):
    """It is the reference, its rank stays, and what is merged is the base with it alone; it resumes."""
    import torch
    from peft import PeftConfig
    from transformers import AutoModelForCausalLM

    from spct.errors import InputError
    from spct.training.grpo import run

    run(config(tiny_model, points, tmp_path / "first", steps=2, lora_rank=2, lora_alpha=4, lr=1e-2))
    settings = {"adapter": str(tmp_path / "first" / "adapter"), "slots": 2, "keep": 9, "lr": 1e-2}
    folder = run(config(tiny_model, points, tmp_path / "a", **settings))
    assert PeftConfig.from_pretrained(str(tmp_path / "a" / "adapter")).r == 2
    assert not [*(tmp_path / "a").rglob("ref")]  # a copy of the first adapter, in no checkpoint either
    names = (tiny_model, tmp_path / "first" / "model", folder)
    base, before, after = (AutoModelForCausalLM.from_pretrained(name).state_dict() for name in names)
    changed = [name for name in base if not torch.equal(before[name], after[name])]
    assert changed
    assert all(torch.linalg.matrix_rank(after[name] - base[name], rtol=1e-3) <= 2 for name in changed)
    kl = [row["kl"] for row in metrics(tmp_path / "a") if "kl" in row]
    assert abs(kl[0]) < 1e-6 < kl[-1]

    shutil.copytree(tmp_path / "a", tmp_path / "b", ignore=shutil.ignore_patterns("model", "checkpoint-5"))
    manifest = json.loads((tmp_path / "b" / "manifest.json").read_text())
    manifest.pop("finished")
    (tmp_path / "b" / "manifest.json").write_text(json.dumps(manifest))
    run(config(tiny_model, points, tmp_path / "b", **settings), resume=True)
    assert [row["kl"] for row in metrics(tmp_path / "b") if "kl" in row] == pytest.approx(kl)

    with pytest.raises(InputError, match=r"adapter .* cannot be loaded"):
        run(config(tiny_model, points, tmp_path / "c", adapter=str(tmp_path)))
    twice = {"adapter": settings["adapter"], "curves": False}
    with pytest.raises(InputError, match="a merged one would get it twice"):
        run(config(str(tmp_path / "first" / "model"), points, tmp_path / "e", **twice))
    (tmp_path / "first" / "adapter" / "adapter_model.safetensors").write_bytes(b"torn")
    with pytest.raises(InputError, match=r"adapter .* cannot be loaded"):
        run(config(tiny_model, points, tmp_path / "f", **twice))
    with pytest.raises(InputError, match=r"data_hashes.*first/adapter"):  # it is not what the run began with
        run(config(tiny_model, points, tmp_path / "a", **settings), resume=True)
    with pytest.raises(ValueError, match="leave one"):
        config(tiny_model, points, tmp_path / "d", adapter=str(tmp_path), lora_rank=2)


def test_too_long_prompts_are_named_or_dropped(tiny_model, points, tmp_path):
    from spct.training.grpo import run

    with pytest.raises(InputError, match=r"12 of 16 sequences are longer than 6 tokens: p0 \(7\)"):
        run(config(tiny_model, points, tmp_path / "r", max_tokens=6))
    with pytest.raises(InputError, match="sequences may have 205 tokens, the model takes 128"):
        run(config(tiny_model, points, tmp_path / "r2", max_tokens=199))


def test_too_few_points_for_a_batch_name_the_counts(tiny_model, points, tmp_path):
    from spct.training.grpo import run

    with pytest.raises(InputError, match=r"16 data points are left \(points 16, unusable 0, easy 0"):
        run(config(tiny_model, points, tmp_path / "r", batch=128))


def test_a_cut_rollout_is_wrong_even_where_scores_can_be_read():
    reward = OutcomeReward()
    reward.ends = frozenset({1})
    columns = {"labels": [[1, 0]] * 3, "order": [[1, 0]] * 3, "template": [str(TEMPLATES / "judge.j2")] * 3}
    text = [[{"role": "assistant", "content": r"\boxed{3, 8}"}]] * 3
    assert reward(None, text, [[15, 1], [15, 15], []], **columns) == [1.0, -1.0, -1.0]
    assert [r.failure for r in reward.last] == [None, "truncated", "truncated"]


@pytest.mark.parametrize(
    ("text", "labels", "order", "expected"),
    [
        (r"\boxed{8, 3}", (1, 0), (0, 1), 1),
        (
            r"\boxed{8, 3}",
            (1, 0),
            (1, 0),
            -1,
        ),  # 8 is for the response shown first, which is the caller's second
        (r"\boxed{5, 5}", (1, 0), (0, 1), -1),  # a tie at the top is wrong (Eq. 10)
        (r"\boxed{8}", (1, 0), (0, 1), -1),
        ("no scores", (1, 0), (0, 1), -1),
        (r"\boxed{9, 2, 5}", (0, 0, 3), (2, 0, 1), 1),  # shown: third, first, second
    ],
)
def test_outcome_of_a_rollout(text, labels, order, expected):
    assert read_rollout(text, labels, order, "pointwise", cut=False).outcome == expected


def test_singles_are_right_only_at_their_label():
    texts = [f"Scores: \\boxed{{{s}}}" for s in (0, 1, 7)]
    assert [read_rollout(text, (1,), (0,), "single", cut=False).outcome for text in texts] == [-1, 1, -1]


@pytest.mark.parametrize("lora_rank", [0, 4])
def test_rollouts_in_slots_are_of_the_trained_weights(tiny_model, points, tmp_path, monkeypatch, lora_rank):
    """Greedily, what slots draw after training is what `generate` of the saved model writes."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from spct.training import grpo

    trainers = []

    def train(trainer, stage, train=grpo.train):
        trainers.append(trainer)
        train(trainer, stage)

    monkeypatch.setattr(grpo, "train", train)
    out = tmp_path / "run"
    settings = {"slots": 2, "steps": 3, "lora_rank": lora_rank, "lr": 1e-2}
    grpo.run(config(tiny_model, points, out, **settings))
    [trainer] = trainers
    trainer.rollout_func._params = SamplingParams(0.0)
    prompts = [[{"role": "user", "content": f"q{i} good bad judge"}] for i in (0, 0, 1)]
    drawn = trainer.rollout_func(prompts, trainer)
    model = AutoModelForCausalLM.from_pretrained(out / "model")
    tokenizer = AutoTokenizer.from_pretrained(out / "model")
    for turns, ids, new in zip(prompts, drawn["prompt_ids"], drawn["completion_ids"], strict=True):
        [read] = tokenizer.apply_chat_template([turns], add_generation_prompt=True, return_dict=False)
        assert read == ids
        written = model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=6, pad_token_id=0)
        assert written[0, len(ids) :].tolist() == new
    start = AutoModelForCausalLM.from_pretrained(tiny_model)
    pairs = zip(start.parameters(), model.parameters(), strict=True)
    assert not all(torch.equal(before, after) for before, after in pairs)


def test_slots_and_vllm_exclude_each_other(tiny_model, points, tmp_path):
    with pytest.raises(ValueError, match="rollouts have one engine"):
        config(tiny_model, points, tmp_path, slots=2, vllm="colocate")


def test_a_run_in_slots_resumes_as_the_straight_one(tiny_model, points, tmp_path):
    from spct.training.grpo import run

    straight, cut = (config(tiny_model, points, tmp_path / name, slots=2, keep=9) for name in ("a", "b"))
    run(straight)
    shutil.copytree(tmp_path / "a", tmp_path / "b", ignore=shutil.ignore_patterns("model", "checkpoint-4"))
    manifest = json.loads((tmp_path / "b" / "manifest.json").read_text())
    manifest.pop("finished")
    (tmp_path / "b" / "manifest.json").write_text(json.dumps(manifest))
    run(cut, resume=True)
    names = ("step", "loss", "outcome", "completions/mean_length")
    assert [[row.get(n) for n in names] for row in metrics(tmp_path / "a")][:5] == [
        [row.get(n) for n in names] for row in metrics(tmp_path / "b")
    ][:5]


def test_training_ends_when_its_minutes_are_over(tiny_model, points, tmp_path, capsys):
    from spct.training.grpo import run

    run(config(tiny_model, points, tmp_path / "run", steps=400, max_minutes=1e-6))
    assert [row["step"] for row in metrics(tmp_path / "run") if "outcome" in row] == [1]
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()
    assert "minutes are over" in capsys.readouterr().err


def test_a_log_of_all_rollouts_is_a_run_for_the_meta_rm(tiny_model, points, tmp_path):
    from spct.training.grpo import run
    from spct.training.meta_rm import judged
    from spct.training.rollouts import logged, tally

    run(config(tiny_model, points, tmp_path / "run", steps=3, sample_steps=1, sample_rollouts=16))
    log = tmp_path / "run" / "rollouts.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    folder = logged(log, [points], tmp_path / "rollouts")
    counts = tally(folder)
    assert counts["samples"] == len(rows) == 48
    assert counts["correct"] == sum(row["outcome"] == 1 for row in rows)
    assert counts["parsed"] == sum(row["scores"] is not None for row in rows) > 0
    found, left_out = judged([tmp_path / "rollouts"])
    assert len(found) == counts["parsed"]
    assert sum(row.correct for row in found) == counts["correct"]
    assert left_out["unparsed"] == 48 - counts["parsed"]
    other = tmp_path / "other.jsonl"
    other.write_text('{"id": "x", "prompt": "q", "responses": ["a", "b"], "labels": [1, 0]}\n')
    with pytest.raises(InputError, match="no data point"):
        logged(log, [other], tmp_path / "again")
    with pytest.raises(InputError, match=r"no\.jsonl: No such file"):
        logged(tmp_path / "no.jsonl", [points], tmp_path / "again")


def test_micro_batches_by_length_hold_the_same_rows_with_less_padding():
    import torch

    from spct.training.padding import by_length

    # prompt lengths 2, 4, 1, 3 of 4 (padded on the left), completions 3, 1, 2, 3 of 3: 5, 5, 3, 6 together
    prompts = [[0, 0, 7, 7], [6, 6, 6, 6], [0, 0, 0, 5], [0, 4, 4, 4]]
    completions = [[3, 3, 3], [2, 0, 0], [1, 1, 0], [8, 8, 8]]
    rows = {
        "prompt_ids": torch.tensor(prompts),
        "prompt_mask": (torch.tensor(prompts) > 0).int(),
        "completion_ids": torch.tensor(completions),
        "completion_mask": (torch.tensor(completions) > 0).int(),
        "ref_per_token_logps": -torch.tensor(completions).float(),
        "advantages": torch.tensor([0.1, 0.2, 0.3, 0.4]),
    }
    whole = {"num_items_in_batch": torch.tensor(9), "images": None}
    parts = by_length([{name: x[i : i + 2] for name, x in rows.items()} | whole for i in (0, 2)])
    assert [part["advantages"].tolist() for part in parts] == [
        pytest.approx([0.3, 0.1]),  # lengths 3, 5
        pytest.approx([0.2, 0.4]),  # 5, 6
    ]
    assert parts[0]["prompt_ids"].tolist() == [[0, 5], [7, 7]]  # two columns were padding in both
    assert parts[0]["completion_ids"].tolist() == [[1, 1, 0], [3, 3, 3]]
    assert parts[0]["ref_per_token_logps"].tolist() == [[-1, -1, 0], [-3, -3, -3]]
    assert parts[1]["prompt_ids"].shape == (2, 4)
    assert all(int(part["num_items_in_batch"]) == 9 and part["images"] is None for part in parts)


@pytest.mark.parametrize(("width", "kept"), [([1, 1, 0, 0], 2), ([1, 0, 0, 0], 1), ([0, 0, 0, 0], 1)])
def test_completions_are_cut_behind_the_longest(width, kept):
    import torch

    from spct.training.padding import shortened

    mask = torch.tensor([width])
    batch = {"prompt_ids": torch.ones(1, 3), "prompt_mask": torch.ones(1, 3), "completion_mask": mask}
    assert shortened(batch)["completion_mask"].shape == (1, kept)
    assert shortened(batch)["prompt_ids"].shape == (1, 3)


def test_slots_take_the_engines_own_settings_or_refuse_them(tiny_model, points, tmp_path):
    from spct.training.grpo import run

    refused = config(tiny_model, points, tmp_path / "a", slots=2, trainer={"top_k": 5})
    with pytest.raises(ConfigError, match=r"slots is set and trainer\.top_k is 5"):
        run(refused)
    adapted = config(tiny_model, points, tmp_path / "b", slots=2, lora_rank=2, lora_targets="embed_tokens")
    with pytest.raises(ConfigError, match="embed_tokens has an adapter"):
        run(adapted)

    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    for name, more in (("head", {"modules_to_save": ["lm_head"]}), ("dora", {"use_dora": True})):
        made = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM", **more)
        get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model), made).save_pretrained(
            tmp_path / name
        )
        more = config(tiny_model, points, tmp_path / f"c-{name}", slots=2, adapter=str(tmp_path / name))
        with pytest.raises(ConfigError, match=r"is trained\n.*plain LoRA"):
            run(more)


def test_a_run_begun_before_a_setting_existed_resumes(tiny_model, points, tmp_path):
    from spct.training.grpo import run

    settings = config(tiny_model, points, tmp_path / "run", steps=2)
    run(settings)
    path = tmp_path / "run" / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["settings"]["max_minutes"]
    del manifest["settings"]["report_to"]
    path.write_text(json.dumps(manifest))
    assert run(settings, resume=True) == tmp_path / "run" / "model"


def test_logged_texts_may_hold_any_line_separator(tiny_model, points, tmp_path):
    from spct.training.rollouts import logged, tally
    from spct.training.stage import open_stage

    row = {"step": 1, "example_id": "p0", "order": [0, 1], "scores": [8, 3], "text": "a\u2028b\x85c"}
    with open_stage(config(tiny_model, points, tmp_path / "run"), resume=False) as stage:
        stage.append("rollouts.jsonl", row)
        stage.append("rollouts.jsonl", row | {"step": 2})
        stage.rewind(1)
    folder = logged(tmp_path / "run" / "rollouts.jsonl", [points], tmp_path / "rollouts")
    assert tally(folder)["samples"] == 1
    assert folder.trajectories("p0")[0].text == "a\u2028b\x85c"


@pytest.mark.parametrize(
    ("changed", "free"),
    [({}, True), ({"steps_per_generation": 8}, False), ({"loss_type": "dapo"}, False),
     ({"pad_to_multiple_of": 8}, False)],
)  # fmt: skip
def test_rows_change_places_only_where_that_changes_nothing(tmp_path, changed, free):
    from spct.training.grpo import paper_grpo_config
    from spct.training.padding import order_is_free

    common = {"output_dir": str(tmp_path), "use_cpu": True, "bf16": False, "activation_checkpointing": False}
    batches = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4}
    args = paper_grpo_config(**common, **batches, **changed)
    assert order_is_free(args, {}) is free
    assert not order_is_free(args, {"pixel_values": 0})
