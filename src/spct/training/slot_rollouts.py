"""Rollouts of GRPO by `backends.slots`: on a GPU several times as fast as `generate`, without vLLM.

A copy of the model, in the type that it computes in, gets the trained weights before each batch, adapters
added in.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from spct.backends.shared_prefix import install
from spct.backends.slots import Job, Slots
from spct.errors import ConfigError
from spct.training.configs import GRPOConfig
from spct.training.engine import chat_ids, model_arguments
from spct.types import SamplingParams

_SEEDS = 2**31 - 2**20
NEUTRAL = {"top_k": 0, "min_p": None, "repetition_penalty": 1.0, "generation_kwargs": None,
           "chat_template_kwargs": None}  # fmt: skip


class SlotRollouts:
    """TRL's `rollout_func`: called with the prompts of a batch, in which those of a group stand together."""

    def __init__(self, config: GRPOConfig) -> None:
        self._config = config
        self._params = SamplingParams(config.temperature)
        self._slots: Slots | None = None

    def __call__(self, prompts: Sequence[Any], trainer: Any) -> dict[str, Any]:
        """Token ids of prompts and completions; a completion that was not cut ends with its end token.

        Raises:
            ConfigError: The weights are sharded, attention cannot read prompts in slots, or TRL was given a
                setting of generation that slots do not know.
        """
        import torch

        if self._slots is None:
            self._slots = self._open(trainer)
        adopt(self._slots.model, trainer.accelerator.unwrap_model(trainer.model))
        ids = chat_ids(trainer.processing_class, prompts, reply=True)
        seeds = torch.randint(_SEEDS, (len(ids),)).tolist()  # of the trainer's state, so that a run resumes
        jobs = []
        for _, found in groupby(range(len(ids)), key=lambda i: ids[i]):
            group, most = list(found), self._slots.slots * self._slots.width
            for start in range(0, len(group), most):
                own = [seeds[i] for i in group[start : start + most]]
                jobs.append(Job(ids[group[0]], own, self._slots.limit))
        rows = [row for rows in self._slots.draw(jobs, self._params) for row in rows]
        return {"prompt_ids": ids, "completion_ids": [row.tokens for row in rows], "logprobs": None}

    def _open(self, trainer: Any) -> Slots:
        from transformers import AutoModelForCausalLM
        from transformers.integrations import is_deepspeed_zero3_enabled

        config = self._config
        if trainer.is_fsdp_enabled or is_deepspeed_zero3_enabled():
            raise ConfigError("slots is set and weights are sharded", expected="slots = 0, or vllm")
        for name, value in NEUTRAL.items():
            if getattr(trainer.args, name) not in (value, None):
                raise ConfigError(
                    f"slots is set and trainer.{name} is {getattr(trainer.args, name)!r}",
                    expected=f"{value!r}, which slots know, or slots = 0",
                )
        self._params = SamplingParams(trainer.args.temperature, top_p=trainer.args.top_p)
        # attention is always `sdpa`: that of the steps is our own, and only prompts are read by it
        options = model_arguments(config) | {"attn_implementation": "sdpa"}
        if trainer.args.bf16:
            options["dtype"] = "bfloat16"
        model = AutoModelForCausalLM.from_pretrained(config.model, **options)
        model = model.to(trainer.accelerator.device).eval()
        if not install(model):
            raise ConfigError(
                f"attention of model {config.model!r} does not read prompts in slots", expected="slots = 0"
            )
        return Slots(
            model,
            slots=config.slots,
            width=config.group_size,
            room=config.max_tokens,
            limit=trainer.args.max_completion_length,
            eos=frozenset(trainer.eos_token_ids),
        )


def adopt(copy: Any, trained: Any) -> None:
    """Give a copy the weights of the trained model, with its LoRA adapter added where it has one.

    Args:
        copy: A plain model of `transformers`, of any floating type.
        trained: The same, or with peft's adapter around it.

    Raises:
        ConfigError: The adapter is more than LoRA of layers between the embeddings.
    """
    import torch

    own = dict(copy.named_parameters())
    with torch.no_grad():
        if not hasattr(trained, "peft_config"):
            for name, weight in trained.named_parameters():
                own[name].copy_(weight)
            return
        _check_plain(trained)
        for name, layer in trained.get_base_model().named_modules():
            if hasattr(layer, "get_delta_weight"):  # all else is frozen
                if layer in (trained.get_input_embeddings(), trained.get_output_embeddings()):
                    raise ConfigError(
                        f"slots is set and {name} has an adapter", expected="none on embeddings, or slots = 0"
                    )
                [adapter] = layer.active_adapters
                own[f"{name}.weight"].copy_(layer.get_base_layer().weight + layer.get_delta_weight(adapter))


def _check_plain(trained: Any) -> None:
    """Refuse what `adopt` would leave out: modules trained whole, biases, DoRA's magnitudes."""
    names = (name for name, weight in trained.named_parameters() if weight.requires_grad)
    for name in names:
        if ".lora_" not in name or "magnitude" in name:
            raise ConfigError(
                f"slots is set and {name} is trained", expected="plain LoRA of linear layers, or slots = 0"
            )
