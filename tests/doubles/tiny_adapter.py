"""A trained run in small: a model of random weights, and a LoRA adapter on it whose weights are random too, not zero."""

import json
from pathlib import Path

from tests.doubles.tiny_chat import make_tiny_model


def make_tiny_base(folder: Path) -> Path:
    """The model with the tokens that it may write told by its own settings; see :func:`make_tiny_model`."""
    make_tiny_model(folder)
    return folder


def make_tiny_adapter(base: Path, folder: Path, *, strength: float = 0.3, seed: int = 1, rank: int = 4) -> Path:
    """An adapter that changes what the base says; ``strength`` is the spread of its weights."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    adapted = get_peft_model(
        model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_" in name:
                weight.normal_(std=strength)
    adapted.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder


def retold(folder: Path, name: str, **changes: object) -> None:
    """Change entries of a JSON file in a model's folder."""
    file = folder / name
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
