"""What the two Qdrant engines share: how a chunk becomes a point and back, and the few calls that each engine answers."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from llm_engineering.domain.entities import Chunk, Filters, Hit, IndexedChunk, SparseVector

DENSE = "dense"
SPARSE = "sparse"
KEYWORD_FIELDS = ("document_id", "vector_key", "author_id", "kind", "platform", "language")
DATE_FIELD = "published_at"

Payload = Mapping[str, Any]

_PARTICULARS = (
    "title",
    "url",
    "kind",
    "platform",
    "author_id",
    "author",
    "published_at",
    "language",
)
_HIT_FIELDS = (
    *_PARTICULARS,
    "document_id",
    "revision",
    "heading_path",
    "text",
    "start",
    "end",
    "window_start",
    "window_end",
)
_CHUNK_FIELDS = tuple(name for name in Chunk.model_fields if name != "id")


@dataclass(frozen=True)
class Selection:
    """Which points: keyword fields that must have one of the values, and a span of ``published_at``."""

    values: Mapping[str, Collection[str]] = field(default_factory=dict)
    since: str | None = None
    until: str | None = None

    def __bool__(self) -> bool:
        return bool(self.values or self.since or self.until)


@dataclass(frozen=True)
class Ranking:
    """One ranking asked of an engine: the nearest ``limit`` points to a vector among the selected ones."""

    vector: Sequence[float] | SparseVector
    selection: Selection
    limit: int


Ranked = list[tuple[int, float]]
"""The answer to a ranking: ids as the numbers that UUIDs are (they sort alike and are quicker), and scores."""


@dataclass(frozen=True)
class Point:
    """One stored point with as much of it as was asked for."""

    id: str
    payload: Payload
    dense: list[float] | None = None
    sparse: SparseVector | None = None


class Points(Protocol):
    """One collection of points in some engine. Raises :class:`~llm_engineering.domain.errors.StoreError` only."""

    def upsert(self, chunks: Sequence[IndexedChunk]) -> None:
        """Insert or replace by id; durable on return."""
        ...

    def delete(self, ids: Sequence[str]) -> None:
        """Remove points; unknown ids are passed over; durable on return."""
        ...

    def rank(self, rankings: Sequence[Ranking]) -> list[Ranked]:
        """Answer these rankings in one call, each best first."""
        ...

    def payloads(self, ids: Sequence[str], *, fields: Sequence[str] | None = None) -> dict[str, Payload]:
        """Payloads of these points (all fields, or these); unknown ids are absent."""
        ...

    def scroll(
        self, selection: Selection, *, fields: Sequence[str] | None = None, vectors: Sequence[str] = ()
    ) -> Iterator[Point]:
        """Every selected point, streamed, with its payload (all fields, or these) and the named vectors."""
        ...

    def count(self) -> int:
        """Number of points."""
        ...

    def distinct(self, field: str) -> set[str]:
        """Every value of a keyword field."""
        ...


def payload_of(indexed: IndexedChunk) -> dict[str, Any]:
    """The payload of a chunk's point: flat, readable by any other Qdrant client, vectors and id apart."""
    payload: dict[str, Any] = {name: getattr(indexed.chunk, name) for name in _CHUNK_FIELDS}
    payload |= {name: getattr(indexed, name) for name in _PARTICULARS}
    payload["heading_path"] = list(indexed.chunk.heading_path)
    payload["kind"] = indexed.kind.value
    payload["published_at"] = indexed.published_at.isoformat() if indexed.published_at else None
    payload["vector_key"] = indexed.vector_key
    return {name: _encodable(value) for name, value in payload.items()}


def _encodable(value: object) -> object:
    """A lone surrogate cannot leave Python: ``?`` stands in the index for it, at the same place, so that spans hold."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    return [_encodable(part) for part in value] if isinstance(value, list) else value


def chunk_of(point: Point) -> IndexedChunk:
    """The chunk that a point was made of."""
    payload = point.payload
    return IndexedChunk(
        chunk=Chunk(id=point.id, **{name: payload[name] for name in _CHUNK_FIELDS}),
        **{name: payload[name] for name in _PARTICULARS},
        vector_key=payload["vector_key"],
        dense=point.dense or [],
        sparse=point.sparse or SparseVector(indices=[], values=[]),
    )


def hit_of(id_: str, payload: Payload, *, score: float, dense: float | None, sparse: float | None) -> Hit:
    """The hit that a search returns for a point."""
    particulars = {name: payload[name] for name in _HIT_FIELDS}
    return Hit(chunk_id=id_, score=score, dense_score=dense, sparse_score=sparse, **particulars)


def selection_of(filters: Filters) -> Selection:
    """The points that filters leave."""
    wanted = {
        "author_id": filters.author_id,
        "kind": filters.kind.value if filters.kind else None,
        "platform": filters.platform,
        "language": filters.language,
    }
    values: dict[str, Collection[str]] = {name: (value,) for name, value in wanted.items() if value is not None}
    if filters.document_ids is not None:
        values["document_id"] = filters.document_ids
    return Selection(
        values,
        since=filters.since.isoformat() if filters.since else None,
        until=filters.until.isoformat() if filters.until else None,
    )


def chunk_ids(points: Points, document_ids: Sequence[str]) -> dict[str, set[str]]:
    """Ids of the stored chunks of each of these documents (all given keys present)."""
    found: dict[str, set[str]] = {id_: set() for id_ in document_ids}
    for some in batches(list(found), 500):
        for point in points.scroll(Selection({"document_id": some}), fields=("document_id",)):
            found[point.payload["document_id"]].add(point.id)
    return found


def known_vectors(points: Points, keys: Sequence[str]) -> dict[str, list[float]]:
    """Dense vectors stored under these keys; unknown keys are absent."""
    found: dict[str, list[float]] = {}
    for some in batches(list(dict.fromkeys(keys)), 500):
        for point in points.scroll(Selection({"vector_key": some}), fields=("vector_key",), vectors=(DENSE,)):
            if point.dense is not None:
                found[point.payload["vector_key"]] = point.dense
    return found


def all_chunks(points: Points) -> Iterator[IndexedChunk]:
    """Everything stored, streamed."""
    return (chunk_of(point) for point in points.scroll(Selection(), vectors=(DENSE, SPARSE)))


def batches(items: Sequence[str], size: int) -> Iterator[list[str]]:
    """The items in order, ``size`` at a time."""
    return (list(items[first : first + size]) for first in range(0, len(items), size))
