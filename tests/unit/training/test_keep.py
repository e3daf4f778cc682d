"""Keeping a run: exported behind the gate, registered with its lineage, once."""

import json
import shutil
from pathlib import Path

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest

from llm_engineering.adapters.registry_folder import FolderRegistry
from llm_engineering.domain.errors import ParityFailed, UsageError
from llm_engineering.domain.registry import ModelStage
from llm_engineering.training.data import dataset_version
from llm_engineering.training.keep import clear_exports, keep
from llm_engineering.training.parity import Tolerances
from llm_engineering.training.report import TrainingReport
from tests.doubles.training import write_dataset


@pytest.fixture
def run(trained: tuple[Path, TrainingReport], tmp_path: Path) -> Path:
    """A copy of the session's run, whose dataset names its documents."""
    dataset = write_dataset(tmp_path / "dataset")
    for file in dataset.rglob("*.parquet"):
        table = parquet.read_table(file)
        documents = arrow.array([f"document-{file.stem}"] * table.num_rows)
        parquet.write_table(table.append_column("document_id", documents), file)
    folder = Path(shutil.copytree(trained[0] / "sft", tmp_path / "sft"))
    record = json.loads((folder / "run.json").read_text())
    record["provenance"] |= {"dataset": str(dataset), "dataset_version": dataset_version(dataset)}
    (folder / "run.json").write_text(json.dumps(record))
    return folder


def exports(work: Path) -> list[str]:
    return [path.name for path in work.iterdir() if path.name != "lock"]


def test_a_run_is_kept_as_a_candidate_with_its_lineage_and_not_twice(run: Path, tmp_path: Path) -> None:
    registry, work = FolderRegistry(tmp_path / "registry"), tmp_path / "work"
    version, report = keep(run, name="ann", registry=registry, work=work, evaluation={"perplexity": 9.5})
    assert report is not None and all(each.passed for each in report.parity.comparisons)
    assert (version.reference, version.stage, version.metrics) == ("ann@1", ModelStage.CANDIDATE, {"perplexity": 9.5})
    assert version.lineage.document_ids == ("document-train", "document-validation")
    assert (registry.folder(version) / "merged" / "model.safetensors").is_file()
    assert keep(run, name="ann", registry=registry, work=work) == (version, None)
    assert exports(work) == []


def test_a_run_that_fails_the_gate_is_not_registered(run: Path, tmp_path: Path) -> None:
    registry = FolderRegistry(tmp_path / "registry")
    with pytest.raises(ParityFailed):
        keep(run, name="ann", registry=registry, work=tmp_path / "work", tolerances=Tolerances(mean=0, largest=0))
    assert registry.versions() == []
    assert exports(tmp_path / "work") == []


def test_a_name_that_is_none_is_refused_before_any_work(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be the name"):
        keep(run, name="A B", registry=FolderRegistry(tmp_path / "registry"), work=tmp_path / "work")
    assert not (tmp_path / "work").exists()


def left_by_a_kill(work: Path) -> Path:
    left = work / "export-0.partial" / "merged"
    left.mkdir(parents=True)
    return left.parent


def test_weights_that_a_killed_export_left_go_with_the_next_one(run: Path, tmp_path: Path) -> None:
    left_by_a_kill(tmp_path / "work")
    keep(run, name="ann", registry=FolderRegistry(tmp_path / "registry"), work=tmp_path / "work")
    assert exports(tmp_path / "work") == []


def test_clearing_leaves_an_export_under_way_alone(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work, meanwhile = tmp_path / "work", []

    def exporting(run: Path, out: Path, **_: object) -> None:
        out.mkdir()
        clear_exports(work)
        meanwhile.extend(exports(work))
        raise UsageError("stopped")

    monkeypatch.setattr("llm_engineering.training.keep.export", exporting)
    with pytest.raises(UsageError, match="stopped"):
        keep(run, name="ann", registry=FolderRegistry(tmp_path / "registry"), work=work)
    assert len(meanwhile) == 1
    left_by_a_kill(work)
    clear_exports(work)
    assert exports(work) == []
