"""Slots against the engine that grows its caches: the same texts, on a tiny model in float64."""

import pytest

from spct.types import SamplingParams
from tiny_model import save_tiny_model

EOS = frozenset({1, 2, 3})


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    from spct.backends.local import LocalBackend

    folder = save_tiny_model(tmp_path_factory.mktemp("tiny"))
    return LocalBackend(str(folder), device="cpu", dtype="float64")._lm


def drawn(model, prompts, seeds, limit, params):
    """By `decode`, a prompt at a time."""
    import torch

    from spct.backends.decoding import Drawn, decode, prefill

    with torch.inference_mode():
        return [
            decode(model, [Drawn(prefill(model, p), s, limit)], params, eos=EOS)[0]
            for p, s in zip(prompts, seeds, strict=True)
        ]


def facts(found):
    return [[(row.tokens, row.finish) for row in rows] for rows in found]


@pytest.mark.parametrize("params", [SamplingParams(1.0), SamplingParams(0.7, top_p=0.8), SamplingParams(0.0)])
def test_slots_draw_what_the_growing_engine_draws(model, params):
    from spct.backends.slots import Job, Slots

    prompts = [[5, 6, 7, 8, 9, 10], [11, 12], [13] * 17]
    seeds = [[3, 4, 5], [6], [7, 8]]
    slots = Slots(model, slots=5, room=20, limit=40, width=2, eos=EOS)
    jobs = [Job(p, s, 30) for p, s in zip(prompts, seeds, strict=True)]  # 2 + 1 + 1 of 5 slots
    expected = facts(drawn(model, prompts, seeds, 30, params))
    assert facts(slots.draw(jobs, params)) == expected
    # a second batch finds nothing of the first: other prompts stand where those stood
    again = [jobs[2], jobs[0]]
    assert facts(slots.draw(again, params)) == [expected[2], expected[0]]


def test_each_job_has_its_own_limit(model):
    from spct.backends.slots import Job, Slots

    slots = Slots(model, slots=2, room=8, limit=40, eos=frozenset({10**6}))
    short, long = slots.draw([Job([5, 6], [1], 3), Job([5, 6], [1], 37)], SamplingParams(1.0))
    assert (len(short[0].tokens), short[0].finish) == (3, "length")
    assert (len(long[0].tokens), long[0].finish) == (37, "length")
    assert long[0].tokens[:3] == short[0].tokens  # the same seed


def test_a_job_that_is_given_up_has_no_finish_and_stops_the_others_not(model):
    from spct.backends.slots import Job, Slots

    slots = Slots(model, slots=2, room=8, limit=40, eos=frozenset({10**6}))
    gone, kept = slots.draw([Job([5, 6], [1], 40, lambda: True), Job([5, 6], [1], 40)], SamplingParams(1.0))
    assert gone[0].finish == ""
    assert (len(kept[0].tokens), kept[0].finish) == (40, "length")


def test_more_jobs_than_slots_take_turns(model):
    from spct.backends.slots import Job, Slots

    slots = Slots(model, slots=2, room=8, limit=12, width=2, eos=EOS)
    jobs = [Job([5, 6, 7 + n], [n, n + 1, n + 2], 12) for n in range(3)]  # two slots each
    assert facts(slots.draw(jobs, SamplingParams(1.0))) == facts(
        drawn(model, [j.tokens for j in jobs], [j.seeds for j in jobs], 12, SamplingParams(1.0))
    )


@pytest.mark.parametrize(
    ("job", "fits"),
    [
        (([5] * 9, [1] * 8, 4), True),
        (([5] * 10, [1], 4), False),
        (([5, 6], [1] * 9, 4), False),
        (([5, 6], [1], 5), False),
        (([5], [1], 4), False),  # a prompt is read without its last token
    ],
)
def test_what_the_slots_hold(model, job, fits):
    from spct.backends.slots import Job, Slots

    assert Slots(model, slots=2, room=8, limit=4, width=4, eos=EOS).hold([Job(*job)]) is fits


def test_random_numbers_are_those_of_the_seed_to_the_last_bit(model):
    """Rounded to float32 one in 30 million would be 1.0, which picks the last token of the vocabulary."""
    import random

    from spct.backends.slots import Job, Slots

    slots = Slots(model, slots=1, room=8, limit=50, eos=EOS)
    slots.draw([Job([5, 6], [7], 50)], SamplingParams(1.0))
    source = random.Random(7)
    assert slots._draws[0].tolist() == [source.random() for _ in range(50)]
