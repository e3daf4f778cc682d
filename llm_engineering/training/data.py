"""What a dataset folder holds for training: ``instruct`` and ``preference``, each in splits of Parquet."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from llm_engineering.domain.errors import UsageError
from llm_engineering.domain.samples import Split

_BUILD = "poe run-dataset-pipeline builds one."


class Example(NamedTuple):
    """An instruction, the author's answer to it, and whose voice it is."""

    instruction: str
    answer: str
    author: str | None


class Preference(NamedTuple):
    """An instruction and two answers, of which ``chosen`` is preferred."""

    instruction: str
    chosen: str
    rejected: str
    author: str | None


def read_examples(dataset: Path, split: Split) -> list[Example]:
    """The samples of a split in their order; :class:`UsageError` where there is none."""
    rows = _rows(dataset, "instruct", split, ("instruction", "answer"))
    return [Example(row["instruction"], row["answer"], _author(row)) for row in rows]


def read_preferences(dataset: Path, split: Split) -> list[Preference]:
    """The pairs of a split in their order; :class:`UsageError` where there is none."""
    rows = _rows(dataset, "preference", split, ("instruction", "chosen", "rejected"))
    return [Preference(row["instruction"], row["chosen"], row["rejected"], _author(row)) for row in rows]


def dataset_version(dataset: Path) -> str:
    """Digest over every Parquet file of the folder: the same content has the same version, wherever it lies."""
    digest = hashlib.sha256()
    for path in sorted(dataset.rglob("*.parquet")):
        digest.update(path.relative_to(dataset).as_posix().encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _rows(dataset: Path, part: str, split: Split, columns: Sequence[str]) -> list[dict[str, Any]]:
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    path = dataset / part / f"{split}.parquet"
    if not dataset.is_dir():
        raise UsageError(f"There is no dataset at {dataset}", hint=_BUILD)
    if not path.is_file():
        raise UsageError(f"The dataset {dataset} has no {part}/{split}.parquet", hint=_BUILD)
    try:
        table = parquet.read_table(path)
    except (arrow.ArrowException, OSError) as error:
        raise UsageError(f"{path} cannot be read as Parquet: {error}", hint="Build the dataset again.") from error
    missing = [column for column in columns if column not in table.column_names]
    if missing:
        raise UsageError(f"{path} has no column {', '.join(missing)}", hint="Build the dataset again.")
    if table.num_rows == 0:
        raise UsageError(
            f"The {split} split of {dataset / part} is empty", hint="Add documents, or give the split a larger share."
        )
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def _author(row: dict[str, Any]) -> str | None:
    """The author's name, from a column of its own or from the provenance."""
    name = row.get("author") or (row.get("provenance") or {}).get("author")
    return str(name) if name else None
