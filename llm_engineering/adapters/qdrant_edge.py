"""The embedded index: Qdrant Edge in this process, read by many processes while one writes. No server to start."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llm_engineering.adapters.edge_shard import EdgePoints
from llm_engineering.adapters.edge_writer import EdgeWriter
from llm_engineering.adapters.index_session import recipe_for_people, require_same_recipe, watermark_name
from llm_engineering.adapters.loaded_replica import LoadedReplica
from llm_engineering.adapters.qdrant_points import all_chunks
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
        self._loaded: LoadedReplica | None = None

    @contextmanager
    def writer(self, recipe: IndexRecipe, *, rebuild: bool = False) -> Iterator[EdgeWriter]:
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
            if writer.erased:
                self.sweep()

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

    def sweep(self) -> None:
        """Remove older states that hold withdrawn texts; one that a reader still uses is said in the log and stays."""
        if not self._folder.path.exists():
            return
        self._move_on(self._folder.current())
        if not self._folder.remove_doomed():
            logger.warning(
                "a reader of the index in %s still uses a state that holds withdrawn texts: its files go with the next sync",
                self._folder.path,
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

    def _acquire(self) -> LoadedReplica:
        """The visible replica, loaded once and kept until the pointer moves."""
        with self._loading:
            current = self._folder.current()
            if self._loaded is None or current is None or self._loaded.id != current.id:
                fresh = LoadedReplica(*self._folder.hold_current())
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
