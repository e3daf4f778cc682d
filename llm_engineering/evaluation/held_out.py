"""What a trained twin is judged on: the held-out split of its dataset, and the training split that it was built from."""

import logging
import random
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as arrow
import pyarrow.parquet as parquet
from pydantic import Field

from llm_engineering.domain.entities import Frozen, fold
from llm_engineering.domain.errors import UsageError
from llm_engineering.domain.samples import Origin, Pair, PairSource, Split
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
    """Of the test split, with answers that the author wrote."""
    known: tuple[StyleText, ...]
    """What the author wrote of the training split."""
    training: tuple[StyleText, ...]
    """Everything that a model trained on the datasets was shown as a good answer, whoever wrote it: SFT's answers and DPO's
    ``chosen``."""
    others: dict[str, tuple[StyleText, ...]]
    """What other authors wrote."""
    pairs: tuple[Pair, ...]
    """Preference pairs of the test split. Of several authors' documents they have no author, as in training."""
    left_out: dict[str, int] = Field(default_factory=dict)
    """By reason, how many tasks and pairs of the test split are not among these, although the author's."""

    @property
    def answers(self) -> list[StyleText]:
        """The author's held-out texts, each once."""
        return _once(StyleText(document_id=task.document_id, text=task.answer) for task in self.tasks)


def read_held_out(
    dataset: Path,
    *,
    author: str | None = None,
    distractors: Sequence[Distractor] = (),
    limit: int,
    seed: int,
    seen: Collection[str] = (),
    trained_on: Sequence[Path] = (),
) -> HeldOut:
    """Read a dataset's folder; ``author`` is by default who wrote most of the test split.

    What a model wrote in an author's place (rephrased answers) is training text, and neither the author's nor another's writing.
    ``seen`` are ids of documents that a judged model was trained on: nothing of theirs is held out. ``trained_on`` are the
    datasets that the training text is read from, by default this one. At most ``limit`` tasks and pairs, chosen by ``seed``.

    Raises :class:`UsageError` where there is no such dataset or author, or nothing of the author's is held out. A distractor
    whose folder is not there has no texts; the author is none.
    """
    of_test = list(_rows(dataset, "instruct", Split.TEST))
    test, train = _written(of_test), _written(_rows(dataset, "instruct", Split.TRAIN))
    name = author or next(iter(Counter(row["author"] for row in test).most_common(1)), (None,))[0]
    mine = [row for row in test if row["author"] == name]
    if name is None or not mine:
        raise UsageError(
            f"The test split of {dataset} holds nothing by {name or 'anybody'}",
            hint="Name an author of the dataset, or build one with a larger test split.",
        )
    met = frozenset(seen)
    tasks = [
        Task(id=row["id"], document_id=row["document_id"], instruction=row["instruction"], answer=row["answer"])
        for row in mine
        if row["document_id"] not in met
    ]
    if not tasks:
        raise UsageError(
            f"Nothing by {name} in the test split of {dataset} is held out: the model was trained on all of its documents",
            hint="Judge it on the dataset that it was trained on.",
        )
    paired = [pair for row in _rows(dataset, "preference", Split.TEST, required=False) if (pair := _pair(row, name))]
    pairs = [pair for pair in paired if met.isdisjoint(pair.document_ids)]
    left_out = {
        "tasks that a model answered": sum(row["author"] == name for row in of_test) - len(mine),
        "tasks of documents that were trained on": len(mine) - len(tasks),
        "pairs of documents that were trained on": len(paired) - len(pairs),
    }
    return HeldOut(
        author=name,
        dataset=dataset.name,
        tasks=tuple(_some(tasks, limit, seed)),
        known=tuple(_once(_text(row) for row in train if row["author"] == name)),
        training=tuple(_once(text for folder in trained_on or (dataset,) for text in _learnt(folder))),
        others=_others(name, (*train, *test), distractors),
        pairs=tuple(_some(pairs, limit, seed)),
        left_out={reason: count for reason, count in left_out.items() if count},
    )


def _written(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those whose answer the author wrote."""
    return [row for row in rows if (row.get("origin") or Origin.AUTHOR) == Origin.AUTHOR]


def _learnt(dataset: Path) -> Iterator[StyleText]:
    """What training on a dataset shows as good answers: of SFT, of DPO, or of both."""
    both = (dataset / "preference" / f"{Split.TRAIN}.parquet").is_file()
    for row in _rows(dataset, "instruct", Split.TRAIN, required=not both):
        yield _text(row)
    for row in _rows(dataset, "preference", Split.TRAIN, required=False):
        yield StyleText(document_id=next(iter(row["document_ids"] or ()), row["id"]), text=row["chosen"])


def _others(
    author: str, rows: Iterable[Mapping[str, Any]], distractors: Sequence[Distractor]
) -> dict[str, tuple[StyleText, ...]]:
    """The texts of everybody else."""
    found: dict[str, list[StyleText]] = {}
    for row in rows:
        if row["author"] != author:
            found.setdefault(str(row["author"]), []).append(_text(row))
    for each in distractors:
        if fold(each.name) == fold(author):
            _log.warning(
                "%s is among twin.distractors and is the author: no writer is compared with themselves", author
            )
        else:
            found.setdefault(each.name, []).extend(_files(each))
    return {who: tuple(_once(texts)) for who, texts in found.items()}


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
        author=row.get("author"),
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
