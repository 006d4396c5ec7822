"""The policy: a tiny Llama that learns to write from responses of mixed quality, and what it writes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from world import SIZES, Query, draw_query, draw_response

LONGEST = 16  # tokens of a response; those of the world have 5 to 9


def draw_queries(count: int, seed: int, *, test: bool) -> list[Query]:
    """Queries of kinds that go together in training, or of the combinations held out from it."""
    rng = random.Random(f"queries:{test}:{seed}")
    return [draw_query(rng, rng.choices(SIZES, (2, 3))[0], test=test) for _ in range(count)]


def learn(folder: Path, *, steps: int, rows: int, seed: int) -> None:
    """Teach an untrained model to write: responses that meet each requirement half of the time.

    Args:
        folder: Where the model goes.
        steps: Of the optimizer.
        rows: Responses of a step, each to another query.
        seed: Of the weights and the text.
    """
    import torch
    from cold_start import weighted_loss
    from tokenizer import build_model, build_tokenizer

    tokenizer, model = build_tokenizer(), build_model(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.98), weight_decay=0.01)
    rng = random.Random(f"write:{seed}")
    for step in range(steps):
        batch = []
        for _ in range(rows):
            query = draw_query(rng, rng.choices(SIZES, (2, 3))[0], test=False)
            response = draw_response(rng, query, [rng.random() < 0.5 for _ in query.requirements])
            prompt = prompt_ids(tokenizer, query)
            batch.append((prompt, [*tokenizer(response)["input_ids"], tokenizer.eos_token_id]))
        left = 1 - step / steps
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min((step + 1) / 100, 1, max(left / 0.3, 0.05))
        loss = weighted_loss(model, padded(batch), prompt_weight=0.1)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def padded(rows: Sequence[tuple[list[int], list[int]]]) -> tuple[Any, Any]:
    """Token ids with padding on the right, and 0, 1, 2 for padding, prompt and completion."""
    import torch

    longest = max(len(prompt) + len(completion) for prompt, completion in rows)
    ids, parts = (torch.zeros(len(rows), longest, dtype=torch.long) for _ in range(2))
    for i, (prompt, completion) in enumerate(rows):
        whole = len(prompt) + len(completion)
        ids[i, :whole] = torch.tensor(prompt + completion)
        parts[i, :whole] = 2
        parts[i, : len(prompt)] = 1
    return ids, parts


def prompt_ids(tokenizer: Any, query: Query) -> list[int]:
    """The policy's prompt: the query as a user's turn."""
    turns = [{"role": "user", "content": str(query)}]
    return list(tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False))


def load(folder: Path) -> Any:
    """A model of this folder."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype="float32")


def write(model: Any, queries: Sequence[Query], n: int, *, seed: int) -> list[list[str]]:
    """Draw n responses to each query at temperature 1."""
    import torch
    from tokenizer import build_tokenizer

    tokenizer = build_tokenizer()
    prompts = {"input_ids": [prompt_ids(tokenizer, query) for query in queries]}
    batch = tokenizer.pad(prompts, return_tensors="pt")
    torch.manual_seed(seed)
    model.eval()
    with torch.no_grad():
        ids = model.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            do_sample=True,
            temperature=1.0,
            top_k=0,
            max_new_tokens=LONGEST,
            num_return_sequences=n,
        )
    texts = tokenizer.batch_decode(ids[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    return [texts[at : at + n] for at in range(0, len(texts), n)]
