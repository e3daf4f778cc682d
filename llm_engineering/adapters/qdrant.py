"""The index on a Qdrant server or in Qdrant Cloud: an alias that readers follow, and one collection behind it."""

import logging
import re
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from llm_engineering.adapters.index_session import (
    REBUILD,
    RUN_FIRST,
    DocumentCount,
    recipe_for_people,
    require_same_recipe,
    watermark_name,
)
from llm_engineering.adapters.qdrant_points import all_chunks, chunk_ids, known_vectors
from llm_engineering.adapters.qdrant_search import search
from llm_engineering.adapters.server_collection import ServerCollection
from llm_engineering.adapters.server_points import ServerPoints, server_errors
from llm_engineering.domain.config import IndexRecipe
from llm_engineering.domain.entities import Hit, IndexedChunk, IndexQuery, IndexStatus
from llm_engineering.domain.errors import IndexMissing, StoreError, StoreUnavailable

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

logger = logging.getLogger(__name__)


class QdrantServerIndex:
    """:class:`~llm_engineering.domain.ports.Index` on a server. Thread-safe; connects at the first call.

    Readers follow the alias ``collection`` to the collection ``<collection>-<id>``, whose metadata holds the recipe.
    Writes go to that collection in place; a rebuild fills another one, to which a commit switches the alias.
    One writer at a time is kept by a lease (:class:`~llm_engineering.adapters.server_collection.ServerCollection`).
    """

    def __init__(self, url: str, api_key: str | None, collection: str, *, timeout: int = 30) -> None:
        self._url = url
        self._api_key = api_key
        self._alias = collection
        self._timeout = timeout
        parts = urlsplit(url)
        self._address = f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"
        self._connecting = threading.Lock()
        self._connected: QdrantClient | None = None

    @contextmanager
    def writer(self, recipe: IndexRecipe, *, rebuild: bool = False) -> Iterator["ServerWriter"]:
        """Begin writing; see the port. Without ``rebuild``, what is published is visible at once."""
        visible = self._visible()
        if visible is not None and not rebuild:
            require_same_recipe(visible.recipe, recipe, address=self._address)
        if visible is None:
            visible = self._create(recipe)
            visible.acquire()
            self._point_to(visible)
            replaced = None
        else:
            visible.acquire()
            replaced = visible if rebuild else None
        writer: ServerWriter | None = None
        try:
            self._remove_all_but(visible)
            written = self._create(recipe) if replaced else visible
            writer = ServerWriter(self, written, recipe, replaced=replaced)
            yield writer
        finally:
            if writer is None or not writer.replaced_is_gone:
                visible.release()

    def recipe(self) -> IndexRecipe | None:
        """What the visible state was built with; ``None`` if nothing was built yet."""
        visible = self._visible()
        return visible.recipe if visible else None

    def search(self, query: IndexQuery) -> list[Hit]:
        """Best hits first, at most ``limit``; ties broken by chunk id."""
        with self._missing_is_said():
            return search(self._points(), query)

    def chunks(self) -> Iterator[IndexedChunk]:
        """Everything visible, streamed."""
        with self._missing_is_said():
            yield from all_chunks(self._points())

    def status(self) -> IndexStatus:
        """State for people."""
        visible = self._visible()
        if visible is None:
            return IndexStatus(address=self._address, engine="qdrant", chunks=0, documents=0, recipe=None)
        documents = visible.documents
        return IndexStatus(
            address=f"{self._address} ({self._alias})",
            engine="qdrant",
            chunks=visible.points.count(),
            documents=len(visible.points.distinct("document_id")) if documents is None else documents,
            recipe=recipe_for_people(visible.recipe),
            watermark_name=watermark_name(visible.id),
        )

    def close(self) -> None:
        """Close the connections."""
        with self._connecting:
            client, self._connected = self._connected, None
        if client is not None:
            client.close()

    def sweep(self) -> None:
        """Nothing: a server removes what was replaced by itself."""

    def switch_to(self, fresh: ServerCollection, *, replaced: ServerCollection) -> None:
        """Let readers follow to a finished rebuild, and remove what it replaces."""
        self._point_to(fresh)
        with server_errors(self._address):
            self._client().delete_collection(replaced.name)

    def _points(self) -> ServerPoints:
        return ServerPoints(self._client(), self._alias, self._address)

    def _visible(self) -> ServerCollection | None:
        """The collection behind the alias."""
        client = self._client()
        with server_errors(self._address):
            aliases = client.get_aliases().aliases
        names = [alias.collection_name for alias in aliases if alias.alias_name == self._alias]
        return ServerCollection.open(client, names[0], self._address) if names else None

    def _create(self, recipe: IndexRecipe) -> ServerCollection:
        id_ = str(uuid.uuid4())
        return ServerCollection.create(self._client(), f"{self._alias}-{id_}", self._address, id_=id_, recipe=recipe)

    def _point_to(self, collection: ServerCollection) -> None:
        from qdrant_client import models

        create = models.CreateAlias(collection_name=collection.name, alias_name=self._alias)
        with server_errors(self._address):
            self._client().update_collection_aliases([models.CreateAliasOperation(create_alias=create)])

    def _remove_all_but(self, keep: ServerCollection) -> None:
        """Remove what killed rebuilds left behind."""
        ours = re.compile(re.escape(self._alias) + r"-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
        client = self._client()
        with server_errors(self._address):
            for collection in client.get_collections().collections:
                if collection.name != keep.name and ours.fullmatch(collection.name):
                    client.delete_collection(collection.name)

    @contextmanager
    def _missing_is_said(self) -> Iterator[None]:
        try:
            yield
        except IndexMissing as error:
            message = f"There is no index {self._alias} on {self._address} yet"
            raise IndexMissing(message, hint=RUN_FIRST) from error

    def _client(self) -> "QdrantClient":
        with self._connecting:
            if self._connected is None:
                self._connected = self._connect()
            return self._connected

    def _connect(self) -> "QdrantClient":
        from qdrant_client import QdrantClient

        parts = urlsplit(self._url)
        if self._api_key and parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
            logger.warning("the API key of the index travels unencrypted to %s; use https", self._address)
        try:
            client = QdrantClient(
                url=self._url,
                # As a header of ours, because the client itself warns about plain HTTP on this machine too.
                headers={"api-key": self._api_key} if self._api_key else None,
                timeout=self._timeout,
                check_compatibility=False,  # done below, as an error instead of a warning in another thread
            )
        except ValueError as error:
            raise StoreUnavailable(f"INDEX_URL {self._address} is not usable", hint="See .env.example.") from error
        with server_errors(self._address):
            version = client.info().version
        _require_compatible(version, self._address)
        return client


class ServerWriter:
    """:class:`~llm_engineering.domain.ports.IndexWriter` on a server's collection, which is visible unless it is a rebuild."""

    def __init__(
        self,
        index: QdrantServerIndex,
        collection: ServerCollection,
        recipe: IndexRecipe,
        *,
        replaced: ServerCollection | None,
    ) -> None:
        self._index = index
        self._recipe = recipe
        self._collection = collection
        self._replaced = replaced
        self._documents = DocumentCount(collection.points, collection.documents)
        self._over = False
        self.replaced_is_gone = False
        """The session ended with a rebuild's commit: there is nothing left whose lease could be given back."""

    @property
    def watermark_name(self) -> str:
        """``index:<id of the collection>``."""
        return watermark_name(self._collection.id)

    @property
    def inherited_watermark(self) -> str | None:
        """Nothing is copied on a server."""
        return None

    def publish(self, chunks: Sequence[IndexedChunk]) -> None:
        """Insert or replace by chunk id; durable on return."""
        if chunks:
            self._mark()
            self._documents.touch({indexed.chunk.document_id for indexed in chunks})
            self._collection.points.upsert(chunks)

    def retire(self, chunk_ids: Sequence[str]) -> None:
        """Remove chunks; unknown ids are passed over; durable on return."""
        if chunk_ids:
            self._mark()
            self._documents.touch_owners(chunk_ids)
            self._collection.points.delete(chunk_ids)

    def chunk_ids(self, document_ids: Sequence[str]) -> dict[str, set[str]]:
        """Ids of the stored chunks of each of these documents."""
        return chunk_ids(self._collection.points, document_ids)

    def document_ids(self) -> set[str]:
        """Ids of every document that has a chunk here."""
        return self._collection.points.distinct("document_id")

    def vectors(self, keys: Sequence[str]) -> Mapping[str, list[float]]:
        """Dense vectors known under these keys here or in the collection that is being replaced."""
        found = known_vectors(self._collection.points, keys)
        replaced = self._replaced
        if replaced is not None and replaced.recipe.embedder == self._collection.recipe.embedder:
            found |= known_vectors(replaced.points, [key for key in keys if key not in found])
        return found

    def commit(self, *, erase: bool = False) -> None:
        """Record the counts; after a rebuild switch the alias. The session ends with it.

        A server decides by itself when it writes a segment anew, so ``erase`` can only say what makes it certain.
        """
        self._mark()
        if erase and self._replaced is None:
            logger.warning("the server drops the bytes of withdrawn texts when it next vacuums; at once: %s", REBUILD)
        self._over = True
        self._collection.finish(self._recipe, documents=self._documents.total())
        if self._replaced is not None:
            self._index.switch_to(self._collection, replaced=self._replaced)
            self.replaced_is_gone = True

    def _mark(self) -> None:
        if self._over:
            raise StoreError("This writing session is over", hint="Begin another one with writer().")
        (self._replaced or self._collection).renew()
        self._collection.begin()


def _require_compatible(version: str, address: str) -> None:
    """:class:`StoreUnavailable` unless the server is of the client's major version and within one minor version of it."""
    from importlib.metadata import version as installed

    ours = [int(part) for part in installed("qdrant-client").split(".")[:2]]
    theirs = [int(part) for part in re.findall(r"\d+", version)[:2]]
    if len(theirs) < 2 or theirs[0] != ours[0] or abs(theirs[1] - ours[1]) > 1:
        raise StoreUnavailable(
            f"The Qdrant server at {address} is of version {version}, which this client cannot talk to",
            hint=f"Use the server image of version {ours[0]}.{ours[1]}.",
        )
