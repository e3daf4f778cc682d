"""Where a model that is merged and judged lies, and in which type. It computes in float32 wherever that is: in 16 bits the
rounding between layers alone is more than the parity gate allows.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

from llm_engineering.domain.errors import UsageError
from llm_engineering.training.hardware import GIGABYTE, detect, let_go, outline

if TYPE_CHECKING:
    import torch

_KEPT = 0.85
"""Share of free memory that the weights of a merge may take."""
_WIDE = 4
"""Bytes of a weight in float32."""


class Placement(NamedTuple):
    """A device, and the type of the weights in its memory."""

    device: str
    dtype: "torch.dtype"


def sixteen_bits(config: Any) -> "torch.dtype":  # noqa: ANN401 - any configuration of transformers
    """The 16-bit type that a model is released in: that of its base where that has one, else bf16."""
    import torch

    return torch.float16 if getattr(config, "dtype", None) is torch.float16 else torch.bfloat16


def find_placement(name: str, revision: str | None) -> Placement:
    """Where the weights fit, on the GPU rather than on the CPU, in float32 rather than in 16 bits.

    Raises :class:`UsageError` where they fit nowhere. Weights of 16 bits are to be used in :func:`compute_in_float32`.
    """
    import torch

    model = outline(name, revision)
    short = sixteen_bits(model.config)
    total = model.num_parameters()
    largest = max(sum(weight.numel() for weight in module.parameters(recurse=False)) for module in model.modules())
    needed = {torch.float32: total * _WIDE, short: total * short.itemsize + largest * _WIDE}
    memory = _memory()
    for device, free in memory.items():
        for dtype, size in needed.items():
            if size <= free * _KEPT:
                return Placement(device, dtype)
    raise UsageError(
        f"{name} does not fit: a merge takes {needed[short] / GIGABYTE:.1f} GB, "
        f"{max(memory.values()) / GIGABYTE:.1f} GB are free",
        hint="Export on a machine with more memory; the adapter alone can be served by vLLM.",
    )


def compute_in_float32(model: Any) -> None:  # noqa: ANN401 - any torch module
    """Let every layer whose weights lie in 16 bits widen them for as long as it computes.

    What comes out is what the same weights say in a model that is in float32 as a whole, in half of its memory.
    """
    import torch

    for module in model.modules():
        weights = list(module.parameters(recurse=False))
        if any(weight.is_floating_point() and weight.dtype is not torch.float32 for weight in weights):
            _widen_for_a_while(module)


def _widen_for_a_while(module: Any) -> None:  # noqa: ANN401 - any torch module
    short: list[torch.Tensor] = []

    def widen(module: Any, _: Any) -> None:  # noqa: ANN401 - torch's own signature
        for weight in module.parameters(recurse=False):
            short.append(weight.data)
            weight.data = weight.data.float()

    def narrow(module: Any, *_: Any) -> None:  # noqa: ANN401 - torch's own signature
        for weight, laid_aside in zip(module.parameters(recurse=False), short, strict=True):
            weight.data = laid_aside  # and not the wide one rounded again
        short.clear()

    module.register_forward_pre_hook(widen)
    module.register_forward_hook(narrow, always_call=True)


def _memory() -> dict[str, int]:
    """Free bytes by device, the fastest first."""
    import psutil

    let_go()
    hardware = detect()
    if hardware.device == "cpu":
        return {"cpu": hardware.free_bytes}
    return {"cuda:0": hardware.free_bytes, "cpu": psutil.virtual_memory().available}
