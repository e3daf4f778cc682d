"""In which precision models are loaded on a GPU with so much memory; the GPU is told, the weights are files of that size."""

import asyncio
import weakref
from pathlib import Path
from typing import Any

import pytest

from llm_engineering import bootstrap
from llm_engineering.adapters.transformers import TransformersChatModel
from llm_engineering.adapters.transformers_folder import LocalModel, fitting_quantization, load_model
from llm_engineering.domain.chat import voice_prompt
from llm_engineering.domain.config import ChatConfig, Sampling
from llm_engineering.domain.errors import ModelUnavailable
from tests.doubles.tiny_chat import make_tiny_model

torch = pytest.importorskip("torch")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU with 1,000 bytes free."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda: (1000, 1000))
    monkeypatch.setattr("llm_engineering.adapters.transformers_folder.find_spec", lambda name: object())


def model(folder: Path, size: int) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}", encoding="utf-8")
    (folder / "model.safetensors").write_bytes(b"0" * size)
    return folder


def in_cache(cache: Path, name: str, size: int, *, revision: str = "0" * 40) -> None:
    repository = cache / f"models--{name.replace('/', '--')}"
    model(repository / "snapshots" / revision, size)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision, encoding="utf-8")


@pytest.mark.parametrize(("size", "quantization"), [(400, "none"), (600, "nf4")])
def test_weights_that_leave_no_room_for_the_cache_are_loaded_in_4_bits(
    gpu: None, tmp_path: Path, size: int, quantization: str
) -> None:
    assert fitting_quantization([LocalModel(str(model(tmp_path / "one", size)))]) == quantization


def test_a_base_known_by_name_weighs_what_lies_in_the_cache(
    gpu: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert fitting_quantization([LocalModel("org/base")]) == "none"  # nothing is known of it
    in_cache(tmp_path, "org/base", 600)
    assert fitting_quantization([LocalModel("org/base")]) == "nf4"
    assert fitting_quantization([LocalModel("org/base", revision="0" * 40)]) == "nf4"


def test_models_that_are_compared_are_read_in_one_precision(gpu: None, tmp_path: Path) -> None:
    small, large = model(tmp_path / "small", 100), model(tmp_path / "large", 600)
    assert bootstrap.common_quantization({str(small): None, str(large): None}) == "nf4"
    assert bootstrap.common_quantization({str(small): None}) == "none"


@pytest.mark.parametrize(("native", "dtype"), [(True, torch.bfloat16), (False, torch.float16)])
def test_a_card_that_only_imitates_bf16_computes_in_float16(
    gpu: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, native: bool, dtype: object
) -> None:
    told: list[object] = []

    def from_pretrained(name: str, **options: object) -> None:
        told.append(options["dtype"])
        raise OSError("there are no weights")

    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation=True: native or including_emulation)
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", from_pretrained)
    with pytest.raises(ModelUnavailable):
        load_model(LocalModel(str(tmp_path)), quantization="none")
    assert told == [dtype]


def test_without_a_gpu_nothing_is_quantized(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert fitting_quantization([LocalModel(str(model(tmp_path / "one", 600)))]) == "none"


def test_a_closed_model_holds_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next model that is compared needs their room."""
    make_tiny_model(tmp_path / "tiny")
    loaded: list[weakref.ref[object]] = []

    def load(*args: Any, **options: Any) -> Any:
        model = load_model(*args, **options)
        loaded.append(weakref.ref(model))
        return model

    monkeypatch.setattr("llm_engineering.adapters.transformers.load_model", load)

    async def written() -> None:
        model = TransformersChatModel(tmp_path / "tiny", ChatConfig())
        await model.complete(voice_prompt("Write.", author="Ada"), sampling=Sampling(max_tokens=3, temperature=0.0))
        await model.close()
        assert [each() for each in loaded] == [None]

    asyncio.run(written())
