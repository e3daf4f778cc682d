"""The arguments that SFT and DPO hand to their trainers alike."""

from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import TrainingArguments

from llm_engineering.training.hardware import Hardware, computing_type
from llm_engineering.training.recipe import Recipe, StageRecipe
from llm_engineering.training.terminal import is_watched

Arguments = TypeVar("Arguments", bound=TrainingArguments)


def shared_arguments(recipe: Recipe, stage: StageRecipe, hardware: Hardware, *, work: Path) -> dict[str, Any]:
    """Keyword arguments of ``SFTConfig`` and ``DPOConfig``: the recipe's numbers under the names of transformers.

    Autocast is on where the computation is bf16. Validation loss chooses the weights that are kept. Nothing is sent anywhere.
    """
    cuda = hardware.device == "cuda"
    return {
        "output_dir": str(work),
        "num_train_epochs": stage.epochs,
        "max_steps": stage.max_steps or -1,
        "per_device_train_batch_size": stage.batch_size,
        "per_device_eval_batch_size": stage.batch_size,
        "gradient_accumulation_steps": stage.accumulation,
        "learning_rate": stage.learning_rate,
        "lr_scheduler_type": stage.scheduler,
        "warmup_steps": stage.warmup,
        "optim": ("paged_adamw_8bit" if cuda else "adamw_torch") if stage.optimizer == "auto" else stage.optimizer,
        "weight_decay": stage.weight_decay,
        "max_grad_norm": stage.max_grad_norm,
        "gradient_checkpointing": stage.gradient_checkpointing,
        "gradient_checkpointing_kwargs": {"use_reentrant": False} if stage.gradient_checkpointing else None,
        "max_length": recipe.context,
        "use_cpu": not cuda,
        "bf16": computing_type(recipe, hardware) is torch.bfloat16,
        "dataloader_pin_memory": cuda,
        "seed": recipe.seed,
        "logging_steps": stage.log_every,
        "logging_nan_inf_filter": False,  # a loss that is no number must be seen
        "eval_strategy": "steps",
        "eval_steps": stage.evaluate_every,
        "save_strategy": "steps",
        "save_steps": stage.evaluate_every,
        "save_total_limit": stage.keep_checkpoints,
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_loss",
        "greater_is_better": False,
        "restore_callback_states_from_checkpoint": True,
        "report_to": "none",
        "disable_tqdm": not is_watched(),
    }


def one_device(arguments: Arguments) -> Arguments:
    """The same arguments for one device a process. Where several GPUs are visible and no launcher started a process for each,
    transformers would scale batch and loss by their number, which a model in 4 bits, whole on one of them, does not share.
    """
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1
    return arguments
