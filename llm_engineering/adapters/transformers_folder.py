"""A folder with a model for transformers: what it holds, and loading it. Nothing of torch is imported before a load.

A folder is a whole model, an adapter of PEFT, or holds either under the names ``merged`` and ``adapter``. Where both are
there the merged model is taken: it is faster, and it needs neither PEFT nor the base.
"""

import gc
import json
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llm_engineering.adapters.model_folder import loading_errors
from llm_engineering.domain.errors import MissingExtra, ModelUnavailable, UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Quantization = Literal["auto", "nf4", "none"]
MERGED, ADAPTER = "merged", "adapter"
_ADAPTER_CONFIG = "adapter_config.json"
_ADAPTER_WEIGHTS = "adapter_model.safetensors"
_HALF = 0.5
"""Share of a GPU's free memory that weights may take before ``auto`` loads them in 4 bits: the rest is for the KV cache."""


@dataclass(frozen=True)
class LocalModel:
    """A whole model, or an adapter and the base that it was trained on."""

    model: str
    """Folder of the model, or of the base (or the base's name)."""
    adapter: Path | None = None
    revision: str | None = None
    """Of a base that has a name; the newest where none is told."""

    @property
    def tokenizer(self) -> str:
        """Where the tokenizer is: beside the adapter, if it was kept there."""
        beside = self.adapter is not None and (self.adapter / "tokenizer_config.json").is_file()
        return str(self.adapter) if beside else self.model

    @property
    def tokenizer_revision(self) -> str | None:
        """Of a tokenizer that is the base's own."""
        return self.revision if self.tokenizer == self.model else None

    @property
    def place(self) -> str:
        """For people."""
        return str(self.adapter or self.model)


def find_local_model(folder: Path) -> LocalModel:
    """What the folder holds; :class:`UsageError` if it is no model, or an adapter whose base is not there."""
    for place in (folder / MERGED, folder):
        if (place / "config.json").is_file():
            return LocalModel(str(place))
    for place in (folder / ADAPTER, folder):
        if (place / _ADAPTER_CONFIG).is_file():
            name, revision = _base_of(place)
            return LocalModel(name, place, revision)
    what = "is no model" if folder.is_dir() else "does not exist"
    raise UsageError(
        f"The folder {folder} {what}: neither config.json nor {_ADAPTER_CONFIG} is there",
        hint="Name a folder that save_pretrained wrote, or a trained version: poe models list",
    )


def local_model(place: str, *, revision: str | None = None) -> LocalModel:
    """What the folder holds, or the base of that name at that revision."""
    return find_local_model(Path(place)) if Path(place).is_dir() else LocalModel(place, revision=revision)


def load_tokenizer(found: LocalModel) -> "PreTrainedTokenizerBase":
    """The tokenizer, which must have a chat template and an end of turn; :class:`UsageError` if not."""
    from transformers import AutoTokenizer

    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            found.tokenizer, revision=found.tokenizer_revision
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"The tokenizer of {found.place} cannot be loaded: {first_line(error)}",
            hint="Keep tokenizer.json and tokenizer_config.json beside the weights.",
        ) from error
    if not tokenizer.chat_template:
        raise UsageError(f"The tokenizer of {found.place} has no chat template", hint="Use an instruct model.")
    if tokenizer.eos_token_id is None:
        raise UsageError(f"The tokenizer of {found.place} has no end-of-turn token", hint="Use an instruct model.")
    return tokenizer


def window_of(found: LocalModel, tokenizer: "PreTrainedTokenizerBase") -> int:
    """Tokens of prompt and reply together; :class:`UsageError` for a folder whose config.json cannot be read."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(found.model, revision=found.revision).get_text_config()
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(
            f"The configuration of {found.model} cannot be read: {first_line(error)}", hint="Save the model again."
        ) from error
    positions = getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length
    return int(min(positions, tokenizer.model_max_length))


def load_model(found: LocalModel, *, quantization: Quantization = "auto") -> "PreTrainedModel":
    """The model, ready to write: on the CUDA GPU where there is one, in 4 bits as asked for, with its adapter.

    Raises :class:`ModelUnavailable` for weights that cannot be loaded or belong to another base.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as bars

    if not sys.stderr.isatty():
        bars.disable_progress_bar()
    if found.adapter is not None and find_spec("peft") is None:
        raise MissingExtra("peft", extra="train")
    failures: tuple[type[Exception], ...] = (*loading_errors(), MemoryError)
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            found.model, revision=found.revision, **_placement(found, quantization)
        )
        _mend_cpu_quantization(model)
        if found.adapter is not None:
            _check_adapter(found.adapter, model)
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, str(found.adapter))
            if getattr(model.get_base_model(), "hf_quantizer", None) is None:
                model = model.merge_and_unload()
    except failures as error:
        raise ModelUnavailable(
            f"The model in {found.place} cannot be loaded: {first_line(error)}",
            hint="Look at its folder; a broken version is replaced by: poe models promote NAME@VERSION",
        ) from error
    return model.eval()  # type: ignore[no-any-return]


def fitting_quantization(models: Sequence[LocalModel]) -> Quantization:
    """``nf4`` where the largest of these models needs it on this GPU as it is now, else ``none``: one answer for all of them,
    so that models that are compared are read in one precision.
    """
    import torch

    if not torch.cuda.is_available() or not find_spec("bitsandbytes"):
        return "none"
    largest = max((_weights_bytes(each) for each in models), default=0)
    return "nf4" if largest > torch.cuda.mem_get_info()[0] * _HALF else "none"


def release_memory() -> None:
    """Give back what models that nobody holds any more took, on a GPU too."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def first_line(error: BaseException) -> str:
    """What an engine's error says, without the rest of the page."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _base_of(adapter: Path) -> tuple[str, str | None]:
    """Name or folder of the base, and the revision that the adapter was trained on, if it tells one."""
    try:
        config = json.loads((adapter / _ADAPTER_CONFIG).read_text(encoding="utf-8"))
        base, revision = config["base_model_name_or_path"], config.get("revision")
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"{adapter / _ADAPTER_CONFIG} cannot be read", hint="Train the adapter again.") from error
    name = str(base)
    if (name.startswith((".", "/", "~")) or name.count("/") > 1) and not Path(name).is_dir():
        raise UsageError(
            f"The adapter in {adapter} needs its base {name}, which is not there",
            hint="Bring the base back, or use a version that holds the merged model.",
        )
    return name, revision


def _placement(found: LocalModel, quantization: Quantization) -> dict[str, Any]:
    """Device, type and quantization as keyword arguments of ``from_pretrained``."""
    import torch

    cuda = torch.cuda.is_available()
    if quantization == "auto":
        quantization = fitting_quantization([found])
    # A card that only imitates bf16 is slow in it.
    fast = cuda and torch.cuda.is_bf16_supported(including_emulation=False)
    half = torch.bfloat16 if fast else torch.float16
    dtype = half if cuda else torch.float32
    placed: dict[str, Any] = {"dtype": dtype, "device_map": {"": 0} if cuda else None}
    if quantization == "nf4":
        if find_spec("bitsandbytes") is None:
            raise MissingExtra("bitsandbytes", extra="train")
        from transformers import BitsAndBytesConfig

        placed["device_map"] = {"": 0 if cuda else "cpu"}
        placed["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    return placed


def _mend_cpu_quantization(model: Any) -> None:  # noqa: ANN401 - any torch module
    """Keep bitsandbytes off its AVX512-BF16 path on the CPU, which fails on layers narrower than its blocks."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _weights_bytes(found: LocalModel) -> int:
    """Size of the weights of a model or a base; of one with a name as it lies in the local cache, 0 if it is not there yet."""
    folder = Path(found.model)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

        try:
            folder = Path(snapshot_download(found.model, revision=found.revision, local_files_only=True))
        except (LocalEntryNotFoundError, HFValidationError):
            return 0
    weights = list(folder.glob("*.safetensors")) or list(folder.glob("*.bin"))
    return sum(file.stat().st_size for file in weights)


def _check_adapter(adapter: Path, model: Any) -> None:  # noqa: ANN401 - any torch module
    """Every weight of the adapter must have its place in the model, in its shape: PEFT itself passes over strangers."""
    layers = dict(model.named_modules())
    for name, shape in _shapes(adapter / _ADAPTER_WEIGHTS).items():
        path, _, part = name.removeprefix("base_model.model.").partition(".lora_")
        place, side = ("in_features", -1) if part.startswith("A") else ("out_features", 0)
        if part.startswith(("A.", "B.")) and getattr(layers.get(path), place, None) != shape[side]:
            raise ModelUnavailable(
                f"The adapter in {adapter} belongs to another base: {path} does not match",
                hint="Set base_model_name_or_path in its adapter_config.json to the base that it was trained on.",
            )


def _shapes(weights: Path) -> dict[str, list[int]]:
    """Shapes by name from the header of a safetensors file (its length in 8 bytes, then JSON); loads no weight."""
    with weights.open("rb") as file:
        try:
            header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        except (struct.error, ValueError, MemoryError, OverflowError) as error:
            raise ModelUnavailable(f"{weights} is damaged", hint="Train or register the adapter again.") from error
    return {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}
