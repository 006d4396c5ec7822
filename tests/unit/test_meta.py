"""Meta rewards: the prompt, a /classify server and its faults, and a classifier in-process."""

import asyncio
import json
import math

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

from spct.errors import BackendError, InputError
from spct.meta import ClassifyServer, LocalClassifier, meta_prompt, sigmoid
from spct.types import Example, Trajectory
from tiny_model import save_tiny_model, save_tokenizer


def judged(text, order=(1, 0)):
    return Trajectory("e", 0, "k", order, 1, text, scores=(5, 8))


def test_the_prompt_has_the_conversation_the_responses_as_shown_and_the_judges_own_text():
    example = Example.of("2+2?", ["four", "five"], reference="4")
    prompt = meta_prompt(
        example, judged("<think>secret</think>Analysis: five is wrong.\nScores: \\boxed{8, 5}")
    )
    order = [prompt.index(part) for part in ("2+2?", "\n4\n", "five", "four", "five is wrong.")]
    assert order == sorted(order)
    assert "secret" not in prompt


@pytest.mark.parametrize(
    ("logit", "probability"),
    [(0, 0.5), (math.log(3), 0.75), (-math.log(3), 0.25), (1000, 1.0), (-1000, 0.0), (-745, 4.94e-324)],
)
def test_sigmoid_is_safe_at_both_ends(logit, probability):
    assert sigmoid(logit) == pytest.approx(probability)


def row(index, logit):
    return {"index": index, "label": "LABEL_0", "probs": [logit], "num_classes": 1}


def classify(answers, prompts=("a", "b"), path="", **options):
    """Ask a server that gives these answers in turn; returns the result or error, and what it was asked."""
    asked = []

    async def handle(request):
        asked.append(await request.json())
        answer = answers[min(len(asked), len(answers)) - 1]
        status, text = answer if isinstance(answer, tuple) else (200, json.dumps(answer))
        return web.Response(status=status, text=text, content_type="application/json")

    async def main():
        app = web.Application()
        app.router.add_post("/classify", handle)
        async with TestServer(app) as server:
            meta = ClassifyServer(str(server.make_url("/")).rstrip("/") + path, pause_s=0, **options)
            try:
                return await meta.score(list(prompts)), meta
            finally:
                await meta.aclose()

    try:
        found, meta = asyncio.run(main())
        return found, asked, meta
    except BackendError as error:
        return error, asked, None


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/"])
def test_logits_come_back_in_the_order_of_the_prompts(path):
    answer = {"data": [row(1, -math.log(3)), row(0, math.log(3))]}
    found, asked, _ = classify([answer], path=path)
    assert found == pytest.approx([0.75, 0.25])
    assert asked == [{"input": ["a", "b"], "use_activation": False}]


def test_the_served_name_is_sent_and_names_it_in_the_store():
    found, asked, meta = classify([{"data": [row(0, 0)]}], prompts=["a"], model="my-rm")
    assert (found, meta.model) == ([0.5], "my-rm")
    assert asked[0]["model"] == "my-rm"


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_what_may_pass_is_asked_again(status):
    found, asked, _ = classify([(status, "busy"), {"data": [row(0, 0), row(1, 0)]}])
    assert (found, len(asked)) == ([0.5, 0.5], 2)


@pytest.mark.parametrize("status", [400, 401, 404, 422])
def test_what_will_not_pass_is_an_error_at_once(status):
    error, asked, _ = classify([(status, "the reason")])
    assert isinstance(error, BackendError)
    assert f"{status} the reason" in str(error)
    assert len(asked) == 1


def test_it_gives_up_after_its_retries_and_says_why():
    error, asked, _ = classify([(503, "starting")], retries=2)
    assert "503 starting" in str(error)
    assert "finished work is stored" in str(error)
    assert len(asked) == 3


@pytest.mark.parametrize(
    "answer",
    [
        {},
        [],
        {"data": {}},
        {"data": [row(0, 0)]},
        {"data": [row(0, 0), row(1, 0), row(2, 0)]},
        {"data": [row(0, 0), {"index": 1, "probs": []}]},
        {"data": [row(0, 0), {"index": 1, "probs": ["x"]}]},
        {"data": [row(0, 0), {"index": 1, "probs": None}]},
        {"data": [row(0, 0), {"probs": [0.1]}]},
    ],
)
def test_nonsense_is_an_error_and_never_a_reward(answer):
    error, _, _ = classify([answer], retries=0)
    assert isinstance(error, BackendError), error


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_a_logit_that_is_no_number_is_an_error(number):
    body = f'{{"data": [{{"index": 0, "probs": [0.5]}}, {{"index": 1, "probs": [{number}]}}]}}'
    error, _, _ = classify([(200, body)], retries=0)
    assert "expected: 2 finite logits" in str(error)


@pytest.mark.parametrize("body", ["", "{", "null", "<html>busy</html>"])
def test_a_body_that_is_no_answer_is_told(body):
    error, asked, _ = classify([(200, body)], retries=1)
    assert isinstance(error, BackendError)
    assert str(error).splitlines()[0].rstrip().rpartition("/: ")[2] != "", "no reason is given"
    assert len(asked) == 2


def test_a_server_that_is_gone_is_an_error():
    async def main():
        meta = ClassifyServer(f"http://127.0.0.1:{unused_port()}", retries=0)
        try:
            await meta.score(["a"])
        finally:
            await meta.aclose()

    with pytest.raises(BackendError, match="ClientConnectorError"):
        asyncio.run(main())


# --- in-process ---


OPENING = "response begins " * 20  # 40 tokens, and one that begins the text


def save_classifier(where, kind="llama", pad="<|endoftext|>", **config):
    """Write a tiny random classifier of a kind that `transformers` knows."""
    torch = pytest.importorskip("torch", reason="the extra `local` is not installed")
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    torch.set_num_threads(1)
    torch.manual_seed(0)
    size = save_tokenizer(where)
    tokenizer = AutoTokenizer.from_pretrained(where)
    tokenizer.pad_token = pad
    tokenizer.save_pretrained(where)
    settings = {
        "vocab_size": size, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "max_position_embeddings": 64, "num_labels": 1, "initializer_range": 0.5,
        "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip
    config = AutoConfig.for_model(kind, **settings | config)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(where)
    return str(where)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_classifier(tmp_path_factory.mktemp("meta"), num_key_value_heads=2)


@pytest.mark.engine
def test_a_local_classifier_gives_the_same_alone_and_in_a_padded_batch(folder):
    prompts = ["right", "wrong scores " * 3, "response begins right ends", "wrong"]
    together = asyncio.run(LocalClassifier(folder, batch_size=4, dtype="float32").score(prompts))
    alone = asyncio.run(LocalClassifier(folder, batch_size=1, dtype="float32").score(prompts))
    assert together == pytest.approx(alone, abs=1e-5)
    assert all(0 < p < 1 for p in together)
    assert len({round(p, 6) for p in together}) == 4


@pytest.mark.engine
def test_an_opening_that_a_batch_shares_is_read_once_and_changes_nothing(folder, monkeypatch):
    prompts = [OPENING + end for end in ("right", "wrong scores wrong", "right ends", "wrong", "right")]
    prompts.insert(2, "response begins right")
    classifier = LocalClassifier(folder, batch_size=5, dtype="float32")
    read = []
    monkeypatch.setattr(
        classifier._net, "forward",
        lambda forward=classifier._net.forward, **options: read.append(options["input_ids"].shape)
        or forward(**options),
    )  # fmt: skip
    together = asyncio.run(classifier.score(prompts))
    alone = asyncio.run(LocalClassifier(folder, batch_size=1, dtype="float32").score(prompts))
    assert together == pytest.approx(alone, abs=1e-5)
    assert len(set(together)) == 5  # two are alike
    # sorted, the short one comes last, so that the five others share a batch: their opening is read once
    assert [tuple(shape) for shape in read] == [(1, 41), (5, 5), (1, 4)]


@pytest.mark.engine
@pytest.mark.parametrize(
    ("kind", "side", "shares"),
    [("llama", "right", True), ("llama", "left", True), ("gpt2", "right", True), ("bert", "right", False),
     ("mistral", "right", False)],
)  # fmt: skip
def test_an_opening_is_shared_only_where_that_changes_nothing(tmp_path, kind, side, shares):
    sliding = {"sliding_window": 8, "num_key_value_heads": 2} if kind == "mistral" else {}
    where = save_classifier(tmp_path, kind, **sliding)
    prompts = [OPENING + end for end in ("right", "wrong scores wrong", "right ends", "wrong")]
    found = []
    for batch_size in (1, 4):
        classifier = LocalClassifier(where, batch_size=batch_size, dtype="float32")
        classifier._tokenizer.padding_side = side
        assert classifier._shares == shares
        found.append(asyncio.run(classifier.score(prompts)))
    assert found[0] == pytest.approx(found[1], abs=1e-5)
    assert len({round(p, 4) for p in found[0]}) == 4


@pytest.mark.engine
@pytest.mark.parametrize(("pad", "configured"), [("<|endoftext|>", None), ("<|im_start|>", 2), (None, 1)])
def test_padding_is_that_of_the_tokenizer_whatever_the_config_says(tmp_path, pad, configured):
    where = save_classifier(tmp_path, pad=pad, pad_token_id=configured)
    prompts = ["right", "wrong scores " * 3, "wrong"]
    together, alone = (
        asyncio.run(LocalClassifier(where, batch_size=n, dtype="float32").score(prompts)) for n in (3, 1)
    )
    assert together == pytest.approx(alone, abs=1e-5)


@pytest.mark.engine
def test_judgements_that_are_alike_and_end_with_the_padding_token(tmp_path):
    where = save_classifier(tmp_path, pad="<|im_end|>")
    prompts = [OPENING + "right<|im_end|>"] * 3
    together, alone = (
        asyncio.run(LocalClassifier(where, batch_size=n, dtype="float32").score(prompts)) for n in (3, 1)
    )
    assert together == pytest.approx(alone, abs=1e-5)


@pytest.mark.engine
def test_a_local_classifiers_reward_is_the_sigmoid_of_its_logit(folder):
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    net = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        logit = (
            net(**AutoTokenizer.from_pretrained(folder)("right wrong", return_tensors="pt"))
            .logits[0, 0]
            .item()
        )
    [reward] = asyncio.run(LocalClassifier(folder, dtype="float32").score(["right wrong"]))
    assert reward == pytest.approx(1 / (1 + math.exp(-logit)), abs=1e-6)


@pytest.mark.engine
def test_a_prompt_beyond_the_context_is_told_and_not_cut(folder):
    with pytest.raises((InputError, BackendError), match=r"1\d\d tokens"):
        asyncio.run(LocalClassifier(folder).score(["right " * 100]))


@pytest.mark.engine
def test_a_folder_that_is_no_model_is_told(tmp_path):
    with pytest.raises(InputError, match="does not load"):
        LocalClassifier(str(tmp_path))


@pytest.mark.engine
def test_a_language_model_is_no_meta_rm(tmp_path):
    pytest.importorskip("torch", reason="the extra `local` is not installed")
    with pytest.raises(InputError, match=r"lacks score\.weight: its rewards would be random"):
        LocalClassifier(str(save_tiny_model(tmp_path)))


@pytest.mark.engine
@pytest.mark.parametrize("able", [True, False])
def test_rewards_are_computed_in_bfloat16_where_the_cpu_multiplies_in_it(folder, monkeypatch, able):
    import torch

    from spct import meta

    monkeypatch.setattr(meta, "multiplies_bfloat16", lambda device: able)
    expected = torch.bfloat16 if able else torch.float32
    assert {p.dtype for p in LocalClassifier(folder)._net.parameters()} == {expected}
    exact = asyncio.run(LocalClassifier(folder, dtype="float32").score(["right wrong"]))
    assert asyncio.run(LocalClassifier(folder).score(["right wrong"])) == pytest.approx(exact, abs=0.02)


@pytest.mark.engine
def test_a_classifier_kept_in_half_precision_is_not_widened(folder, tmp_path, monkeypatch):
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from spct import meta

    monkeypatch.setattr(meta, "multiplies_bfloat16", lambda device: False)
    AutoModelForSequenceClassification.from_pretrained(folder, dtype="bfloat16").save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    found = {p.dtype for p in LocalClassifier(str(tmp_path))._net.parameters()}
    assert found == {torch.bfloat16}
