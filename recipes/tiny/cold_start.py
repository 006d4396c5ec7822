"""Cold start in plain PyTorch: an untrained model learns to read, then to judge as its teacher does.

TRL's SFTTrainer cannot do the three things that make it work in minutes (NOTES.md): general text
alone first, batches of equal numbers of tokens, a loss on the prompt that weighs a tenth.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

from cold_rows import as_row, cold_rows
from pydantic import Field
from teacher import look_up
from tokenizer import save_untrained
from world import SIZES, draw_query

from spct.configs import Config

CHECK = 100  # steps from one look at the model's reading to the next


class ColdConfig(Config):
    """Settings of the cold start; the values that count stand in cold.toml."""

    general_steps: int = Field(ge=0)
    """Steps on general text alone, first."""
    mixed_steps: int = Field(ge=0)
    """At most so many on the teacher's judgements and general text at the full rate: until it reads."""
    read: float = Field(ge=0, le=1)
    """It reads where it gets this share of look-ups in held-out lists right."""
    fall_steps: int = Field(ge=1)
    """Steps on the same text while the rate falls to `floor` of its height."""
    batch_tokens: int = Field(ge=256)
    """Tokens of a batch, padding included."""
    lr: float = Field(gt=0)
    warmup_steps: int = Field(ge=0)
    floor: float = Field(ge=0, le=1)
    prompt_weight: float = Field(ge=0)
    """Weight of a prompt's tokens in the loss; a completion's is 1."""
    pool: int = Field(2000, ge=1)
    """Rows that are sorted by length at a time."""
    pools: int = Field(0, ge=0)
    """So many pools are read again and again; 0 never repeats one."""


def train(config: ColdConfig, out: Path, seed: int) -> dict[str, Any]:
    """Train from nothing; write OUT/model and OUT/metrics.jsonl; return steps and the share read.

    Args:
        config: Settings.
        out: Folder of the stage.
        seed: Of the weights and the text.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    save_untrained(out / "untrained", seed)
    model = AutoModelForCausalLM.from_pretrained(out / "untrained", dtype="float32")
    tokenizer = AutoTokenizer.from_pretrained(out / "untrained")
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, betas=(0.9, 0.98), weight_decay=0.01)
    lists = _padded(_sequences(tokenizer, list(_look_ups())))
    latest = config.general_steps + config.mixed_steps
    fall, read, started = latest, 0.0, time.perf_counter()
    with (out / "metrics.jsonl").open("w", encoding="utf-8") as log:
        for step, batch in enumerate(_batches(config, tokenizer, seed)):
            if step % CHECK == 0 and config.general_steps < step <= fall:
                read = share_right(model, lists)
                fall = step if read >= config.read else latest
            if step == fall + config.fall_steps:
                break
            for group in optimizer.param_groups:
                group["lr"] = config.lr * rate(step, fall, config)
            loss = weighted_loss(model, batch, config.prompt_weight)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            if (step + 1) % 20 == 0:
                seconds = round(time.perf_counter() - started, 1)
                noted = {"step": step + 1, "loss": loss.item(), "read": read, "seconds": seconds}
                print(json.dumps(noted), file=log, flush=True)
    model.save_pretrained(out / "model")
    tokenizer.save_pretrained(out / "model")
    return {"steps": fall + config.fall_steps, "read": share_right(model, lists)}


def rate(step: int, fall: int, config: ColdConfig) -> float:
    """Share of the learning rate: a linear warm-up, a plateau, a linear fall from step `fall` on.

    >>> settings = ColdConfig(general_steps=0, mixed_steps=50, read=1, fall_steps=50, batch_tokens=256,
    ...                       lr=1, warmup_steps=10, floor=0.1, prompt_weight=0)
    >>> [rate(step, 50, settings) for step in (0, 9, 50, 75, 99)]
    [0.1, 1.0, 1.0, 0.5, 0.1]
    """
    left = 1 - (step - fall) / config.fall_steps
    return min(1.0, (step + 1) / max(1, config.warmup_steps)) * max(config.floor, min(1.0, left))


def share_right(model: Any, batch: tuple[Any, Any]) -> float:
    """Share of rows whose completion the model would write word for word, greedily."""
    import torch

    ids, parts = batch
    with torch.inference_mode():
        written = model(input_ids=ids[:, :-1], use_cache=False).logits.argmax(-1)
    wrong = (written != ids[:, 1:]) & (parts[:, 1:] == 2)
    return float(1 - wrong.any(1).float().mean())


def weighted_loss(model: Any, batch: tuple[Any, Any], prompt_weight: float) -> Any:
    """Cross-entropy per token, a prompt's tokens weighing `prompt_weight`.

    Args:
        model: A causal language model.
        batch: (rows, length) token ids, padded on the right; and the same with 0 for padding, 1 for
            the prompt and 2 for the completion.
        prompt_weight: See above.
    """
    import torch

    ids, parts = batch
    weights = torch.where(parts == 1, prompt_weight, (parts == 2).float())[:, 1:].flatten()
    logits = model(input_ids=ids[:, :-1], use_cache=False).logits.flatten(0, 1)
    losses = torch.nn.functional.cross_entropy(logits, ids[:, 1:].flatten(), reduction="none")
    return (losses * weights).sum() / weights.sum()


def _look_ups() -> Iterator[dict[str, Any]]:
    """Look-ups in lists of three, of combinations of requirements that training never sees."""
    rng = random.Random("look-ups")
    for _ in range(200):
        yield as_row(*look_up(rng, draw_query(rng, rng.choice(SIZES), test=True), 3))


def _batches(config: ColdConfig, tokenizer: Any, seed: int) -> Iterator[tuple[Any, Any]]:
    """As many batches of general text as asked for, then of the mix, without an end."""
    general = _phase(config, tokenizer, seed, general=True)
    yield from (next(general) for _ in range(config.general_steps))
    yield from _phase(config, tokenizer, seed, general=False)


def _phase(config: ColdConfig, tokenizer: Any, seed: int, *, general: bool) -> Iterator[Any]:
    rng = random.Random(f"batches:{seed}:{general}")
    for number in count():
        size = {"first": config.pool, "size": 0} if general else {"first": 0, "size": config.pool}
        text_seed = seed * 1000 + (number % config.pools if config.pools else number)
        sequences = _sequences(tokenizer, list(cold_rows(text_seed, **size)))
        groups = by_tokens([len(ids) for ids, _ in sequences], config.batch_tokens)
        rng.shuffle(groups)
        for group in groups:
            yield _padded([sequences[i] for i in group])


def _sequences(tokenizer: Any, rows: list[dict[str, Any]]) -> list[tuple[list[int], int]]:
    """Token ids of each row, and how many of them are the prompt's."""
    prompts = [
        tokenizer.apply_chat_template(r["prompt"], tokenize=False, add_generation_prompt=True) for r in rows
    ]
    wholes = [f"{p}{r['completion'][0]['content']}<end>" for p, r in zip(prompts, rows, strict=True)]
    lengths = [len(ids) for ids in tokenizer(prompts)["input_ids"]]
    return list(zip(tokenizer(wholes)["input_ids"], lengths, strict=True))


def by_tokens(lengths: list[int], limit: int) -> list[list[int]]:
    """Put sequences of like length together, so that rows times the longest is at most `limit`.

    >>> by_tokens([5, 9, 4, 5], 10)
    [[2, 0], [3], [1]]
    """
    groups: list[list[int]] = [[]]
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if groups[-1] and lengths[i] * (len(groups[-1]) + 1) > limit:
            groups.append([])
        groups[-1].append(i)
    return groups


def _padded(sequences: list[tuple[list[int], int]]) -> tuple[Any, Any]:
    import torch

    longest = max(len(ids) for ids, _ in sequences)
    ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row, _ in sequences])
    parts = [[*[1] * n, *[2] * (len(row) - n), *[0] * (longest - len(row))] for row, n in sequences]
    return ids, torch.tensor(parts)
