"""A small library of writings with real stores and encoders of words, and a twin that answers from it."""

from datetime import UTC, datetime
from pathlib import Path

from llm_engineering.adapters.qdrant_edge import EdgeIndex
from llm_engineering.adapters.sqlite import SQLiteWarehouse
from llm_engineering.domain.config import AnswerConfig, EmbeddingConfig, IndexRecipe, SparseConfig, SyncConfig
from llm_engineering.domain.entities import (
    Author,
    Chunk,
    DocumentState,
    Draft,
    Kind,
    TombstoneReason,
    chunk_id,
    document_id,
)
from llm_engineering.domain.ports import ChatModel, Index, Reranker
from llm_engineering.features.sync import sync
from llm_engineering.rag.answer import Twin
from tests.doubles.encoders import WordEmbedder, WordSparseEncoder
from tests.doubles.models import ScriptedModel

ADA = Author.named("Ada Winter", "aw")
BOB = Author.named("Bob Ray")

KAFKA = "Kafka keeps a log of every event. A consumer of the log remembers its offset."
BREAD = "Sourdough bread wants a warm kitchen. The starter eats flour every day."
INDEX = "The index holds small chunks. Each chunk carries a larger window for the reader."


class Library:
    """A warehouse and an index in one folder; one chunk per paragraph, the document as its window."""

    def __init__(self, folder: Path, index: Index | None = None) -> None:
        self.warehouse = SQLiteWarehouse(folder / "warehouse.sqlite")
        self.index = index or EdgeIndex(folder / "index")
        self.embedder, self.sparse = WordEmbedder(dimensions=64), WordSparseEncoder()
        self.warehouse.save_author(ADA)
        self.warehouse.save_author(BOB)

    def write(
        self,
        name: str,
        text: str,
        *,
        author: Author = ADA,
        kind: Kind = Kind.ARTICLE,
        platform: str = "blog",
        published_at: datetime | None = datetime(2024, 5, 1, tzinfo=UTC),
    ) -> str:
        """Keep a text and return its document's id; the index learns of it by ``sync``."""
        draft = Draft(
            author_id=author.id,
            url=f"https://ada.example/{name}",
            kind=kind,
            platform=platform,
            title=f"On {name}",
            text=text,
            published_at=published_at,
        )
        self.warehouse.record([draft])
        return draft.document_id

    def bury(self, name: str, reason: TombstoneReason = TombstoneReason.WITHDRAWN, *, author: Author = ADA) -> None:
        self.warehouse.bury([document_id(author.id, f"https://ada.example/{name}")], reason=reason)

    def sync(self) -> "Library":
        recipe = IndexRecipe(
            model="words",
            embedder=self.embedder.fingerprint,
            dimensions=self.embedder.dimensions,
            embedding=EmbeddingConfig(),
            sparse=SparseConfig(),
            sparse_encoder=self.sparse.fingerprint,
            chunker="paragraphs",
        )
        sync(
            self.warehouse,
            self.index,
            recipe=recipe,
            chunker=paragraphs,
            embedder=self.embedder,
            sparse=self.sparse,
            config=SyncConfig(),
        )
        return self

    def twin(
        self,
        model: ChatModel | None = None,
        *,
        planner: ChatModel | None = None,
        reranker: Reranker | None = None,
        **numbers: object,
    ) -> Twin:
        """A twin that always dares to answer, unless ``threshold`` says otherwise."""
        return Twin(
            warehouse=self.warehouse,
            index=self.index,
            embedder=self.embedder,
            sparse=self.sparse,
            model=model or ScriptedModel(),
            planner=planner,
            reranker=reranker,
            config=AnswerConfig.model_validate({"threshold": 0.0, **numbers}),
        )


def three_articles(library: Library) -> Library:
    """Kafka, bread and chunks, indexed."""
    for name, text in (("kafka", KAFKA), ("bread", BREAD), ("chunks", INDEX)):
        library.write(name, text)
    return library.sync()


def paragraphs(state: DocumentState) -> list[Chunk]:
    """One chunk per paragraph, shown with the whole text."""
    revision = state.revision
    assert revision is not None
    found, start = [], 0
    for paragraph in revision.text.split("\n\n"):
        end = start + len(paragraph)
        if paragraph.strip():
            found.append(
                Chunk(
                    id=chunk_id(revision.document_id, start, end, paragraph),
                    document_id=revision.document_id,
                    revision=revision.number,
                    start=start,
                    end=end,
                    text=paragraph,
                    window_start=0,
                    window_end=len(revision.text),
                    embedded=paragraph.strip(),
                )
            )
        start = end + 2
    return found
