"""What the stages that train share: the tokenizer, lengths, the engine's arguments, logs, the result."""

from __future__ import annotations

import json
import math
import shutil
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from spct.errors import BackendError, ConfigError, InputError, MissingExtraError
from spct.training.configs import StageConfig, adapter_of
from spct.training.stage import Stage, world_size

SHOWN = (
    "loss",
    "accuracy",
    "margin",
    "outcome",
    "parse_rate",
    "zero_variance",
    "kl",
    "length",
    "mean_token_accuracy",
    "grad_norm",
)
_LISTED = 10
_BATCH = 512
_LINES = 50  # about as many of a run are shown; metrics.jsonl has all


def need(*packages: str) -> None:
    """Check that packages of the extra `train` are installed, before anything is computed.

    Raises:
        MissingExtraError: One is not.
    """
    from importlib.util import find_spec

    for package in packages:
        if find_spec(package) is None:
            raise MissingExtraError(package, "vllm" if package == "vllm" else "train")


def engine_arguments(config: StageConfig) -> dict[str, Any]:
    """Arguments that `TrainingArguments` and its children share; all that matter are explicit.

    Raises:
        ConfigError: The batch does not divide among the processes.
    """
    share = config.micro_batch * world_size()
    if config.batch % share:
        raise ConfigError(
            f"batch is {config.batch}, with micro_batch {config.micro_batch} in {world_size()} processes",
            expected=f"a multiple of {share}",
        )
    return {
        "output_dir": str(Path(config.out) / "checkpoints"),
        "seed": config.seed,
        "learning_rate": config.lr,
        "lr_scheduler_type": config.scheduler,
        "warmup_steps": config.warmup_steps,
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_grad_norm,
        "optim": "adamw_torch",
        "adam_beta1": 0.9,
        "adam_beta2": 0.999,
        "adam_epsilon": 1e-8,
        "per_device_train_batch_size": config.micro_batch,
        "gradient_accumulation_steps": config.batch // share,
        "max_steps": config.steps or -1,
        "num_train_epochs": config.epochs,
        "bf16": config.bf16,
        "gradient_checkpointing": config.gradient_checkpointing,
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        "save_strategy": "steps",
        "save_steps": config.save_steps,
        "save_total_limit": config.keep,
        "logging_steps": 1,
        "report_to": config.report_to or "none",
        "disable_tqdm": True,
        "model_init_kwargs": None if adapter_of(config) else model_arguments(config) | {"device_map": None},
    } | config.trainer


def model_arguments(config: StageConfig) -> dict[str, Any]:
    """Arguments for loading the model."""
    attention = {"attn_implementation": config.attention} if config.attention else {}
    return {"dtype": config.dtype} | attention


def starting_model(config: StageConfig) -> Any:
    """What a trainer is given: the model's name, or the model with the adapter that is trained further.

    Raises:
        InputError: There is no such adapter, or it is not this model's.
    """
    adapter = adapter_of(config)
    if adapter is None:
        return config.model
    from peft import PeftModel
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(config.model, **model_arguments(config))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Found missing adapter keys")  # layers that the adapter lacks
            found = PeftModel.from_pretrained(model, adapter, is_trainable=True)
    except (OSError, ValueError, RuntimeError, UserWarning, SafetensorError) as error:
        raise InputError(
            f"adapter {adapter!r} cannot be loaded: {error}", expected=f"a LoRA adapter of {config.model}"
        ) from error
    base = found.peft_config["default"].base_model_name_or_path or ""
    if Path(base).is_dir() and Path(base).resolve() != Path(config.model).resolve():
        raise InputError(
            f"adapter {adapter!r} was trained on {base}, and the model is {config.model}",
            expected="the model that the adapter was trained on: a merged one would get it twice",
            fix=f"set model = {base!r}",
        )
    return found


def on_device(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments for this machine: bfloat16 is on with a GPU unless it was set."""
    import torch
    from transformers import TrainingArguments

    gpu = torch.cuda.is_available()
    bf16 = gpu if arguments["bf16"] is None else arguments["bf16"]
    if hasattr(TrainingArguments, "activation_checkpointing"):  # its name in newer transformers
        names = {"gradient_checkpointing": "activation_checkpointing"}
        names |= {f"{old}_kwargs": f"{new}_kwargs" for old, new in names.items()}
        arguments = {names.get(name, name): value for name, value in arguments.items()}
    return arguments | {"bf16": bf16, "use_cpu": not gpu}


def load_tokenizer(config: StageConfig, *, room: int, chat: bool = True) -> Any:
    """Load the model's tokenizer, and check that the longest sequence fits the model.

    Args:
        config: Of the stage.
        room: Tokens of the longest sequence.
        chat: Whether a chat template is needed.

    Raises:
        InputError: The model cannot be loaded, has no chat template, or its context is too short.
    """
    from transformers import AutoConfig, AutoTokenizer

    try:
        model = AutoConfig.from_pretrained(config.model)
        tokenizer = AutoTokenizer.from_pretrained(config.tokenizer or config.model)
    except (OSError, ValueError) as error:
        raise InputError(
            f"model {config.model!r} cannot be loaded: {error}", expected="a folder or hub name"
        ) from error
    if chat and not tokenizer.chat_template:
        raise InputError(
            f"model {config.model!r} has no chat template",
            expected="one, since prompts are messages",
            fix="set `tokenizer` to the instruct version's, or save a chat_template.jinja beside the model",
        )
    context = getattr(model.get_text_config(), "max_position_embeddings", None)
    if context is not None and room > context:
        raise ConfigError(
            f"sequences may have {room} tokens, the model takes {context}", fix="lower max_tokens"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def chat_ids(
    tokenizer: Any, conversations: Sequence[Sequence[Mapping[str, str]]], *, reply: bool
) -> list[list[int]]:
    """Token ids of conversations; with reply, up to where the assistant's next turn begins."""
    found: list[list[int]] = []
    for start in range(0, len(conversations), _BATCH):
        batch = [list(turns) for turns in conversations[start : start + _BATCH]]
        found += tokenizer.apply_chat_template(batch, add_generation_prompt=reply, return_dict=False)
    return found


class Fitting(NamedTuple):
    """Indices of the sequences that fit, and how many do not."""

    kept: list[int]
    dropped: int


def fitting(names: Sequence[str], lengths: Sequence[int], config: StageConfig, limit: int) -> Fitting:
    """Leave out sequences that are too long, or refuse them; nothing is ever cut.

    Raises:
        InputError: `over_length` is "error" and some are too long (how many, how long, which);
            or none is left.
    """
    kept = [i for i, length in enumerate(lengths) if length <= limit]
    long = sorted(set(range(len(lengths))) - set(kept), key=lambda i: -lengths[i])
    if long and (config.over_length == "error" or not kept):
        listed = ", ".join(f"{names[i]} ({lengths[i]})" for i in long[:_LISTED])
        more = f" and {len(long) - _LISTED} more" if len(long) > _LISTED else ""
        raise InputError(
            f"{len(long)} of {len(lengths)} sequences are longer than {limit} tokens: {listed}{more}",
            expected=f"at most {limit}",
            fix='raise max_tokens, or set over_length = "drop"',
        )
    return Fitting(kept, len(long))


def lora(config: StageConfig, task: str = "CAUSAL_LM") -> Any:
    """The adapter's configuration, or None to train all weights."""
    if not config.lora_rank:
        return None
    from peft import LoraConfig

    targets: Any = config.lora_targets
    if targets != "all-linear":
        targets = [name.strip() for name in targets.split(",")]
    return LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=0.0,
        target_modules=targets,
        task_type=task,
        modules_to_save=["score"] if task == "SEQ_CLS" else None,
    )


def metrics_log(stage: Stage) -> Any:
    """A callback that writes every logged step to metrics.jsonl, and one short line to stderr."""
    from transformers import TrainerCallback

    class MetricsLog(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if logs and not args.fp16 and not math.isfinite(logs.get("grad_norm") or 0.0):
                raise BackendError(  # in float16 the loss's scale is lowered and the step left out
                    f"step {state.global_step}: the gradient is {logs['grad_norm']}, and with it all weights",
                    expected="a finite one",
                    fix="resume from the last checkpoint with a lower lr, or attention = 'eager'",
                )
            if not state.is_world_process_zero or not logs:
                return
            stage.append("metrics.jsonl", {"step": state.global_step} | _finite(logs))
            shown = "  ".join(f"{name} {logs[name]:.4g}" for name in SHOWN if logs.get(name) is not None)
            every = -(-state.max_steps // _LINES)
            if shown and (state.global_step % every == 0 or state.global_step == state.max_steps):
                print(f"step {state.global_step}/{state.max_steps}  {shown}", file=sys.stderr)

    return MetricsLog()


def time_limit(trainer: Any, minutes: float) -> Any:
    """A callback that ends training after so many minutes, in all processes at the same step."""
    import torch
    from transformers import TrainerCallback

    class TimeLimit(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            self.end = time.monotonic() + 60 * minutes

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            late = torch.tensor(float(time.monotonic() > self.end), device=trainer.accelerator.device)
            if trainer.accelerator.reduce(late, reduction="sum") > 0:
                print(f"step {state.global_step}: {minutes:g} minutes are over", file=sys.stderr)
                control.should_training_stop = True

    return TimeLimit()


def _finite(logs: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: a metric without a value is null."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in logs.items()}


def train(trainer: Any, stage: Stage) -> None:
    """Train to the end, from the last checkpoint where there is one.

    Raises:
        BackendError: A gradient is not finite; checkpoints from before are kept.

    A run that was killed behind its last step takes none more; with sharded weights it takes one.
    """
    import torch
    from transformers.trainer_callback import PrinterCallback

    trainer.remove_callback(PrinterCallback)  # metrics_log prints
    if minutes := stage.manifest["settings"]["max_minutes"]:
        trainer.add_callback(time_limit(trainer, minutes))
    # With a mask its backward pass gives NaN for lengths of 64 mod 128 on H100s (pytorch issue 196678).
    torch.backends.cuda.enable_cudnn_sdp(False)
    checkpoint = stage.checkpoint()
    stage.rewind(int(checkpoint.name.split("-")[1]) if checkpoint else 0)
    if checkpoint and _is_last(checkpoint) and not (trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled):
        trainer._load_from_checkpoint(str(checkpoint))  # `train` would take one step more
        return
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)


def _is_last(checkpoint: Path) -> bool:
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    return bool(state["global_step"] >= state["max_steps"])


def save_result(trainer: Any, tokenizer: Any, config: StageConfig, stage: Stage) -> None:
    """Write OUT/model, with LoRA merged in; all processes take part, since weights may be sharded."""
    if not hasattr(trainer.accelerator.unwrap_model(trainer.model), "peft_config"):
        trainer.save_model(str(stage.model))
    else:
        trainer.save_model(str(stage.path / "adapter"))
        trainer.accelerator.wait_for_everyone()
        if stage.writes:
            shutil.rmtree(stage.path / "adapter" / "ref", ignore_errors=True)  # TRL's copy of the first one
            merge_adapter(config, stage)
    if stage.writes:
        tokenizer.save_pretrained(str(stage.model))
    trainer.accelerator.wait_for_everyone()


def merge_adapter(config: StageConfig, stage: Stage) -> None:
    """Merge OUT/adapter into the model that it was trained on, on CPU."""
    from peft import PeftConfig, PeftModel
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    if PeftConfig.from_pretrained(str(stage.path / "adapter")).task_type == "SEQ_CLS":
        base = AutoModelForSequenceClassification.from_pretrained(
            config.model, dtype=config.dtype, num_labels=1
        )
    else:
        base = AutoModelForCausalLM.from_pretrained(config.model, **model_arguments(config))
    merged = PeftModel.from_pretrained(base, str(stage.path / "adapter")).merge_and_unload()
    merged.save_pretrained(str(stage.model))
