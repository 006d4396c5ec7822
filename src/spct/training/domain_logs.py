"""What GRPO logs at each step, over all rollouts and by domain: a subset that collapses must show.

    outcome, accuracy, parse_rate, length     of the rollouts
    zero_variance                             share of groups whose outcomes are all equal: no signal
    kl, entropy                               per token

TRL averages what it logs over micro-batches; kl and entropy are summed over a step here, since
micro-batches of like lengths (`padding`) hold very different numbers of tokens.

The loss is TRL's own, untouched; two of its inner methods are wrapped to read what passes through.
The order of data points depends on the epoch's number only: TRL's own is lost when a run is resumed
at the start of an epoch, and the resumed run would not be the straight one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spct.training.outcomes import OutcomeReward
from spct.training.padding import by_length_trainer

NAMES = ("outcome", "accuracy", "parse_rate", "length", "zero_variance")


def domain_trainer(reward: OutcomeReward, domains: Sequence[str]) -> Any:
    """A class of TRL's GRPO trainer that also logs by domain.

    Args:
        reward: The reward function; its last batch is what was just rolled out.
        domains: All values of the column `domain`.
    """
    import torch

    class DomainTrainer(by_length_trainer()):  # type: ignore[misc]  # TRL is not typed
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._sums: dict[str, tuple[float, float]] = {}
            super().__init__(*args, **kwargs)

        def _get_train_sampler(self, dataset: Any = None) -> Any:
            sampler = super()._get_train_sampler(dataset)
            if sampler.shuffle:  # the training loop calls set_epoch before each pass
                sampler.set_epoch = lambda epoch: sampler.generator.manual_seed(self.args.seed + epoch)
            return sampler

        def _generate_and_score_completions(self, inputs: Any) -> Any:
            output = super()._generate_and_score_completions(inputs)
            output["domain"] = torch.tensor(
                [domains.index(row["domain"]) for row in inputs], device=output["advantages"].device
            )
            values = _facts(reward, output)
            counts = torch.ones_like(values[:, 0])
            metrics = self._metrics["train" if self.model.training else "eval"]
            for name, total, weight in totals(self, domains, NAMES, values, counts, output["domain"]):
                metrics[name].append(total / weight)
            return output

        def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> Any:
            self._forward = super()._get_per_token_logps_and_entropies(*args, **kwargs)
            return self._forward

        def _compute_loss(self, model: Any, inputs: Any) -> Any:
            loss = super()._compute_loss(model, inputs)
            logps, entropies = self._forward[0].detach(), self._forward[1]
            mask, names, per_token = inputs["completion_mask"], ["entropy"], [entropies.detach()]
            if self.beta:
                gap = inputs["ref_per_token_logps"] - logps
                names, per_token = ["entropy", "kl"], [*per_token, gap.exp() - gap - 1]
            values = torch.stack([(x * mask).sum(1) for x in per_token], dim=1)
            for name, total, weight in totals(self, domains, names, values, mask.sum(1), inputs["domain"]):
                old = self._sums.get(name, (0.0, 0.0))
                self._sums[name] = (old[0] + total, old[1] + weight)
            self._forward = None  # holds the graph
            return loss

        def log(self, logs: Any, start_time: Any = None) -> None:
            metrics = self._metrics["train" if self.model.training else "eval"]
            metrics.update({name: [total / weight] for name, (total, weight) in self._sums.items()})
            self._sums = {}
            super().log(logs, start_time)

    return DomainTrainer


def _facts(reward: OutcomeReward, output: Any) -> Any:
    """What NAMES say of each rollout of a batch: (B, 5)."""
    import torch

    lengths, advantages = output["completion_mask"].sum(1).tolist(), output["advantages"].tolist()
    facts = [
        (r.outcome, r.outcome > 0, r.scores is not None, length, advantage == 0)
        for r, length, advantage in zip(reward.last, lengths, advantages, strict=True)
    ]
    return torch.tensor(facts, dtype=torch.float32, device=output["advantages"].device)


def totals(
    trainer: Any, domains: Sequence[str], names: Sequence[str], values: Any, weights: Any, rows: Any
) -> list[tuple[str, float, float]]:
    """Sums and their weights over all processes, by domain and overall, for those that have any.

    Args:
        trainer: TRL's.
        domains: Names of the domains.
        names: m names.
        values: (B, m) sums of this process's sequences.
        weights: (B,) what the sums are to be divided by.
        rows: (B,) index of each sequence's domain.

    Returns:
        Name as logged, sum, weight.
    """
    import torch

    sums = torch.zeros(len(domains), len(names) + 1, device=values.device)
    sums.index_add_(0, rows, torch.cat([values, weights[:, None]], dim=1).float())
    table = trainer.accelerator.reduce(sums, reduction="sum").tolist()
    parts = [(f"domain/{name}/", row) for name, row in zip(domains, table, strict=True)]
    parts.append(("", [sum(column) for column in zip(*table, strict=True)]))
    return [
        (prefix + name, total, weight)
        for prefix, (*found, weight) in parts
        for name, total in zip(names, found, strict=True)
        if weight
    ]
