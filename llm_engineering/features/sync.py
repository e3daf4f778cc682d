"""The index follows the warehouse: read the change log, publish the new chunks, retire the stale ones, move the watermark."""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from pydantic import Field

from llm_engineering.domain.config import IndexRecipe, SyncConfig
from llm_engineering.domain.entities import (
    Change,
    DocumentState,
    Frozen,
    TombstoneReason,
)
from llm_engineering.domain.ports import Embedder, Index, IndexWriter, SparseEncoder, Warehouse
from llm_engineering.features.preparation import Batch, Chunker, LanguageOf, Preparation, Prepared


class SyncReport(Frozen):
    """What a sync did. Counts are of this run's changes; ``caught_up`` documents only brought the standby level."""

    documents: int = 0
    """Live documents whose chunks were published."""
    removed: int = 0
    """Documents that left the index: tombstoned, or not in the warehouse any more."""
    chunks: int = 0
    """Chunks published."""
    embedded: int = 0
    """Texts that went through the embedding model."""
    reused: int = 0
    """Chunks whose vector was known already."""
    retired: int = 0
    """Stale chunks removed."""
    caught_up: int = 0
    watermark: int = 0
    """Sequence of the change log that the index equals now."""
    rebuilt: bool = False
    seconds: dict[str, float] = Field(default_factory=dict)
    """Time by stage: read, chunk, reuse, embed, publish, retire, commit. One batch is chunked while another is embedded, so
    ``chunk`` is the time for which the run had to wait for chunks and their terms."""


class Progress(Protocol):
    """Told at the start and after each batch how many changes of how many are done."""

    def __call__(self, done: int, total: int) -> None:
        """``done`` of ``total`` changes are published."""
        ...


def sync(
    warehouse: Warehouse,
    index: Index,
    *,
    recipe: IndexRecipe,
    chunker: Chunker,
    embedder: Embedder,
    sparse: SparseEncoder,
    config: SyncConfig,
    language_of: LanguageOf | None = None,
    rebuild: bool = False,
    progress: Progress | None = None,
) -> SyncReport:
    """Make the index equal the warehouse. Cost follows the number of changes; running it again does nothing.

    ``language_of`` is asked for the language of a text whose source states none, so that filters find it.

    What an author has withdrawn leaves the index's files as well, which takes a while longer than any other change.

    Killed at any moment it loses nothing: readers keep the old state until the commit, and the next run goes on from
    the last watermark, which moves only after the points of its changes are durable.
    """
    head = warehouse.head()
    visible = None if rebuild else _visible_watermark(warehouse, index)  # a rebuild asks nothing of a damaged index
    if visible == head and not _outdated(index, recipe):
        index.sweep()
        return SyncReport(watermark=head)
    erase = _withdrawn(warehouse, after=visible or 0, upto=head, limit=config.batch_documents)
    work = _Sync(warehouse, recipe, chunker, embedder, sparse, config, language_of)
    with index.writer(recipe, rebuild=rebuild) as writer:
        mark = _watermark(warehouse, writer, head=head)
        if mark is None:
            work.retire_strangers(writer)
            mark, visible = 0, 0
        total = head - mark
        told = progress or _silent
        told(0, total)
        for changes in _log(warehouse, after=mark, upto=head, limit=config.batch_documents):
            fresh = [change for change in changes if change.sequence > (visible or 0)]
            work.follow(writer, changes, fresh=fresh, told=_counting(told, changes[0].sequence - 1 - mark, total))
            warehouse.set_watermark(writer.watermark_name, changes[-1].sequence)
            told(changes[-1].sequence - mark, total)
        with work.timed("commit"):
            warehouse.set_watermark(writer.watermark_name, head)
            writer.commit(erase=erase)
    return work.report(watermark=head, rebuilt=rebuild)


def _silent(done: int, total: int) -> None:
    """The progress that nobody watches."""


def _counting(told: Progress, before: int, total: int) -> Callable[[int], None]:
    return lambda count: told(before + count, total)


def vector_key(embedded: str, *, fingerprint: str) -> str:
    """Key under which a text's vector is known: the text and the model that reads it decide the vector, nothing else."""
    return hashlib.sha256(f"{fingerprint}\x00{embedded}".encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _visible_watermark(warehouse: Warehouse, index: Index) -> int | None:
    """How far the state that readers see has come; ``None`` without an index, or with one of another warehouse."""
    name = index.status().watermark_name
    mark = warehouse.watermark(name) if name else None
    return mark if mark is not None and mark <= warehouse.head() else None


def _outdated(index: Index, recipe: IndexRecipe) -> bool:
    built_with = index.recipe()
    return built_with is None or bool(built_with.differences(recipe))


def _watermark(warehouse: Warehouse, writer: IndexWriter, *, head: int) -> int | None:
    """Where to go on from: the writer's own watermark, or that of the state it was copied from.

    A watermark beyond the log's head belongs to another past of the warehouse (a restored backup): start over.
    """
    for name in (writer.watermark_name, writer.inherited_watermark):
        mark = warehouse.watermark(name) if name else None
        if mark is not None:
            return mark if mark <= head else None
    return None


def _log(warehouse: Warehouse, *, after: int, upto: int, limit: int) -> Iterator[list[Change]]:
    while after < upto:
        changes = [change for change in warehouse.changes(after=after, limit=limit) if change.sequence <= upto]
        if not changes:
            return
        yield changes
        after = changes[-1].sequence


def _withdrawn(warehouse: Warehouse, *, after: int, upto: int, limit: int) -> bool:
    """Whether these changes withdraw a document."""
    for changes in _log(warehouse, after=after, upto=upto, limit=limit):
        states = warehouse.state([change.document_id for change in changes if change.revision is None])
        if any(state.tombstone and state.tombstone.reason is TombstoneReason.WITHDRAWN for state in states.values()):
            return True
    return False


class _Timed:
    def __init__(self, seconds: dict[str, float], stage: str) -> None:
        self._seconds, self._stage = seconds, stage

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._seconds[self._stage] = self._seconds.get(self._stage, 0.0) + time.perf_counter() - self._start


class _Sync:
    """One run: what is needed for each batch, and the counts."""

    def __init__(
        self,
        warehouse: Warehouse,
        recipe: IndexRecipe,
        chunker: Chunker,
        embedder: Embedder,
        sparse: SparseEncoder,
        config: SyncConfig,
        language_of: LanguageOf | None,
    ) -> None:
        self._preparation = Preparation(chunker, sparse, language_of, size=config.batch_chunks)
        self._warehouse = warehouse
        self._recipe = recipe
        self._embedder = embedder
        self._counts = dict.fromkeys(
            ("documents", "removed", "chunks", "embedded", "reused", "retired", "caught_up"), 0
        )
        self._seconds: dict[str, float] = {}
        self._left: set[str] = set()
        """Documents that readers have and the warehouse has no more, though the side that is written never had them."""

    def timed(self, stage: str) -> _Timed:
        return _Timed(self._seconds, stage)

    def report(self, *, watermark: int, rebuilt: bool) -> SyncReport:
        seconds = {stage: round(spent, 3) for stage, spent in self._seconds.items()}
        return SyncReport(**self._counts, watermark=watermark, rebuilt=rebuilt, seconds=seconds)

    def retire_strangers(self, writer: IndexWriter) -> None:
        """Without a watermark the log is read from its start; what it never names must go first."""
        indexed = sorted(writer.document_ids())
        for first in range(0, len(indexed), 1000):
            ids = indexed[first : first + 1000]
            known = self._warehouse.state(ids)
            self._retire(writer, [id_ for id_ in ids if id_ not in known or not known[id_].live])

    def follow(
        self, writer: IndexWriter, changes: Sequence[Change], *, fresh: Sequence[Change], told: Callable[[int], None]
    ) -> None:
        """Bring the documents of these changes to their current state: clean, chunk, embed, publish, retire.

        Chunks and their terms are made ready in a thread of their own, one batch ahead of the embedding. ``told`` hears after
        each batch how many documents it came from: long ones take their time.
        """
        ids = list(dict.fromkeys(change.document_id for change in changes))
        new = {change.document_id for change in fresh}
        with self.timed("read"):
            states = self._warehouse.state(ids)
            stale = writer.chunk_ids(ids)
        self._remember_left(changes[: len(changes) - len(fresh)], states)
        batches = self._preparation.batches(self._live(ids, states, stale, new), stale)
        with ThreadPoolExecutor(1, thread_name_prefix="chunk") as beside:
            coming = beside.submit(next, batches, None)
            while (batch := self._awaited(coming)) is not None:
                coming = beside.submit(next, batches, None)  # while this one is embedded
                self._publish(writer, batch.chunks, new)
                told(batch.documents)
        with self.timed("retire"):
            gone = [chunk for chunks in stale.values() for chunk in chunks]
            if gone:
                writer.retire(gone)
            self._counts["retired"] += sum(len(stale[id_]) for id_ in ids if id_ in new)

    def _remember_left(self, earlier: Sequence[Change], states: Mapping[str, DocumentState]) -> None:
        for change in earlier:
            state = states.get(change.document_id)
            if change.revision is not None and (state is None or not state.live):
                self._left.add(change.document_id)
            else:
                self._left.discard(change.document_id)

    def _live(
        self, ids: Sequence[str], states: Mapping[str, DocumentState], stale: Mapping[str, set[str]], new: set[str]
    ) -> list[tuple[int, DocumentState]]:
        """The documents that have chunks to publish, by their position; counts them, and those that are no more."""
        live = []
        for position, id_ in enumerate(ids):
            state = states.get(id_)
            if state is not None and state.live:
                self._counts["documents" if id_ in new else "caught_up"] += 1
                live.append((position, state))
            else:
                self._counts["removed"] += id_ in new and (bool(stale[id_]) or id_ in self._left)
        return live

    def _awaited(self, coming: "Future[Batch | None]") -> Batch | None:
        with self.timed("chunk"):
            return coming.result()

    def _retire(self, writer: IndexWriter, document_ids: Sequence[str]) -> None:
        gone = [chunk for chunks in writer.chunk_ids(document_ids).values() for chunk in chunks]
        if gone:
            writer.retire(gone)
        self._counts["removed"] += len(document_ids)
        self._counts["retired"] += len(gone)

    def _publish(self, writer: IndexWriter, batch: Sequence[Prepared], new: set[str]) -> None:
        keys = [vector_key(each.chunk.embedded, fingerprint=self._recipe.embedder) for each in batch]
        with self.timed("reuse"):
            vectors = dict(writer.vectors(sorted(set(keys))))
        missing = {key: each.chunk.embedded for key, each in zip(keys, batch, strict=True) if key not in vectors}
        with self.timed("embed"):
            vectors.update(zip(missing, self._embedder.embed_passages(list(missing.values())), strict=True))
        with self.timed("publish"):
            writer.publish([each.point(key, vectors[key]) for key, each in zip(keys, batch, strict=True)])
        fresh = sum(each.state.document.id in new for each in batch)
        self._counts["chunks"] += fresh
        self._counts["embedded"] += len(missing)
        self._counts["reused"] += max(0, fresh - len(missing))
