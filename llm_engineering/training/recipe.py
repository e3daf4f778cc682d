"""The shape of ``configs/training/*.yaml``: everything that decides a training run, save for the dataset.

The model has no default, and the dataset is named on the command line: both are chosen on purpose.
"""

from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel, Field, model_validator

from llm_engineering.domain.config import Configuration

Engine = Literal["auto", "transformers", "unsloth"]
DpoLoss = Literal[
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired",
    "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
]  # fmt: skip


class OwnBase(Configuration):
    """A small Llama of our own, trained from scratch: nothing is downloaded."""

    reads: Literal["corpus", "docstrings"] = "corpus"
    """The training split's text, or the docstrings of Python's standard library: English, and nothing of the author."""
    vocabulary: int = Field(default=2048, ge=300)
    """Tokens of the byte-level BPE; 256 of them are the bytes."""
    hidden: int = Field(default=128, ge=16)
    layers: int = Field(default=4, ge=1)
    heads: int = Field(default=4, ge=1)
    intermediate: int = Field(default=384, ge=16)
    steps: int = Field(default=300, ge=1)
    batch_size: int = Field(default=16, ge=1)
    window: int = Field(default=128, ge=8)
    """Tokens of one row of the pre-training."""
    learning_rate: float = Field(default=3e-3, gt=0)

    @model_validator(mode="after")
    def _heads_divide_hidden(self) -> "OwnBase":
        if self.hidden % (2 * self.heads):
            raise ValueError(f"hidden {self.hidden} must be an even multiple of heads {self.heads}")
        return self


class LoraRecipe(Configuration):
    """Low-rank adapters (Hu et al., 2021) on every linear layer, as QLoRA found necessary (Dettmers et al., 2023)."""

    rank: int = Field(default=16, ge=1)
    alpha: int = Field(default=32, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: tuple[str, ...] = ()
    """Names of linear layers; empty: all of them except the output head."""
    rslora: bool = False
    """Scale by alpha / sqrt(rank) (Kalajdzievski, 2023): for ranks of 64 and more."""


class StageRecipe(Configuration):
    """The numbers that SFT and DPO share. Lengths of time in optimiser steps."""

    epochs: float = Field(default=1.0, gt=0)
    max_steps: int | None = Field(default=None, ge=1)
    """Overrides ``epochs``."""
    batch_size: int = Field(default=2, ge=1)
    """Samples (with packing: filled contexts) of one device at a time."""
    accumulation: int = Field(default=8, ge=1)
    """Effective batch = batch_size x accumulation x devices."""
    learning_rate: float = Field(default=2e-4, gt=0)
    scheduler: Literal["linear", "cosine", "constant", "constant_with_warmup"] = "cosine"
    warmup: float = Field(default=0.03, ge=0)
    """Below 1 a share of the run, else steps."""
    optimizer: Literal["auto", "adamw_torch", "adamw_torch_fused", "adamw_8bit", "paged_adamw_8bit"] = "auto"
    """``auto``: paged 8-bit AdamW on CUDA, AdamW elsewhere."""
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    gradient_checkpointing: bool = True
    """A fifth slower for a fraction of the memory of activations."""
    log_every: int = Field(default=10, ge=1)
    evaluate_every: int = Field(default=50, ge=1)
    """Steps between two looks at the validation loss, each with a checkpoint."""
    patience: int | None = Field(default=3, ge=1)
    """Evaluations without a better validation loss after which the run stops; ``null``: never."""
    keep_checkpoints: int = Field(default=2, ge=1)


class SftRecipe(StageRecipe):
    """Supervised fine-tuning on the author's own answers."""

    packing: bool = True
    """Fill a context with several samples; none attends to another."""
    neftune_alpha: float | None = Field(default=None, gt=0)
    """Noise on embeddings (Jain et al., 2023)."""


class DpoRecipe(StageRecipe):
    """Direct preference optimisation (Rafailov et al., 2023) from the SFT adapter, against a frozen copy of it."""

    learning_rate: float = Field(default=5e-6, gt=0)
    beta: float = Field(default=0.1, gt=0)
    """How strongly the policy is held to the reference; for ``ipo`` its tau."""
    loss: tuple[DpoLoss, ...] = Field(default=("sigmoid",), min_length=1)
    loss_weights: tuple[float, ...] | None = None
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Share of pairs that may be the wrong way round; ``exo_pair`` needs some (Ji et al., 2024, take 0.001)."""

    @model_validator(mode="after")
    def _one_weight_per_loss(self) -> "DpoRecipe":
        if self.loss_weights is not None and len(self.loss_weights) != len(self.loss):
            raise ValueError(f"loss_weights has {len(self.loss_weights)} entries for {len(self.loss)} losses")
        return self

    @model_validator(mode="after")
    def _exo_is_smoothed(self) -> "DpoRecipe":
        if "exo_pair" in self.loss and not self.label_smoothing:
            raise ValueError("the loss exo_pair needs a label_smoothing above 0, such as 0.001")
        return self


class Recipe(Configuration):
    """One training run, from the base to DPO."""

    model: str | OwnBase
    """Name or folder of a model with a chat template, or the numbers of a base of our own. No default."""
    revision: str | None = None
    """Commit or tag of a model with a name."""
    engine: Engine = "auto"
    """``auto``: Unsloth where it is installed, a CUDA GPU is there and no ``revision`` is asked for; transformers elsewhere."""
    context: int = Field(default=2048, ge=16)
    """Tokens of one row; longer samples are left out and counted."""
    quantization: Literal["nf4", "none"] = "nf4"
    """``nf4``: the base in 4 bits with double quantization (QLoRA)."""
    precision: Literal["auto", "bf16", "float32"] = "auto"
    """Of the computation. ``auto``: bf16 where the hardware has it."""
    seed: int = 0
    threads: int | None = Field(default=None, ge=1)
    """Of the CPU; ``null``: as many as there are cores. Weights are the same again only with the same number."""
    lora: LoraRecipe = LoraRecipe()
    sft: SftRecipe = SftRecipe()
    dpo: DpoRecipe = DpoRecipe()

    def described(self) -> Iterator[str]:
        """One line per value: its path, itself, and whether the file says it or it was inherited."""
        yield from _lines(self, "")


def _lines(part: BaseModel, path: str) -> Iterator[str]:
    for name in type(part).model_fields:
        value = getattr(part, name)
        if isinstance(value, BaseModel):
            yield from _lines(value, f"{path}{name}.")
        else:
            yield f"{path}{name} = {value}" + ("" if name in part.model_fields_set else "   (default)")
