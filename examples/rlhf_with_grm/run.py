"""A policy trained by TRL's GRPO whose reward is a generative reward model behind a live reward server.

    make recipe-tiny                                    # trains the judge, once
    python examples/rlhf_with_grm/run.py --judge runs/tiny-0/grpo/model

The world of recipes/tiny: a query asks for two or three things, a response does some of them, and a
program, `world.truth`, knows how good it is. The policy never sees that number and neither does the
judge; it is written down beside the judge's reward, so that one can see where the two part.

    policy learns to write (responses of mixed quality) -> one GRPO run per way of judging -> figure
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "recipes" / "tiny"))

from figure import draw
from policy import LONGEST, draw_queries, learn, load, write
from table import rewrite
from world import WORDS, Query, truth

from spct import Judge
from spct.backends.base import Backend
from spct.evals.metrics import bootstrap, interval_of, paired_difference
from spct.integrations.trl import grm_reward
from spct.serve.app import build_app
from spct.serve.client import RewardClient
from spct.serve.run import running
from spct.serve.settings import ServeConfig
from spct.sync import LoopThread
from spct.training.grpo import paper_grpo_config

HERE = Path(__file__).resolve().parent
TINY = HERE.parents[1] / "recipes" / "tiny"
GROUP = 4  # rollouts of a prompt


@dataclass(frozen=True)
class Sizes:
    """How much is drawn; the defaults are those of the committed run."""

    seed: int = 0
    learn_steps: int = 800
    learn_rows: int = 64
    steps: int = 70
    prompts: int = 24
    """Prompts of a GRPO step, of GROUP rollouts each."""
    queries: int = 300
    """Held-out queries on which policies are compared, GROUP responses each."""
    lr: float = 1e-3
    beta: float = 0.02


@dataclass(frozen=True)
class Arm:
    """A way to judge a group: `max_list` responses side by side, k votes (one is greedy)."""

    k: int
    max_list: int = 8
    template: str = "judge"
    scale: int = 10
    """What divides a reward so that 1 is the best."""


ARMS: dict[str, Arm | None] = {
    "list of 4, k = 8": Arm(8),
    "list of 4, k = 1": Arm(1),
    "alone, k = 8": Arm(8, max_list=1, template="grade", scale=1),
    "alone, k = 1": Arm(1, max_list=1, template="grade", scale=1),
    "the truth": None,
}


@dataclass
class Log:
    """What was seen in training: one row a step."""

    rows: list[dict[str, float | None]] = field(default_factory=list)

    def note(self, texts: Sequence[str], rewards: Sequence[float | None], truths: Sequence[float]) -> None:
        """One batch of whole groups; rewards and truths from 0 to 1."""
        known = [r for r in rewards if r is not None]
        self.rows.append(
            {
                "step": len(self.rows) + 1,
                "truth": mean(truths),
                "reward": mean(known),
                "valid": len(known) / len(rewards),
                "agreement": agreement(rewards, truths),
                "foreign": mean([is_foreign(text) for text in texts]),
            }
        )


def mean(values: Sequence[float | None]) -> float | None:
    """Mean of what is known; None where nothing is."""
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), 4) if known else None


def is_foreign(text: str) -> bool:
    """Whether a response holds what no response of the world does, such as words of a query."""
    return any(word.lower() not in WORDS and not word.isdigit() for word in text.split())


def agreement(rewards: Sequence[float | None], truths: Sequence[float]) -> float | None:
    """Share of pairs within groups, of different truth, that the rewards put right; a tie is half.

    >>> agreement([0.1, 0.2, None, 0.2], [0.0, 1.0, 1.0, 0.5])  # right, right, tied
    0.8333
    """
    points = []
    for at in range(0, len(truths), GROUP):
        rows = [i for i in range(at, min(at + GROUP, len(truths))) if rewards[i] is not None]
        for i in rows:
            for j in rows:
                if truths[i] > truths[j]:
                    points.append(0.5 + 0.5 * ((rewards[i] > rewards[j]) - (rewards[i] < rewards[j])))
    return mean(points)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run everything and write the results to OUT."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--judge", type=Path, default=Path("runs/tiny-0/grpo/model"))
    parser.add_argument("--work", type=Path, default=Path("runs/rlhf_with_grm"), help="folder of the models")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the results")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    if not (args.judge / "config.json").is_file():
        parser.error(f"no model in {args.judge}; `make recipe-tiny` trains it")
    from batched import BatchedBackend
    from transformers.utils import logging

    logging.disable_progress_bar()
    warnings.simplefilter("ignore", FutureWarning)
    weights = hashlib.sha256((args.judge / "model.safetensors").read_bytes()).hexdigest()
    judge = {"folder": str(args.judge), "sha256": weights}
    run(Sizes(args.seed), lambda: BatchedBackend(str(args.judge)), args.work, args.out, judge=judge)


def run(
    sizes: Sizes, open_judge: Callable[[], Backend], work: Path, out: Path, **facts: Any
) -> dict[str, Any]:
    """Train the policy, then once more from there under each way of judging; stopped, it goes on.

    Args:
        sizes: How much.
        open_judge: Opens the judge's engine; once for every arm.
        work: Folder of the policy's model, and of what is finished.
        out: Folder of the results.
        facts: What else to note in the results.
    """
    import torch

    torch.set_num_threads(1)
    queries = draw_queries(sizes.queries, sizes.seed, test=True)
    found = begun(work, facts | {"settings": asdict(sizes)})
    if not found["cpu_seconds"]:
        with timed() as spent:
            learn(work / "policy", steps=sizes.learn_steps, rows=sizes.learn_rows, seed=sizes.seed)
        found["cpu_seconds"]["learn to write"] = spent()
    start = write(load(work / "policy"), queries, GROUP, seed=sizes.seed)
    found["start"] = summary(queries, start)
    print(f"start: truth {found['start']['truth']}", flush=True)
    for name, arm in ARMS.items():
        if name not in found["arms"]:
            with timed() as spent:
                model, log, tokens = train(sizes, arm, open_judge, work)
            found["cpu_seconds"][name] = spent()
            end = write(model, queries, GROUP, seed=sizes.seed)
            found["arms"][name] = {
                "end": summary(queries, end),
                "gain": gain(queries, start, end),
                "judge_tokens_per_rollout": tokens,
                "steps": log.rows,
            }
            (work / "progress.json").write_text(json.dumps(found), encoding="utf-8")
        print(tell(name, found["arms"][name], found["cpu_seconds"][name]), flush=True)
    save(found, out)
    return found


def begun(work: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """What a run of the same settings that was stopped has finished; else nothing yet."""
    path = work / "progress.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    same = all(found.get(name) == value for name, value in facts.items())
    return found if same else {**facts, "start": {}, "arms": {}, "cpu_seconds": {}}


def save(found: dict[str, Any], out: Path) -> None:
    """Write results.json, steps.jsonl with a line per arm and step, curves.png and README's table."""
    out.mkdir(parents=True, exist_ok=True)
    draw(found, out / "curves.png")
    rows = [{"arm": name, **row} for name, arm in found["arms"].items() for row in arm["steps"]]
    (out / "steps.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    arms = {name: {k: v for k, v in arm.items() if k != "steps"} for name, arm in found["arms"].items()}
    text = json.dumps(found | {"arms": arms}, indent=1)
    (out / "results.json").write_text(text + "\n", encoding="utf-8")
    if (out / "README.md").is_file():
        rewrite(found, out / "README.md")


def tell(name: str, arm: dict[str, Any], seconds: float) -> str:
    """One line on how an arm went: held-out truth, then first and last ten steps of training."""
    parts = arm["steps"][:10], arm["steps"][-10:]
    keys = ("reward", "truth", "agreement", "foreign")
    seen = ", ".join(
        f"{key} {' -> '.join(str(mean([row[key] for row in rows])) for rows in parts)}" for key in keys
    )
    return f"{name}: truth {arm['end']['truth']}, gain {arm['gain']}; training: {seen}; {seconds} s"


@contextmanager
def timed() -> Iterator[Callable[[], float]]:
    """Seconds of CPU since it was entered, of all threads."""
    started = time.process_time()
    yield lambda: round(time.process_time() - started, 1)


def qualities(queries: Sequence[Query], texts: Sequence[Sequence[str]]) -> list[float]:
    """Mean truth of the responses to each query."""
    pairs = zip(queries, texts, strict=True)
    return [sum(truth(str(query), text) for text in group) / len(group) for query, group in pairs]


def summary(queries: Sequence[Query], texts: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Mean truth with a 95 % interval over queries, and the share of met requirements by kind."""
    means = qualities(queries, texts)
    one = [1] * len(means)
    drawn = bootstrap(np.array(means), one, one, range(len(means)))
    met: dict[str, list[bool]] = {}
    for query, group in zip(queries, texts, strict=True):
        for requirement in query.requirements:
            said = met.setdefault(requirement.kind, [])
            said += [bool(text.split()) and requirement.met(text) for text in group]
    kinds = {kind: round(sum(said) / len(said), 3) for kind, said in sorted(met.items())}
    value, interval = sum(means) / len(means), interval_of(drawn)
    return {
        "truth": [round(x, 3) for x in (value, *interval)],
        "met": kinds,
        "foreign": mean([is_foreign(text) for group in texts for text in group]),
    }


def gain(queries: Sequence[Query], before: Sequence[Sequence[str]], after: Sequence[Sequence[str]]) -> Any:
    """Rise of the truth, with a 95 % interval by pairs of the same query."""
    one = [1] * len(queries)
    found = paired_difference(
        qualities(queries, after), qualities(queries, before), one, one, range(len(queries))
    )
    return [round(x, 3) for x in (found.value, *found.interval)]


def train(
    sizes: Sizes, arm: Arm | None, open_judge: Callable[[], Backend], work: Path
) -> tuple[Any, Log, float]:
    """One GRPO run; returns the model, what was logged, and tokens the judge wrote per rollout."""
    import datasets
    from transformers import PrinterCallback
    from trl import GRPOTrainer

    datasets.disable_progress_bars()
    prompts = draw_queries(sizes.steps * sizes.prompts, sizes.seed, test=False)
    rows = [{"prompt": [{"role": "user", "content": str(query)}]} for query in prompts]
    config = paper_grpo_config(
        output_dir=str(work / "trainer"),
        seed=sizes.seed,
        num_generations=GROUP,
        per_device_train_batch_size=sizes.prompts * GROUP,
        max_completion_length=LONGEST,
        max_steps=sizes.steps,
        learning_rate=sizes.lr,
        beta=sizes.beta,
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=True,
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    log = Log()
    with served(arm, open_judge) as (client, tokens):
        trainer = GRPOTrainer(
            model=str(work / "policy"),
            reward_funcs=watched(client, arm, log),
            args=config,
            train_dataset=datasets.Dataset.from_list(rows),
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        return trainer.model, log, round(tokens() / (sizes.steps * sizes.prompts * GROUP), 1)


def watched(client: RewardClient | None, arm: Arm | None, log: Log) -> Callable[..., Any]:
    """The judge's reward, with the truth written down beside it; without a judge, the truth."""
    ask = grm_reward(client) if client else None

    async def judged(
        prompts: Sequence[Any], completions: Sequence[Any], **columns: Any
    ) -> list[float | None]:
        texts = [completion[-1]["content"] for completion in completions]
        truths = [truth(prompt[-1]["content"], text) for prompt, text in zip(prompts, texts, strict=True)]
        if ask is None or arm is None:
            log.note(texts, truths, truths)
            return list(truths)
        rewards = await ask(prompts=prompts, completions=completions, **columns)
        log.note(texts, [None if r is None else r / arm.scale for r in rewards], truths)
        return rewards

    return judged


@contextmanager
def served(
    arm: Arm | None, open_judge: Callable[[], Backend]
) -> Iterator[tuple[RewardClient | None, Callable[[], float]]]:
    """A reward server on a free port of the loopback; yields a client, and a count of tokens written.

    It is what `spct serve` runs, around an engine that decodes all prompts of a step together.
    """
    if arm is None:
        yield None, lambda: 0.0
        return
    judge = Judge(
        open_judge(), k=arm.k, template=str(TINY / "prompts" / f"{arm.template}.j2"), max_tokens=144
    )
    thread, app = LoopThread(), build_app(judge, ServeConfig(max_list=arm.max_list))
    counts = app.state.service.metrics.tokens.labels("completion")

    async def start() -> tuple[Any, str]:
        context = running(app)
        return context, (await context.__aenter__()).url

    async def stop(context: Any) -> None:
        await context.__aexit__(None, None, None)

    context, url = thread.run(start())
    try:
        with RewardClient(url) as client:
            yield client, lambda: float(counts._value.get())
    finally:
        thread.run(stop(context))
        thread.close()


if __name__ == "__main__":
    main()
