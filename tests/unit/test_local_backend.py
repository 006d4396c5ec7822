"""The in-process engine on a tiny random model in float64, where batching changes no digit."""

import asyncio
import re
from dataclasses import replace

import pytest

from spct.errors import BackendError, ConfigError, InputError
from spct.types import Message, Request, SamplingParams
from tiny_model import CONTEXT, save_tiny_model

TEXT = "Here is what to judge. " * 3
REGEX = r"Criteria:\n(?:[a-z]{1,12} ?){1,4}\nScores: \\boxed\{(?:10|[1-9]), (?:10|[1-9])\}"


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def backend(tiny):
    from spct.backends.local import LocalBackend

    return LocalBackend(str(tiny), device="cpu", dtype="float64")


def ask(n=1, *, seed=0, text=TEXT, temperature=1.0, max_tokens=24, **params):
    return Request(
        "e1",
        (Message("user", text),),
        (0, 1),
        tuple(range(n)),
        seed,
        SamplingParams(temperature, max_tokens=max_tokens, **params),
    )


def draw(backend, request):
    return asyncio.run(backend.generate(request))


def texts(backend, request):
    return [c.text for c in draw(backend, request)]


def generate(backend, request):
    """What `transformers` writes greedily, as text."""
    import torch

    turns = [{"role": m.role, "content": m.content} for m in request.messages]
    ids = backend._tokenizer.apply_chat_template(
        turns, add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    with torch.inference_mode():
        out = backend._lm.generate(**ids, do_sample=False, max_new_tokens=request.params.max_tokens)
    return backend._tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)


def test_greedy_equals_generate_and_all_samples_are_alike(backend):
    request = ask(3, temperature=0.0)
    assert backend._shared
    assert texts(backend, request) == [generate(backend, request)] * 3


@pytest.mark.parametrize(
    ("kind", "config", "shared"),
    [
        ("qwen3", {}, True),
        ("qwen2", {"num_key_value_heads": 2}, True),
        ("mistral", {"sliding_window": None}, True),
        ("mistral", {"sliding_window": 16}, False),
        ("gemma2", {"sliding_window": 16}, False),
        ("gpt2", {"n_layer": 2, "n_embd": 64, "n_head": 2}, True),
        ("lfm2", {"layer_types": ["conv", "full_attention"]}, False),
    ],
)
def test_other_architectures_agree_with_generate(tmp_path, kind, config, shared):
    from spct.backends.local import LocalBackend

    backend = LocalBackend(str(save_tiny_model(tmp_path, kind=kind, **config)), device="cpu", dtype="float64")
    request = ask(2, temperature=0.0)
    assert backend._shared == shared
    assert texts(backend, request) == [generate(backend, request)] * 2
    batch = texts(backend, ask(3, seed=5))
    assert [texts(backend, ask(1, seed=5 + j))[0] for j in range(3)] == batch


def test_a_sample_depends_on_its_seed_not_on_its_neighbours(backend):
    batch = texts(backend, ask(6, seed=40))
    assert len(set(batch)) == 6
    assert texts(backend, ask(6, seed=40)) == batch
    assert [texts(backend, ask(1, seed=40 + j))[0] for j in range(6)] == batch


def test_samples_that_end_leave_the_batch_and_disturb_no_other(backend):
    import torch

    from spct.backends.decoding import Drawn, decode, prefill

    eos = frozenset(range(0, 400, 12))  # about one token in twelve ends a text: lengths differ

    def run_all(asked):
        with torch.inference_mode():
            batch = [
                Drawn(prefill(backend._lm, list(range(50, 90 + more))), seeds, 40) for more, seeds in asked
            ]
            found = decode(backend._lm, batch, SamplingParams(1.0), eos=eos)
        return [[(row.tokens, row.finish) for row in rows] for rows in found]

    def run(seeds):
        return run_all([(0, seeds)])[0]

    batch = run(range(8))
    lengths = [len(tokens) for tokens, _ in batch]
    assert len(set(lengths)) > 3
    assert [run([seed])[0] for seed in range(8)] == batch
    asked = [(0, [1]), (5, range(8)), (9, [3, 4]), (0, [6])]  # the samples of a prompt end before others
    found = run_all(asked)
    assert found == [run_all([one])[0] for one in asked]
    assert len({max(len(tokens) for tokens, _ in rows) for rows in found}) > 1
    for tokens, finish in batch:
        assert finish == ("stop" if tokens[-1] in eos else "length")
        assert not eos & set(tokens[:-1])


def test_requests_that_wait_are_decoded_together_and_come_out_as_alone(backend, monkeypatch):
    from spct.backends import local

    asked = [ask(4, seed=9), ask(1, text="Another prompt."), ask(3, seed=2, text=TEXT + "And more.")]
    alone = [texts(backend, request) for request in asked]
    batches = []

    def noted(model, batch, *rest, **options):
        batches.append([len(drawn.seeds) for drawn in batch])
        return decode(model, batch, *rest, **options)

    decode = local.decode
    monkeypatch.setattr(local, "decode", noted)

    async def together():
        too_long = ask(text="word " * 1000)
        gone = asyncio.create_task(backend.generate(ask(2)))
        waiting = [backend.generate(request) for request in (*asked, too_long)]
        found = asyncio.gather(*waiting, return_exceptions=True)
        await asyncio.sleep(0)
        gone.cancel()
        return await found

    *found, error = asyncio.run(together())
    assert [[c.text for c in completions] for completions in found] == alone
    assert isinstance(error, InputError)  # its own fault; the others are answered
    assert batches == [[4, 1, 3]]


def test_requests_that_memory_does_not_hold_together_are_answered_one_by_one(backend, monkeypatch):
    import torch

    from spct.backends import local

    batches, decode = [], local.decode

    def short_of_memory(model, batch, *rest, **options):
        batches.append([len(drawn.seeds) for drawn in batch])
        if sum(batches[-1]) > 4:
            raise torch.OutOfMemoryError("no more than four")
        return decode(model, batch, *rest, **options)

    monkeypatch.setattr(local, "decode", short_of_memory)

    async def together():
        asked = [ask(2), ask(text="word " * 1000), ask(5), ask(1)]
        return await asyncio.gather(*map(backend.generate, asked), return_exceptions=True)

    first, too_long, too_many, last = asyncio.run(together())
    assert batches == [[2, 5, 1], [2], [5], [1]]
    assert (len(first), len(last)) == (2, 1)
    assert isinstance(too_long, InputError)
    assert isinstance(too_many, BackendError)
    assert "out of memory: example 'e1', 5 samples" in str(too_many)


def test_a_batch_has_like_settings_and_so_many_samples(backend):
    from concurrent.futures import Future
    from threading import Event

    from spct.backends.local import _Waiting

    hot, cold = ask(10), ask(10, temperature=0.0)  # ten greedy samples are drawn as one
    asked = [ask(25), hot, cold, ask(7), ask(40), cold]
    backend._waiting += [_Waiting(request, Future(), Event()) for request in asked]
    taken = [[asked.index(w.request) for w in backend._take()] for _ in range(5)]
    assert taken == [[0, 3], [1], [2, 2], [4], []]  # at most 32 samples, or one request alone


def test_choose_picks_where_the_running_sum_passes_u():
    import torch

    from spct.backends.decoding import choose

    class At:
        def __init__(self, u):
            self.random = lambda: u

    logits = torch.log(torch.tensor([[0.5, 0.3, 0.2]])).repeat(5, 1)
    drawn = [At(u) for u in (0.0, 0.49, 0.51, 0.79, 0.81)]
    assert choose(logits, SamplingParams(1.0), drawn).tolist() == [0, 0, 1, 1, 2]
    # top_p 0.6 keeps 0.5 and 0.3 (the one that passes 0.6): renormalised 0.625 and 0.375
    assert choose(logits, SamplingParams(1.0, top_p=0.6), drawn).tolist() == [0, 0, 0, 1, 1]
    # temperature 0.5 squares: 0.25, 0.09, 0.04 of 0.38 = 0.658, 0.237, 0.105
    assert choose(logits, SamplingParams(0.5), drawn).tolist() == [0, 0, 0, 1, 1]
    masked = logits.masked_fill(torch.tensor([True, False, True]), float("-inf"))
    assert choose(masked, SamplingParams(1.0), [At(1 - 2**-53)] * 5).tolist() == [1] * 5
    assert choose(logits, SamplingParams(0.0), [None] * 5).tolist() == [0] * 5


def test_a_tiny_nucleus_is_greedy(backend):
    assert texts(backend, ask(2, top_p=1e-6)) == texts(backend, ask(2, temperature=0.0))


def test_cut_at_max_tokens(backend):
    first, second = draw(backend, ask(2, max_tokens=5))
    assert first.finish_reason == second.finish_reason == "length"
    assert first.usage.completion_tokens == second.usage.completion_tokens == 5
    assert first.usage.prompt_tokens > 40
    assert second.usage.prompt_tokens == 0  # a shared prompt is counted once
    assert first.latency_s > 0


def test_a_prompt_without_room_is_refused_and_never_cut(backend):
    with pytest.raises(InputError, match=r"'e1': its prompt has (\d+) tokens") as caught:
        draw(backend, ask(text="word " * 1000))
    assert int(re.search(r"has (\d+) tokens", str(caught.value))[1]) > CONTEXT
    assert f"reads {CONTEXT}" in str(caught.value)


def test_an_answer_may_fill_the_context_but_no_more(backend):
    room = CONTEXT - draw(backend, ask(max_tokens=1))[0].usage.prompt_tokens
    long = replace(ask(temperature=0.0).params, max_tokens=10**6, regex=r"a{2000}")
    [answer] = draw(backend, replace(ask(), params=long))
    assert answer.finish_reason == "length"
    assert answer.usage.completion_tokens == room


@pytest.mark.parametrize("temperature", [0.0, 0.7, 2.0])
def test_constrained_text_always_matches(backend, temperature):
    for answer in draw(backend, ask(6, temperature=temperature, max_tokens=200, regex=REGEX)):
        assert re.fullmatch(REGEX, answer.text)
        assert answer.finish_reason == "stop"


def test_constrained_text_may_end_only_where_the_expression_does(backend):
    regex = r"[^\n]{3,6}(?:é|本)?"
    for answer in draw(backend, ask(8, temperature=2.0, max_tokens=64, regex=regex)):
        assert re.fullmatch(regex, answer.text)


@pytest.mark.parametrize("regex", ["[a", "(?=a)a", r"(a)\1"])
def test_a_bad_expression_is_the_callers_fault(backend, regex):
    with pytest.raises(ConfigError, match="regex cannot be used"):
        draw(backend, ask(regex=regex))


def test_the_opening_shared_with_the_request_before_is_not_read_again(backend):
    one, other = TEXT + "First order.", TEXT + "Second order, and more of it."
    fresh = texts(backend, ask(2, text=other))
    draw(backend, ask(text=one))
    reused = draw(backend, ask(2, text=other))
    assert [c.text for c in reused] == fresh
    assert 40 < reused[0].usage.cached_tokens < reused[0].usage.prompt_tokens
    again = draw(backend, ask(2, text=other))
    assert [c.text for c in again] == fresh
    assert again[0].usage.cached_tokens == again[0].usage.prompt_tokens - 1
    assert draw(backend, ask(text="Quite another."))[0].usage.cached_tokens == 0


@pytest.mark.parametrize("able", [True, False])
def test_weights_are_bfloat16_on_a_cpu_that_multiplies_in_it(tiny, monkeypatch, able):
    import torch

    from spct.backends import local

    def load(*given, load=local._load):
        tokenizer, model = load(*given)
        packed = torch.arange(4, dtype=torch.int32)  # as in quantized layers
        model.packed = torch.nn.Parameter(packed, requires_grad=False)
        return tokenizer, model

    monkeypatch.setattr(local, "multiplies_bfloat16", lambda device: able)
    monkeypatch.setattr(local, "_load", load)
    backend = local.LocalBackend(str(tiny), device="cpu")
    dtypes = {weight.dtype for weight in backend._lm.parameters()}
    assert dtypes == {torch.int32, torch.bfloat16 if able else torch.float32}
    assert {buffer.dtype for buffer in backend._lm.buffers()} == {torch.float32}
    assert len(set(texts(backend, ask(3)))) == 3


@pytest.mark.filterwarnings(
    "ignore:.is_gradient_checkpointing:FutureWarning"
)  # peft 0.21 on transformers 5.23
def test_an_adapter_changes_the_text(backend, tiny, tmp_path):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from spct.backends.local import LocalBackend

    torch.manual_seed(1)
    base = AutoModelForCausalLM.from_pretrained(tiny)
    config = LoraConfig(
        r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM"
    )
    get_peft_model(base, config).save_pretrained(tmp_path / "judge")
    adapted = LocalBackend(str(tiny), adapter=str(tmp_path / "judge"), device="cpu", dtype="float64")
    request = ask(temperature=0.0)
    assert adapted.model == f"{tiny}+judge"
    assert texts(adapted, request) == [generate(adapted, request)]
    assert texts(adapted, request) != texts(backend, request)


def test_an_adapter_that_is_none(tiny, tmp_path):
    from spct.backends.local import LocalBackend

    with pytest.raises(ConfigError, match=r"adapter .* cannot be loaded"):
        LocalBackend(str(tiny), adapter=str(tmp_path), device="cpu")


def test_a_model_that_is_none(tmp_path):
    from spct.backends.local import LocalBackend

    with pytest.raises(ConfigError, match=r"no-such-model.* cannot be loaded"):
        LocalBackend("no-such-model")
    with pytest.raises(ConfigError, match="no chat template"):
        LocalBackend(str(save_tiny_model(tmp_path, chat_template=None)))


def test_roles_that_the_chat_template_refuses(backend):
    with pytest.raises(InputError, match="refuses roles tool: no tool turns here"):
        draw(backend, replace(ask(), messages=(Message("tool", "x"),)))


def test_the_event_loop_stays_live_and_a_cancelled_request_stops(backend):
    async def run():
        endless = replace(ask().params, max_tokens=10**6, regex="a{100000}")
        task = asyncio.create_task(backend.generate(replace(ask(), params=endless)))
        ticks = 0
        while backend._earlier is not None and ticks < 100_000:  # taken by the worker when it begins
            await asyncio.sleep(0)
            ticks += 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await backend.generate(ask(max_tokens=2))  # waits for the worker to give up

    draw(backend, ask(max_tokens=1))
    [answer] = asyncio.run(run())
    assert answer.usage.completion_tokens == 2


def test_closing_leaves_no_request_waiting(tiny):
    from spct.backends.local import LocalBackend

    async def run():
        backend = LocalBackend(str(tiny), device="cpu", dtype="float64")
        asked = [asyncio.create_task(backend.generate(ask(12))) for _ in range(12)]  # one fits at a time
        await asyncio.sleep(0)
        await backend.aclose()
        return await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 30)

    found = asyncio.run(run())
    assert {type(one) for one in found} <= {list, asyncio.CancelledError}  # answered, or told
    assert isinstance(found[-1], asyncio.CancelledError)


@pytest.mark.engine
@pytest.mark.slow
def test_the_embedded_model_keeps_to_the_form():
    from spct.backends.local import LocalBackend

    backend = LocalBackend(device="cpu")
    regex = r"Analysis:\n[^\n\\]{1,60}\nScores: \\boxed\{(10|[1-9]), (10|[1-9])\}"
    answers = draw(backend, ask(4, text="Judge two answers to 2+2: 4, and 5.", max_tokens=96, regex=regex))
    assert all(re.fullmatch(regex, a.text) for a in answers)
    assert backend._tokenizer.decode(backend._tokenizer("12  3")["input_ids"]) == "12  3"
    assert len(backend._tokenizer("123")["input_ids"]) == 3  # each digit stands alone


def test_with_slots_the_texts_are_those_without(tiny, backend):
    from spct.backends.local import LocalBackend

    slots = LocalBackend(str(tiny), device="cpu", dtype="float64", graphs=True)
    asked = [ask(3), ask(5, seed=9, text=TEXT + "Another one."), ask(2, max_tokens=9), ask(2, temperature=0)]

    async def together(engine):
        return await asyncio.gather(*[engine.generate(r) for r in asked])

    found, expected = asyncio.run(together(slots)), asyncio.run(together(backend))
    assert slots._slots is not None
    assert backend._slots is None
    assert [[(c.text, c.finish_reason) for c in cs] for cs in found] == [
        [(c.text, c.finish_reason) for c in cs] for cs in expected
    ]
    [constrained] = draw(slots, ask(regex=REGEX, max_tokens=64))  # texts held to a grammar go the old way
    assert re.fullmatch(REGEX, constrained.text)


@pytest.mark.parametrize("device", ["auto", "mps", "xpu:0"])
def test_of_other_devices_than_cpu_and_cuda_nothing_is_assumed(device):
    from spct.backends.precision import multiplies_bfloat16

    assert multiplies_bfloat16(device) is False
