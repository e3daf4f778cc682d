"""The embedded index: Qdrant Edge in this process, read by many processes while one writes. No server to start."""

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from llm_engineering.adapters.edge_shard import EdgePoints
from llm_engineering.adapters.index_session import (
    DocumentCount,
    recipe_for_people,
    require_same_recipe,
    watermark_name,
)
from llm_engineering.adapters.qdrant_points import all_chunks, chunk_ids, known_vectors
from llm_engineering.adapters.qdrant_search import search
from llm_engineering.adapters.replicas import Lock, Replica, ReplicaFolder, ReplicaMeta
from llm_engineering.domain.config import IndexRecipe
from llm_engineering.domain.entities import Hit, IndexedChunk, IndexQuery, IndexStatus
from llm_engineering.domain.errors import StoreError, StoreUnavailable

logger = logging.getLogger(__name__)


class EdgeIndex:
    """:class:`~llm_engineering.domain.ports.Index` in a folder. Threads may search through one object at the same time.

    ``patience``: seconds that a writer waits for readers of older states to move on before it works on a fresh copy.
    """

    def __init__(self, path: Path, *, patience: float = 5.0) -> None:
        self._folder = ReplicaFolder(path)
        self._patience = patience
        self._loading = threading.Lock()
        self._loaded: _Loaded | None = None

    @contextmanager
    def writer(self, recipe: IndexRecipe, *, rebuild: bool = False) -> Iterator["EdgeWriter"]:
        """Begin writing beside the visible state; see the port."""
        with self._folder.writing():
            current = self._current_to_write_beside(recipe, rebuild=rebuild)
            self._move_on(current)
            replica, lock = self._standby(recipe, current=current, rebuild=rebuild)
            try:
                writer = EdgeWriter(self._folder, replica, lock, recipe, current=current, tolerant=rebuild)
            except BaseException:
                lock.release()
                raise
            try:
                yield writer
            finally:
                writer.close()

    def recipe(self) -> IndexRecipe | None:
        """What the visible state was built with; ``None`` if nothing was built yet."""
        meta = self._visible_meta()
        return meta.recipe if meta else None

    def search(self, query: IndexQuery) -> list[Hit]:
        """Best hits first, at most ``limit``; ties broken by chunk id."""
        with self._reading() as points:
            return search(points, query)

    def chunks(self) -> Iterator[IndexedChunk]:
        """Everything in the state that is visible when the iteration begins, streamed."""
        with self._reading() as points:
            yield from all_chunks(points)

    def status(self) -> IndexStatus:
        """State for people; reads no shard."""
        meta = self._visible_meta()
        return IndexStatus(
            address=str(self._folder.path),
            engine="qdrant-edge",
            chunks=(meta.chunks or 0) if meta else 0,
            documents=(meta.documents or 0) if meta else 0,
            recipe=recipe_for_people(meta.recipe) if meta else None,
            watermark_name=watermark_name(meta.id) if meta else None,
        )

    def close(self) -> None:
        """Release the engine once the searches under way are done."""
        with self._loading:
            loaded, self._loaded = self._loaded, None
        if loaded is not None:
            loaded.let_go()

    def _visible_meta(self) -> ReplicaMeta | None:
        for _ in range(100):
            current = self._folder.current()
            if current is None:
                return None
            try:
                return current.meta()
            except StoreError:
                again = self._folder.current()
                if again is not None and again.id == current.id:
                    raise
        raise StoreError(f"The index in {self._folder.path} changes faster than it can be read")

    @contextmanager
    def _reading(self) -> Iterator[EdgePoints]:
        loaded = self._acquire()
        try:
            yield loaded.points
        finally:
            loaded.let_go()

    def _acquire(self) -> "_Loaded":
        """The visible replica, loaded once and kept until the pointer moves."""
        with self._loading:
            current = self._folder.current()
            if self._loaded is None or current is None or self._loaded.id != current.id:
                fresh = _Loaded(*self._folder.hold_current())
                if self._loaded is not None:
                    self._loaded.let_go()
                self._loaded = fresh
            self._loaded.hold()
            return self._loaded

    def _move_on(self, current: Replica | None) -> None:
        """Let go of an older state, so that a writer of this process does not wait for its own reader."""
        with self._loading:
            if self._loaded is not None and (current is None or self._loaded.id != current.id):
                loaded, self._loaded = self._loaded, None
                loaded.let_go()

    def _current_to_write_beside(self, recipe: IndexRecipe, *, rebuild: bool) -> Replica | None:
        try:
            current = self._folder.current()
            built_with = current.meta().recipe if current else None
        except StoreUnavailable:
            raise
        except StoreError:
            if not rebuild:
                raise
            logger.warning("the index in %s is damaged: every text is embedded again", self._folder.path)
            return None
        if built_with is not None and not rebuild:
            require_same_recipe(built_with, recipe, address=str(self._folder.path))
        return current

    def _standby(self, recipe: IndexRecipe, *, current: Replica | None, rebuild: bool) -> tuple[Replica, Lock]:
        """A replica to write on, locked: the one that was current before, or a copy of the current one, or an empty one."""
        if rebuild:
            return self._own(self._folder.create(recipe))
        lineage = current.meta().lineage if current else None
        candidates = [
            replica
            for replica, meta in self._folder.standbys(current)
            if not meta.recipe.differences(recipe) and lineage in (None, meta.lineage)
        ]
        deadline = time.monotonic() + (self._patience if candidates else 0)
        while candidates:
            for replica in candidates:
                lock = Lock.try_on(replica.lock, shared=False)
                if lock is not None:
                    return replica, lock
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        return self._own(self._folder.clone(current) if current else self._folder.create(recipe))

    def _own(self, replica: Replica) -> tuple[Replica, Lock]:
        lock = Lock.try_on(replica.lock, shared=False)
        if lock is None:
            raise StoreError(f"The new replica {replica.folder} is held by another process", hint="Try again.")
        return replica, lock


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
        self._previous: _Loaded | None = None
        self._previous_is_known = False
        self._replica, self._lock, self._points = self._open(replica, lock)
        self._meta = self._replica.meta()
        self._documents = DocumentCount(self._points, self._meta.documents)
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
        previous = self._visible() if missing else None
        if previous is not None:
            found |= known_vectors(previous.points, missing)
        return found

    def commit(self) -> None:
        """Make this replica the one that readers use; the session ends with it."""
        self._mark()
        self._points.settle()
        generation = (self._current.meta().generation if self._current else 0) + 1
        counts = {"chunks": self._points.count(), "documents": self._documents.total()}
        self.close()
        state = counts | {"generation": generation, "recipe": self._recipe}
        self._replica.write_meta(self._meta.model_copy(update=state))
        self._folder.point_to(self._replica)
        self._prime()

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
            points = EdgePoints.load(replica.shard)
            if meta.chunks is None:
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

    def _visible(self) -> "_Loaded | None":
        """The state that readers see, if its vectors are of the same model; loaded when first needed."""
        if self._previous_is_known or self._current is None:
            return self._previous
        self._previous_is_known = True
        if self._current.meta().recipe.embedder != self._meta.recipe.embedder:
            return None
        try:
            self._previous = _Loaded(*self._folder.hold_current())
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


class _Loaded:
    """A loaded replica and its shared lock, closed when the last holder lets go. The creator is the first holder."""

    def __init__(self, replica: Replica, lock: Lock) -> None:
        self.id = replica.id
        self._lock = lock
        self._holders = 1
        self._counting = threading.Lock()
        try:
            self.points = EdgePoints.load(replica.shard)
        except BaseException:
            lock.release()
            raise

    def hold(self) -> None:
        with self._counting:
            self._holders += 1

    def let_go(self) -> None:
        with self._counting:
            self._holders -= 1
            last = self._holders == 0
        if last:
            self.points.close()
            self._lock.release()
