"""From the warehouse to training data as a person starts it: no model, twice the same, and what is forgotten leaves."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from llm_engineering import bootstrap
from llm_engineering.crawl.run import crawl
from llm_engineering.domain.config import FeatureConfig
from llm_engineering.domain.dataset_config import DatasetConfig, TeacherConfig
from llm_engineering.domain.errors import UsageError
from llm_engineering.settings import load_settings
from steps.dataset import built
from tests.doubles.writing import ANN, article, draft
from tools.entry import load_config

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home whose warehouse holds the sample corpus: posts, notes and a repository of one author."""
    settings = load_settings(twin_home=tmp_path_factory.mktemp("person") / "home")
    bootstrap.prepare_home(settings)
    config = load_config(ROOT / "configs" / "feature.yaml", FeatureConfig)
    sources = [source.model_copy(update={"at": str(ROOT / source.at)}) for source in config.sources]
    with (
        bootstrap.open_warehouse(settings) as warehouse,
        bootstrap.open_fetcher(settings, config.crawl) as fetcher,
    ):
        crawl(
            sources,
            author=config.author,
            config=config.crawl,
            warehouse=warehouse,
            fetcher=fetcher,
            repositories=bootstrap.open_repositories(settings, fetcher),
        )
    return settings.twin_home


def types(home, *arguments, status=0):
    skipped = ("ZENML", "TWIN_HOME", "COV", "LLM", "OPENAI", "HF_TOKEN")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(skipped)}
    command = [sys.executable, "-m", *map(str, arguments)]
    environment = {**kept, "TWIN_HOME": str(home)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done


def builds(home, *arguments):
    return json.loads(types(home, "tools.run", "dataset", "--json", *arguments).stdout)["build_dataset"]


def rows_of(report):
    folder = Path(report["folder"]) / "instruct"
    return [
        row
        for split in ("train", "validation", "test")
        for row in pq.read_table(folder / f"{split}.parquet").to_pylist()
    ]


def test_the_sample_corpus_becomes_training_data_without_a_model_and_forgets(home):
    first = builds(home)
    assert first["written"] and sum(first["samples"].values()) > 50
    assert (first["audit"]["repeated_instructions"], first["audit"]["shared_documents"]) == (0, 0)
    rows = rows_of(first)
    assert {row["author"] for row in rows} == {"Ada Winter"}
    assert {"post", "repository"} <= {row["kind"] for row in rows} or {"article", "repository"} <= {
        row["kind"] for row in rows
    }

    told = types(home, "tools.run", "dataset").stdout
    assert "unchanged" in told and "0 leaks" in told

    url = rows[0]["url"]
    told = types(home, "tools.warehouse", "forget", url).stdout
    assert f"twin {first['version']}" in told and "run-dataset-pipeline" in told
    second = builds(home)
    assert second["dropped"] == [f"twin {first['version']}"] and not Path(first["folder"]).exists()
    assert url not in {row["url"] for row in rows_of(second)}
    assert {row["id"] for row in rows_of(second)} >= {row["id"] for row in rows if row["url"] != url}


def test_a_build_removes_a_forgotten_document_from_datasets_of_every_name_and_their_artifacts(home):
    config = home / "copy.yaml"
    config.write_text("name: copy\n")
    copy = builds(home, "--config", config)
    kept = list(home.rglob("dataset_copy/**/*.*"))
    assert Path(copy["folder"]).exists() and kept
    told = types(home, "tools.warehouse", "forget", rows_of(copy)[0]["url"]).stdout
    assert f"copy {copy['version']}" in told
    assert f"copy {copy['version']}" in builds(home)["dropped"]
    assert not Path(copy["folder"]).exists() and not any(file.exists() for file in kept)


def test_what_is_forgotten_leaves_the_disk_although_nothing_is_left_to_build(tmp_path):
    one = draft("one", article("alpha", "beta"))
    settings = load_settings(twin_home=tmp_path)
    bootstrap.prepare_home(settings)
    with bootstrap.open_warehouse(settings) as warehouse:
        warehouse.save_author(ANN)
        warehouse.record([one])
    report = builds(tmp_path)
    types(tmp_path, "tools.run", "dataset", "--dry-run")
    (kept,) = tmp_path.rglob("dataset_twin/*/data.tar.gz")
    unfinished = shutil.copytree(kept.parent, kept.parent.with_name("killed"))  # as nothing recorded it
    types(tmp_path, "tools.warehouse", "forget", one.url)
    said = types(tmp_path, "tools.run", "dataset", status=1).stderr
    assert "No training data" in said
    assert not any(path.exists() for path in (kept, unfinished, Path(report["folder"])))
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"alpha0a" in path.read_bytes()]


def test_a_dry_run_writes_nothing(home):
    before = sorted((home / "datasets").rglob("*"))
    report = builds(home, "--dry-run", "--author", "Ada Winter")
    assert report["dry_run"] and report["examples"] and report["estimate"] is None
    assert sorted((home / "datasets").rglob("*")) == before


def test_a_teacher_without_a_model_says_which_setting_is_missing(home):
    config, settings = DatasetConfig(teacher=TeacherConfig(enabled=True)), load_settings(twin_home=home)
    with bootstrap.open_warehouse(settings) as warehouse, pytest.raises(UsageError, match="LLM_MODEL"):
        built(config, settings, warehouse)


def test_a_push_without_a_token_says_so_and_the_dataset_stays(home):
    config = DatasetConfig(name="pushed", hub_repository="someone/something")
    settings = load_settings(twin_home=home, hf_token=None)
    with bootstrap.open_warehouse(settings) as warehouse, pytest.raises(UsageError, match="HF_TOKEN"):
        built(config, settings, warehouse)
    assert (home / "datasets" / "pushed" / "current").exists()
