"""`Judge`: failures as states, budgets, deduplication, order of results, faults of the world, plain code."""

import asyncio
import gc
import logging
import random
import signal
import threading

import pytest

import simulated_time
from spct.backends.scripted import ScriptedBackend
from spct.configs import JudgeConfig
from spct.errors import BackendError, ConfigError, InputError
from spct.judge import Judge
from spct.records import RunFolder
from spct.types import Completion, Example, FailureReason, Usage


def boxed(*scores):
    return f"Analysis: so it is.\nScores: \\boxed{{{', '.join(map(str, scores))}}}"


class Engine:
    """A backend of a test: answers from a function, after a while, and notes what it was asked."""

    model, max_concurrency = "engine", 4

    def __init__(
        self, answer=lambda request, j: boxed(*range(9, 9 - len(request.order), -1)), wait=lambda r: 0
    ):
        self.answer, self.wait = answer, wait
        self.requests, self.cancelled, self.closed = [], 0, 0

    async def generate(self, request):
        self.requests.append(request)
        try:
            await asyncio.sleep(self.wait(request))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        answers = [self.answer(request, j) for j in range(request.n)]
        return [
            a if isinstance(a, Completion) else Completion(a, "stop", usage=Usage(10, 5)) for a in answers
        ]

    async def aclose(self):
        self.closed += 1

    @property
    def samples(self):
        return sorted((r.example_id, s) for r in self.requests for s in r.samples)


class Trust:
    """A meta RM of a test: trusts what a function says."""

    model = "trust"

    def __init__(self, reward):
        self.reward, self.prompts = reward, []

    async def score(self, prompts):
        self.prompts += prompts
        return [self.reward(p) for p in prompts]

    async def aclose(self):
        pass


def examples(count, n=2):
    return [Example.of(f"q{i}", [f"r{i}-{j}" for j in range(n)], id=f"e{i}") for i in range(count)]


# --- one example ---


def test_each_failure_is_a_state_and_only_valid_samples_vote():
    answers = {
        0: boxed(8, 5),
        1: "no scores here",
        2: boxed(8),
        3: boxed(80, 50),
        4: Completion(boxed(8, 5), "length"),
        5: Completion("", "content_filter", failure=FailureReason.REFUSED),
        6: Completion("", failure=FailureReason.TIMEOUT, detail="60 s"),
        7: Completion("", failure=FailureReason.HTTP, detail="500"),
    }
    with Judge(ScriptedBackend(lambda r, j: answers[r.samples[j]]), k=8, order="given") as judge:
        v = judge.score("q", ["a", "b"])
    assert v.rewards == (8, 5)
    assert (v.k, v.k_valid, v.k_voted) == (8, 1, 1)
    assert v.failures == dict.fromkeys(FailureReason, 1)
    assert [t.detail for t in v.trajectories][6:] == ["60 s", "500"]


def test_no_valid_sample_means_no_reward():
    with Judge(ScriptedBackend(lambda r, j: "never"), k=4) as judge:
        v = judge.score("q", ["a", "b"])
        assert (v.rewards, v.best, v.k_valid, v.failures) == (None, None, 0, {"no_scores": 4})
        assert judge.best_of_n("q", ["a", "b"])[:2] == (None, None)


def test_fewer_than_min_valid_means_no_reward():
    backend = ScriptedBackend(lambda r, j: boxed(8, 5) if r.samples[j] < 2 else "?")
    with Judge(backend, k=4, min_valid=3, order="given") as judge:
        assert judge.score("q", ["a", "b"]).rewards is None
    with Judge(backend, k=4, min_valid=2, order="given") as judge:
        assert judge.score("q", ["a", "b"]).rewards == (16, 10)


def test_invalid_samples_are_drawn_anew_up_to_the_bound():
    engine = Engine(lambda r, j: "?" if r.samples[j] < 3 else boxed(8, 5))
    with Judge(engine, k=4, resample=2, order="given") as judge:
        v = judge.score("q", ["a", "b"], id="e")
    assert engine.samples == [("e", i) for i in range(6)]
    assert (v.k, v.k_valid, v.failures) == (4, 3, {"no_scores": 3})
    assert v.rewards == (24, 15)  # samples 3, 4, 5


def test_adaptive_exact_draws_less_for_the_same_winner():
    engine = Engine(lambda r, j: boxed(10, 1) if r.order == (0, 1) else boxed(1, 10))
    with Judge(engine, k=16, adaptive="exact") as judge:
        v = judge.score("q", ["a", "b"])
    # 9 points a sample: safe once 9 m > 9 (16 - m), so m = 9; rounds are of 4, then 2: 10
    assert len(engine.samples) == 10
    assert (v.best, v.k, v.k_valid, v.rewards) == (0, 16, 10, (100, 10))


def test_one_request_an_order_and_scores_in_the_callers_order():
    engine = Engine(lambda r, j: boxed(*(10 - i for i in r.order)))  # the caller's i-th gets 10 - i
    with Judge(engine, k=9) as judge:
        v = judge.score("q", ["a", "b", "c"])
    assert [r.n for r in engine.requests] == [3, 3, 3]
    assert v.rewards == (90, 81, 72)
    assert {t.scores for t in v.trajectories} == {(10, 9, 8)}


def test_greedy_for_k_1():
    engine = Engine()
    with Judge(engine, k=1) as judge:
        judge.score("q", ["a", "b"])
    assert (engine.requests[0].n, engine.requests[0].params.temperature) == (1, 0)


def test_a_scale_of_the_callers():
    engine = Engine(lambda r, j: boxed(100, 0))
    with Judge(engine, k=2, scale=(0, 100), order="given", constrain=True) as judge:
        assert judge.score("q", ["a", "b"]).rewards == (200, 0)
    assert "from 0 to 100" in engine.requests[0].messages[-1].content
    assert "(?:100|99|" in engine.requests[0].params.regex


def test_the_given_inputs_choose_the_template():
    engine = Engine()
    with Judge(engine, k=1) as judge:
        used = [
            judge.score("q", ["a", "b"], **fields).trajectories[0].template.rpartition("-")[0]
            for fields in ({}, {"reference": "r"}, {"principles": ["p"]})
        ]
    assert used == ["pointwise", "reference", "given_principles"]


@pytest.mark.parametrize("settings", [{"hinted": True}, {"template": "hinted"}])
def test_a_hinted_sample_is_marked(settings):
    with Judge(Engine(), k=1, **settings) as judge:
        assert judge.score("q", ["a", "b"], labels=[0, 1]).trajectories[0].hinted
        with pytest.raises(InputError, match="has no labels"):
            judge.score("q", ["a", "b"])


def test_a_choice_votes_by_majority():
    engine = Engine(lambda r, j: boxed(r.order.index(1) + 1))  # picks the caller's second, wherever it stands
    with Judge(engine, k=4, template="llm_judge") as judge:
        assert judge.score("q", ["a", "b", "c"]).rewards == (0, 4, 0)
        with pytest.raises(InputError, match="'lone' has one response"):
            judge.score("q", ["a"], id="lone")


def test_thoughts_of_the_server_and_of_the_text_are_kept_apart_from_the_judgement():
    text = f"<think>own</think>Specific Criteria:\n1. Truth (weight 70%): is it?\n{boxed(8, 5)}"
    with Judge(ScriptedBackend(lambda r, j: Completion(text, thinking="server")), k=1) as judge:
        t = judge.score("q", ["a", "b"]).trajectories[0]
    assert (t.thinking, t.critique) == ("server\nown", "so it is.")
    assert (t.principles[0].name, t.principles[0].weight, t.principles[0].text) == ("Truth", 70, "is it?")
    assert t.text == text


def test_best_of_n():
    engine = Engine(lambda r, j: boxed(*(9 if i == 2 else 3 for i in r.order)))
    with Judge(engine, k=3) as judge:
        best = judge.best_of_n("q", ["a", "b", "c"])
    assert (best.best, best.response, best.verdict.rewards) == (2, "c", (9, 9, 27))


def test_what_is_no_question_to_a_judge():
    with Judge(Engine(), k=1) as judge:
        with pytest.raises(InputError, match="responses is missing"):
            judge.score("q")
        with pytest.raises(InputError, match="responses is one text"):
            judge.score("q", "text")
        with pytest.raises(InputError, match="an Example and responses, reference too"):
            judge.score(examples(1)[0], ["x"], reference="r")


@pytest.mark.parametrize(
    ("settings", "meta", "message"),
    [
        ({"k": 0}, None, "k is 0"),
        ({"k": 4, "k_meta": 2}, None, "k_meta is 2 without a meta RM"),
        ({"k": 4, "k_meta": 5}, Trust(len), "k_meta is 5"),
        ({"k": 4, "adaptive": "exact"}, Trust(len), "adaptive k stops by plain votes"),
        ({"template": "meta_rm"}, None, "'meta_rm' is for the meta RM"),
        ({"template": "nowhere.j2"}, None, r"'nowhere\.j2' is no file"),
        ({"shots": "nowhere.jsonl"}, None, r"nowhere\.jsonl is missing"),
        ({"temprature": 1}, None, "did you mean 'temperature'"),
    ],
)
def test_settings_that_do_not_go_are_refused_before_anything_is_drawn(settings, meta, message):
    with pytest.raises(InputError, match=message):
        Judge(Engine(), meta=meta, **settings)


def test_single_settings_go_over_a_config():
    judge = Judge(Engine(), JudgeConfig(k=16, seed=3), k=4)
    assert (judge.config.k, judge.config.seed) == (4, 3)
    with pytest.raises(ConfigError, match="min_valid is 9"):
        Judge(Engine(), JudgeConfig(k=16, min_valid=9), k=4)


def test_shots_are_shown(tmp_path):
    path = tmp_path / "shots.jsonl"
    path.write_text('{"prompt": "1+1?", "responses": ["2"], "judgement": "Scores: \\\\boxed{10}"}\n')
    engine = Engine()
    with Judge(engine, k=1, shots=str(path)) as judge:
        judge.score("q", ["a", "b"])
    assert [m.role for m in engine.requests[0].messages] == ["user", "assistant", "user"]
    path.write_text('{"prompt": "1+1?", "responses": ["2"]}\n')
    with pytest.raises(InputError, match="has no judgement"):
        Judge(engine, shots=str(path))


# --- the meta RM ---


def test_the_meta_rm_guides_the_vote():
    # Samples 0..3 in turn; the meta RM trusts those that give the second 9.
    scores = [(9, 1), (1, 9), (8, 2), (2, 9)]
    trust = Trust(lambda prompt: 0.9 if "9}" in prompt else 0.2)
    engine = Engine(lambda r, j: boxed(*scores[r.samples[j]]))
    with Judge(engine, meta=trust, k=4, order="given") as judge:
        v = judge.score("q", ["a", "b"])
    assert v.rewards == (3, 18)  # ceil(4/2) = 2 kept: samples 1 and 3
    assert (v.k_valid, v.k_voted) == (4, 2)
    assert [t.meta_reward for t in v.trajectories] == [0.2, 0.9, 0.2, 0.9]
    assert len(trust.prompts) == 4


def test_only_valid_samples_are_shown_to_the_meta_rm():
    trust = Trust(lambda prompt: 0.5)
    with Judge(
        Engine(lambda r, j: "?" if r.samples[j] else boxed(8, 5)), meta=trust, k=4, order="given"
    ) as judge:
        v = judge.score("q", ["a", "b"])
        assert (len(trust.prompts), v.rewards, v.k_voted) == (1, (8, 5), 1)
    none = Trust(lambda prompt: 0.5)
    with Judge(Engine(lambda r, j: "?"), meta=none, k=4) as judge:
        assert judge.score("q", ["a", "b"]).rewards is None
    assert none.prompts == []


def test_meta_rewards_are_stored_and_not_asked_for_again(tmp_path):
    for k, asked in ((2, 2), (2, 0), (4, 2)):
        trust = Trust(lambda prompt: 0.5)
        with (
            RunFolder.create(tmp_path, {"settings": {"k": k}}, examples(1)) as run,
            Judge(Engine(), meta=trust, run=run, k=k) as judge,
        ):
            assert judge.score(examples(1)[0]).k_voted == k // 2
        assert len(trust.prompts) == asked


def test_samples_are_on_disk_when_the_meta_rm_fails(tmp_path):
    class Gone(Trust):
        async def score(self, prompts):
            raise BackendError("meta RM is gone")

    with (
        RunFolder.create(tmp_path, {"settings": {}}, examples(1)) as run,
        Judge(Engine(), meta=Gone(len), run=run, k=4) as judge,
        pytest.raises(BackendError, match="meta RM is gone"),
    ):
        judge.score(examples(1)[0])
    assert len(RunFolder.load(tmp_path).trajectories("e0")) == 4


# --- many examples ---


@pytest.mark.parametrize("seed", range(5))
def test_verdicts_come_in_the_order_of_the_examples_whatever_the_latencies(seed):
    latency = random.Random(seed)
    engine = Engine(wait=lambda r: latency.expovariate(1))

    async def main():
        judge = Judge(engine, k=4)
        verdicts = await judge.ascore_many(examples(60))
        assert [v.example_id for v in verdicts] == [f"e{i}" for i in range(60)]
        assert all([t.sample for t in v.trajectories] == [0, 1, 2, 3] for v in verdicts)

    simulated_time.run(main())
    assert len(engine.samples) == len(set(engine.samples)) == 240


def test_a_slow_example_does_not_stall_the_others_and_the_input_is_read_as_it_is_needed():
    engine = Engine(wait=lambda r: 100 if r.example_id == "e0" else 1)
    read = []

    def source():
        for example in examples(200):
            read.append(example.id)
            yield example

    async def main():
        stream = Judge(engine, k=1).astream(source())
        first = await anext(stream)
        assert first.example_id == "e0"
        done = len({r.example_id for r in engine.requests})
        held = 16 * 5  # five under way for four places, sixteen times as many held for a slow one
        assert held <= done <= held + 1
        assert len(read) <= done + 1
        await stream.aclose()

    simulated_time.run(main())


def test_leaving_a_stream_early_cancels_what_is_under_way():
    engine = Engine(wait=lambda r: 1 if r.example_id == "e0" else 50)

    async def main():
        stream = Judge(engine, k=1).astream(examples(10))
        await anext(stream)
        await stream.aclose()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    simulated_time.run(main())
    assert engine.cancelled == 4  # five were under way for four places, and e0 is done


@pytest.mark.parametrize(("before", "meanwhile"), [(700, 20_000), (50_000, 50_000), (0, 0)])
def test_garbage_is_collected_less_often_while_many_stream_and_then_as_before(before, meanwhile):
    async def main():
        stream = Judge(Engine(), k=1).astream(examples(10))
        await anext(stream)
        assert gc.get_threshold()[0] == meanwhile  # 0: the caller has turned it off
        await stream.aclose()  # left early
        assert gc.get_threshold()[0] == before
        await Judge(Engine(), k=1).ascore_many(examples(3))
        assert gc.get_threshold()[0] == before

    kept = gc.get_threshold()
    gc.set_threshold(before)
    try:
        simulated_time.run(main())
    finally:
        gc.set_threshold(*kept)


def test_identical_requests_are_made_once_and_stored_for_each(tmp_path):
    """Greedy samples of equal prompts are one and the same: asked for once, whoever asks first."""
    engine = Engine(wait=lambda r: 5)
    twins = [Example.of("q", ["a"], id=f"twin{i}") for i in range(5)]

    async def main():
        with RunFolder.create(tmp_path, {"settings": {}}, twins) as run:
            return await Judge(engine, run=run, k=1).ascore_many(twins)

    verdicts = simulated_time.run(main())
    assert len(engine.requests) == 1
    assert [v.rewards for v in verdicts] == [(9,)] * 5
    assert sum((v.usage for v in verdicts), Usage()) == Usage(10, 5)  # counted once
    run = RunFolder.load(tmp_path)
    assert [[t.example_id for t in found] for _, found in run] == [[t.id] for t in twins]


def test_samples_with_seeds_of_their_own_are_not_merged():
    engine = Engine()
    with Judge(engine, k=4) as judge:
        judge.score_many([Example.of("q", ["a"], id="x"), Example.of("q", ["a"], id="y")])
    assert len(engine.samples) == 8


def test_a_twin_draws_for_itself_when_the_one_it_waits_for_is_given_up():
    engine = Engine(wait=lambda r: 10)
    twins = [Example.of("q", ["a"], id=f"twin{i}") for i in range(2)]

    async def main():
        judge = Judge(engine, k=1)
        first, second = (asyncio.create_task(judge.ascore(t)) for t in twins)
        await asyncio.sleep(5)
        first.cancel()
        assert (await second).rewards == (9,)

    simulated_time.run(main())
    assert [r.example_id for r in engine.requests] == ["twin0", "twin1"]


def test_a_bad_example_is_left_out_where_that_is_asked_for():
    def answer(request, j):
        if request.example_id == "e1":
            raise InputError("the prompt of 'e1' has 9000 tokens", expected="at most 2048")
        return boxed(8, 5)

    left_out = []

    async def main(on_bad):
        return [v.example_id async for v in Judge(Engine(answer), k=2).astream(examples(3), on_bad=on_bad)]

    kept = asyncio.run(main(lambda example, error: left_out.append((example.id, error.got))))
    assert kept == ["e0", "e2"]
    assert left_out == [("e1", "the prompt of 'e1' has 9000 tokens")]
    with pytest.raises(InputError, match="9000 tokens"):
        asyncio.run(main(None))


def test_an_error_cancels_the_rest_and_finished_work_is_on_disk(tmp_path, caplog):
    """e5 fails at second 3; what was finished by then is stored, the rest is cancelled and drawn later."""

    def answer(request, j):
        if request.example_id == "e5" and request.samples[0] == 0:
            raise BackendError("the server is gone")
        return boxed(8, 5)

    def wait(request):
        return 3 if request.example_id == "e5" else int(request.example_id[1:]) + 0.5

    engine = Engine(answer, wait)

    async def main():
        with RunFolder.create(tmp_path, {"settings": {}}, examples(8)) as run:
            await Judge(engine, run=run, k=4, order="given").ascore_many(examples(8))

    with caplog.at_level(logging.ERROR), pytest.raises(BackendError, match="the server is gone"):
        simulated_time.run(main())
    stored = {e.id: len(found) for e, found in RunFolder.load(tmp_path)}
    assert stored == {"e0": 4, "e1": 4, "e2": 4, "e3": 4, "e4": 4, "e5": 0, "e6": 0, "e7": 0}
    assert caplog.text == ""

    resumed = Engine()

    async def again():
        with RunFolder.create(tmp_path, {"settings": {}}, examples(8)) as run:
            return await Judge(resumed, run=run, k=4, order="given").ascore_many(examples(8))

    verdicts = simulated_time.run(again())
    assert resumed.samples == [(f"e{i}", j) for i in (5, 6, 7) for j in range(4)]
    assert all(v.k_valid == 4 for v in verdicts)


def test_errors_of_many_examples_at_once_are_one_error_and_no_noise(caplog):
    def fail(request, j):
        raise BackendError(f"gone for {request.example_id}")

    with (
        caplog.at_level(logging.ERROR),
        Judge(Engine(fail), k=4) as judge,
        pytest.raises(BackendError, match="gone for e0"),
    ):
        judge.score_many(examples(12))
    assert caplog.text == ""


def test_an_error_in_one_order_cancels_the_other_orders_of_an_example(tmp_path):
    def answer(request, j):
        if 0 in request.samples:
            raise BackendError("gone")
        return boxed(*request.order)

    engine = Engine(answer, wait=lambda r: 1 + r.samples[0])  # the order of sample 0 is first

    async def main():
        with RunFolder.create(tmp_path, {"settings": {}}, examples(1, n=3)) as run:
            await Judge(engine, run=run, k=3).ascore(examples(1, n=3)[0])

    with pytest.raises(BackendError, match="gone"):
        simulated_time.run(main())
    assert engine.cancelled == 2


# --- stored runs ---


def test_what_is_in_the_run_is_not_drawn_again_and_k_can_grow(tmp_path):
    whole = Engine()
    with Judge(whole, k=8) as judge:
        direct = judge.score_many(examples(3))
    for k, new in ((2, 2), (2, 0), (8, 6)):
        engine = Engine()
        with (
            RunFolder.create(tmp_path, {"settings": {"k": k}}, examples(3)) as run,
            Judge(engine, run=run, k=k) as judge,
        ):
            verdicts = judge.score_many(examples(3))
        assert len(engine.samples) == 3 * new
    assert [v.rewards for v in verdicts] == [v.rewards for v in direct]
    assert [[t.key for t in v.trajectories] for v in verdicts] == [
        [t.key for t in v.trajectories] for v in direct
    ]


def test_samples_that_the_world_failed_are_drawn_on_resume_and_the_models_failures_are_not(tmp_path):
    outcomes = [FailureReason.HTTP, "no scores", boxed(8, 5), FailureReason.TIMEOUT]

    def first(request, j):
        outcome = outcomes[request.samples[j]]
        return Completion("", failure=outcome) if isinstance(outcome, FailureReason) else outcome

    for answer, drawn in ((first, [0, 1, 2, 3]), (lambda r, j: boxed(9, 1), [0, 3])):
        engine = Engine(answer)
        with (
            RunFolder.create(tmp_path, {"settings": {}}, examples(1)) as run,
            Judge(engine, run=run, k=4, order="given") as judge,
        ):
            v = judge.score(examples(1)[0])
        assert engine.samples == [("e0", i) for i in drawn]
    assert (v.rewards, v.failures) == ((26, 7), {"no_scores": 1})  # 9+8+9, 1+5+1


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0.7},
        {"max_tokens": 9},
        {"scale": (1, 5)},
        {"seed": 1},
        {"template": "no_principles"},
        {"top_p": 0.9},
        {"constrain": True},
    ],
)
def test_a_sample_is_another_where_anything_that_decides_it_differs(tmp_path, change):
    engine = Engine()
    with RunFolder.create(tmp_path, {"settings": {}}, examples(1)) as run:
        for settings in ({}, change):
            with Judge(engine, run=run, k=4, **settings) as judge:
                judge.score(examples(1)[0])
    assert len(engine.samples) == 8


# --- plain code, notebooks, threads, Ctrl-C ---


def test_plain_calls_work_inside_a_running_loop():
    async def notebook():
        with Judge(Engine(), k=2) as judge:
            return judge.score("q", ["a", "b"]).rewards, len(judge.score_many(examples(3)))

    assert asyncio.run(notebook()) == ((17, 17), 3)  # 9 + 8 in both orders


def test_async_calls_and_their_context():
    engine = Engine()

    async def main():
        async with Judge(engine, k=1) as judge:
            best = await judge.abest_of_n("q", ["a", "b"])
            return best.best, [v.example_id async for v in judge.astream(examples(2))]

    assert asyncio.run(main())[1] == ["e0", "e1"]
    assert engine.closed == 1


def test_one_judge_serves_many_threads():
    engine = Engine()
    judge, results, start = Judge(engine, k=4), {}, threading.Barrier(8)

    def work(i):
        start.wait()
        results[i] = judge.score(examples(8)[i]).example_id

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    judge.close()
    assert results == {i: f"e{i}" for i in range(8)}
    assert len(engine.samples) == 32
    assert not [t for t in threading.enumerate() if t.name == "spct"]


def test_ctrl_c_cancels_what_is_under_way_and_leaves_a_run_to_resume(tmp_path):
    class Interrupted(Engine):
        async def generate(self, request):
            if request.example_id == "e2":
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
                await asyncio.Event().wait()
            return await super().generate(request)

    engine = Interrupted()
    with RunFolder.create(tmp_path, {"settings": {}}, examples(3)) as run:
        judge = Judge(engine, run=run, k=2)
        with pytest.raises(KeyboardInterrupt):
            judge.score_many(examples(3))
        judge.close()
    assert [len(found) for _, found in RunFolder.load(tmp_path)] == [2, 2, 0]


def test_a_judge_closes_its_engine_and_leaves_the_run_to_its_opener(tmp_path):
    engine = Engine()
    with RunFolder.create(tmp_path, {"settings": {}}, examples(1)) as run:
        with Judge(engine, run=run, k=1):
            pass
        assert engine.closed == 1
        with Judge(engine, run=run, k=1) as judge:
            judge.score(examples(1)[0])
