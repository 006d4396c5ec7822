"""Settings of the training stages, from TOML: flat, checked, every default with its source.

    model = "runs/rft/model"
    data = ["rl.jsonl"]
    out = "runs/grpo"

`--set key=value` overrides a line; the value is read as TOML, else as text.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import Field, model_validator

from spct.configs import Config, build
from spct.errors import ConfigError

OverLength = Literal["error", "drop"]
S = TypeVar("S", bound="StageConfig")


class StageConfig(Config):
    """What every stage that trains has."""

    stage: str
    """Which stage the settings are for; a TOML file may say so."""
    model: str = Field(min_length=1)
    """Folder or hub name of the model to start from."""
    tokenizer: str | None = None
    """Folder or hub name of the tokenizer, where the model's own has no chat template."""
    attention: str | None = None
    """Of transformers' attention implementations, e.g. `eager`, which Gemma 2 trains with."""
    data: list[str] = Field(min_length=1)
    """Sources of the stage's data; what they hold, the stage says."""
    out: str = Field(min_length=1)
    """Folder of the run; its model is in `OUT/model`."""
    seed: int = Field(0, ge=0, lt=2**31)
    lr: float = Field(gt=0)
    scheduler: str = "constant"
    """Of transformers' names (ours; the paper states none)."""
    warmup_steps: int = Field(0, ge=0)
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    batch: int = Field(ge=1)
    """Sequences per optimizer step, over all processes."""
    micro_batch: int = Field(1, ge=1)
    """Sequences per forward pass of one process."""
    steps: int = Field(0, ge=0)
    """Optimizer steps; 0 means `epochs`."""
    epochs: float = Field(1.0, gt=0)
    """Passes over the data, where steps is 0."""
    max_minutes: float = Field(0.0, ge=0)
    """Training ends after so many minutes, as if its steps were done; 0: no limit (ours)."""
    max_tokens: int = Field(4096, ge=1)
    """Tokens of the longest sequence; nothing is cut to fit."""
    over_length: OverLength = "error"
    """What is done with longer ones: `error` names them, `drop` leaves them out and counts them."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the weights; with float32 and bf16 both, training is in mixed precision."""
    bf16: bool | None = None
    """Compute in bfloat16; None: on a GPU."""
    gradient_checkpointing: bool = True
    lora_rank: int = Field(0, ge=0)
    """0 trains all weights, as the paper does; else LoRA, merged into `OUT/model` at the end."""
    lora_alpha: int = Field(32, ge=1)
    lora_targets: str = "all-linear"
    """`all-linear`, or names of modules with commas between."""
    save_steps: int = Field(50, ge=1)
    keep: int = Field(2, ge=1)
    """Checkpoints kept."""
    report_to: list[str] = Field(default_factory=list)
    """Of transformers' reporters, e.g. `["wandb"]`; metrics.jsonl is always written."""
    curves: bool = True
    """Draw OUT/curves.png at the end."""
    trainer: dict[str, Any] = Field(default_factory=dict)
    """Further fields of the engine's own config, e.g. `{optim = "adafactor"}`; they win."""

    @model_validator(mode="after")
    def _batches(self) -> Self:
        if self.batch % self.micro_batch:
            raise ValueError(
                f"batch is {self.batch}, expected a multiple of micro_batch ({self.micro_batch})"
            )
        return self


class GoesOn(StageConfig):
    """A stage that can go on with a LoRA adapter."""

    adapter: str | None = None
    """LoRA adapter of `model` that is trained further, in place of a new one; RL's reference too (ours)."""

    @model_validator(mode="after")
    def _one_rank(self) -> Self:
        if self.adapter and self.lora_rank:
            raise ValueError(f"adapter has a rank, and lora_rank is {self.lora_rank}: leave one")
        return self


def adapter_of(config: StageConfig) -> str | None:
    """The adapter that a stage goes on with, if any."""
    return config.adapter if isinstance(config, GoesOn) else None


class RFTConfig(GoesOn):
    """Rejective fine-tuning (§3). `data` are files of `spct reject`: rows of prompt and completion."""

    stage: Literal["rft"] = "rft"
    lr: float = Field(5e-6, gt=0)
    """§3: 5e-6."""
    batch: int = Field(1024, ge=1)
    """§3: 1024."""
    steps: int = Field(900, ge=0)
    """§3: 900."""
    packing: bool = False
    """Several sequences per row; needs an attention that keeps them apart, e.g. flash attention."""


class GRPOConfig(GoesOn):
    """Rule-based RL (§4). `data` are sources of labelled examples."""

    stage: Literal["grpo"] = "grpo"
    lr: float = Field(4e-7, gt=0)
    """§4: 4e-7."""
    batch: int = Field(512, ge=2)
    """Rollouts per step. §4 says 512, without saying whether data points or rollouts."""
    steps: int = Field(900, ge=0)
    """§4: 900."""
    group_size: int = Field(4, ge=2)
    """Rollouts per data point, G. §4: 4."""
    beta: float = Field(0.08, ge=0)
    """Weight of the KL penalty. §4: 0.08 for 27B, 0.002 for 16B, of {0, 0.01, 0.02, 0.08}."""
    epsilon: float = Field(0.2, gt=0, lt=1)
    """Clip range of the ratio (the usual; the paper states none)."""
    iterations: int = Field(1, ge=1)
    """Updates per generation (ours)."""
    temperature: float = Field(1.0, gt=0, le=2)
    """Of the rollouts (ours; the paper states 0.5 for voting only)."""
    top_p: float = Field(1.0, gt=0, le=1)
    max_new_tokens: int = Field(1024, ge=1)
    """A rollout that is cut here counts as unparsable. `max_tokens` bounds the prompt."""
    template: str | None = None
    """Prompt of two or more responses; None picks by what the example has."""
    single_template: str = "single"
    """Prompt of one response, scores 0/1 (§4)."""
    easy_runs: list[str] = Field(default_factory=list)
    """Rollout folders of a small model; points that it gets right in all its samples are dropped
    (§4: 3 of 3)."""
    skip_bad: bool = False
    """Leave out data points without usable labels, and list them."""
    slots: int = Field(0, ge=0)
    """Prompts whose rollouts spct's own engine decodes together, for a GPU without vLLM; 0: `generate`."""
    vllm: Literal["off", "colocate", "server"] = "off"
    """Rollouts by vLLM: in this process, or by a server at `vllm_url`."""
    vllm_url: str = "http://localhost:8000"
    vllm_memory: float = Field(0.3, gt=0, lt=1)
    """Share of GPU memory for vLLM (colocate)."""
    vllm_tensor_parallel: int = Field(1, ge=1)
    sample_steps: int = Field(10, ge=1)
    """Every so many steps `sample_rollouts` rollouts are written to rollouts.jsonl."""
    sample_rollouts: int = Field(8, ge=0)

    @model_validator(mode="after")
    def _groups(self) -> Self:
        if self.batch % self.group_size:
            raise ValueError(
                f"batch is {self.batch} rollouts, expected a multiple of group_size ({self.group_size})"
            )
        if self.slots and self.vllm != "off":
            raise ValueError(f"slots is {self.slots} and vllm {self.vllm!r}: rollouts have one engine")
        if self.save_steps % self.iterations:
            raise ValueError(
                f"save_steps is {self.save_steps}, expected a multiple of iterations ({self.iterations}):"
                " rollouts are not saved, so a run resumes where new ones are drawn"
            )
        return self


class MetaRMConfig(StageConfig):
    """The meta RM (§5). `data` are rollout folders: non-hinted ones for RFT, and the guided GRM's."""

    stage: Literal["meta-rm"] = "meta-rm"
    lr: float = Field(1e-5, gt=0)
    """§5: 1e-5."""
    batch: int = Field(512, ge=1)
    """§5: 512."""
    template: str = "meta_rm"
    """What the meta RM reads."""
    only_mixed: bool = False
    """Leave out data points whose trajectories are all correct or all incorrect (ours): a vote needs to
    know which trajectory of a data point to trust, not which data point is hard."""
    held_out: float = Field(0.05, gt=0, lt=1)
    """Share of queries kept for the calibration report (ours)."""
    scheduler: str = "linear"
    """Ours."""


class PairsConfig(StageConfig):
    """What the baselines that learn from pairs have (§7: the same data and base model as the GRM).

    `data` are sources of labelled examples; each two responses whose labels differ are a pair. The
    numbers are ours: the paper gives none for its baselines, so they are the meta RM's.
    """

    lr: float = Field(1e-5, gt=0)
    batch: int = Field(512, ge=1)
    """Per optimizer step: pairs, or for `pair-rm` sequences, of which a pair has two."""
    scheduler: str = "linear"
    margin: float = Field(1e-6, gt=0)
    """Smallest difference of two labels that makes their responses a pair; by default any."""
    max_pairs: int | None = Field(None, ge=1)
    """Pairs per example, at most: a seeded choice."""
    held_out: float = Field(0.05, ge=0, lt=1)
    """Share of queries kept for OUT/report.json."""
    skip_bad: bool = False
    """Leave out data points that give no pair, e.g. singles and ties, and count them."""


class BradleyTerryConfig(PairsConfig):
    """The Bradley-Terry baseline (§7): a scalar for each response alone."""

    stage: Literal["bradley-terry"] = "bradley-terry"


class PairRMConfig(PairsConfig):
    """The PairRM baseline (§7): a logit for two responses, above 0 where the first is better."""

    stage: Literal["pair-rm"] = "pair-rm"


class CloudConfig(PairsConfig):
    """The CLoud baseline (§7): first its critic, then its value head. `data` hold critiques."""

    stage: Literal["cloud"] = "cloud"
    part: Literal["critic", "head"]
    """`critic` learns to write the critiques; `head` scores a response with its critique."""
    packing: bool = False
    """Of the critic's rows, as in `rft`."""


STAGES: dict[str, type[StageConfig]] = {
    "rft": RFTConfig,
    "grpo": GRPOConfig,
    "meta-rm": MetaRMConfig,
    "bradley-terry": BradleyTerryConfig,
    "pair-rm": PairRMConfig,
    "cloud": CloudConfig,
}


def load_config(kind: type[S], path: str | Path, sets: Sequence[str] = ()) -> S:
    """Read a stage's TOML file and apply `--set key=value` pairs.

    Raises:
        ConfigError: No such file, not TOML, another stage's file, or a setting is wrong or unknown.
    """
    values = read_toml(path)
    stage = kind.model_fields["stage"].default
    if values.get("stage", stage) != stage:
        raise ConfigError(
            f"{path} is of stage {values['stage']!r}",
            expected=repr(stage),
            fix=f"spct train {values['stage']}",
        )
    for pair in sets:
        key, equals, text = pair.partition("=")
        if not equals:
            raise ConfigError(f"--set {pair!r}", expected="key=value")
        _put(values, key.strip(), _value(text.strip()))
    return build(kind, values)


def read_toml(path: str | Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ConfigError: No such file, or not TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", expected="a TOML file of settings") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        return text


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    *tables, last = key.split(".")
    for table in tables:
        values = values.setdefault(table, {})
        if not isinstance(values, dict):
            raise ConfigError(f"--set {key}: {table!r} is no table")
    values[last] = value


def engine_fields(kind: type, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Check names against an engine's config dataclass, so that a misspelt one gets its neighbour.

    Raises:
        ConfigError: A field that this version of the engine does not have.
    """
    import dataclasses
    import difflib

    known = {field.name for field in dataclasses.fields(kind)}
    problems = []
    for name in sorted(fields.keys() - known):
        near = difflib.get_close_matches(name, known, n=1)
        problems.append(
            f"trainer.{name} is no field of {kind.__name__}"
            + (f"; did you mean {near[0]!r}?" if near else "")
        )
    if problems:
        raise ConfigError("\n".join(problems))
    return dict(fields)
