"""What a person types about trained models, and what forgetting says of them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
from typer.testing import CliRunner, Result

from llm_engineering import bootstrap
from llm_engineering.domain.blind import BlindPair
from llm_engineering.domain.entities import Author, Draft, Kind
from llm_engineering.domain.errors import StoreError, UsageError
from llm_engineering.domain.registry import Lineage
from llm_engineering.settings import Settings
from llm_engineering.training.data import dataset_version
from llm_engineering.training.hardware import Hardware
from llm_engineering.training.provenance import Provenance
from tools import models, warehouse

Invoke = Callable[..., Result]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    settings = Settings(_env_file=None, twin_home=tmp_path / "home")
    for tool in (models, warehouse):
        monkeypatch.setattr(tool, "settings_with_logging", lambda: settings)
    return settings


@pytest.fixture
def document(settings: Settings) -> str:
    bootstrap.prepare_home(settings)
    with bootstrap.open_warehouse(settings) as store:
        ann = store.save_author(Author.named("Ann Lee"))
        draft = Draft(
            author_id=ann.id,
            url="https://ann.example/log",
            kind=Kind.ARTICLE,
            platform="x",
            title="On logs",
            text="A log.",
        )
        return store.record([draft])[0].document_id


@pytest.fixture
def kept(settings: Settings, document: str, tmp_path: Path) -> Settings:
    """Two versions of ann that saw the document, the first of which is current, and one of bob that did not."""
    registry = bootstrap.open_registry(settings)
    for number, (name, documents) in enumerate(
        {"ann": (document,), "ann ": (document, "gone"), "bob": ("other",)}.items()
    ):
        folder = tmp_path / f"run{number}"
        (folder / "merged").mkdir(parents=True)
        (folder / "merged" / "model.safetensors").write_text(f"weights {number}")
        lineage = Lineage(
            base="base", base_digest="b", dataset="datasets/ann", dataset_version="v1", document_ids=documents,
            trained=("sft", "dpo"), prompt_version=1,
        )  # fmt: skip
        registry.register(folder, name=name.strip(), lineage=lineage, metrics={"perplexity": 9.5})
    registry.promote("ann@1")
    return settings


@pytest.fixture
def invoke() -> Invoke:
    def run(*arguments: str, tool: object = models) -> Result:
        result = CliRunner().invoke(tool.app, arguments, env={"COLUMNS": "200"})  # type: ignore[attr-defined]
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


def stages(invoke: Invoke) -> dict[str, str]:
    return {each["reference"]: each["stage"] for each in json.loads(invoke("list", "--json").stdout)}


def test_an_empty_registry_says_how_to_fill_it(settings: Settings, invoke: Invoke) -> None:
    assert "poe models register" in invoke("list").stdout
    assert invoke("list", "--json").stdout == "[]\n"


def test_the_list_names_stages_and_what_is_missing(kept: Settings, invoke: Invoke) -> None:
    shutil.rmtree(kept.twin_home / "models-registry" / "ann" / "2" / "merged")
    shown = invoke("list").stdout
    assert "ann@1" in shown and "current" in shown and "sft + dpo" in shown
    files = {each["reference"]: each["files_are"] for each in json.loads(invoke("list", "--json").stdout)}
    assert files["ann@1"] == "whole"
    assert files["ann@2"].startswith("A file of ann@2 is gone")


def test_showing_a_version_goes_back_to_its_documents(kept: Settings, document: str, invoke: Invoke) -> None:
    shown = invoke("show", "ann@2").stdout
    for words in (
        "ann@2 (candidate)",
        "perplexity: 9.5",
        "On logs",
        "gone (not in the warehouse)",
        "LLM_MODEL=twin:ann@2",
    ):
        assert words in shown
    current = json.loads(invoke("show", "ann", "--json").stdout)
    assert current["reference"] == "ann@1"
    assert current["documents"] == {document: "On logs  https://ann.example/log"}
    assert json.loads(invoke("show", "bob", "--json").stdout)["reference"] == "bob@1", (
        "the newest, where none is current"
    )


def test_promoting_rolling_back_and_retiring(kept: Settings, invoke: Invoke) -> None:
    assert "LLM_MODEL=twin:ann answers with it" in invoke("promote", "ann@2").stdout
    assert stages(invoke) == {"ann@1": "retired", "ann@2": "current", "bob@1": "candidate"}
    assert "ann@1 is current again" in invoke("rollback", "ann").stdout
    assert "its files are erased" in invoke("retire", "ann@1", "--erase").stdout
    assert stages(invoke) == {"ann@1": "retired", "ann@2": "retired", "bob@1": "candidate"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("show", "eve"), "no trained model eve"),
        (("promote", "ann"), "names no version"),
        (("promote", "ann@7"), "no version 7"),
        (("retire", "eve@1"), "no trained model eve"),
        (("rollback", "bob"), "No other version of bob"),
        (("export", "eve@1", "--out", "x"), "no trained model eve"),
        (("register", "nowhere", "--name", "ann"), "no finished run in nowhere"),
    ],
)
def test_what_is_not_there_is_one_clear_line(
    kept: Settings, invoke: Invoke, arguments: tuple[str, ...], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        invoke(*arguments)


def test_a_registered_version_is_given_away_as_a_folder(kept: Settings, invoke: Invoke, tmp_path: Path) -> None:
    assert "ann@1 exported to" in invoke("export", "ann@1", "--out", str(tmp_path / "out")).stdout
    assert (tmp_path / "out" / "merged" / "model.safetensors").read_text() == "weights 0"
    with pytest.raises(UsageError, match="exists already"):
        invoke("export", "ann@1", "--out", str(tmp_path / "out"))
    with pytest.raises(UsageError, match="--base belongs to the folder of a run"):
        invoke("export", "ann@1", "--out", str(tmp_path / "other"), "--base", "b")


def test_a_version_whose_files_are_gone_is_not_given_away(kept: Settings, invoke: Invoke, tmp_path: Path) -> None:
    (kept.twin_home / "models-registry" / "ann" / "1" / "merged" / "model.safetensors").unlink()
    with pytest.raises(StoreError, match="A file of ann@1 is gone"):
        invoke("export", "ann@1", "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_forgetting_a_document_names_every_model_that_saw_it(kept: Settings, document: str, invoke: Invoke) -> None:
    said = invoke("forget", document, tool=warehouse).stdout
    assert "weights of ann@1 (current)" in said and "weights of ann@2 (candidate)" in said and "bob" not in said
    assert "poe models retire NAME@VERSION --erase" in said
    assert json.loads(invoke("forget", document, "--json", tool=warehouse).stdout)["models"] == ["ann@1", "ann@2"]
    invoke("retire", "ann@1", "--erase")
    assert json.loads(invoke("forget", document, "--json", tool=warehouse).stdout)["models"] == ["ann@2"]
    assert "gone or withdrawn" in invoke("show", "ann@2").stdout


def a_run(settings: Settings, name: str, dataset: Path) -> Path:
    """A training run that says that it was made on this dataset."""
    folder = settings.twin_home / "training" / name / "sft"
    folder.mkdir(parents=True)
    hardware = Hardware(device="cpu", name="cpu", count=1, free_bytes=1, bf16=False)
    told = Provenance(
        stage="sft", identity="i", base="b", base_digest="b", dataset=str(dataset), dataset_version=dataset_version(dataset),
        seed=1, engine="transformers", precision="float32", hardware=hardware,
    )  # fmt: skip
    (folder / "run.json").write_text(json.dumps({"provenance": told.model_dump(mode="json")}))
    return folder.parent


def test_forgetting_a_document_names_the_training_runs_and_reports(
    kept: Settings, document: str, invoke: Invoke, tmp_path: Path
) -> None:
    datasets = {name: tmp_path / name for name in ("held", "clean", "lost")}
    for name, folder in datasets.items():
        (folder / "instruct").mkdir(parents=True)
        table = arrow.Table.from_pylist([{"document_id": "other" if name == "clean" else document}])
        parquet.write_table(table, folder / "instruct" / "train.parquet")
    held, _, lost = (a_run(kept, name, folder) for name, folder in datasets.items())
    shutil.rmtree(datasets["lost"])
    report = kept.twin_home / "evaluation" / "ann@1"
    report.mkdir(parents=True)
    told = json.loads(invoke("forget", document, "--json", tool=warehouse).stdout)
    assert (told["runs"], told["runs_unknown"], told["reports"]) == ([str(held)], [str(lost)], [str(report)])
    said = " ".join(invoke("forget", document, tool=warehouse).stdout.split())
    assert f"training run {held}. Remove that folder" in said and str(report) in said
    assert f"What the training run {lost} saw is gone" in said and "training/clean" not in said


def test_forgetting_removes_weights_that_were_never_whole(kept: Settings, document: str, invoke: Invoke) -> None:
    export = kept.twin_home / "exports" / "export-0.partial" / "merged"
    version = kept.twin_home / "models-registry" / "ann" / ".unfinished"
    for left in (export, version):
        left.mkdir(parents=True)
    invoke("forget", document, tool=warehouse)
    assert not export.exists() and not version.exists()


def test_forgetting_a_document_names_folders_of_datasets_that_nobody_can_speak_for(
    kept: Settings, document: str, invoke: Invoke
) -> None:
    killed, damaged = (bootstrap.datasets_folder(kept) / "ann" / name for name in (".1.part", "2"))
    killed.mkdir(parents=True)
    damaged.mkdir()
    (damaged / "card.json").write_text("{")
    told = json.loads(invoke("forget", document, "--json", tool=warehouse).stdout)
    assert (told["datasets"], told["datasets_unknown"]) == ([], [str(killed), str(damaged)])
    said = " ".join(invoke("forget", document, tool=warehouse).stdout.split())
    assert f"{killed} has no card that can be read" in said and f"{damaged} has no card" in said


def test_pairs_of_retired_and_erased_versions_are_shown_to_nobody(kept: Settings) -> None:
    blind = bootstrap.open_blind_pairs(kept)
    for model in ("ann@1", "ann@2", "bob@1", "ann-sft"):
        one = BlindPair.of(model=model, author="Ann", task="t", twin="a", written="b", seed=7)
        blind.replace(model, [one])
    bootstrap.open_registry(kept).promote("ann@2")
    assert [pair.model for pair in blind.pairs()] == ["ann-sft", "ann@2", "bob@1"]
    bootstrap.open_registry(kept).retire("bob@1", erase=True)
    assert [pair.model for pair in blind.pairs()] == ["ann-sft", "ann@2"]
