"""Local backend next to `generate(num_return_sequences=8)`: a 600-token prompt, k = 8.

    python perf/local_prefill.py [--model smollm2] [--rounds 3] [--new-tokens 32 128]

Both draw exactly the same number of new tokens (ends of text are ignored), at temperature 0.5.
`generate` prefills the prompt once per sample and carries k copies of its cache; the backend
prefills once and reads one cache. Rounds are interleaved and medians compared, so that a slow
moment of the machine hits both. Below stand the parts of the backend's time, and what a prompt
costs whose opening the request before shared (the other order of the same responses).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from typing import Any

import torch

from spct.backends.decoding import Drawn, Prefill, decode, prefill
from spct.backends.local import LocalBackend
from spct.types import SamplingParams

FLOOR = 1.5  # budget: times faster
K, PROMPT, SHARED = 8, 600, 400
PARAMS = SamplingParams(temperature=0.5)


def by_generate(backend: LocalBackend, prompt: list[int], new: int) -> None:
    ids = torch.tensor([prompt], device=backend._lm.device)
    options = {"do_sample": True, "temperature": PARAMS.temperature, "top_k": 0, "num_return_sequences": K}
    backend._lm.set_attn_implementation("sdpa")  # as `transformers` would run it
    output = backend._lm.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, min_new_tokens=new, **options
    )
    backend._lm.set_attn_implementation("spct_shared_prefix")
    assert output.shape == (K, len(prompt) + new)


def by_spct(backend: LocalBackend, prompt: list[int], new: int) -> None:
    read = prefill(backend._lm, prompt)
    rows = draw(backend._lm, read, new)
    assert all(len(row.tokens) == new for row in rows)


def draw(model: Any, read: Prefill, new: int) -> list[Any]:
    [rows] = decode(model, [Drawn(read, range(K), new)], PARAMS, eos=frozenset())
    return rows


def seconds(run: Any, *arguments: Any) -> float:
    start = time.perf_counter()
    run(*arguments)
    return time.perf_counter() - start


def compare(backend: LocalBackend, prompt: list[int], new: int, rounds: int) -> float:
    times: dict[str, list[float]] = {"generate": [], "spct": []}
    for _ in range(rounds):
        times["generate"].append(seconds(by_generate, backend, prompt, new))
        times["spct"].append(seconds(by_spct, backend, prompt, new))
    usual, ours = (statistics.median(times[name]) for name in ("generate", "spct"))
    print(f"{new:>10}{usual:>12.2f}{ours:>9.2f}{usual / ours:>8.2f}{K * new / ours:>12.0f}", flush=True)
    return usual / ours


def parts(backend: LocalBackend, prompt: list[int]) -> None:
    other = [*prompt[:SHARED], *reversed(prompt[SHARED:])]
    first = seconds(prefill, backend._lm, prompt)
    again = seconds(prefill, backend._lm, other, prefill(backend._lm, prompt))
    step = seconds(draw, backend._lm, prefill(backend._lm, prompt), 17) / 16  # the first token needs no pass
    print(
        f"prefill of {PROMPT} tokens {first:.2f} s; of another order that shares {SHARED} of them"
        f" {again:.2f} s; a step of {K} samples {step * 1000:.0f} ms"
    )


def same_alone(backend: LocalBackend, prompt: list[int], new: int) -> None:
    """How many samples come out as in the batch when each is drawn alone (last-bit rounding)."""
    read = prefill(backend._lm, prompt)
    together = [row.tokens for row in draw(backend._lm, read, new)]
    drawn = [Drawn(read, [seed], new) for seed in range(K)]
    alone = [decode(backend._lm, [one], PARAMS, eos=frozenset())[0][0].tokens for one in drawn]
    same = sum(a == b for a, b in zip(together, alone, strict=True))
    print(f"samples drawn alone that equal their text of the batch: {same}/{K} ({K * new} tokens)")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--new-tokens", type=int, nargs="+", default=[32, 128])
    options = parser.parse_args()
    backend = LocalBackend(options.model, adapter="none")
    size = backend._lm.get_input_embeddings().weight.shape[0]
    prompt = torch.randint(100, size, (PROMPT,), generator=torch.Generator().manual_seed(0)).tolist()
    with torch.inference_mode():
        by_spct(backend, prompt, 2)  # warm-up, not counted
        device = f"{backend._lm.device}, {torch.get_num_threads()} threads"
        print(
            f"{options.model} on {device}; prompt {PROMPT} tokens, k = {K}, median of {options.rounds} rounds"
        )
        print(f"{'new tokens':>10}{'generate s':>12}{'spct s':>9}{'ratio':>8}{'tokens/s':>12}")
        ratios = [compare(backend, prompt, new, options.rounds) for new in options.new_tokens]
        parts(backend, prompt)
        same_alone(backend, prompt, min(options.new_tokens))
    kept = min(ratios) >= FLOOR
    print(f"budget: ratio >= {FLOOR}: {'kept' if kept else 'BROKEN'}")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
