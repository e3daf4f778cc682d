"""The folder of an embedded index: replicas of one shard, of which a pointer file names the one that readers use.

::

    index/
    ├── current          id of the replica that readers load; replaced atomically
    ├── writer.lock      held by the one writing session; names its process
    └── <replica id>/
        ├── replica.json what it was built with, what it was copied from, its counts
        ├── lock         shared by readers that have it loaded, exclusive for the writer
        └── shard/       the engine's files

A writer only ever works on a replica that is not current and that no reader has loaded; a commit replaces the pointer.
Readers move on when they see the pointer change. So a reader never waits, and a killed writer leaves readers untouched.
"""

import fcntl
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from llm_engineering.adapters.edge_errors import require_space, unusable_folder
from llm_engineering.adapters.index_session import REBUILD, RUN_FIRST
from llm_engineering.adapters.sparse_files import copy_folder, replace_file, sync_folder
from llm_engineering.domain.config import IndexRecipe
from llm_engineering.domain.entities import Frozen
from llm_engineering.domain.errors import IndexMissing, StoreError, StoreLocked

_POLL = 0.02
_OURS = re.compile(r"(unfinished-)?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""Names of replica folders; anything else in the folder is none of our business."""


class ReplicaMeta(Frozen):
    """``replica.json``. Counts are ``None`` from the first write of a session to its commit."""

    id: str
    lineage: str
    """Shared by replicas that descend from one build by copying; a rebuild begins a new one."""
    recipe: IndexRecipe
    inherited: str | None = None
    """Id of the replica that this one was copied from."""
    generation: int = 0
    """Number of the commit that made it current; 0 for never."""
    chunks: int | None = 0
    documents: int | None = 0
    doomed: bool = False
    """Holds texts that were withdrawn since: never written on again, removed as soon as no reader has it loaded."""


class Lock:
    """An advisory lock on a file, released on :meth:`release` and when the process ends in whatever way."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    @classmethod
    def try_on(cls, file: Path, *, shared: bool) -> "Lock | None":
        """Take it now, or return ``None`` if another process (or another index object) is in the way."""
        descriptor = os.open(file, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError:
            os.close(descriptor)
            raise
        return cls(descriptor)

    def release(self) -> None:
        """Let others have it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class Replica:
    """One replica's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.id = folder.name
        self.shard = folder / "shard"
        self.lock = folder / "lock"

    def meta(self) -> ReplicaMeta:
        """Its ``replica.json``; :class:`StoreError` if that is damaged or gone."""
        file = self.folder / "replica.json"
        try:
            return ReplicaMeta.model_validate_json(file.read_bytes())
        except (FileNotFoundError, ValidationError) as error:
            raise StoreError(f"The index is damaged: {file} is missing or unreadable", hint=REBUILD) from error

    def write_meta(self, meta: ReplicaMeta) -> None:
        """Replace ``replica.json`` atomically."""
        with unusable_folder(self.folder):
            replace_file(self.folder / "replica.json", meta.model_dump_json(indent=1).encode())


class ReplicaFolder:
    """All replicas of one index. Methods that write belong to the holder of :meth:`writing`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def current(self) -> Replica | None:
        """The replica that readers use; ``None`` where nothing was committed yet."""
        with unusable_folder(self.path):
            try:
                name = (self.path / "current").read_text().strip()
            except FileNotFoundError:
                return None
        replica = Replica(self.path / name)
        if not _OURS.fullmatch(name) or not replica.folder.is_dir():
            raise StoreError(f"The index is damaged: {self.path / 'current'} names no replica", hint=REBUILD)
        return replica

    def hold_current(self, *, patience: float = 10.0) -> tuple[Replica, Lock]:
        """The current replica and a shared lock on it. Raises :class:`IndexMissing` where there is none yet.

        Between reading the pointer and taking the lock the pointer may move on: only a lock on what is current after it
        was taken counts.
        """
        deadline = time.monotonic() + patience
        while True:
            replica = self.current()
            if replica is None:
                raise IndexMissing(f"There is no index in {self.path} yet", hint=RUN_FIRST)
            with unusable_folder(self.path):
                try:
                    lock = Lock.try_on(replica.lock, shared=True)
                except FileNotFoundError:
                    lock = None
            if lock is not None:
                now = self.current()
                if now is not None and now.id == replica.id:
                    return replica, lock
                lock.release()
            if time.monotonic() > deadline:
                raise StoreError(f"The index is damaged: {replica.folder} cannot be locked for reading", hint=REBUILD)
            time.sleep(_POLL)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Be the one writer; :class:`StoreLocked` names the process that is it already. Creates the folder."""
        file = self.path / "writer.lock"
        with unusable_folder(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            file.touch()
            lock = Lock.try_on(file, shared=False)
            if lock is None:
                raise StoreLocked(
                    f"Another process is writing the index in {self.path} ({_holder(file)})",
                    hint="Wait until it is done; a second run is not needed, the next one picks up every change.",
                )
            file.write_text(json.dumps({"pid": os.getpid(), "since": int(time.time())}))
        try:
            yield
        finally:
            lock.release()

    def create(self, recipe: IndexRecipe) -> Replica:
        """A new replica without a shard, of a new lineage."""
        id_ = str(uuid.uuid4())
        replica = Replica(self.path / id_)
        with unusable_folder(self.path):
            replica.folder.mkdir()
            replica.lock.touch()
        replica.write_meta(ReplicaMeta(id=id_, lineage=str(uuid.uuid4()), recipe=recipe))
        return replica

    def clone(self, source: Replica) -> Replica:
        """A copy of a replica that nobody writes. It appears whole or not at all; a failed one frees the space it took."""
        require_space(self.path)
        meta = source.meta()
        id_ = str(uuid.uuid4())
        unfinished = Replica(self.path / f"unfinished-{id_}")
        try:
            with unusable_folder(self.path):
                unfinished.folder.mkdir()
                unfinished.lock.touch()
                copy_folder(source.shard, unfinished.shard)
                unfinished.write_meta(meta.model_copy(update={"id": id_, "inherited": source.id, "generation": 0}))
                unfinished.folder.rename(self.path / id_)
                sync_folder(self.path)
        except BaseException:
            shutil.rmtree(unfinished.folder, ignore_errors=True)  # the first error is the one to tell
            raise
        return Replica(self.path / id_)

    def standbys(self, current: Replica | None) -> list[tuple[Replica, ReplicaMeta]]:
        """Replicas to write on: whole, not current, not doomed; the most recently committed first."""
        found: list[tuple[Replica, ReplicaMeta]] = []
        for replica in self._others(current):
            try:
                meta = replica.meta()
            except StoreError:  # damaged: of no use as a standby, and swept away later
                continue
            if not meta.doomed:
                found.append((replica, meta))
        return sorted(found, key=lambda item: (-item[1].generation, item[0].id))

    def doom(self, *, all_but: Replica) -> None:
        """Note durably that every other replica has to go, the current one too once it is replaced."""
        for replica in self._others(all_but):
            try:
                replica.write_meta(replica.meta().model_copy(update={"doomed": True}))
            except StoreError:  # damaged: swept away in any case
                continue

    def remove_doomed(self) -> bool:
        """Remove what was doomed and is not in use any more; ``False`` if a reader still has some of it loaded."""
        gone = True
        for replica in self._others(self.current()):
            try:
                doomed = replica.meta().doomed
            except StoreError:  # damaged, or another process is making it: the next commit sweeps what is damaged
                continue
            gone = (not doomed or self.discard(replica)) and gone
        return gone

    def point_to(self, replica: Replica) -> None:
        """Make a replica current, durably and in one step."""
        with unusable_folder(self.path):
            replace_file(self.path / "current", f"{replica.id}\n".encode())

    def discard(self, replica: Replica) -> bool:
        """Remove a replica that is not current; ``False`` if a reader still has it loaded."""
        with unusable_folder(self.path):
            lock = Lock.try_on(replica.lock, shared=False) if replica.lock.exists() else None
            if lock is None and replica.lock.exists():
                return False
            shutil.rmtree(replica.folder, ignore_errors=True)  # what is left over goes with the next sweep
            if lock is not None:
                lock.release()
        return True

    def sweep(self, *, keep: set[str]) -> None:
        """Remove every other replica that no reader has loaded, and what killed copies left behind."""
        for replica in self._others(None):
            if replica.id not in keep:
                self.discard(replica)

    def _others(self, current: Replica | None) -> list[Replica]:
        with unusable_folder(self.path):
            folders = [entry for entry in self.path.iterdir() if _OURS.fullmatch(entry.name) and entry.is_dir()]
        return [Replica(folder) for folder in folders if current is None or folder.name != current.id]


def _holder(file: Path) -> str:
    try:
        return f"process {json.loads(file.read_text())['pid']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "its process has not written its number"
