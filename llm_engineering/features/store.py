"""The feature store: every live document, cleaned, as one Parquet file for whoever works on the corpus outside."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from llm_engineering.domain.entities import DocumentState
from llm_engineering.domain.errors import StoreUnavailable
from llm_engineering.domain.ports import Warehouse

ROWS_AT_A_TIME = 256

SCHEMA = pa.schema(
    [
        ("document_id", pa.string()),
        ("revision", pa.int32()),
        ("content_hash", pa.string()),
        ("author_id", pa.string()),
        ("author", pa.string()),
        ("kind", pa.string()),
        ("platform", pa.string()),
        ("url", pa.string()),
        ("title", pa.string()),
        ("format", pa.string()),
        ("language", pa.string()),
        ("published_at", pa.timestamp("ms", tz="UTC")),
        ("text", pa.large_string()),
    ]
)
"""One row per live document; ``text`` is the reading view of its current revision."""


def write_cleaned(states: Iterable[DocumentState], path: Path, *, read: Callable[[DocumentState], str]) -> int:
    """Write one row per live document and return their number. Memory is bounded; the file appears whole or not at all."""
    part = path.with_suffix(".part")
    rows = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(part, SCHEMA, compression="zstd") as writer:
            for batch in _batches(state for state in states if state.live):
                writer.write_batch(pa.RecordBatch.from_pylist([_row(state, read(state)) for state in batch], SCHEMA))
                rows += len(batch)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StoreUnavailable(
            f"The cleaned documents cannot be written to {path}: {error.strerror or error}",
            hint="Free space on that disk, or set TWIN_HOME to another folder.",
        ) from error
    return rows


def corpus_version(warehouse: Warehouse) -> str:
    """A word that changes whenever any document does: the newest entry of the change log, hashed with its place."""
    head = warehouse.head()
    newest = warehouse.changes(after=head - 1, limit=1) if head else []
    particulars = "".join(f"{change.document_id}{change.revision}{change.at.isoformat()}" for change in newest)
    return f"{head}-{hashlib.sha256(particulars.encode()).hexdigest()[:12]}"


def _batches(states: Iterator[DocumentState]) -> Iterator[list[DocumentState]]:
    batch: list[DocumentState] = []
    for state in states:
        batch.append(state)
        if len(batch) == ROWS_AT_A_TIME:
            yield batch
            batch = []
    if batch:
        yield batch


def _row(state: DocumentState, text: str) -> dict[str, object]:
    document, revision = state.document, state.revision
    if revision is None:
        raise ValueError(f"document {document.id} has no revision to write")
    return {
        "document_id": document.id,
        "revision": revision.number,
        "content_hash": revision.content_hash,
        "author_id": state.author.id,
        "author": state.author.full_name,
        "kind": document.kind.value,
        "platform": document.platform,
        "url": document.url,
        "title": revision.title,
        "format": revision.format.value,
        "language": revision.language,
        "published_at": revision.published_at,
        "text": text.encode("utf-8", "replace").decode("utf-8"),
    }
