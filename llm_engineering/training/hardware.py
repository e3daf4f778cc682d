"""What this machine has for training, and whether a model fits into it."""

import gc
import importlib.util
import os
import platform
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from llm_engineering.domain.entities import Frozen
from llm_engineering.domain.errors import MissingExtra, UsageError
from llm_engineering.training.recipe import Recipe

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

GIGABYTE = 1e9
NF4_BYTES = 0.516
"""Bytes of one weight in NF4 with double quantization: 4 bits and 0.127 for its share of the scales."""
TRAINED_BYTES = {"cpu": 16.0, "cuda": 10.0}
"""Bytes of one trained weight: itself and its gradient in float32, two moments in 32 bits, or in 8 on CUDA."""


class Hardware(Frozen):
    """The device of this process, as the run's record keeps it."""

    device: str
    """``cuda`` or ``cpu``."""
    name: str
    count: int
    """GPUs that are visible, or cores."""
    free_bytes: int
    """Memory of the device that is free now."""
    bf16: bool


def detect() -> Hardware:
    """The CUDA GPU of this process where there is one, else the CPU."""
    import psutil
    import torch

    if torch.cuda.is_available():
        index = int(os.environ.get("LOCAL_RANK", "0"))
        return Hardware(
            device="cuda",
            name=torch.cuda.get_device_name(index),
            count=torch.cuda.device_count(),
            free_bytes=torch.cuda.mem_get_info(index)[0],
            bf16=torch.cuda.is_bf16_supported(including_emulation=False),
        )
    return Hardware(
        device="cpu",
        name=_processor(),
        count=os.cpu_count() or 1,
        free_bytes=psutil.virtual_memory().available,
        bf16=bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()),
    )


def limit_threads(recipe: Recipe) -> None:
    """Let this process compute with the recipe's number of CPU threads, if it has one."""
    import torch

    if recipe.threads:
        torch.set_num_threads(recipe.threads)


def computing_type(recipe: Recipe, hardware: Hardware) -> "torch.dtype":
    """The type of the computation: the recipe's, or bf16 where the hardware has it."""
    import torch

    if recipe.precision == "bf16" and not hardware.bf16:
        raise UsageError(f"{hardware.name} has no bf16", hint="Set `precision` to auto or float32.")
    fast = recipe.precision == "bf16" or (recipe.precision == "auto" and hardware.bf16)
    return torch.bfloat16 if fast else torch.float32


def outline(name: str, revision: str | None = None) -> "PreTrainedModel":
    """The model of that name or folder without its weights: what its layers are called, and how large they are."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(name, revision=revision)
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    return model


def is_sharded() -> bool:
    """Whether ``accelerate launch`` started this process to hold a share of a model, by FSDP."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def check_fit(name: str, model: "PreTrainedModel", recipe: Recipe, hardware: Hardware) -> None:
    """Raise :class:`UsageError` if the weights of that outline, or its share of them, are more than the device has free."""
    import torch

    width = computing_type(recipe, hardware).itemsize
    head = model.get_output_embeddings()
    linear = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m is not head]
    quantized = sum(m.weight.numel() for m in linear) if recipe.quantization == "nf4" else 0
    total = model.num_parameters()
    adapter = recipe.lora.rank * sum(m.in_features + m.out_features for m in linear)
    needed = quantized * NF4_BYTES + (total - quantized) * width + adapter * TRAINED_BYTES[hardware.device]
    if is_sharded():
        needed /= int(os.environ.get("WORLD_SIZE", "1"))
    if needed > hardware.free_bytes:
        raise UsageError(
            f"{name} does not fit: {total / 1e9:.1f}B parameters need at least {needed / GIGABYTE:.1f} GB, "
            f"{hardware.name} has {hardware.free_bytes / GIGABYTE:.1f} GB free",
            hint="Use a smaller `model`, `quantization: nf4`, or a lower `lora.rank`.",
        )


@contextmanager
def letting_go() -> Iterator[None]:
    """Around a function that works with models: the memory of those that it leaves behind is free afterwards.

    Trainers and models refer to each other, so nothing of them goes before a collection, and torch keeps what it had of the GPU.
    """
    try:
        yield
    finally:
        let_go()


def let_go() -> None:
    """Collect what is unreachable, and give unused memory of the GPU back: :func:`detect` counts it as taken otherwise."""
    gc.collect()
    torch = sys.modules.get("torch")  # whoever never loaded it holds nothing
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def peak_memory(hardware: Hardware) -> int:
    """Most bytes that this process has held: of the GPU, or of main memory."""
    if hardware.device == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def is_installed(package: str) -> bool:
    """Whether a package can be imported; imports nothing."""
    return importlib.util.find_spec(package) is not None


def require_training(*, installed: Callable[[str], bool] = is_installed) -> None:
    """Raise :class:`MissingExtra` unless everything that both stages need is installed."""
    for package in ("accelerate", "datasets", "peft", "trl", "tensorboard"):
        if not installed(package):
            raise MissingExtra(package, extra="train")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
