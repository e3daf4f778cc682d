"""Documents on their way to the index: chunks with their terms, by the batch."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from llm_engineering.domain.entities import Chunk, DocumentState, IndexedChunk, SparseVector, TextFormat
from llm_engineering.domain.ports import SparseEncoder

_FIRST = 8
"""The first batch of chunks is so many times smaller than a full one; each next one is twice as large."""

Chunker = Callable[[DocumentState], list[Chunk]]
LanguageOf = Callable[[str], str | None]
"""ISO 639-1 code of a text's natural language, where it can be told."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A chunk that lacks nothing but its vector."""

    state: DocumentState
    chunk: Chunk
    sparse: SparseVector

    def point(self, key: str, dense: list[float]) -> IndexedChunk:
        """What the index stores, with the vector that is known under that key."""
        state, revision = self.state, self.state.revision
        if revision is None:
            raise ValueError(f"document {state.document.id} has no revision to index")
        return IndexedChunk(
            chunk=self.chunk,
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
            sparse=self.sparse,
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """Chunks that are embedded and published together, and how many documents are done with them."""

    chunks: Sequence[Prepared]
    documents: int


@dataclass(frozen=True, slots=True)
class Preparation:
    """Makes batches of at most ``size`` chunks, or of a document's chunks where these are more at the end."""

    chunker: Chunker
    sparse: SparseEncoder
    language_of: LanguageOf | None
    size: int

    def batches(self, documents: Iterable[tuple[int, DocumentState]], stale: dict[str, set[str]]) -> Iterator[Batch]:
        """The chunks of live documents, each with its position, and taken off what is ``stale``.

        The first batches are smaller: until there is one, nothing is embedded.
        """
        size = max(1, self.size // _FIRST)
        waiting: list[Prepared] = []
        position = -1
        for position, document in documents:
            state = self._in_its_language(document)
            chunks = self.chunker(state)
            stale[state.document.id] = stale[state.document.id] - {chunk.id for chunk in chunks}
            waiting.extend(Prepared(state, chunk, self.sparse.encode_passage(chunk.embedded)) for chunk in chunks)
            while len(waiting) >= size:
                yield Batch(waiting[:size], position)
                waiting, size = waiting[size:], min(2 * size, self.size)
        if waiting:
            yield Batch(waiting, position + 1)

    def _in_its_language(self, state: DocumentState) -> DocumentState:
        revision = state.revision
        if self.language_of is None or revision is None or revision.language or revision.format is TextFormat.CODE:
            return state
        stated = revision.model_copy(update={"language": self.language_of(revision.text)})
        return state.model_copy(update={"revision": stated})
