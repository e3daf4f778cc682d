"""The index follows the warehouse: read the change log, publish the new chunks, retire the stale ones, move the watermark."""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from pydantic import Field

from llm_engineering.domain.config import IndexRecipe, SyncConfig
from llm_engineering.domain.entities import Change, Chunk, DocumentState, Frozen, IndexedChunk, TextFormat
from llm_engineering.domain.ports import Embedder, Index, IndexWriter, SparseEncoder, Warehouse


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
    """Time by stage: read, chunk, reuse, embed, sparse, publish, retire, commit."""


Chunker = Callable[[DocumentState], list[Chunk]]
LanguageOf = Callable[[str], str | None]
"""ISO 639-1 code of a text's natural language, where it can be told."""


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

    Killed at any moment it loses nothing: readers keep the old state until the commit, and the next run goes on from
    the last watermark, which moves only after the points of its changes are durable.
    """
    head = warehouse.head()
    visible = None if rebuild else _visible_watermark(warehouse, index)  # a rebuild asks nothing of a damaged index
    if visible == head and not _outdated(index, recipe):
        return SyncReport(watermark=head)
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
            writer.commit()
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
        self._language_of = language_of
        self._warehouse = warehouse
        self._recipe = recipe
        self._chunker = chunker
        self._embedder = embedder
        self._sparse = sparse
        self._config = config
        self._counts = dict.fromkeys(
            ("documents", "removed", "chunks", "embedded", "reused", "retired", "caught_up"), 0
        )
        self._seconds: dict[str, float] = {}

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

        ``told`` hears after each full batch of chunks how many documents it came from: long ones take their time.
        """
        ids = list(dict.fromkeys(change.document_id for change in changes))
        new = {change.document_id for change in fresh}
        with self.timed("read"):
            states = self._warehouse.state(ids)
            stale = writer.chunk_ids(ids)
        waiting: list[tuple[DocumentState, Chunk]] = []
        for position, id_ in enumerate(ids):
            state = states.get(id_)
            if state is None or not state.live:
                self._counts["removed"] += bool(stale[id_]) and id_ in new
                continue
            self._counts["documents" if id_ in new else "caught_up"] += 1
            with self.timed("chunk"):
                state = self._in_its_language(state)
                chunks = self._chunker(state)
            stale[id_] = stale[id_] - {chunk.id for chunk in chunks}
            waiting.extend((state, chunk) for chunk in chunks)
            while len(waiting) >= self._config.batch_chunks:
                self._publish(writer, waiting[: self._config.batch_chunks], new)
                waiting = waiting[self._config.batch_chunks :]
                told(position)
        self._publish(writer, waiting, new)
        with self.timed("retire"):
            gone = [chunk for chunks in stale.values() for chunk in chunks]
            if gone:
                writer.retire(gone)
            self._counts["retired"] += sum(len(stale[id_]) for id_ in ids if id_ in new)

    def _in_its_language(self, state: DocumentState) -> DocumentState:
        revision = state.revision
        if self._language_of is None or revision is None or revision.language or revision.format is TextFormat.CODE:
            return state
        stated = revision.model_copy(update={"language": self._language_of(revision.text)})
        return state.model_copy(update={"revision": stated})

    def _retire(self, writer: IndexWriter, document_ids: Sequence[str]) -> None:
        gone = [chunk for chunks in writer.chunk_ids(document_ids).values() for chunk in chunks]
        if gone:
            writer.retire(gone)
        self._counts["removed"] += len(document_ids)
        self._counts["retired"] += len(gone)

    def _publish(self, writer: IndexWriter, batch: Sequence[tuple[DocumentState, Chunk]], new: set[str]) -> None:
        if not batch:
            return
        keys = [vector_key(chunk.embedded, fingerprint=self._recipe.embedder) for _, chunk in batch]
        with self.timed("reuse"):
            vectors = dict(writer.vectors(sorted(set(keys))))
        missing = {key: chunk.embedded for key, (_, chunk) in zip(keys, batch, strict=True) if key not in vectors}
        with self.timed("embed"):
            vectors.update(zip(missing, self._embedder.embed_passages(list(missing.values())), strict=True))
        with self.timed("sparse"):
            points = [
                _point(state, chunk, key, vectors[key], self._sparse)
                for key, (state, chunk) in zip(keys, batch, strict=True)
            ]
        with self.timed("publish"):
            writer.publish(points)
        fresh = sum(state.document.id in new for state, _ in batch)
        self._counts["chunks"] += fresh
        self._counts["embedded"] += len(missing)
        self._counts["reused"] += max(0, fresh - len(missing))


def _point(state: DocumentState, chunk: Chunk, key: str, dense: list[float], sparse: SparseEncoder) -> IndexedChunk:
    revision = state.revision
    if revision is None:
        raise ValueError(f"document {state.document.id} has no revision to index")
    return IndexedChunk(
        chunk=chunk,
        title=revision.title,
        url=state.document.url,
        kind=state.document.kind,
        platform=state.document.platform,
        author_id=state.author.id,
        author=state.author.full_name,
        published_at=revision.published_at,
        language=revision.language,
        vector_key=key,
        dense=dense,
        sparse=sparse.encode_passage(chunk.embedded),
    )
