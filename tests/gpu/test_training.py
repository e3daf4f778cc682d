"""Training on a CUDA GPU: the same programs as on the CPU, with NF4 kernels, paged 8-bit AdamW and bf16."""

from pathlib import Path

import pytest
import torch
from transformers import TrainerCallback

from llm_engineering.training.curves import read_curves
from llm_engineering.training.dpo import dpo
from llm_engineering.training.hardware import detect
from llm_engineering.training.loading import load
from llm_engineering.training.sft import sft
from tests.doubles.training import small_recipe

pytestmark = pytest.mark.gpu

SHAPE = {
    "model__hidden": 128, "model__intermediate": 256, "model__heads": 4, "model__steps": 100, "model__window": 128,
    "model__batch_size": 8, "precision": "auto",
}  # fmt: skip


def weights(stage: Path):
    from safetensors.torch import load_file

    return load_file(stage / "adapter" / "adapter_model.safetensors")


def test_ten_samples_can_be_learnt_by_heart(tmp_path: Path, dataset: Path):
    recipe = small_recipe(
        **SHAPE, sft__max_steps=300, sft__evaluate_every=300, sft__learning_rate=5e-3, lora={"rank": 32, "alpha": 64}
    )
    sft(recipe, dataset=dataset, out=tmp_path)
    losses = [line["loss"] for line in read_curves(tmp_path / "sft") if "loss" in line]
    assert losses[-1] < 0.1 * losses[0]


class Stop(TrainerCallback):
    """Ends the run as a signal would."""

    def on_step_end(self, args, state, control, **_):
        if state.global_step == 5:
            raise KeyboardInterrupt


def test_a_stopped_run_comes_to_the_same_weights(tmp_path: Path, dataset: Path):
    recipe = small_recipe(**SHAPE)
    sft(recipe, dataset=dataset, out=tmp_path / "undisturbed")
    with pytest.raises(KeyboardInterrupt):
        sft(recipe, dataset=dataset, out=tmp_path / "stopped", callbacks=[Stop()])
    assert sft(recipe, dataset=dataset, out=tmp_path / "stopped").resumed_from == 4
    ours, theirs = weights(tmp_path / "stopped" / "sft"), weights(tmp_path / "undisturbed" / "sft")
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-3, rtol=1e-3)  # atomic sums have no fixed order


def test_the_loss_in_four_bits_is_close_to_the_loss_in_sixteen(tmp_path: Path, dataset: Path):
    sft(small_recipe(**SHAPE), dataset=dataset, out=tmp_path)
    losses = []
    for quantization in ("none", "nf4"):
        model, tokenizer = load(str(tmp_path / "base"), small_recipe(**SHAPE, quantization=quantization), detect())
        ids = tokenizer("My chunk 1 is green, and it stays green.", return_tensors="pt")["input_ids"].to(model.device)
        with torch.no_grad():
            losses.append(model.eval()(input_ids=ids, labels=ids).loss.item())
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


def test_gradient_accumulation_equals_a_larger_batch(tmp_path: Path, dataset: Path):
    """In float32, without packing: the same samples make the same step."""
    same = {
        **SHAPE,
        "precision": "float32",
        "quantization": "none",
        "sft__packing": False,
        "sft__optimizer": "adamw_torch",
    }
    large = sft(small_recipe(**same, sft__batch_size=4), dataset=dataset, out=tmp_path / "large")
    small = sft(small_recipe(**same, sft__batch_size=2, sft__accumulation=2), dataset=dataset, out=tmp_path / "small")
    assert small.after["loss"] == pytest.approx(large.after["loss"], rel=1e-3)


def test_preferences_raise_the_margin(tmp_path: Path, dataset: Path):
    sft(small_recipe(**SHAPE), dataset=dataset, out=tmp_path)
    report = dpo(small_recipe(**SHAPE), dataset=dataset, out=tmp_path)
    assert report.before["margin"] == pytest.approx(0, abs=1e-2)
    assert report.after["margin"] > 0.05
