"""Rejective fine-tuning (§3): loss on the completion only, nothing cut, a resumed run is the straight run."""

import json
import shutil

import pytest

from spct.errors import InputError
from spct.training.configs import RFTConfig

pytestmark = pytest.mark.filterwarnings("ignore:.*will be removed in v6:FutureWarning")


def message(role, content):
    return {"role": role, "content": content}


def rows():
    return [
        {
            "prompt": [message("user", f"q{i % 4} good bad judge")],
            "completion": [message("assistant", "fine " * (i % 3) + r"\boxed{8, 3}")],
            "id": f"r{i}",
            "kind": "hinted" if i % 2 else "general",
        }
        for i in range(24)
    ]


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "rft.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows()))
    return str(path)


def config(model, data, out, **settings):
    common = {
        "batch": 8,
        "micro_batch": 4,
        "steps": 6,
        "max_tokens": 20,
        "lr": 3e-3,
        "save_steps": 2,
        "keep": 9,
    }
    common |= {"gradient_checkpointing": False, "curves": False}
    return RFTConfig(model=model, data=[data], out=str(out), **(common | settings))


def losses(run):
    logged = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in logged if "loss" in row]


def test_labels_are_the_completion_and_its_end_only(tiny_model, data, tmp_path):
    from transformers import AutoTokenizer

    from spct.training.rft import load_data, make_trainer
    from spct.training.stage import open_stage

    settings = config(tiny_model, data, tmp_path / "run")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    with open_stage(settings, resume=False) as stage:
        dataset, counts = load_data(settings, tokenizer)
        trainer = make_trainer(settings, stage, tokenizer, dataset)
    batch = next(iter(trainer.get_train_dataloader()))
    assert len(batch["input_ids"]) == 4
    for ids, labels in zip(batch["input_ids"].tolist(), batch["labels"].tolist(), strict=True):
        tokens = tokenizer.convert_ids_to_tokens(ids)
        start = tokens.index("<judge>") + 1
        trained = [token for token, label in zip(tokens, labels, strict=True) if label != -100]
        assert trained == tokens[start : tokens.index("<end>") + 1]
        assert trained[-2:] == [r"\boxed{8, 3}", "<end>"]
    assert counts["kinds"] == {"general": 12, "hinted": 12}
    assert counts["longest"] == 10  # <user>, 4 words, <judge>, 2 words, the list, <end>


def test_loss_is_the_mean_over_completion_tokens(tiny_model, data, tmp_path):
    """The first step's loss, computed by hand from plain logits over all tokens that count."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from spct.training.rft import load_data, run

    settings = config(tiny_model, data, tmp_path / "run", batch=24, micro_batch=24, steps=1)
    run(settings)
    dataset, _ = load_data(settings, AutoTokenizer.from_pretrained(tiny_model))
    model = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    total, count = 0.0, 0
    for row in dataset:
        ids, mask = torch.tensor(row["input_ids"]), torch.tensor(row["completion_mask"])
        with torch.no_grad():
            logprobs = torch.log_softmax(model(ids[None]).logits[0, :-1], dim=-1)
        picked = logprobs[torch.arange(len(ids) - 1), ids[1:].long()]
        total -= float(picked[mask[1:] == 1].sum())
        count += int(mask.sum())
    assert losses(tmp_path / "run")[0] == pytest.approx(total / count, abs=1e-5)


def test_resumed_run_is_the_straight_run(tiny_model, data, tmp_path):
    """24 rows of batch 8 are 3 steps an epoch: the run is cut at step 4, inside the second epoch."""
    from safetensors.torch import load_file

    from spct.training.rft import run

    run(config(tiny_model, data, tmp_path / "straight"))
    killed = tmp_path / "killed"
    shutil.copytree(tmp_path / "straight", killed)
    shutil.rmtree(killed / "model")
    shutil.rmtree(killed / "checkpoints" / "checkpoint-6")
    manifest = json.loads((killed / "manifest.json").read_text())
    del manifest["finished"]
    (killed / "manifest.json").write_text(json.dumps(manifest))
    run(config(tiny_model, data, killed), resume=True)
    ours, theirs = (load_file(f / "model" / "model.safetensors") for f in (killed, tmp_path / "straight"))
    assert all((ours[name] == theirs[name]).all() for name in theirs)
    assert losses(killed) == losses(tmp_path / "straight")
    assert losses(killed)[-1] < losses(killed)[0]


def test_an_adapter_is_trained_further(tiny_model, data, tmp_path):
    """The second run's loss begins where the first one's ended, and base and adapter make its model."""
    import torch
    from transformers import AutoModelForCausalLM

    from spct.training.rft import run

    lora = {"lora_rank": 2, "lora_alpha": 4, "lr": 3e-2, "warmup_steps": 1}
    run(config(tiny_model, data, tmp_path / "first", **lora))
    folder = run(config(tiny_model, data, tmp_path / "b", adapter=str(tmp_path / "first" / "adapter")))
    first, second = losses(tmp_path / "first"), losses(tmp_path / "b")
    assert second[0] < (first[0] + first[-1]) / 2
    base, after = (AutoModelForCausalLM.from_pretrained(name).state_dict() for name in (tiny_model, folder))
    assert all(torch.linalg.matrix_rank(after[k] - base[k], rtol=1e-3) <= 2 for k in base if "proj" in k)


def test_long_sequences_are_named_or_dropped_never_cut(tiny_model, data, tmp_path):
    from transformers import AutoTokenizer

    from spct.training.rft import load_data

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    with pytest.raises(InputError, match=r"8 of 24 sequences are longer than 9 tokens: r2 \(10\), r5 \(10\)"):
        load_data(config(tiny_model, data, tmp_path / "r", max_tokens=9), tokenizer)
    kept, counts = load_data(
        config(tiny_model, data, tmp_path / "r", max_tokens=9, over_length="drop"), tokenizer
    )
    assert (len(kept), counts["too_long"], counts["longest"]) == (16, 8, 9)


def test_a_template_that_changes_the_prompt_is_refused(tiny_model, data, tmp_path):
    from transformers import AutoTokenizer

    from spct.training.rft import load_data

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    count = "{{ 'q' ~ messages | length }} "
    tokenizer.chat_template = count + "{% for m in messages %}<user>{{ m.content }}{% endfor %}"
    with pytest.raises(InputError, match="r0: with its completion the prompt has other tokens"):
        load_data(config(tiny_model, data, tmp_path / "r"), tokenizer)


def test_model_without_a_chat_template_is_refused(tiny_model, data, tmp_path):
    from spct.training.rft import run

    bare = tmp_path / "bare"
    shutil.copytree(tiny_model, bare)
    (bare / "chat_template.jinja").unlink()
    with pytest.raises(InputError, match="has no chat template"):
        run(config(str(bare), data, tmp_path / "r"))


def test_missing_model_is_named(data, tmp_path):
    from spct.training.rft import run

    with pytest.raises(InputError, match=r"model '.*nowhere' cannot be loaded"):
        run(config(str(tmp_path / "nowhere"), data, tmp_path / "r"))


def test_a_finished_run_is_not_trained_again(tiny_model, data, tmp_path):
    from spct.training.rft import run

    settings = config(tiny_model, data, tmp_path / "r", steps=1)
    run(settings)
    written = (tmp_path / "r" / "model" / "model.safetensors").stat().st_mtime_ns
    assert run(settings, resume=True) == tmp_path / "r" / "model"
    assert (tmp_path / "r" / "model" / "model.safetensors").stat().st_mtime_ns == written


def test_a_gradient_that_is_not_finite_ends_the_run_before_a_checkpoint_of_it(
    tiny_model, data, tmp_path, monkeypatch
):
    """As on GPUs whose attention kernel gives NaN: what came before is kept, and the run goes on from it."""
    from spct.errors import BackendError
    from spct.training import rft

    def broken(*args, make=rft.make_trainer):
        trainer = make(*args)
        loss = trainer.compute_loss

        def compute_loss(*given, **named):
            found = loss(*given, **named)
            return found * float("nan") if trainer.state.global_step == 3 else found

        trainer.compute_loss = compute_loss
        return trainer

    whole, cut = (config(tiny_model, data, tmp_path / name) for name in ("whole", "cut"))
    rft.run(whole)
    with monkeypatch.context() as patch:
        patch.setattr(rft, "make_trainer", broken)
        with pytest.raises(BackendError, match="step 4: the gradient is nan"):
            rft.run(cut)
    assert [path.name for path in (tmp_path / "cut" / "checkpoints").glob("checkpoint-*")] == ["checkpoint-2"]
    assert not (tmp_path / "cut" / "model").exists()
    assert len(losses(tmp_path / "cut")) == 3
    rft.run(cut, resume=True)
    assert losses(tmp_path / "cut") == pytest.approx(losses(tmp_path / "whole"), rel=1e-5)
