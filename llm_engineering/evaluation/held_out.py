"""What a trained twin is judged on: the held-out split of its dataset, and the training split that it was built from."""

import logging
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as arrow
import pyarrow.parquet as parquet

from llm_engineering.domain.entities import Frozen
from llm_engineering.domain.errors import UsageError
from llm_engineering.domain.samples import Pair, PairSource, Split
from llm_engineering.domain.twin_evaluation_config import Distractor
from llm_engineering.evaluation.prose import StyleText

_log = logging.getLogger(__name__)
_BUILD = "poe run-dataset-pipeline builds one."
_TEXT = {".md", ".markdown", ".txt"}


class Task(Frozen):
    """A held-out instruction with the author's own answer."""

    id: str
    document_id: str
    instruction: str
    answer: str


class HeldOut(Frozen):
    """One author's part of a dataset, for judging."""

    author: str
    dataset: str
    """Name of the folder: the dataset's version."""
    tasks: tuple[Task, ...]
    """Of the test split."""
    known: tuple[StyleText, ...]
    """The author's answers of the training split."""
    training: tuple[StyleText, ...]
    """Everything that any model trained on the dataset was shown as an answer, whoever wrote it."""
    others: dict[str, tuple[StyleText, ...]]
    """Texts of other authors."""
    pairs: tuple[Pair, ...]
    """Preference pairs of the test split."""

    @property
    def answers(self) -> list[StyleText]:
        """The author's held-out texts, each once."""
        return _once(StyleText(document_id=task.document_id, text=task.answer) for task in self.tasks)


def read_held_out(
    dataset: Path, *, author: str | None = None, distractors: Sequence[Distractor] = (), limit: int, seed: int
) -> HeldOut:
    """Read a dataset's folder; ``author`` is by default who wrote most of the test split.

    At most ``limit`` tasks and pairs, chosen by ``seed``. Raises :class:`UsageError` where there is no such dataset or author. A
    distractor whose folder is not there has no texts.
    """
    test, train = list(_rows(dataset, "instruct", Split.TEST)), list(_rows(dataset, "instruct", Split.TRAIN))
    name = author or next(iter(Counter(row["author"] for row in test).most_common(1)), (None,))[0]
    mine = [row for row in test if row["author"] == name]
    if name is None or not mine:
        raise UsageError(
            f"The test split of {dataset} holds nothing by {name or 'anybody'}",
            hint="Name an author of the dataset, or build one with a larger test split.",
        )
    tasks = [
        Task(id=row["id"], document_id=row["document_id"], instruction=row["instruction"], answer=row["answer"])
        for row in mine
    ]
    pairs = [pair for row in _rows(dataset, "preference", Split.TEST, required=False) if (pair := _pair(row, name))]
    others: dict[str, list[StyleText]] = {}
    for row in (*train, *test):
        if row["author"] != name:
            others.setdefault(str(row["author"]), []).append(_text(row))
    for each in distractors:
        others.setdefault(each.name, []).extend(_files(each))
    return HeldOut(
        author=name,
        dataset=dataset.name,
        tasks=tuple(_some(tasks, limit, seed)),
        known=tuple(_once(_text(row) for row in train if row["author"] == name)),
        training=tuple(_once(_text(row) for row in train)),
        others={who: tuple(_once(texts)) for who, texts in others.items()},
        pairs=tuple(_some(pairs, limit, seed)),
    )


def _rows(dataset: Path, part: str, split: Split, *, required: bool = True) -> Iterator[dict[str, Any]]:
    path = dataset / part / f"{split}.parquet"
    if not path.is_file():
        if required:
            raise UsageError(f"The dataset {dataset} has no {part}/{split}.parquet", hint=_BUILD)
        return
    try:
        yield from parquet.read_table(path).to_pylist()
    except (OSError, arrow.ArrowException) as error:
        raise UsageError(f"{path} cannot be read: {str(error).splitlines()[0]}", hint=_BUILD) from error


def _text(row: Mapping[str, Any]) -> StyleText:
    return StyleText(document_id=row["document_id"], text=row["answer"])


def _pair(row: Mapping[str, Any], author: str) -> Pair | None:
    """The pair, unless another author wrote it."""
    if row.get("author") not in (None, author):
        return None
    return Pair(
        id=row["id"],
        instruction=row["instruction"],
        chosen=row["chosen"],
        rejected=row["rejected"],
        source=PairSource(row["source"]),
        rejected_by=row["rejected_by"],
        document_ids=tuple(row["document_ids"] or ()),
    )


def _files(distractor: Distractor) -> Iterator[StyleText]:
    if not distractor.folder.is_dir():
        _log.warning(
            "The texts of %s are not at %s: style is compared without them; correct twin.distractors in the configuration",
            distractor.name,
            distractor.folder.absolute(),
        )
    for file in sorted(distractor.folder.rglob("*")):
        if file.suffix.lower() in _TEXT and file.is_file():
            where = f"{distractor.name}/{file.relative_to(distractor.folder).as_posix()}"
            yield StyleText(document_id=where, text=file.read_text(encoding="utf-8", errors="replace"))


def _once(texts: Iterable[StyleText]) -> list[StyleText]:
    """Without repetitions: several instructions may ask for one passage."""
    return list(dict.fromkeys(texts))


def _some(items: Sequence[Any], limit: int, seed: int) -> list[Any]:
    """At most so many, in their order, the same ones for the same seed."""
    if len(items) <= limit:
        return list(items)
    return [items[number] for number in sorted(random.Random(seed).sample(range(len(items)), limit))]
