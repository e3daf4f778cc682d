from pathlib import Path

import pytest

from llm_engineering.domain.errors import UsageError
from llm_engineering.domain.samples import Split
from llm_engineering.domain.twin_evaluation_config import Distractor
from llm_engineering.evaluation.held_out import HeldOut, read_held_out
from tests.unit.evaluation.trained import pair, sample, write_dataset
from tests.unit.evaluation.writers import writer


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    train = [sample(text, "Ada", number) for text in writer("ada", prefix="known") for number in range(2)]
    train += [sample(text, "Ben") for text in writer("ben", documents=3)]
    test = [sample(text, "Ada") for text in writer("ada", seed=1, prefix="held")]
    return write_dataset(tmp_path / "v1", {Split.TRAIN: train, Split.TEST: test}, pairs=[pair(test[0], "worse")])


def read(
    dataset: Path, *, author: str | None = None, limit: int = 100, distractors: tuple[Distractor, ...] = ()
) -> HeldOut:
    return read_held_out(dataset, author=author, limit=limit, seed=7, distractors=distractors)


def test_tasks_are_of_the_test_split_and_known_texts_of_the_training_split(dataset: Path) -> None:
    found = read(dataset)
    assert (found.author, found.dataset, len(found.tasks)) == ("Ada", "v1", 8)
    assert {task.document_id for task in found.tasks}.isdisjoint(text.document_id for text in found.known)


def test_a_passage_that_several_instructions_ask_for_counts_once(dataset: Path) -> None:
    assert len(read(dataset).known) == 8
    assert len(read(dataset).training) == 11


def test_other_authors_of_the_dataset_are_distractors_and_files_may_be(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "cyd" / "notes").mkdir(parents=True)
    (tmp_path / "cyd" / "notes" / "one.md").write_text("However.", encoding="utf-8")
    found = read(dataset, distractors=(Distractor(name="Cyd", folder=tmp_path / "cyd"),))
    assert set(found.others) == {"Ben", "Cyd"}
    assert found.others["Cyd"][0].document_id == "Cyd/notes/one.md"


def test_a_distractor_that_is_not_there_is_left_out_with_a_word(
    dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert read(dataset, distractors=(Distractor(name="Cyd", folder=tmp_path / "none"),)).others["Cyd"] == ()
    assert "The texts of Cyd are not at" in caplog.text


def test_pairs_come_with_their_words(dataset: Path) -> None:
    (found,) = read(dataset).pairs
    assert (found.rejected, found.document_ids) == ("worse", ("held-0",))
    assert found.chosen == read(dataset).tasks[0].answer


def test_no_more_than_the_limit_and_the_same_ones_each_time(dataset: Path) -> None:
    assert len(read(dataset, limit=3).tasks) == 3
    assert read(dataset, limit=3) == read(dataset, limit=3)


def test_what_is_not_there_is_said(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no instruct/test\.parquet"):
        read(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="nothing by Ben"):
        read(dataset, author="Ben")
    (dataset / "instruct" / "test.parquet").write_bytes(b"broken")
    with pytest.raises(UsageError, match="cannot be read"):
        read(dataset)
