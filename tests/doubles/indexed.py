"""Chunks as an index keeps them, short to write down in a test."""

import json
from datetime import datetime
from pathlib import Path

from llm_engineering.domain.config import EmbeddingConfig, IndexRecipe, SparseConfig
from llm_engineering.domain.entities import (
    Author,
    Chunk,
    IndexedChunk,
    Kind,
    SparseVector,
    chunk_id,
    document_id,
)
from llm_engineering.domain.ports import Index

ANN = Author.named("Ann Lee")
BOB = Author.named("Bob Ray")
DIMENSIONS = 4

RECIPE = IndexRecipe(
    model="toy",
    embedder="toy-1",
    dimensions=DIMENSIONS,
    embedding=EmbeddingConfig(),
    sparse=SparseConfig(),
    sparse_encoder="words-1",
    chunker="chunker-1",
)


def towards(*parts: float) -> list[float]:
    """A dense vector with these first components."""
    return [*parts, *[0.0] * (DIMENSIONS - len(parts))]


def terms(**weights: float) -> SparseVector:
    """A sparse vector with a weight per word; a word's id is made of its letters."""
    ids = {int.from_bytes(word.encode()[:3].ljust(3, b"\0")): weight for word, weight in weights.items()}
    return SparseVector(indices=sorted(ids), values=[ids[id_] for id_ in sorted(ids)])


def a_chunk(
    text: str = "a text",
    *,
    of: str = "https://example.org/one",
    start: int = 0,
    dense: list[float] | None = None,
    sparse: SparseVector | None = None,
    author: Author = ANN,
    kind: Kind = Kind.ARTICLE,
    platform: str = "example.org",
    language: str | None = "en",
    published_at: datetime | None = None,
    key: str | None = None,
) -> IndexedChunk:
    """A chunk of the document at that address."""
    document = document_id(author.id, of)
    end = start + len(text)
    chunk = Chunk(
        id=chunk_id(document, start, end, text),
        document_id=document,
        revision=1,
        start=start,
        end=end,
        text=text,
        heading_path=("Part", "Section"),
        window_start=start,
        window_end=end,
        embedded=text.lower(),
    )
    return IndexedChunk(
        chunk=chunk,
        title="A title",
        url=of,
        kind=kind,
        platform=platform,
        author_id=author.id,
        author=author.full_name,
        published_at=published_at,
        language=language,
        vector_key=key or f"key of {text}",
        dense=dense or towards(1),
        sparse=sparse or terms(text=1.0),
    )


class Follower:
    """A log of documents' texts, and an index that follows it as a sync does: publish, retire, move the watermark, commit.

    The watermarks are in a file, so that a killed process leaves what it had reached.
    """

    def __init__(self, watermarks: Path) -> None:
        self.log: list[tuple[str, tuple[str, ...]]] = []
        self._file = watermarks

    def write(self, address: str, *texts: str) -> "Follower":
        """A document gets these texts in place of any others; none removes it."""
        self.log.append((address, texts))
        return self

    def texts(self) -> set[str]:
        """What the index holds when it has followed the whole log."""
        return {text for texts in dict(self.log).values() for text in texts}

    def sync(self, index: Index, *, rebuild: bool = False) -> None:
        """Bring the index from its watermark to the end of the log."""
        marks: dict[str, int] = json.loads(self._file.read_text()) if self._file.exists() else {}
        with index.writer(RECIPE, rebuild=rebuild) as writer:
            start = marks.get(writer.watermark_name, marks.get(writer.inherited_watermark or "", 0))
            for position in range(start, len(self.log)):
                address, texts = self.log[position]
                chunks = [a_chunk(text, of=address) for text in texts]
                document = document_id(ANN.id, address)
                stale = writer.chunk_ids([document])[document] - {indexed.chunk.id for indexed in chunks}
                writer.publish(chunks)
                writer.retire(sorted(stale))
                marks[writer.watermark_name] = position + 1
                self._file.write_text(json.dumps(marks))
            writer.commit()
