"""A Qdrant REST server for the real ``QdrantClient``: the vendor's own models check each request, Qdrant Edge answers it.

It knows the calls that the product makes and refuses every other one with 404, and an unknown field with 400, as the
real server does. State lives in memory and in a folder, for one test.
"""

import json
import re
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import qdrant_edge as edge
from pydantic import BaseModel, TypeAdapter, ValidationError
from qdrant_client.http import models

_INSERT: TypeAdapter[Any] = TypeAdapter(models.PointInsertOperations)
_SELECT: TypeAdapter[Any] = TypeAdapter(models.PointsSelector)
_FIELD_TYPES = {
    models.PayloadSchemaType.KEYWORD: edge.PayloadSchemaType.Keyword,
    models.PayloadSchemaType.DATETIME: edge.PayloadSchemaType.Datetime,
}


class Refused(Exception):
    """Answered with this status and message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Collection:
    """One collection: an Edge shard and what Edge does not keep."""

    shard: edge.EdgeShard
    folder: Path
    metadata: dict[str, Any] = field(default_factory=dict)


class QdrantDouble:
    """The state of the server and one method per call."""

    def __init__(self, folder: Path, *, api_key: str | None = None, version: str | None = None) -> None:
        self.folder = folder
        self.api_key = api_key
        self.version = version or installed("qdrant-client")
        self.collections: dict[str, Collection] = {}
        self.aliases: dict[str, str] = {}
        self.failing_with: int | None = None
        """Set to a status, every call but the version is answered with it."""
        self._one_at_a_time = threading.RLock()
        self._routes: list[tuple[str, re.Pattern[str], Callable[..., Any]]] = [
            ("GET", re.compile(r"/collections"), self._list),
            ("GET", re.compile(r"/aliases"), self._list_aliases),
            ("POST", re.compile(r"/collections/aliases"), self._change_aliases),
            ("PUT", re.compile(r"/collections/([^/]+)"), self._create),
            ("GET", re.compile(r"/collections/([^/]+)"), self._describe),
            ("PATCH", re.compile(r"/collections/([^/]+)"), self._update),
            ("DELETE", re.compile(r"/collections/([^/]+)"), self._delete),
            ("PUT", re.compile(r"/collections/([^/]+)/index"), self._create_index),
            ("PUT", re.compile(r"/collections/([^/]+)/points"), self._upsert),
            ("POST", re.compile(r"/collections/([^/]+)/points"), self._retrieve),
            ("POST", re.compile(r"/collections/([^/]+)/points/delete"), self._delete_points),
            ("POST", re.compile(r"/collections/([^/]+)/points/scroll"), self._scroll),
            ("POST", re.compile(r"/collections/([^/]+)/points/count"), self._count),
            ("POST", re.compile(r"/collections/([^/]+)/points/query/batch"), self._query_batch),
            ("POST", re.compile(r"/collections/([^/]+)/facet"), self._facet),
        ]

    def answer(self, method: str, path: str, body: bytes, api_key: str | None) -> Any:
        """The result of one call; raises :class:`Refused`."""
        if self.api_key is not None and api_key != self.api_key:
            raise Refused(401, "Must provide an API key or an Authorization bearer token")
        if path == "/":
            return {"title": "qdrant - vector search engine", "version": self.version}
        if self.failing_with is not None:
            raise Refused(self.failing_with, "as the test wished")
        for verb, pattern, call in self._routes:
            match = pattern.fullmatch(path)
            if verb == method and match:
                with self._one_at_a_time:
                    return call(*match.groups(), body)
        raise Refused(404, f"no such call here: {method} {path}")

    def close(self) -> None:
        for collection in self.collections.values():
            collection.shard.close()

    def _named(self, name: str) -> Collection:
        found = self.collections.get(self.aliases.get(name, name))
        if found is None:
            raise Refused(404, f"Not found: Collection `{name}` doesn't exist!")
        return found

    def _list(self, _: bytes) -> Any:
        return {"collections": [{"name": name} for name in self.collections]}

    def _list_aliases(self, _: bytes) -> Any:
        return {"aliases": [{"alias_name": key, "collection_name": value} for key, value in self.aliases.items()]}

    def _change_aliases(self, body: bytes) -> Any:
        for action in models.ChangeAliasesOperation.model_validate_json(body).actions:
            if isinstance(action, models.CreateAliasOperation):
                alias = action.create_alias
                self._named(alias.collection_name)
                if alias.alias_name in self.collections:
                    raise Refused(409, f"Collection {alias.alias_name} already exists")
                self.aliases[alias.alias_name] = alias.collection_name
            else:
                raise Refused(404, "only aliases are created here")
        return True

    def _create(self, name: str, body: bytes) -> Any:
        wanted = models.CreateCollection.model_validate_json(body)
        if name in self.collections:
            raise Refused(409, f"Wrong input: Collection `{name}` already exists!")
        config = edge.EdgeConfig(
            vectors={
                key: edge.EdgeVectorParams(size=params.size, distance=edge.Distance.Cosine)
                for key, params in wanted.vectors.items()  # type: ignore[union-attr]
            },
            sparse_vectors={
                key: edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf if params.modifier else None)
                for key, params in (wanted.sparse_vectors or {}).items()
            },
            wal_enabled=False,
        )
        folder = self.folder / uuid.uuid4().hex
        self.collections[name] = Collection(edge.EdgeShard.create(str(folder), config), folder, wanted.metadata or {})
        return True

    def _describe(self, name: str, _: bytes) -> Any:
        collection = self._named(name)
        return {
            "status": "green",
            "optimizer_status": "ok",
            "segments_count": 1,
            "points_count": collection.shard.count(edge.CountRequest()),
            "payload_schema": {},
            "config": {
                "params": {},
                "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10_000},
                "optimizer_config": {"default_segment_number": 0, "flush_interval_sec": 5},
                "metadata": collection.metadata,
            },
        }

    def _update(self, name: str, body: bytes) -> Any:
        metadata = models.UpdateCollection.model_validate_json(body).metadata or {}
        kept = self._named(name).metadata
        kept |= {key: value for key, value in metadata.items() if value is not None}
        for key in [key for key, value in metadata.items() if value is None]:
            kept.pop(key, None)
        return True

    def _delete(self, name: str, _: bytes) -> Any:
        collection = self.collections.pop(name, None)
        if collection is not None:
            collection.shard.close()
            shutil.rmtree(collection.folder)
            self.aliases = {key: value for key, value in self.aliases.items() if value != name}
        return collection is not None

    def _create_index(self, name: str, body: bytes) -> Any:
        wanted = models.CreateFieldIndex.model_validate_json(body)
        kind = _FIELD_TYPES[models.PayloadSchemaType(wanted.field_schema)]
        return self._apply(name, edge.UpdateOperation.create_field_index(wanted.field_name, kind))

    def _upsert(self, name: str, body: bytes) -> Any:
        points = [
            edge.Point(
                id=point.id,
                vector={key: _to_edge(vector) for key, vector in point.vector.items()},
                payload=point.payload or {},
            )
            for point in _INSERT.validate_json(body).points
        ]
        return self._apply(name, edge.UpdateOperation.upsert_points(points))

    def _delete_points(self, name: str, body: bytes) -> Any:
        return self._apply(name, edge.UpdateOperation.delete_points(_SELECT.validate_json(body).points))

    def _apply(self, name: str, operation: edge.UpdateOperation) -> Any:
        self._named(name).shard.update(operation)
        return {"operation_id": 0, "status": "completed"}

    def _retrieve(self, name: str, body: bytes) -> Any:
        wanted = models.PointRequest.model_validate_json(body)
        records = self._named(name).shard.retrieve(wanted.ids, wanted.with_payload, wanted.with_vector or False)
        return [_record(record) for record in records]

    def _scroll(self, name: str, body: bytes) -> Any:
        wanted = models.ScrollRequest.model_validate_json(body)
        request = edge.ScrollRequest(
            offset=wanted.offset,
            limit=wanted.limit,
            filter=_filter(wanted.filter),
            with_payload=wanted.with_payload,
            with_vector=wanted.with_vector or False,
        )
        records, offset = self._named(name).shard.scroll(request)
        return {
            "points": [_record(record) for record in records],
            "next_page_offset": None if offset is None else str(offset),
        }

    def _count(self, name: str, body: bytes) -> Any:
        wanted = models.CountRequest.model_validate_json(body)
        request = edge.CountRequest(exact=bool(wanted.exact), filter=_filter(wanted.filter))
        return {"count": self._named(name).shard.count(request)}

    def _query_batch(self, name: str, body: bytes) -> Any:
        shard = self._named(name).shard
        requests = [
            edge.QueryRequest(
                limit=wanted.limit,
                query=edge.Query.Nearest(_to_edge(wanted.query), using=wanted.using),
                filter=_filter(wanted.filter),
                with_payload=wanted.with_payload or False,
            )
            for wanted in models.QueryRequestBatch.model_validate_json(body).searches
        ]
        answers = shard.query_batch(edge.QueryBatchRequest(requests))
        return [
            {"points": [{"id": str(found.id), "version": 0, "score": found.score} for found in answer]}
            for answer in answers
        ]

    def _facet(self, name: str, body: bytes) -> Any:
        wanted = models.FacetRequest.model_validate_json(body)
        request = edge.FacetRequest(wanted.key, limit=wanted.limit or 10, exact=bool(wanted.exact))
        hits = self._named(name).shard.facet(request).hits
        return {"hits": [{"value": hit.value, "count": hit.count} for hit in hits]}


def _to_edge(vector: Any) -> Any:
    if isinstance(vector, models.NearestQuery):
        return _to_edge(vector.nearest)
    if isinstance(vector, models.SparseVector):
        return edge.SparseVector(vector.indices, vector.values)
    return vector


def _record(record: edge.Record) -> dict[str, Any]:
    vectors: Any = record.vector
    if vectors is not None:
        vectors = {
            key: {"indices": value.indices, "values": value.values} if isinstance(value, edge.SparseVector) else value
            for key, value in vectors.items()
        }
    return {"id": str(record.id), "payload": record.payload, "vector": vectors}


def _filter(wanted: models.Filter | None) -> edge.Filter | None:
    if wanted is None:
        return None
    if wanted.should or wanted.must_not or wanted.min_should:
        raise Refused(404, "only must is known here")
    conditions = wanted.must if isinstance(wanted.must, list) else [wanted.must]
    return edge.Filter(must=[_condition(condition) for condition in conditions])


def _condition(wanted: Any) -> edge.FieldCondition:
    if isinstance(wanted.match, models.MatchAny):
        return edge.FieldCondition(wanted.key, match=edge.MatchAny(wanted.match.any))
    span = wanted.range
    if isinstance(span, models.DatetimeRange):
        gte, lt = (None if moment is None else moment.isoformat() for moment in (span.gte, span.lt))
        return edge.FieldCondition(wanted.key, range=edge.RangeDateTime(gte=gte, lt=lt))
    raise Refused(404, f"no such condition here: {wanted}")


@contextmanager
def qdrant_server(folder: Path, *, api_key: str | None = None, version: str | None = None) -> Iterator["Running"]:
    """A running server on 127.0.0.1; its address and its state."""
    double = QdrantDouble(folder, api_key=api_key, version=version)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            path = self.path.split("?")[0]
            try:
                status, result = 200, double.answer(self.command, path, body, self.headers.get("api-key"))
            except Refused as refusal:
                status, result = refusal.status, {"status": {"error": str(refusal)}, "time": 0.0}
            except ValidationError as error:
                message = f"Format error in JSON body: {str(error)[:300]}"
                status, result = 400, {"status": {"error": message}, "time": 0.0}
            except Exception as error:  # noqa: BLE001  # the engine raises bare Exception; a server answers it
                status, result = 400, {"status": {"error": f"Wrong input: {error}"}, "time": 0.0}
            if status == 200 and path != "/":
                result = {"result": result, "status": "ok", "time": 0.0}
            self._send(status, json.dumps(result).encode())

        do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = handle_any

        def _send(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield Running(url=f"http://127.0.0.1:{server.server_address[1]}", state=double)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        double.close()


class Running(BaseModel, arbitrary_types_allowed=True):
    """Where the server listens, and what it holds."""

    url: str
    state: QdrantDouble
