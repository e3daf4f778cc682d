"""From a warehouse to a twin that answers, as a person starts it; the second time nothing is trained again."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file, save_file

from llm_engineering import bootstrap
from llm_engineering.domain.entities import Author, Draft, Kind
from llm_engineering.domain.registry import ModelStage
from llm_engineering.settings import load_settings
from llm_engineering.training.hardware import is_installed
from tests.doubles.training import small_recipe
from tests.doubles.writing import article

ROOT = Path(__file__).resolve().parents[2]
ADA = Author.named("Ada Winter")
SUBJECTS = (
    "kafka",
    "bread",
    "index",
    "garden",
    "wheel",
    "tea",
    "crawler",
    "piano",
    "tombstone",
    "rain",
    "chess",
    "soup",
)

pytestmark = pytest.mark.skipif(
    not (is_installed("trl") and is_installed("peft")), reason="the extra train is not installed"
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = load_settings(twin_home=tmp_path_factory.mktemp("person") / "home")
    bootstrap.prepare_home(settings)
    with bootstrap.open_warehouse(settings) as warehouse:
        warehouse.save_author(ADA)
        warehouse.record(
            [
                Draft(
                    author_id=ADA.id, url=f"https://ada.example/{name}", kind=Kind.POST, platform="ada.example",
                    title=f"On {name}", text=article(name, sentences=8),
                )
                for name in SUBJECTS
            ]
        )  # fmt: skip
    return settings.twin_home


@pytest.fixture(scope="module")
def reports(home: Path) -> dict[str, dict]:
    return trained(home)


def trained(home: Path) -> dict[str, dict]:
    """What ``poe run-training-pipeline`` says with numbers so small that nothing is learnt."""
    recipe = small_recipe().model_dump(mode="json")
    recipe["context"] = 2048
    files = {
        "recipe": recipe,
        "dataset": {
            "passages": {"min_words": 10},
            "quality": {"min_answer_words": 5},
            "preference": {"tolerance": 0.5, "calls": {"sampling": {"max_tokens": 24, "temperature": 1.0}}},
        },
        "evaluation": {
            "resamples": 100,
            "twin": {
                "limit": 2,
                "sampling": {"max_tokens": 16},
                "gate": {"usable_share": 0, "perplexity_ratio": 9, "memorised_share": None},
            },
        },
    }
    options = []
    for name, content in files.items():
        path = home / f"{name}.yaml"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        options += [{"recipe": "--config"}.get(name, f"--{name}"), str(path)]
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ZENML", "TWIN_HOME", "LLM", "OPENAI"))
    }
    done = subprocess.run(
        [sys.executable, "-m", "tools.run", "training", *options, "--name", "ada", "--json"],
        cwd=ROOT, env={**kept, "TWIN_HOME": str(home)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_one_command_trains_judges_keeps_and_promotes(home: Path, reports: dict[str, dict]):
    assert reports["train_sft"]["stage"] == "sft" and reports["train_sft"]["steps"] > 0
    kept = reports["keep_twin"]
    assert (kept["model"], kept["stage"]) == ("ada@1", "current"), "\n".join(kept["gate"])
    assert {"bits", "base_bits", "parity"} <= set(kept["measures"])
    assert (Path(kept["report"]) / "report.md").is_file()


def test_the_promoted_twin_is_what_the_address_of_the_current_one_opens(home: Path, reports: dict[str, dict]):
    settings = load_settings(twin_home=home, llm_model="twin:current")
    version = bootstrap.open_registry(settings).find("current")
    assert (version.reference, version.stage) == ("ada@1", ModelStage.CURRENT)
    with bootstrap.open_warehouse(settings) as warehouse:
        known = {state.document.id for state in warehouse.states()}
    assert set(version.lineage.document_ids) < known  # the held-out documents are not in it


def test_the_second_run_trains_and_judges_nothing(home: Path, reports: dict[str, dict]):
    again = trained(home)
    assert again["train_sft"]["skipped"]
    assert again["keep_twin"]["known"] and again["keep_twin"]["model"] == "ada@1"
    assert again["pair_up"] == {**reports["pair_up"], "written": False}


def test_a_twin_that_was_kept_but_not_yet_promoted_is_promoted_by_the_next_run(home: Path, reports: dict[str, dict]):
    """As after a kill between the two: the version is there, a candidate still."""
    registry = bootstrap.open_registry(load_settings(twin_home=home))
    (registry.folder(registry.find("ada@1")).parent / "stages.json").unlink()
    assert registry.find("ada@1").stage is ModelStage.CANDIDATE
    again = trained(home)["keep_twin"]
    assert (again["model"], again["stage"], again["known"]) == ("ada@1", "current", True)
    assert again["gate"] == reports["keep_twin"]["gate"] and not again["report"]  # judged once


def test_a_version_whose_figures_are_of_another_comparison_is_judged_again_before_it_is_promoted(
    home: Path, reports: dict[str, dict]
):
    """Another twin of that name is current by now: what was measured against nobody says nothing about it."""
    registry = bootstrap.open_registry(load_settings(twin_home=home))
    first = registry.find("ada@1")
    other = home / "other"
    shutil.copytree(registry.folder(first), other)
    weights = load_file(other / "merged" / "model.safetensors")
    save_file(
        {name: value * 1.1 for name, value in weights.items()}, other / "merged" / "model.safetensors", {"format": "pt"}
    )
    (registry.folder(first).parent / "stages.json").unlink()
    second = registry.register(other, name="ada", lineage=first.lineage)
    assert registry.promote(second.reference).reference == "ada@2"
    again = trained(home)["keep_twin"]
    assert again["known"] and again["model"] == "ada@1"
    assert "that of ada@2 per character" in again["gate"][1] and "current_bits" in again["measures"]
    assert (Path(again["report"]) / "report.md").is_file()
