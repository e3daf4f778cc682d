"""Points in a collection of a Qdrant server, through the vendor's client."""

import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from llm_engineering.adapters.index_session import RUN_FIRST
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
from llm_engineering.domain.errors import IndexMissing, StoreError, StoreUnavailable

if TYPE_CHECKING:
    from qdrant_client import QdrantClient, models

_PAGE = 500
_PER_REQUEST = 200
"""Points of one upsert: some two megabytes of JSON."""
_OVERSAMPLING = 3.0


class ServerPoints:
    """The points of one collection (or alias). Writes wait until the server has applied them."""

    def __init__(self, client: "QdrantClient", collection: str, address: str) -> None:
        self._client = client
        self._collection = collection
        self._address = address

    @classmethod
    def create(
        cls, client: "QdrantClient", collection: str, address: str, *, dimensions: int, metadata: dict[str, Any]
    ) -> "ServerPoints":
        """A new empty collection with its payload indexes."""
        from qdrant_client import models

        with server_errors(address):
            client.create_collection(
                collection,
                vectors_config={DENSE: models.VectorParams(size=dimensions, distance=models.Distance.COSINE)},
                sparse_vectors_config={SPARSE: models.SparseVectorParams(modifier=models.Modifier.IDF)},
                quantization_config=models.ScalarQuantization(
                    scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, always_ram=True)
                ),
                metadata=metadata,
            )
            for name in KEYWORD_FIELDS:
                client.create_payload_index(collection, name, models.PayloadSchemaType.KEYWORD, wait=True)
            client.create_payload_index(collection, DATE_FIELD, models.PayloadSchemaType.DATETIME, wait=True)
        return cls(client, collection, address)

    def upsert(self, chunks: Sequence[IndexedChunk]) -> None:
        """Insert or replace by id; durable on return."""
        from qdrant_client import models

        for first in range(0, len(chunks), _PER_REQUEST):
            points = [
                models.PointStruct(
                    id=indexed.chunk.id,
                    vector={
                        DENSE: indexed.dense,
                        SPARSE: models.SparseVector(indices=indexed.sparse.indices, values=indexed.sparse.values),
                    },
                    payload=payload_of(indexed),
                )
                for indexed in chunks[first : first + _PER_REQUEST]
            ]
            with server_errors(self._address):
                self._client.upsert(self._collection, points, wait=True)

    def delete(self, ids: Sequence[str]) -> None:
        """Remove points; unknown ids are passed over; durable on return."""
        from qdrant_client import models

        with server_errors(self._address):
            self._client.delete(self._collection, models.PointIdsList(points=list(ids)), wait=True)

    def rank(self, rankings: Sequence[Ranking]) -> list[Ranked]:
        """Answer these rankings in one call, each best first."""
        from qdrant_client import models

        rescored = models.SearchParams(
            quantization=models.QuantizationSearchParams(rescore=True, oversampling=_OVERSAMPLING)
        )
        requests = [
            models.QueryRequest(
                query=_nearest(ranking.vector),
                using=SPARSE if isinstance(ranking.vector, SparseVector) else DENSE,
                filter=_filter(ranking.selection),
                params=None if isinstance(ranking.vector, SparseVector) else rescored,
                limit=ranking.limit,
                with_payload=False,
            )
            for ranking in rankings
        ]
        with server_errors(self._address):
            answers = self._client.query_batch_points(self._collection, requests)
        return [[(uuid.UUID(str(found.id)).int, found.score) for found in answer.points] for answer in answers]

    def payloads(self, ids: Sequence[str], *, fields: Sequence[str] | None = None) -> dict[str, Payload]:
        """Payloads of these points (all fields, or these); unknown ids are absent."""
        if not ids:
            return {}
        with server_errors(self._address):
            records = self._client.retrieve(
                self._collection, list(ids), with_payload=True if fields is None else list(fields)
            )
        return {str(record.id): record.payload or {} for record in records}

    def scroll(
        self, selection: Selection, *, fields: Sequence[str] | None = None, vectors: Sequence[str] = ()
    ) -> Iterator[Point]:
        """Every selected point, streamed, with its payload (all fields, or these) and the named vectors."""
        offset = None
        while True:
            with server_errors(self._address):
                records, offset = self._client.scroll(
                    self._collection,
                    scroll_filter=_filter(selection),
                    limit=_PAGE,
                    offset=offset,
                    with_payload=True if fields is None else list(fields),
                    with_vectors=list(vectors) if vectors else False,
                )
            yield from (_point(record) for record in records)
            if offset is None:
                return

    def count(self) -> int:
        """Number of points."""
        with server_errors(self._address):
            return self._client.count(self._collection, exact=True).count

    def distinct(self, field: str) -> set[str]:
        """Every value of a keyword field."""
        limit = self.count() + 1
        with server_errors(self._address):
            hits = self._client.facet(self._collection, field, limit=limit, exact=True).hits
        return {str(hit.value) for hit in hits if hit.count}  # a value whose points are gone counts 0


@contextmanager
def server_errors(address: str) -> Iterator[None]:
    """Turn the client's errors into ours: no server, no access, no collection, or a refusal with the server's own words."""
    from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
    from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

    try:
        yield
    except ResponseHandlingException as error:
        raise StoreUnavailable(
            f"The Qdrant server at {address} does not answer: {type(error.source).__name__}",
            hint="Start it (poe up) or correct INDEX_URL.",
        ) from error
    except ResourceExhaustedResponse as error:
        raise StoreUnavailable(f"The Qdrant server at {address} is over its limits", hint="Try later.") from error
    except UnexpectedResponse as error:
        raise _refusal(address, error.status_code or 0, _reason(error.content)) from error


def _refusal(address: str, status: int, reason: str) -> StoreError:
    if status in (401, 403):
        return StoreUnavailable(
            f"The Qdrant server at {address} refuses access ({status})", hint="Set INDEX_API_KEY to its API key."
        )
    if status == 404:
        return IndexMissing(
            f"The Qdrant server at {address} has no such collection: {reason}",
            hint=RUN_FIRST,
        )
    if status >= 500 or status == 429:
        return StoreUnavailable(f"The Qdrant server at {address} failed ({status}): {reason}", hint="See its log.")
    return StoreError(f"The Qdrant server at {address} refused a request ({status}): {reason}")


def _reason(content: bytes) -> str:
    try:
        return str(json.loads(content)["status"]["error"])[:300]
    except (ValueError, KeyError, TypeError):
        return content[:200].decode("utf-8", "replace")


def _nearest(vector: Sequence[float] | SparseVector) -> "list[float] | models.SparseVector":
    from qdrant_client import models

    if isinstance(vector, SparseVector):
        return models.SparseVector(indices=vector.indices, values=vector.values)
    return list(vector)


def _filter(selection: Selection) -> "models.Filter | None":
    from qdrant_client import models

    if not selection:
        return None
    must: list[Any] = [
        models.FieldCondition(key=name, match=models.MatchAny(any=list(values)))
        for name, values in selection.values.items()
    ]
    if selection.since or selection.until:
        span = models.DatetimeRange.model_validate({"gte": selection.since, "lt": selection.until})
        must.append(models.FieldCondition(key=DATE_FIELD, range=span))
    return models.Filter(must=must)


def _point(record: "models.Record") -> Point:
    vectors: Any = record.vector or {}  # by name, as the collection was created
    sparse = vectors.get(SPARSE)
    return Point(
        id=str(record.id),
        payload=record.payload or {},
        dense=vectors.get(DENSE),
        sparse=None if sparse is None else SparseVector(indices=sparse.indices, values=sparse.values),
    )
