"""Datasets as folders: ``<name>/<version>/`` with Parquet per split, card and exports; ``<name>/current`` names the newest.

A version is named by its content: building the same again writes nothing. A folder appears whole or not at all.
"""

import re
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from llm_engineering.dataset.card import Card, Pairs, Samples
from llm_engineering.dataset.export import PAIR_FORMS, SAMPLE_FORMS, json_lines, to_dpo, to_messages
from llm_engineering.dataset.readme import readme
from llm_engineering.dataset.sides import SIDES, KeptSides, forget_sides, keep_sides, read_sides
from llm_engineering.domain.dataset_config import SplitConfig
from llm_engineering.domain.errors import DatasetError, StoreUnavailable
from llm_engineering.domain.samples import Pair, Provenance, Sample, Split

Entry = TypeVar("Entry", Sample, Pair)

CURRENT = "current"
CARD = "card.json"
_GOING = ".going"
"""Ends the name of a folder that is being removed."""
_IS_VERSION = re.compile(r"\.?[0-9a-f]{12}(\.\w+)?")
_ROWS_PER_GROUP = 1000
"""So that whoever wants some rows of a file need not read those before them."""

_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.large_string())]))
_WHERE = [
    ("author_id", pa.string()),
    ("author", pa.string()),
    ("document_id", pa.string()),
    ("revision", pa.int32()),
    ("start", pa.int64()),
    ("end", pa.int64()),
    ("title", pa.string()),
    ("url", pa.string()),
    ("kind", pa.string()),
    ("heading_path", pa.list_(pa.string())),
    ("published_at", pa.timestamp("ms", tz="UTC")),
    ("language", pa.string()),
    ("licence", pa.string()),
    ("consent", pa.bool_()),
]
INSTRUCT = pa.schema(
    [
        ("id", pa.string()),
        ("instruction", pa.large_string()),
        ("answer", pa.large_string()),
        ("messages", _MESSAGES),
        ("origin", pa.string()),
        ("style", pa.string()),
        ("written_by", pa.string()),
        ("masked", pa.int32()),
        *_WHERE,
    ]
)
"""``instruct/<split>.parquet``: one row per sample; ``messages`` is the conversation as a trainer shows it to a model."""
PREFERENCE = pa.schema(
    [
        ("id", pa.string()),
        ("instruction", pa.large_string()),
        ("prompt", _MESSAGES),
        ("chosen", pa.large_string()),
        ("rejected", pa.large_string()),
        ("source", pa.string()),
        ("rejected_by", pa.string()),
        ("document_ids", pa.list_(pa.string())),
        *_WHERE,
    ]
)
"""``preference/<split>.parquet``: one row per pair; of the source's columns, pairs of judged answers have the author alone."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A build, ready to be written."""

    card: Card
    samples: Samples
    pairs: Pairs = field(default_factory=dict)


def write(dataset: Dataset, root: Path) -> bool:
    """Write the version's folder under ``root / name`` and make it the current one; false if it is there already.

    Raises :class:`StoreUnavailable` if it cannot be written; what was there before is then as it was.
    """
    home = root / dataset.card.name
    folder = home / dataset.card.version
    part = home / f".{dataset.card.version}.part"
    try:
        home.mkdir(parents=True, exist_ok=True)
        new = not (folder / CARD).exists()
        if new:
            shutil.rmtree(part, ignore_errors=True)
            _fill(dataset, part)
            shutil.rmtree(folder, ignore_errors=True)
            part.replace(folder)
        keep_sides(home, dataset.card)
        pointer = home / f".{CURRENT}.part"
        pointer.write_text(f"{dataset.card.version}\n", encoding="utf-8")
        pointer.replace(home / CURRENT)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise StoreUnavailable(
            f"The dataset cannot be written to {folder}: {error.strerror or error}",
            hint="Free space on that disk, or set TWIN_HOME to another folder.",
        ) from error
    return new


def current(root: Path, name: str) -> Card | None:
    """The card of the current version; ``None`` if nothing was built under that name.

    Raises :class:`DatasetError` for a card that cannot be read.
    """
    pointer = root / name / CURRENT
    if not pointer.exists():
        return None
    return read_card(root / name / pointer.read_text(encoding="utf-8").strip())


def sides(root: Path, name: str, split: SplitConfig) -> dict[str, Split]:
    """The side of every document that a build under that name, with these shares, has put on one; also if it is dropped."""
    kept = read_sides(root / name)
    if kept is None and (card := current(root, name)) is not None:
        kept = KeptSides.of(card)
    dealt = {"validation", "test", "salt"}  # how few a side may have moves nobody who has a side
    same = kept is not None and all(kept.split.get(name) == getattr(split, name) for name in dealt)
    return kept.sides if kept is not None and same else {}


def read_card(folder: Path) -> Card:
    """The card in a version's folder; :class:`DatasetError` if there is none that can be read."""
    try:
        return Card.model_validate_json((folder / CARD).read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no card of this version of the product"
        raise DatasetError(
            f"The dataset in {folder} cannot be read: {reason}",
            hint="Remove the folder and build it again: poe run-dataset-pipeline",
        ) from error


def versions(root: Path) -> Iterator[tuple[Path, Card]]:
    """Every version of every dataset under ``root``, by name and version; :func:`unreadable` has the others."""
    for folder in _folders(root):
        card = _card(folder)
        if card is not None:
            yield folder, card


def unreadable(root: Path) -> list[Path]:
    """Folders that no card speaks for, what a killed build left among them: nobody can say whose text they hold."""
    return [folder for folder in _folders(root) if _card(folder) is None]


def _folders(root: Path) -> list[Path]:
    return sorted(folder for folder in root.glob("*/*") if folder.is_dir())


def _card(folder: Path) -> Card | None:
    try:
        return read_card(folder)
    except DatasetError:
        return None


def holding(root: Path, document_ids: Collection[str]) -> list[tuple[Path, Card]]:
    """The versions that hold something of any of these documents: text, or title and address on the card alone."""
    wanted = set(document_ids)
    return [(folder, card) for folder, card in versions(root) if any(line.id in wanted for line in card.documents)]


def drop(root: Path, document_ids: Collection[str]) -> list[str]:
    """Remove every version of every dataset that holds something of these documents; returns what was removed, ``NAME VERSION``.

    Versions that no card speaks for go too, since they may hold it, and those that a killed call had begun to remove. The
    sides of all other documents are kept: what is built next must not move one. Raises :class:`StoreUnavailable`.
    """
    unfinished = list(root.glob(f"*/.*{_GOING}"))
    try:
        for folder in unfinished:
            shutil.rmtree(folder)
        doomed = [folder for folder, _ in holding(root, document_ids)]
        doomed += [folder for folder in unreadable(root) if document_ids and _IS_VERSION.fullmatch(folder.name)]
        for folder in doomed:
            _remove(folder)
        for file in root.glob(f"*/{SIDES}"):
            forget_sides(file.parent, document_ids)
    except OSError as error:
        raise StoreUnavailable(
            f"What was withdrawn is still in {error.filename or root}: {error.strerror or error}",
            hint="Make that folder writable, and run it again.",
        ) from error
    return list(dict.fromkeys(f"{folder.parent.name} {_version(folder)}" for folder in (*unfinished, *doomed)))


def _remove(folder: Path) -> None:
    """Remove a version. Its name goes first, so that a half of it is never taken for a version or for anybody else's."""
    pointer = folder.parent / CURRENT
    if pointer.exists() and pointer.read_text(encoding="utf-8").strip() == folder.name:
        if (card := _card(folder)) is not None:
            keep_sides(folder.parent, card)
        pointer.unlink()
    shutil.rmtree(folder.replace(folder.with_name(f".{_version(folder)}{_GOING}")))


def _version(folder: Path) -> str:
    return folder.name.strip(".").split(".")[0]


def _fill(dataset: Dataset, folder: Path) -> None:
    for split in Split:
        samples, pairs = dataset.samples.get(split, ()), dataset.pairs.get(split, ())
        _parquet(folder / "instruct" / f"{split}.parquet", INSTRUCT, [_sample_row(sample) for sample in samples])
        for form, convert in SAMPLE_FORMS.items():
            _lines(folder / "exports" / form / f"{split}.jsonl", samples, convert)
        if any(dataset.pairs.values()):
            _parquet(folder / "preference" / f"{split}.parquet", PREFERENCE, [_pair_row(pair) for pair in pairs])
            for form, convert_pair in PAIR_FORMS.items():
                _lines(folder / "exports" / form / f"{split}.jsonl", pairs, convert_pair)
    (folder / "README.md").write_text(readme(dataset.card), encoding="utf-8", errors="replace")
    card = dataset.card.model_dump_json(indent=1)
    (folder / CARD).write_text(card + "\n", encoding="utf-8", errors="replace")


def _parquet(path: Path, schema: pa.Schema, rows: Sequence[Mapping[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist([_encodable(row) for row in rows], schema)
    pq.write_table(table, path, compression="zstd", row_group_size=_ROWS_PER_GROUP)


def _lines(path: Path, entries: Iterable[Entry], convert: Callable[[Entry], dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json_lines(convert(entry) for entry in entries), encoding="utf-8", newline="\n")


def _sample_row(sample: Sample) -> dict[str, object]:
    kept = sample.model_dump(mode="python", exclude={"provenance", "origin", "style"})
    return {
        **kept,
        "origin": sample.origin.value,
        "style": sample.style.value,
        **to_messages(sample),
        **_where(sample.provenance),
    }


def _pair_row(pair: Pair) -> dict[str, object]:
    return {
        "id": pair.id,
        "instruction": pair.instruction,
        "prompt": to_dpo(pair)["prompt"],
        "chosen": pair.chosen,
        "rejected": pair.rejected,
        "source": pair.source.value,
        "rejected_by": pair.rejected_by,
        "document_ids": list(pair.document_ids),
        **(_where(pair.provenance) if pair.provenance else {}),
        "author": pair.author,
    }


def _where(provenance: Provenance) -> dict[str, object]:
    return {
        **provenance.model_dump(mode="python"),
        "kind": provenance.kind.value,
        "heading_path": list(provenance.heading_path),
    }


def _encodable(value: object) -> object:
    """Lone surrogates replaced: Parquet holds UTF-8 only."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, Mapping):
        return {key: _encodable(inner) for key, inner in value.items()}
    return [_encodable(inner) for inner in value] if isinstance(value, list) else value
