"""The one place where engines differ: whichever loads it, a run gets a model that carries a LoRA adapter, and its tokenizer."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llm_engineering.domain.errors import MissingExtra, UsageError
from llm_engineering.training.failures import is_out_of_memory
from llm_engineering.training.hardware import Hardware, check_fit, computing_type, is_installed, is_sharded, outline
from llm_engineering.training.recipe import Recipe
from llm_engineering.training.render import check_tokenizer
from llm_engineering.training.sharding import check_sharding

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase


def load(
    base: str, recipe: Recipe, hardware: Hardware, *, adapter: Path | None = None
) -> "tuple[PeftModel, PreTrainedTokenizerBase]":
    """The base with a new trainable adapter, or with the one in ``adapter``. Frozen and quantized as the recipe says."""
    check_sharding(recipe)
    engine = _unsloth if chosen_engine(recipe, hardware) == "unsloth" else _transformers
    try:
        return engine(base, recipe, hardware, adapter)
    except (OSError, ValueError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        raise UsageError(
            f"The model {base} cannot be loaded: {_first_line(error)}",
            hint="Give `model` the folder of a model, or a name that this machine can download.",
        ) from error


def chosen_engine(recipe: Recipe, hardware: Hardware) -> Literal["transformers", "unsloth"]:
    """What ``auto`` comes to; :class:`UsageError` where Unsloth is asked for and cannot run, or not on that revision."""
    if recipe.engine == "transformers":
        return "transformers"
    if recipe.engine == "unsloth":
        if not is_installed("unsloth"):
            raise MissingExtra("unsloth", extra="gpu")
        if hardware.device != "cuda":
            raise UsageError("Unsloth needs a CUDA GPU", hint="Set `engine` to auto or transformers.")
        if recipe.revision is not None:
            raise UsageError(
                "Unsloth cannot hold to a revision: it takes its own copies of models, and the newest base for an adapter",
                hint="Set `engine` to auto or transformers, or leave `revision` out.",
            )
        return "unsloth"
    able = hardware.device == "cuda" and is_installed("unsloth") and recipe.revision is None and not is_sharded()
    return "unsloth" if able else "transformers"


def _transformers(
    base: str, recipe: Recipe, hardware: Hardware, adapter: Path | None
) -> "tuple[PeftModel, PreTrainedTokenizerBase]":
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base, revision=recipe.revision)
    check_tokenizer(tokenizer, base)
    _check_weights(base, recipe, hardware, adapter)
    model = AutoModelForCausalLM.from_pretrained(
        base,
        revision=recipe.revision,
        dtype=computing_type(recipe, hardware),
        device_map=_placement(hardware),
        **_quantized(recipe, hardware),
    )
    mend_cpu_quantization(model)
    model.config.use_cache = False
    if adapter is None:
        return get_peft_model(model, LoraConfig(**_lora(recipe)), revision=recipe.revision), tokenizer
    return PeftModel.from_pretrained(model, adapter, is_trainable=True), tokenizer


def _unsloth(
    base: str, recipe: Recipe, hardware: Hardware, adapter: Path | None
) -> "tuple[PeftModel, PreTrainedTokenizerBase]":
    from unsloth import FastLanguageModel  # before trl: it changes what those import

    _check_weights(base, recipe, hardware, adapter)
    model, tokenizer = FastLanguageModel.from_pretrained(
        model_name=str(adapter or base),
        max_seq_length=recipe.context,
        dtype=computing_type(recipe, hardware),
        load_in_4bit=recipe.quantization == "nf4",
    )
    check_tokenizer(tokenizer, base)
    if adapter is None:
        lora = _lora(recipe)
        names = lora.pop("target_modules")
        del lora["task_type"], lora["bias"]
        model = FastLanguageModel.get_peft_model(
            model,
            target_modules=_LLAMA_LINEAR if names == "all-linear" else names,
            bias="none",
            use_gradient_checkpointing="unsloth" if recipe.sft.gradient_checkpointing else False,
            random_state=recipe.seed,
            **lora,
        )
    return model, tokenizer


def _check_weights(base: str, recipe: Recipe, hardware: Hardware, adapter: Path | None) -> None:
    """Whether base and adapter go together and fit, before any weight is read."""
    model = outline(base, recipe.revision)
    check_fit(base, model, recipe, hardware)
    if adapter is not None:
        check_adapter(adapter, model)


_LLAMA_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
"""Every linear layer of a Llama-shaped block: Unsloth wants the names."""


def mend_cpu_quantization(model: Any) -> None:  # noqa: ANN401 - any torch module
    """Keep bitsandbytes off its AVX512-BF16 path: after one evaluation-mode forward its QLoRA gradients are silently wrong."""
    if not is_installed("bitsandbytes"):
        return
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


@contextmanager
def unrounded(model: "PeftModel") -> Iterator[None]:
    """Around the making of a trainer: TRL turns the adapter of a quantized base to bf16, this turns it back to what it was.

    AdamW's steps of less than 0.4 % of a weight are lost in bf16.
    """
    whole = {name: weight.data for name, weight in model.named_parameters() if weight.requires_grad}
    yield
    for name, weight in model.named_parameters():
        if name in whole:
            weight.data = whole[name]


def check_adapter(adapter: Path, model: Any) -> None:  # noqa: ANN401 - any torch module
    """Raise :class:`UsageError` unless every weight of the adapter has its place in the model, in its shape."""
    from safetensors import SafetensorError, safe_open

    weights = adapter / "adapter_model.safetensors"
    try:
        config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
        with safe_open(weights, framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (OSError, ValueError, SafetensorError) as error:
        raise UsageError(
            f"There is no whole adapter in {adapter}: {_first_line(error)}", hint="Run SFT again."
        ) from error
    layers = dict(model.named_modules())
    for name, shape in shapes.items():
        path, _, part = name.removeprefix("base_model.model.").partition(".lora_")
        layer = layers.get(path)
        side = getattr(layer, "in_features" if part.startswith("A") else "out_features", None)
        if side != shape[-1 if part.startswith("A") else 0]:
            raise UsageError(
                f"The adapter in {adapter} belongs to another base: {path} does not match",
                hint=f"It was trained on {config.get('base_model_name_or_path')}.",
            )


def _placement(hardware: Hardware) -> dict[str, Any] | None:
    if is_sharded():
        return None  # FSDP places the shards itself
    return {"": int(os.environ.get("LOCAL_RANK", "0")) if hardware.device == "cuda" else "cpu"}


def _quantized(recipe: Recipe, hardware: Hardware) -> dict[str, Any]:
    if recipe.quantization == "none":
        return {}
    if not is_installed("bitsandbytes"):
        raise MissingExtra("bitsandbytes", extra="train")
    from transformers import BitsAndBytesConfig

    return {
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=computing_type(recipe, hardware),
        )
    }


def _lora(recipe: Recipe) -> dict[str, Any]:
    lora = recipe.lora
    return {
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "target_modules": list(lora.targets) or "all-linear",
        "use_rslora": lora.rslora,
        "bias": "none",
        "task_type": "CAUSAL_LM",
    }


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
