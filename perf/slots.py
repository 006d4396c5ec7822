"""Slots next to the engine whose caches grow: prompts of 600 tokens, four samples each, on a GPU.

    python perf/slots.py [--model smollm2] [--prompts 128] [--new-tokens 200] [--rounds 3]

Both draw the same number of new tokens (ends of text are ignored). Rounds are interleaved and medians
compared. Without a GPU it runs too, with few prompts and no budget: slots are made for CUDA graphs.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

import torch

from spct.backends.decoding import Drawn, decode, prefill
from spct.backends.local import LocalBackend
from spct.backends.slots import WIDTH, Job, Slots
from spct.types import SamplingParams

FLOOR = 2.0  # budget on a GPU: times faster (not run on one yet)
PROMPT = 600
PARAMS = SamplingParams(temperature=0.5)


def main() -> int:
    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description="slots next to growing caches")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--prompts", type=int, default=128 if gpu else 4)
    parser.add_argument("--new-tokens", type=int, default=200 if gpu else 20)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    model = LocalBackend(args.model)._lm
    prompts = torch.randint(100, 10_000, (args.prompts, PROMPT), generator=torch.manual_seed(0)).tolist()
    slots = Slots(model, slots=args.prompts, room=PROMPT, limit=args.new_tokens, eos=frozenset({-1}))
    jobs = [Job(prompt, range(WIDTH), args.new_tokens) for prompt in prompts]

    def in_slots() -> None:
        slots.draw(jobs, PARAMS)

    def growing() -> None:
        with torch.inference_mode():
            drawn = [Drawn(prefill(model, prompt), range(WIDTH), args.new_tokens) for prompt in prompts]
            decode(model, drawn, PARAMS, eos=frozenset())

    in_slots()  # records the graph
    times: dict[str, list[float]] = {"slots": [], "growing": []}
    for _ in range(args.rounds):
        for name, run in (("slots", in_slots), ("growing", growing)):
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(found) for name, found in times.items()}
    tokens = args.prompts * WIDTH * args.new_tokens
    for name, seconds in medians.items():
        print(f"{name:8} {seconds:8.2f} s  {tokens / seconds:8.0f} new tokens a second")
    ratio = medians["growing"] / medians["slots"]
    print(f"slots are {ratio:.1f} times as fast, on {model.device}")
    return 0 if ratio >= FLOOR or not gpu else 1


if __name__ == "__main__":
    sys.exit(main())
