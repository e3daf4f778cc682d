"""One collection of an index on a Qdrant server: its points, and in its metadata the recipe, counts and the writer's lease."""

import os
import socket
import time
import uuid
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from llm_engineering.adapters.index_session import REBUILD
from llm_engineering.adapters.server_points import ServerPoints, server_errors
from llm_engineering.domain.config import IndexRecipe
from llm_engineering.domain.errors import StoreError, StoreLocked

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

_LEASE_SECONDS = 600.0


class ServerCollection:
    """A collection of ours. ``documents`` is ``None`` while it is written, and after a writer was cut short.

    A server has no lock to take. The lease in the metadata names its holder, is renewed by writing, lapses ten minutes
    after a killed writer's last write, and at once where the killed writer's process was of this machine. Two writers
    that begin in the same instant may both get it; what they write still converges with the next sync.
    """

    def __init__(
        self, points: ServerPoints, client: "QdrantClient", name: str, address: str, metadata: dict[str, Any]
    ) -> None:
        self.points = points
        self.name = name
        self._client = client
        self._address = address
        try:
            self.id = str(metadata["id"])
            self.recipe = IndexRecipe.model_validate(metadata["recipe"])
        except (KeyError, ValidationError) as error:
            raise StoreError(f"The collection {name} on {address} is not an index of ours", hint=REBUILD) from error
        self.documents: int | None = metadata.get("documents")
        self._renewed = 0.0
        self._token = ""

    @classmethod
    def open(cls, client: "QdrantClient", name: str, address: str) -> "ServerCollection":
        """An existing collection."""
        return cls(ServerPoints(client, name, address), client, name, address, _metadata(client, name, address))

    @classmethod
    def create(
        cls, client: "QdrantClient", name: str, address: str, *, id_: str, recipe: IndexRecipe
    ) -> "ServerCollection":
        """A new empty collection."""
        metadata = {"id": id_, "recipe": recipe.model_dump(mode="json"), "documents": 0}
        points = ServerPoints.create(client, name, address, dimensions=recipe.dimensions, metadata=metadata)
        return cls(points, client, name, address, metadata)

    def acquire(self) -> None:
        """Take the writer's lease; :class:`StoreLocked` names a live holder."""
        self._require_free()
        self._token = uuid.uuid4().hex
        self._write_lease()
        self._require_free()  # whoever wrote last has it

    def renew(self) -> None:
        """Keep the lease; :class:`StoreLocked` if another writer took it after a long silence."""
        if time.monotonic() - self._renewed > _LEASE_SECONDS / 4:
            self._require_free()
            self._write_lease()

    def release(self) -> None:
        """Give the lease back, if it is still ours."""
        lease = _metadata(self._client, self.name, self._address).get("lease")
        if lease and lease.get("token") == self._token:
            self._update({"lease": None})

    def begin(self) -> None:
        """Before the first write: what the counts said is over."""
        if self.documents is not None:
            self.documents = None
            self._update({"documents": None})

    def finish(self, recipe: IndexRecipe, *, documents: int) -> None:
        """Record what a finished session wrote with, and its count of documents."""
        self.documents = documents
        self._update({"documents": documents, "recipe": recipe.model_dump(mode="json")})

    def _require_free(self) -> None:
        lease = _metadata(self._client, self.name, self._address).get("lease")
        if lease and lease["token"] != self._token and lease["until"] > time.time() and not _is_dead(lease):
            raise StoreLocked(
                f"Another process is writing the index {self.name} on {self._address} "
                f"(process {lease['pid']} on {lease['host']})",
                hint="Wait until it is done; a killed writer's lease lapses within ten minutes.",
            )

    def _write_lease(self) -> None:
        self._renewed = time.monotonic()
        until = time.time() + _LEASE_SECONDS
        holder = {"host": socket.gethostname(), "pid": os.getpid(), "token": self._token, "until": until}
        self._update({"lease": holder})

    def _update(self, metadata: dict[str, Any]) -> None:
        with server_errors(self._address):
            self._client.update_collection(self.name, metadata=metadata)


def _metadata(client: "QdrantClient", name: str, address: str) -> dict[str, Any]:
    with server_errors(address):
        metadata = client.get_collection(name).config.metadata
    return dict(metadata or {})


def _is_dead(lease: dict[str, Any]) -> bool:
    """Whether the holder was a process of this machine that runs no more."""
    if lease["host"] != socket.gethostname():
        return False
    try:
        os.kill(lease["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
