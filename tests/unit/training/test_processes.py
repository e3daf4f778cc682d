"""Several processes share a run as `accelerate launch` starts them: here two on the CPU, with the project's own configuration."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from llm_engineering.training.recipe import Recipe
from llm_engineering.training.report import read_report
from llm_engineering.training.sft import sft
from tests.doubles.training import small_recipe

ROOT = Path(__file__).parents[3]


def launched(configuration: str, module: str, recipe: Recipe, dataset: Path, out: Path) -> str:
    """What two processes write to the terminal that train SFT with a configuration of the project."""
    (out / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    launch = (
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--config_file",
        f"configs/accelerate/{configuration}",
    )
    train = ("-m", module, "sft", "--recipe", out / "recipe.yaml", "--dataset", dataset, "--out", out)
    done = subprocess.run(
        [*launch, "--main_process_port", "0", *train], cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def shared(tmp_path_factory, trained, dataset: Path):
    """The folder of an SFT stage that two processes trained, and what they wrote to the terminal."""
    import shutil

    out = tmp_path_factory.mktemp("shared")
    shutil.copytree(trained[0] / "base", out / "base")
    return out, launched("ddp.yaml", "tools.train", small_recipe(), dataset, out)


def test_one_of_them_writes_the_stage_and_says_so_once(shared):
    out, said = shared
    assert (out / "sft" / "adapter" / "adapter_model.safetensors").is_file()
    assert said.count("sft: 6 steps over 12 samples") == 1


def test_two_processes_come_to_what_one_comes_to_with_twice_the_accumulation(
    shared, with_base: Path, dataset: Path, weights
):
    alone = sft(small_recipe(sft__accumulation=2), dataset=dataset, out=with_base)
    together = read_report(shared[0] / "sft")
    assert together.after["loss"] == pytest.approx(alone.after["loss"], abs=2e-3)
    ours, theirs = (
        torch.cat([weight.flatten() for weight in weights(out / "sft").values()]) for out in (shared[0], with_base)
    )
    assert torch.nn.functional.cosine_similarity(ours, theirs, dim=0) > 0.999


def test_two_processes_that_share_the_model_come_to_the_same(tmp_path: Path, with_base: Path, dataset: Path, weights):
    """Their losses are in float32, not those that bf16 can hold: it has steps of 0.03 there."""
    import shutil

    changes = {"quantization": "none", "precision": "bf16"}
    shutil.copytree(with_base, tmp_path / "together")
    said = launched("fsdp.yaml", "tests.doubles.sharing", small_recipe(**changes), dataset, tmp_path / "together")
    together = read_report(tmp_path / "together" / "sft")
    assert said.count("sft: 6 steps over 12 samples") == 1
    alone = sft(small_recipe(**changes, sft__accumulation=2), dataset=dataset, out=with_base)
    assert together.before["loss"] == pytest.approx(alone.before["loss"], abs=2e-3)
    assert together.after["loss"] == pytest.approx(alone.after["loss"], abs=2e-2)
    ours, theirs = (
        torch.cat([weight.flatten() for weight in weights(out / "sft").values()])
        for out in (tmp_path / "together", with_base)
    )
    assert torch.nn.functional.cosine_similarity(ours, theirs, dim=0) > 0.99
