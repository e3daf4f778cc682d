"""What is masked is nowhere in a dataset: not in titles, headings and card, not in what a teacher is sent."""

import pyarrow.parquet as pq
import pytest

from llm_engineering.dataset import store
from llm_engineering.dataset.build import MadePairs
from llm_engineering.dataset.teach import Lesson
from llm_engineering.domain.dataset_config import DatasetConfig, QualityConfig
from llm_engineering.domain.samples import InstructionStyle, Pair, PairSource
from tests.doubles.writing import SMALL, article, built, draft, passages_of, record, sentence, state_of

ADDRESS = "ada.winter@gmail.com"
TEXT = f"## Write me at {ADDRESS}\n\n{sentence('one')}\n\n{sentence('two')}"
TITLE = f"Mail {ADDRESS} for help"


def rejected(samples):
    wrong = article("wrong", sentences=2)
    return MadePairs([Pair.of(each, wrong, source=PairSource.OTHER, rejected_by="weak") for each in samples])


def written(folder, **quality):
    """Everything that the files of a build say."""
    record(folder, draft("d0", TEXT, title=TITLE))
    config = DatasetConfig(passages=SMALL, quality=QualityConfig(**quality))
    store.write(built(folder, config, make_pairs=rejected).dataset, folder / "datasets")
    files = [path for path in (folder / "datasets").rglob("*.*") if path.is_file()]
    tables = [str(pq.read_table(path).to_pylist()) for path in files if path.suffix == ".parquet"]
    return "\n".join([*tables, *(path.read_text() for path in files if path.suffix != ".parquet")])


def test_no_file_of_a_dataset_holds_an_address_that_stands_in_a_title_or_heading(tmp_path):
    text = written(tmp_path)
    assert ADDRESS not in text and "Mail [e-mail] for help" in text and "Write me at [e-mail]" in text


def test_without_masking_titles_and_headings_stay(tmp_path):
    assert ADDRESS in written(tmp_path, mask=False)


@pytest.mark.parametrize("style", [InstructionStyle.ASK, None])
def test_a_teacher_is_sent_no_address_that_stands_in_a_title_or_heading(tmp_path, style):
    (passage,), _ = passages_of(state_of(tmp_path, TEXT, title=TITLE))
    sent = "\n".join(message.content for message in Lesson(passage, style).prompt().messages)
    assert ADDRESS not in sent and 'title="Mail [e-mail] for help" section="Write me at [e-mail]"' in sent
