"""What the product speaks about: authors, documents, revisions, changes, chunks, hits.

Every entity is frozen. Ids are strings and follow from content, so that the same input always gets the same id.
Datetimes are timezone-aware UTC, cut to milliseconds (what every store can hold exactly).
"""

import hashlib
import unicodedata
import uuid
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

_NAMESPACE = uuid.UUID("6f1d0a0e-3f0b-5c43-9a27-5d5cf1f0c0de")


def _to_milliseconds(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("datetimes carry a timezone")
    moment = moment.astimezone(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


Moment = Annotated[datetime, AfterValidator(_to_milliseconds)]
"""A timezone-aware UTC datetime in whole milliseconds."""


def now() -> datetime:
    """The present moment as every store keeps it: UTC, whole milliseconds."""
    return _to_milliseconds(datetime.now(UTC))


class Frozen(BaseModel):
    """Base of the entities: immutable, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Kind(StrEnum):
    """What a document is."""

    ARTICLE = "article"
    POST = "post"
    REPOSITORY = "repository"
    NOTE = "note"


class TextFormat(StrEnum):
    """How a revision's text is to be read when it is cleaned and chunked."""

    MARKDOWN = "markdown"
    TEXT = "text"
    CODE = "code"


def fold(name: str) -> str:
    """The form in which names are compared: NFKC, case-folded, single spaces."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def author_id(full_name: str) -> str:
    """Id of an author: uuid5 of the folded name."""
    return str(uuid.uuid5(_NAMESPACE, f"author\x00{fold(full_name)}"))


def document_id(author: str, url: str) -> str:
    """Id of a document: uuid5(author id, canonical URL or ``file://`` path), stable for life."""
    return str(uuid.uuid5(uuid.UUID(author), url))


def chunk_id(document: str, start: int, end: int, text: str) -> str:
    """Id of a chunk: uuid5(document id, span, hash of the text)."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return str(uuid.uuid5(uuid.UUID(document), f"{start}:{end}:{digest}"))


def content_hash(text: str) -> str:
    """SHA-256 of the main text with newlines unified, line ends stripped and NFC applied.

    White space inside a line counts (an indent is meaning in code); trailing white space does not.
    """
    lines = unicodedata.normalize("NFC", text).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return hashlib.sha256(
        "\n".join(line.rstrip() for line in lines).strip("\n").encode("utf-8", "surrogatepass")
    ).hexdigest()


class Author(Frozen):
    """A person whose writing is kept."""

    id: str
    full_name: str
    aliases: tuple[str, ...] = ()

    @classmethod
    def named(cls, full_name: str, *aliases: str) -> "Author":
        """The author of that name, with the id that follows from it."""
        return cls(id=author_id(full_name), full_name=" ".join(full_name.split()), aliases=aliases)


class Document(Frozen):
    """One thing an author wrote, whatever its revisions."""

    id: str
    author_id: str
    kind: Kind
    platform: str
    url: str
    """Canonical URL, or ``file://`` URI for local material."""


class Revision(Frozen):
    """One state of a document's text."""

    document_id: str
    number: int = Field(ge=1)
    text: str
    """As the author wrote it (Markdown for articles, bytes decoded for code)."""
    content_hash: str
    title: str
    format: TextFormat = TextFormat.MARKDOWN
    language: str | None = None
    """ISO 639-1 code of the natural language, when known."""
    published_at: Moment | None = None
    fetched_at: Moment
    metadata: dict[str, str] = Field(default_factory=dict)


class TombstoneReason(StrEnum):
    """Why a document is no more."""

    GONE = "gone"
    """Missing at its source; it may come back."""
    MOVED = "moved"
    """It lives on at another address, as another document."""
    WITHDRAWN = "withdrawn"
    """Its author wants it forgotten; no later crawl undoes that."""


class Tombstone(Frozen):
    """A document that is gone at its source or was withdrawn by its author."""

    document_id: str
    reason: TombstoneReason
    at: Moment
    detail: str = ""


class Change(Frozen):
    """One entry of the warehouse's ordered log: a revision became current, or a document was tombstoned."""

    sequence: int
    document_id: str
    revision: int | None
    """Number of the revision that became current; ``None`` for a tombstone."""
    at: Moment


class DocumentState(Frozen):
    """A document as it is now. ``tombstone`` set means that it is deleted; ``revision`` is then the last one, if kept."""

    document: Document
    author: Author
    revision: Revision | None
    tombstone: Tombstone | None = None

    @property
    def live(self) -> bool:
        """Whether the document may be indexed, quoted and trained on."""
        return self.tombstone is None and self.revision is not None


class Draft(Frozen):
    """What a crawl or an import hands to the warehouse: a document and the state of its text."""

    author_id: str
    url: str
    kind: Kind
    platform: str
    title: str
    text: str
    format: TextFormat = TextFormat.MARKDOWN
    language: str | None = None
    published_at: Moment | None = None
    date_guessed: bool = False
    """``published_at`` was told from signs that may read otherwise next time: another date alone is no new state."""
    fetched_at: Moment = Field(default_factory=now)
    metadata: dict[str, str] = Field(default_factory=dict)

    @property
    def document_id(self) -> str:
        """Id of the document that this draft is a state of."""
        return document_id(self.author_id, self.url)


class RecordOutcome(StrEnum):
    """What the warehouse made of a draft."""

    STORED = "stored"
    UNCHANGED = "unchanged"
    REVISED = "revised"
    UPDATED = "updated"
    """The revision is as it was; kind or platform of the document are not."""
    RESTORED = "restored"
    """It was gone and is back."""
    WITHDRAWN = "withdrawn"
    """Its author had it forgotten: nothing was written."""


class Recorded(Frozen):
    """The outcome of one draft: which document, which revision is current now."""

    document_id: str
    revision: int | None
    outcome: RecordOutcome


class LinkOutcome(StrEnum):
    """What became of one link of a crawl."""

    STORED = "stored"
    UNCHANGED = "unchanged"
    REVISED = "new revision"
    MOVED = "moved"
    GONE = "gone"
    MISSING = "missing"
    """404 for the first time: gone if the next run says so too."""
    REFUSED = "refused"
    FAILED = "failed"


class Link(Frozen):
    """The raw fetch state of one link of one source: cache validators and the last outcome.

    ``misses`` counts the runs in a row in which the link answered 404.
    """

    author_id: str
    source: str
    url: str
    document_id: str | None = None
    outcome: LinkOutcome
    detail: str = ""
    status: int | None = None
    etag: str | None = None
    last_modified: str | None = None
    misses: int = 0
    fetched_at: Moment


class WarehouseStatus(Frozen):
    """Counts for people. ``documents`` counts live ones by kind; ``tombstones`` by reason; ``links`` by outcome."""

    address: str
    authors: int
    documents: dict[str, int]
    tombstones: dict[str, int]
    revisions: int
    links: dict[str, int]
    head: int
    """Sequence of the newest entry of the change log; 0 for an empty one."""
    watermarks: dict[str, int]


class SparseVector(Frozen):
    """Term weights: parallel lists of term ids (unique) and weights."""

    indices: list[int]
    values: list[float]


class Chunk(Frozen):
    """A span ``[start:end)`` of one revision's text; ``text`` is always exactly that slice.

    Small to big: ``text`` is what is found, ``[window_start:window_end)`` is what a model is shown.
    ``embedded`` is the text that goes through the encoders: heading path and chunk, normalised for search.
    """

    id: str
    document_id: str
    revision: int
    start: int = Field(ge=0)
    end: int
    text: str
    heading_path: tuple[str, ...] = ()
    window_start: int
    window_end: int
    embedded: str
    size: str = "default"
    """Name of the chunk size that made it, when several stand side by side."""


class IndexedChunk(Frozen):
    """A chunk with its document's particulars and its vectors, as the index keeps it."""

    chunk: Chunk
    title: str
    url: str
    kind: Kind
    platform: str
    author_id: str
    author: str
    published_at: Moment | None = None
    language: str | None = None
    vector_key: str
    """Key under which the dense vector can be reused: hash of the embedded text and the embedder's fingerprint."""
    dense: list[float]
    sparse: SparseVector


class Filters(Frozen):
    """Limits of a search; ``None`` does not limit. Dates compare ``published_at``: ``since`` inclusive, ``until`` exclusive."""

    author_id: str | None = None
    kind: Kind | None = None
    platform: str | None = None
    language: str | None = None
    since: Moment | None = None
    until: Moment | None = None
    document_ids: tuple[str, ...] | None = None


class Fusion(StrEnum):
    """How dense and sparse rankings become one."""

    WEIGHTED = "weighted"
    """alpha · cosine + (1 - alpha) · BM25 / best BM25."""
    RRF = "rrf"
    """Reciprocal rank fusion (Cormack et al., 2009)."""


class IndexQuery(Frozen):
    """One query as the index understands it. With one of the two vectors absent the other ranks alone."""

    dense: list[float] | None = None
    sparse: SparseVector | None = None
    filters: Filters = Filters()
    limit: int = Field(default=10, ge=1, le=10_000)
    fusion: Fusion = Fusion.WEIGHTED
    alpha: float = Field(default=0.5, ge=0.0, le=1.0)


class Hit(Frozen):
    """A chunk with its score. Span and text are those of the named revision."""

    chunk_id: str
    document_id: str
    revision: int
    title: str
    url: str
    kind: Kind
    platform: str
    author_id: str
    author: str
    published_at: Moment | None
    language: str | None
    heading_path: tuple[str, ...]
    text: str
    start: int
    end: int
    window_start: int
    window_end: int
    score: float
    dense_score: float | None = None
    sparse_score: float | None = None


class IndexStatus(Frozen):
    """State of an index for people. ``recipe`` is ``None`` where nothing has been built yet."""

    address: str
    engine: str
    chunks: int
    documents: int
    recipe: dict[str, str] | None
    watermark_name: str | None = None
    """Name under which the warehouse keeps this index's watermark."""
