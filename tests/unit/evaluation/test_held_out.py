from collections.abc import Sequence
from pathlib import Path

import pytest

from llm_engineering.domain.errors import UsageError
from llm_engineering.domain.samples import Pair, PairSource, Split
from llm_engineering.domain.twin_evaluation_config import Distractor
from llm_engineering.evaluation.held_out import HeldOut, read_held_out
from llm_engineering.training.data import read_preferences
from tests.unit.evaluation.trained import pair, sample, write_dataset
from tests.unit.evaluation.writers import writer


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    train = [sample(text, "Ada", number) for text in writer("ada", prefix="known") for number in range(2)]
    train += [sample(text, "Ben") for text in writer("ben", documents=3)]
    test = [sample(text, "Ada") for text in writer("ada", seed=1, prefix="held")]
    return write_dataset(tmp_path / "v1", {Split.TRAIN: train, Split.TEST: test}, pairs=[pair(test[0], "worse")])


def read(
    dataset: Path, *, author: str | None = None, limit: int = 100, distractors: tuple[Distractor, ...] = (),
    seen: Sequence[str] = (), trained_on: Sequence[Path] = (),
) -> HeldOut:  # fmt: skip
    return read_held_out(
        dataset, author=author, limit=limit, seed=7, distractors=distractors, seen=seen, trained_on=trained_on
    )


def preferred(chosen: str, *documents: str) -> Pair:
    """Two answers of models, of which a person preferred one."""
    return Pair.judged("Why?", chosen, "no", source=PairSource.FEEDBACK, rejected_by="base", document_ids=documents)


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


def test_what_a_model_wrote_in_an_authors_place_is_training_text_and_nobodys_writing(tmp_path: Path) -> None:
    ada, ben = writer("ada"), writer("ben")
    folder = write_dataset(
        tmp_path / "v1",
        {
            Split.TRAIN: [sample(ada[0], "Ada"), sample(ada[1], "Ada", rephrased=True), sample(ben[0], "Ben", rephrased=True)],
            Split.TEST: [sample(ada[2], "Ada"), sample(ada[3], "Ada", rephrased=True)],
        },
    )  # fmt: skip
    found = read(folder)
    assert (found.answers, list(found.known), found.others) == ([ada[2]], [ada[0]], {})
    assert set(found.training) == {ada[0], ada[1], ben[0]}
    assert found.left_out == {"tasks that a model answered": 1}


def test_what_was_trained_on_is_not_held_out(tmp_path: Path) -> None:
    test = [sample(text, "Ada") for text in writer("ada", prefix="held", documents=3)]
    pairs = [pair(test[0], "worse"), pair(test[2], "worse"), preferred("yes", "held-1", "held-2")]
    folder = write_dataset(tmp_path / "v1", {Split.TEST: test}, pairs=pairs)
    found = read(folder, seen=["held-0", "held-1", "else"])
    assert [task.document_id for task in found.tasks] == ["held-2"]
    assert [one.document_ids for one in found.pairs] == [("held-2",)]
    assert found.left_out == {
        "tasks of documents that were trained on": 2,
        "pairs of documents that were trained on": 2,
    }
    with pytest.raises(UsageError, match="trained on all of its documents"):
        read(folder, seen=["held-0", "held-1", "held-2"])


def test_training_text_is_that_of_every_dataset_and_what_dpo_prefers_is_part_of_it(
    dataset: Path, tmp_path: Path
) -> None:
    (other,) = writer("cyd", documents=1, prefix="other")
    sft = write_dataset(tmp_path / "sft", {Split.TRAIN: [sample(other, "Cyd")]})
    dpo = write_dataset(tmp_path / "dpo", {}, learnt=[preferred("yes indeed", "d", "e"), preferred("so it is")])
    (dpo / "instruct" / "train.parquet").unlink()  # pairs alone are a dataset for DPO
    texts = [text.text for text in read(dataset, trained_on=[sft, dpo]).training]
    assert texts == [other.text, "yes indeed", "so it is"]
    with pytest.raises(UsageError, match=r"no instruct/train\.parquet"):
        read(dataset, trained_on=[tmp_path / "gone"])


def test_pairs_about_several_authors_have_no_author_as_in_training(tmp_path: Path) -> None:
    test = sample(writer("ada")[0], "Ada")
    folder = write_dataset(tmp_path / "v1", {Split.TEST: [test]}, pairs=[pair(test, "worse"), preferred("yes", "d")])
    assert [one.author for one in read(folder).pairs] == ["Ada", None]
    assert [one.author for one in read_preferences(folder, Split.TEST)] == ["Ada", None]


def test_the_author_is_no_distractor(dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "one.md").write_text("However.", encoding="utf-8")
    found = read(dataset, distractors=(Distractor(name="ada ", folder=tmp_path),))
    assert set(found.others) == {"Ben"}
    assert "is the author" in caplog.text


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
