"""A writing session on the embedded index."""

import logging
from collections.abc import Mapping, Sequence

from llm_engineering.adapters.edge_shard import EdgePoints
from llm_engineering.adapters.index_session import DocumentCount, watermark_name
from llm_engineering.adapters.loaded_replica import LoadedReplica
from llm_engineering.adapters.qdrant_points import chunk_ids, known_vectors
from llm_engineering.adapters.recent_vectors import RecentVectors, recent_vectors, state_name
from llm_engineering.adapters.replicas import Lock, Replica, ReplicaFolder
from llm_engineering.domain.config import IndexRecipe
from llm_engineering.domain.entities import IndexedChunk
from llm_engineering.domain.errors import StoreError, StoreUnavailable

logger = logging.getLogger(__name__)


class EdgeWriter:
    """:class:`~llm_engineering.domain.ports.IndexWriter` on a replica that no reader has loaded."""

    def __init__(
        self,
        folder: ReplicaFolder,
        replica: Replica,
        lock: Lock,
        recipe: IndexRecipe,
        *,
        current: Replica | None,
        tolerant: bool,
    ) -> None:
        self._folder = folder
        self._recipe = recipe
        self._current = current
        self._tolerant = tolerant
        self._previous: LoadedReplica | None = None
        self._previous_is_known = False
        self._last: Mapping[str, list[float]] | None = None
        self._last_is_known = False
        self._replica, self._lock, self._points = self._open(replica, lock)
        self._meta = self._replica.meta()
        self._documents = DocumentCount(self._points, self._meta.documents)
        self._recent = RecentVectors(_state(current))
        self.erased = False
        """The commit erased what was retired, and older states have to go."""
        self._marked = False
        self._open_for_writing = True

    @property
    def watermark_name(self) -> str:
        """``index:<replica id>``."""
        return watermark_name(self._replica.id)

    @property
    def inherited_watermark(self) -> str | None:
        """Watermark of the replica that this one was copied from."""
        return watermark_name(self._meta.inherited) if self._meta.inherited else None

    def publish(self, chunks: Sequence[IndexedChunk]) -> None:
        """Insert or replace by chunk id; durable on return."""
        if chunks:
            self._mark()
            self._documents.touch({indexed.chunk.document_id for indexed in chunks})
            self._points.upsert(chunks)
            self._recent.add({indexed.vector_key: indexed.dense for indexed in chunks})

    def retire(self, chunk_ids: Sequence[str]) -> None:
        """Remove chunks; unknown ids are passed over; durable on return."""
        if chunk_ids:
            self._mark()
            self._documents.touch_owners(chunk_ids)
            self._points.delete(chunk_ids)

    def chunk_ids(self, document_ids: Sequence[str]) -> dict[str, set[str]]:
        """Ids of the stored chunks of each of these documents."""
        return chunk_ids(self._points, document_ids)

    def document_ids(self) -> set[str]:
        """Ids of every document that has a chunk here."""
        return self._points.distinct("document_id")

    def vectors(self, keys: Sequence[str]) -> Mapping[str, list[float]]:
        """Dense vectors known under these keys in this replica or in the visible one."""
        found = known_vectors(self._points, keys)
        missing = [key for key in keys if key not in found]
        if not missing or self._current is None or self._is_copy_of(self._current):
            return found
        recent = self._published_last(self._current)
        if recent is not None:
            return found | {key: recent[key] for key in missing if key in recent}
        previous = self._visible()
        if previous is not None:
            found |= known_vectors(previous.points, missing)
        return found

    def commit(self, *, erase: bool = False) -> None:
        """Make this replica the one that readers use; the session ends with it."""
        self._mark()
        if erase:
            self._points.erase_deleted(dimensions=self._meta.recipe.dimensions)
        self._points.settle()
        generation = (self._current.meta().generation if self._current else 0) + 1
        counts = {"chunks": self._points.count(), "documents": self._documents.total()}
        self.close()
        self._recent.save(self._replica.folder)
        state = counts | {"generation": generation, "recipe": self._recipe}
        self._replica.write_meta(self._meta.model_copy(update=state))
        if erase:
            self._folder.doom(all_but=self._replica)
        self._folder.point_to(self._replica)
        self._prime()
        self.erased = erase

    def close(self) -> None:
        """End the session; without a commit readers keep what they have."""
        if self._open_for_writing:
            self._open_for_writing = False
            self._points.close()
            if self._previous is not None:
                self._previous.let_go()
            self._lock.release()

    def _open(self, replica: Replica, lock: Lock) -> tuple[Replica, Lock, EdgePoints]:
        """Load the replica; one that a crash left unloadable is given up for a copy of the visible state."""
        meta = replica.meta()
        if not replica.shard.exists():
            return replica, lock, EdgePoints.create(replica.shard, dimensions=meta.recipe.dimensions)
        try:
            if meta.chunks is not None:
                return replica, lock, EdgePoints.load(replica.shard)
            points = EdgePoints.load(replica.shard, dimensions=meta.recipe.dimensions)
            points.delete_torn()
            return replica, lock, points
        except StoreUnavailable:
            raise
        except StoreError as error:
            logger.warning("a standby of the index cannot be used and is made anew: %s", error.message)
        lock.release()
        fresh = self._folder.clone(self._current) if self._current else self._folder.create(meta.recipe)
        fresh_lock = Lock.try_on(fresh.lock, shared=False)
        if fresh_lock is None:
            raise StoreError(f"The new replica {fresh.folder} is held by another process", hint="Try again.")
        return self._open(fresh, fresh_lock)

    def _mark(self) -> None:
        """Before the first write: note that the replica is being written, for whoever finds it after a crash."""
        if not self._open_for_writing:
            raise StoreError("This writing session is over", hint="Begin another one with writer().")
        if not self._marked:
            self._marked = True
            self._replica.write_meta(self._meta.model_copy(update={"chunks": None, "documents": None}))

    def _is_copy_of(self, current: Replica) -> bool:
        """Whether this replica began this session as an untouched copy of the visible one."""
        meta = self._meta
        return meta.inherited == current.id and meta.generation == 0 and meta.chunks is not None

    def _published_last(self, current: Replica) -> Mapping[str, list[float]] | None:
        """What the visible state has beyond this replica, if this one is the state before it and was not touched since."""
        if not self._last_is_known:
            self._last_is_known = True
            if self._meta.chunks is not None and self._meta.recipe.embedder == current.meta().recipe.embedder:
                beside = state_name(self._replica.id, self._meta.generation)
                self._last = recent_vectors(current.folder, beside=beside)
        return self._last

    def _visible(self) -> LoadedReplica | None:
        """The state that readers see, if its vectors are of the same model; loaded when first needed."""
        if self._previous_is_known or self._current is None:
            return self._previous
        self._previous_is_known = True
        if self._current.meta().recipe.embedder != self._meta.recipe.embedder:
            return None
        try:
            self._previous = LoadedReplica(*self._folder.hold_current())
        except StoreError as error:
            if not self._tolerant:
                raise
            logger.warning("the old index cannot be read, so every text is embedded again: %s", error.message)
        return self._previous

    def _prime(self) -> None:
        """Sweep what is old, then leave one standby of this lineage, so that the next session does not begin with a copy."""
        standbys = [
            replica for replica, meta in self._folder.standbys(self._replica) if meta.lineage == self._meta.lineage
        ][:1]
        self._folder.sweep(keep={self._replica.id, *(standby.id for standby in standbys)})  # first: it makes room
        if not standbys:
            try:
                self._folder.clone(self._replica)
            except StoreUnavailable as error:  # the commit stands; the next session will copy, or say this
                logger.warning("no standby was made: %s", error.message)


def _state(replica: Replica | None) -> str | None:
    return state_name(replica.id, replica.meta().generation) if replica else None
