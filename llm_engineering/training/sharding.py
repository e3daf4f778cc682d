"""A model that several GPUs share by FSDP, as ``accelerate launch`` with ``configs/accelerate/fsdp.yaml`` starts them."""

from dataclasses import replace
from typing import TYPE_CHECKING

from llm_engineering.domain.errors import UsageError
from llm_engineering.training.hardware import is_sharded
from llm_engineering.training.recipe import Recipe

if TYPE_CHECKING:
    from transformers import Trainer


def check_sharding(recipe: Recipe) -> None:
    """Raise :class:`UsageError` for a base that several processes are to share and cannot."""
    if is_sharded() and recipe.quantization != "none":
        raise UsageError(
            "FSDP cannot share a base in 4 bits: its best checkpoint could not be loaded",
            hint="Set `quantization` to none, or launch with ddp.yaml: each GPU holds the base in 4 bits then.",
        )


def keep_precision(trainer: "Trainer") -> None:
    """Let logits and losses leave a shared model in float32, as they leave others: in bf16 a loss of 5 has steps of 0.03."""
    import torch

    if trainer.is_fsdp_enabled:
        plugin = trainer.accelerator.state.fsdp_plugin
        if plugin.mixed_precision_policy is not None:
            plugin.mixed_precision_policy = replace(plugin.mixed_precision_policy, output_dtype=torch.float32)


def share(trainer: "Trainer") -> None:
    """Share the model among the processes. Training does so itself; evaluation alone would fail without."""
    if trainer.is_fsdp_enabled:
        trainer.model, _ = trainer.accelerator.prepare(trainer.model, trainer.create_optimizer())
