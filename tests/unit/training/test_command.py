"""`python -m tools.train`: one line for what is wrong, a report for what went well."""

import json
import os
import subprocess
import sys
from pathlib import Path

import yaml

from tests.doubles.training import small_recipe

ROOT = Path(__file__).parents[3]


def train(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tools.train", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "LOG_LEVEL": "WARNING"},
    )  # fmt: skip


def test_a_missing_dataset_is_one_line_and_status_two(tmp_path: Path):
    done = train(
        "sft", "--recipe", "configs/training/tiny.yaml", "--dataset", tmp_path / "none", "--out", tmp_path / "run"
    )
    assert done.returncode == 2
    assert done.stderr == f"There is no dataset at {tmp_path / 'none'}. poe run-dataset-pipeline builds one.\n"


def test_the_report_of_a_finished_stage_is_one_json_document(with_sft: Path, dataset: Path, tmp_path: Path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(small_recipe().model_dump(mode="json")))
    done = train("sft", "--recipe", recipe, "--dataset", dataset, "--out", with_sft, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["skipped"] is True


def test_the_dataset_has_no_default():
    done = train("sft", "--recipe", "configs/training/tiny.yaml")
    assert done.returncode == 2 and "--dataset" in done.stderr


def test_importing_the_programs_loads_no_engine():
    code = "import sys, llm_engineering.training.sft, llm_engineering.training.dpo; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not {"torch", "transformers", "trl", "peft", "datasets", "pyarrow"} & set(loaded.split())
