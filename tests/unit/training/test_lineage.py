"""Which documents a model saw: the truth that forgetting depends on."""

import json
import shutil
from pathlib import Path

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest

from llm_engineering.domain.errors import UsageError
from llm_engineering.training.data import dataset_version
from llm_engineering.training.lineage import documents_in, lineage_of, runs_that_saw
from llm_engineering.training.provenance import folder_digest
from llm_engineering.training.report import TrainingReport

Trained = tuple[Path, TrainingReport]


def a_dataset(folder: Path, **splits: list[dict[str, object]]) -> Path:
    """A split by its name with an underscore for the slash: ``instruct_train=[…]``."""
    for name, rows in splits.items():
        part, _, split = name.partition("_")
        (folder / part).mkdir(parents=True, exist_ok=True)
        parquet.write_table(arrow.Table.from_pylist(rows), folder / part / f"{split}.parquet")
    return folder


@pytest.fixture
def run(trained: Trained, tmp_path: Path) -> Path:
    """A copy of the session's run, told to have been made on a dataset that names its documents."""
    dataset = a_dataset(
        tmp_path / "dataset",
        instruct_train=[{"document_id": "d2"}, {"document_id": "d1"}, {"document_id": "d2"}],
        instruct_validation=[{"document_id": "d3"}],
        instruct_test=[{"document_id": "held-out"}],
        preference_train=[
            {"document_id": None, "document_ids": ["d4", "d5"]},
            {"document_id": "d1", "document_ids": []},
        ],
    )
    folder = Path(shutil.copytree(trained[0] / "sft", tmp_path / "out" / "sft"))
    told(folder, dataset=str(dataset), dataset_version=dataset_version(dataset))
    return folder


def told(folder: Path, **changes: object) -> None:
    record = json.loads((folder / "run.json").read_text())
    record["provenance"] |= changes
    (folder / "run.json").write_text(json.dumps(record))


def test_a_model_saw_the_documents_of_training_and_validation_and_no_held_out_one(run: Path) -> None:
    lineage = lineage_of(run)
    assert lineage.document_ids == ("d1", "d2", "d3", "d4", "d5")
    assert lineage.trained == ("sft",)
    assert lineage.dataset_version == dataset_version(Path(lineage.dataset))


def test_documents_are_found_in_a_provenance_too(tmp_path: Path) -> None:
    dataset = a_dataset(tmp_path, instruct_train=[{"instruction": "i", "provenance": {"document_id": "d7"}}])
    assert documents_in(dataset) == {"d7"}


def test_a_dpo_model_saw_what_the_sft_run_saw_that_it_began_with(run: Path, tmp_path: Path) -> None:
    pairs = a_dataset(tmp_path / "pairs", preference_train=[{"document_id": "d9"}])
    dpo = Path(shutil.copytree(run, run.parent / "dpo"))
    begun = folder_digest(run / "adapter")
    told(dpo, stage="dpo", started_from=begun, dataset=str(pairs), dataset_version=dataset_version(pairs))
    lineage = lineage_of(dpo)
    assert lineage.document_ids == ("d1", "d2", "d3", "d4", "d5", "d9")
    assert lineage.trained == ("sft", "dpo")
    moved = run.rename(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="began with an adapter that does not lie in"):
        lineage_of(dpo)
    assert lineage_of(dpo, start=moved) == lineage


@pytest.fixture
def later(run: Path, tmp_path: Path) -> Path:
    """A DPO run in another folder, on other pairs, that began with the adapter of ``run``."""
    pairs = a_dataset(tmp_path / "pairs", preference_train=[{"document_id": "d9"}])
    dpo = Path(shutil.copytree(run, tmp_path / "out-later" / "dpo"))
    version = dataset_version(pairs)
    told(dpo, stage="dpo", started_from=folder_digest(run / "adapter"), dataset=str(pairs), dataset_version=version)
    (dpo / "adapter" / "adapter_config.json").write_text("{}")  # its own weights are others
    return dpo


def test_what_a_run_saw_is_in_every_run_that_began_with_its_adapter(run: Path, later: Path, tmp_path: Path) -> None:
    assert runs_that_saw(tmp_path, ["d1"]) == ([run.parent, later.parent], [])
    assert runs_that_saw(tmp_path, ["d9"]) == ([later.parent], [])
    assert runs_that_saw(tmp_path, ["unseen"]) == ([], [])


def test_a_run_may_have_seen_anything_that_began_with_an_adapter_nobody_has(
    run: Path, later: Path, tmp_path: Path
) -> None:
    shutil.rmtree(run.parent)
    assert runs_that_saw(tmp_path, ["d1"]) == ([], [later.parent])
    assert runs_that_saw(tmp_path, ["d9"]) == ([later.parent], [])


def test_a_run_that_began_with_a_dpo_run_saw_what_all_before_it_saw(run: Path, later: Path, tmp_path: Path) -> None:
    third = Path(shutil.copytree(later, tmp_path / "third" / "dpo"))
    told(third, started_from=folder_digest(later / "adapter"))
    (third / "adapter" / "adapter_config.json").write_text("[]")
    Path(shutil.copytree(run, later.parent / "sft"))
    assert lineage_of(third, start=later).document_ids == ("d1", "d2", "d3", "d4", "d5", "d9")
    assert lineage_of(third, start=later).trained == ("sft", "dpo", "dpo")
    assert third.parent in runs_that_saw(tmp_path, ["d1"])[0]


def test_a_dataset_that_changed_or_went_says_so(run: Path, tmp_path: Path) -> None:
    a_dataset(tmp_path / "dataset", instruct_train=[{"document_id": "other"}])
    with pytest.raises(UsageError, match="has changed since the sft run saw it"):
        lineage_of(run)
    shutil.rmtree(tmp_path / "dataset")
    with pytest.raises(UsageError, match="is gone: nobody can say which documents it saw"):
        lineage_of(run)


def test_a_dataset_that_names_no_document_cannot_have_a_lineage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="names no documents"):
        documents_in(a_dataset(tmp_path, instruct_train=[{"instruction": "i", "answer": "a"}]))
