"""Points in a Qdrant Edge shard: the Rust engine in this process. Every call of the engine is made here."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_engineering.adapters.edge_errors import EngineErrors, require_space
from llm_engineering.adapters.qdrant_points import (
    DATE_FIELD,
    DENSE,
    KEYWORD_FIELDS,
    SPARSE,
    Payload,
    Point,
    Ranked,
    Ranking,
    Selection,
    payload_of,
)
from llm_engineering.domain.entities import IndexedChunk, SparseVector
from llm_engineering.domain.errors import StoreUnavailable

if TYPE_CHECKING:
    import qdrant_edge

logger = logging.getLogger(__name__)

_PAGE = 1000
_VACUUM_FROM = (0.1, 100)
"""Share of deleted points, and points, from which a segment is vacuumed: early, because IDF counts deleted points until then."""
_EVERY_DELETED = (1e-9, 0)
_OVERSAMPLING = 1.5
"""Quantised candidates that are scored again exactly, per hit: finds the hundred that an exact search finds."""


class EdgePoints:
    """The points of one shard in a folder. Cheap to read from many threads; written by one session at a time.

    The shard has no write-ahead log: each write ends with a flush, after which a killed process loses nothing. A shard
    that nobody writes may be loaded by several processes at once.
    """

    def __init__(self, shard: "qdrant_edge.EdgeShard", folder: Path) -> None:
        self._shard = shard
        self._folder = folder

    @classmethod
    def create(cls, folder: Path, *, dimensions: int) -> "EdgePoints":
        """A new empty shard in a folder that does not exist yet."""
        import qdrant_edge as edge

        config = _config(dimensions)
        cold = edge.Memory.Cold
        require_space(folder.parent)
        with EngineErrors(f"The index in {folder} cannot be created"):
            shard = edge.EdgeShard.create(str(folder), config)
            keyword = edge.KeywordIndexParams(memory=cold)
            for name in KEYWORD_FIELDS:
                shard.update(edge.UpdateOperation.create_field_index(name, keyword))
            date = edge.DatetimeIndexParams(memory=cold)
            shard.update(edge.UpdateOperation.create_field_index(DATE_FIELD, date))
            shard.flush()
        return cls(shard, folder)

    @classmethod
    def load(cls, folder: Path, *, dimensions: int | None = None) -> "EdgePoints":
        """An existing shard; with ``dimensions`` its configuration is written anew, whatever a killed process left there."""
        import qdrant_edge as edge

        with EngineErrors(f"The index in {folder} cannot be opened"):
            return cls(edge.EdgeShard.load(str(folder), _config(dimensions) if dimensions else None), folder)

    def close(self) -> None:
        """Release files and memory."""
        with EngineErrors(f"The index in {self._folder} cannot be closed"):
            self._shard.close()

    def upsert(self, chunks: Sequence[IndexedChunk]) -> None:
        """Insert or replace by id; durable on return."""
        import qdrant_edge as edge

        require_space(self._folder)
        with self._writing():
            points = [
                edge.Point(
                    id=indexed.chunk.id,
                    vector={
                        DENSE: indexed.dense,
                        SPARSE: edge.SparseVector(indexed.sparse.indices, indexed.sparse.values),
                    },
                    payload=payload_of(indexed),
                )
                for indexed in chunks
            ]
            self._shard.update(edge.UpdateOperation.upsert_points(points))
            self._shard.flush()

    def delete(self, ids: Sequence[str]) -> None:
        """Remove points; unknown ids are passed over; durable on return."""
        import qdrant_edge as edge

        with self._writing():
            self._shard.update(edge.UpdateOperation.delete_points(list(ids)))
            self._shard.flush()

    def delete_torn(self) -> None:
        """Remove what a killed writer left half written: points without a payload belong to no document."""
        import qdrant_edge as edge

        nameless = edge.Filter(must=[edge.IsEmptyCondition("document_id")])
        with self._writing():
            self._shard.update(edge.UpdateOperation.delete_points_by_filter(nameless))
            self._shard.flush()

    def settle(self) -> None:
        """Quantise and vacuum where enough has changed (the engine decides); free where it has not.

        Without room for that the points stay as they are: durable and found, in more space and time than they need.
        """
        try:
            require_space(self._folder)
            with self._writing():
                changed = self._shard.optimize()
        except StoreUnavailable as error:
            logger.warning("the index was not optimised, the next commit tries again: %s", error.message)
            return
        if changed:
            with self._writing():
                self._shard.flush()

    def erase_deleted(self, *, dimensions: int) -> None:
        """Write every segment that has deleted points anew, so that their bytes are in no file any more.

        Otherwise a deleted point's payload stays in its file until enough of its segment is deleted. Raises
        :class:`StoreUnavailable` without room for it.
        """
        import qdrant_edge as edge

        require_space(self._folder)
        with self._writing():
            self._shard.close()
            strict = edge.EdgeShard.load(str(self._folder), _config(dimensions, vacuum_from=_EVERY_DELETED))
            try:
                if strict.optimize():
                    strict.flush()
            finally:
                strict.close()
            self._shard = edge.EdgeShard.load(str(self._folder), _config(dimensions))

    def rank(self, rankings: Sequence[Ranking]) -> list[Ranked]:
        """Answer these rankings in one call, each best first."""
        import qdrant_edge as edge

        rescored = edge.SearchParams(
            quantization=edge.QuantizationSearchParams(rescore=True, oversampling=_OVERSAMPLING)
        )
        with self._reading():
            requests = [
                edge.QueryRequest(
                    limit=ranking.limit,
                    query=_nearest(ranking.vector),
                    filter=_filter(ranking.selection),
                    params=None if isinstance(ranking.vector, SparseVector) else rescored,
                    with_payload=False,
                )
                for ranking in rankings
            ]
            answers: Any = self._shard.query_batch(edge.QueryBatchRequest(requests))
        return [[(found.id.int, found.score) for found in answer] for answer in answers]

    def payloads(self, ids: Sequence[str], *, fields: Sequence[str] | None = None) -> dict[str, Payload]:
        """Payloads of these points (all fields, or these); unknown ids are absent."""
        with self._reading():
            records = self._shard.retrieve(list(ids), True if fields is None else list(fields), False)
        return {str(record.id): record.payload or {} for record in records}

    def scroll(
        self, selection: Selection, *, fields: Sequence[str] | None = None, vectors: Sequence[str] = ()
    ) -> Iterator[Point]:
        """Every selected point, streamed, with its payload (all fields, or these) and the named vectors."""
        import qdrant_edge as edge

        offset = None
        while True:
            with self._reading():
                records, offset = self._shard.scroll(
                    edge.ScrollRequest(
                        offset=offset,
                        limit=_PAGE,
                        filter=_filter(selection),
                        with_payload=True if fields is None else list(fields),
                        with_vector=list(vectors) if vectors else False,
                    )
                )
            yield from (_point(record) for record in records)
            if offset is None:
                return

    def count(self) -> int:
        """Number of points."""
        import qdrant_edge as edge

        with self._reading():
            return int(self._shard.count(edge.CountRequest(exact=True)))

    def distinct(self, field: str) -> set[str]:
        """Every value of a keyword field."""
        import qdrant_edge as edge

        with self._reading():
            hits = self._shard.facet(edge.FacetRequest(field, limit=self.count() + 1, exact=True)).hits
        return {str(hit.value) for hit in hits if hit.count}  # a value whose points are gone counts 0

    def _reading(self) -> "EngineErrors":
        return EngineErrors(f"The index in {self._folder} cannot be read")

    def _writing(self) -> "EngineErrors":
        return EngineErrors(f"The index in {self._folder} cannot be written")


def _config(dimensions: int, *, vacuum_from: tuple[float, int] = _VACUUM_FROM) -> "qdrant_edge.EdgeConfig":
    import qdrant_edge as edge

    # Mapped from disk instead of read into memory: opening takes about the same time whatever the size, half of what it takes
    # otherwise at 100,000 points, and searches are no slower once the pages are there.
    cold = edge.Memory.Cold
    share, fewest = vacuum_from
    return edge.EdgeConfig(
        vectors={DENSE: edge.EdgeVectorParams(size=dimensions, distance=edge.Distance.Cosine, memory=cold)},
        sparse_vectors={SPARSE: edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf, memory=cold)},
        payload_memory=cold,
        id_tracker_memory=cold,
        # No graph (m=0): quantised exhaustive search with rescoring is exact and needs no building time.
        hnsw_config=edge.HnswIndexConfig(m=0, ef_construct=16, full_scan_threshold=10_000),
        quantization_config=edge.TurboQuantQuantizationConfig(bits=edge.TurboQuantBitSize.Bits4, memory=cold),
        optimizers=edge.EdgeOptimizersConfig(deleted_threshold=share, vacuum_min_vector_number=fewest),
        wal_enabled=False,
    )


def _nearest(vector: Sequence[float] | SparseVector) -> "qdrant_edge.Query":
    import qdrant_edge as edge

    if isinstance(vector, SparseVector):
        return edge.Query.Nearest(edge.SparseVector(vector.indices, vector.values), using=SPARSE)
    return edge.Query.Nearest(list(vector), using=DENSE)


def _filter(selection: Selection) -> "qdrant_edge.Filter | None":
    import qdrant_edge as edge

    if not selection:
        return None
    must: list[Any] = [
        edge.FieldCondition(name, match=edge.MatchAny(list(values))) for name, values in selection.values.items()
    ]
    if selection.since or selection.until:
        span = edge.RangeDateTime(gte=selection.since, lt=selection.until)
        must.append(edge.FieldCondition(DATE_FIELD, range=span))
    return edge.Filter(must=must)


def _point(record: "qdrant_edge.Record") -> Point:
    vectors: Any = record.vector or {}  # by name, as the shard was created
    sparse = vectors.get(SPARSE)
    return Point(
        id=str(record.id),
        payload=record.payload or {},
        dense=vectors.get(DENSE),
        sparse=None if sparse is None else SparseVector(indices=sparse.indices, values=sparse.values),
    )
