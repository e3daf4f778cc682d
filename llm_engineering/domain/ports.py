"""What the stages need from the outside world. Each docstring states the promises; ``tests/contracts`` holds adapters to them.

All methods raise :class:`~llm_engineering.domain.errors.TwinError` subclasses only; an engine's own errors never pass.
Nothing is opened at import; whoever opens a store closes it (the openers in ``bootstrap`` are context managers).
"""

from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Protocol, TypeVar

from pydantic import BaseModel

from llm_engineering.domain.answers import Feedback, Prompt, Reply
from llm_engineering.domain.config import IndexRecipe, Sampling
from llm_engineering.domain.entities import (
    Author,
    Change,
    Document,
    DocumentState,
    Draft,
    Frozen,
    Hit,
    IndexedChunk,
    IndexQuery,
    IndexStatus,
    Link,
    Recorded,
    Revision,
    SparseVector,
    Tombstone,
    TombstoneReason,
    WarehouseStatus,
)
from llm_engineering.domain.registry import Lineage, ModelVersion
from llm_engineering.domain.samples import Decision, JournalEntry

Structured = TypeVar("Structured", bound=BaseModel)

Restorable = Author | Document | Revision | Tombstone | Link | Feedback | JournalEntry | Decision
"""One line of an export; authors before their documents, documents before the rest."""


class RestoreReport(Frozen):
    """What a restore did: entries written, entries already there, and one line per refusal."""

    written: int = 0
    present: int = 0
    refused: tuple[str, ...] = ()


class Warehouse(Protocol):
    """Keeps everything an author wrote, with its history, and an ordered log of what changed.

    Promises: a document's state and its log entry commit together or not at all; sequences of the log grow without
    ever being reused, and an entry never becomes visible after a later one was read; several processes may write at
    once; a process killed in the middle of any call loses nothing that was acknowledged and doubles nothing; whatever
    is done twice changes nothing the second time. Texts come back exactly as they went in.
    """

    def save_author(self, author: Author) -> Author:
        """Insert the author, or add new aliases to the one with that id; returns the kept state."""
        ...

    def authors(self) -> list[Author]:
        """All authors by name."""
        ...

    def find_author(self, name: str) -> Author | None:
        """The author whose id, full name or alias is ``name`` (folded); ``None`` if there is none."""
        ...

    def record(self, drafts: Sequence[Draft]) -> list[Recorded]:
        """Keep these states in one transaction; answers in the order given.

        A draft that says what the current revision says is ``unchanged`` and leaves no trace: the same text (by
        ``content_hash``) and title, and no other language, date or tags (``metadata["tags"]``); what it does not state, or
        only guesses, is no change. Anything else becomes the next revision. Another kind or platform alone changes the
        document and enters the log (``updated``). A document that was gone or moved comes back (``restored``); a withdrawn
        one does not.
        The author must have been saved before (:class:`UnknownAuthor`).
        """
        ...

    def bury(
        self, document_ids: Sequence[str], *, reason: TombstoneReason, detail: str = "", at: datetime | None = None
    ) -> list[Tombstone]:
        """Tombstone these documents in one transaction and return the tombstones that are new.

        Already buried and unknown ids are passed over, except that ``withdrawn`` replaces any other reason.
        ``withdrawn`` also erases the text, title and metadata of every revision, the links' details, every feedback on an
        answer that cited the document, and the journal entries and decisions that hold words of it, for good.
        """
        ...

    def state(self, document_ids: Sequence[str]) -> dict[str, DocumentState]:
        """Current state of these documents, tombstoned ones included; unknown ids are absent."""
        ...

    def states(self, *, author_id: str | None = None, include_deleted: bool = False) -> Iterator[DocumentState]:
        """Every document's current state by id, streamed in bounded memory."""
        ...

    def revision(self, document_id: str, number: int) -> Revision | None:
        """One revision; ``None`` if there is none of that number or its text was erased."""
        ...

    def find_documents(self, id_or_url: str) -> list[Document]:
        """Documents with that id or that address (several authors may share one)."""
        ...

    def changes(self, *, after: int, limit: int) -> list[Change]:
        """At most ``limit`` log entries with a sequence above ``after``, ascending."""
        ...

    def head(self) -> int:
        """Sequence of the newest log entry; 0 if there is none."""
        ...

    def watermark(self, consumer: str) -> int | None:
        """How far a consumer of the log has come; ``None`` if it never said."""
        ...

    def set_watermark(self, consumer: str, sequence: int) -> None:
        """Remember how far a consumer has come (durable on return)."""
        ...

    def drop_watermark(self, consumer: str) -> None:
        """Forget a consumer that exists no more."""
        ...

    def links(self, *, author_id: str, source: str | None = None) -> list[Link]:
        """Fetch state of every known link of the author (of one source), by URL."""
        ...

    def save_links(self, links: Sequence[Link]) -> None:
        """Insert or replace fetch states, keyed by (author, source, url); an unknown author raises :class:`UnknownAuthor`."""
        ...

    def save_feedback(self, feedback: Feedback) -> None:
        """Keep a judgement; a later one of the same request takes its place.

        Raises :class:`UnknownDocument` if a document that the answer cited is not here or was withdrawn: nothing is kept.
        """
        ...

    def feedback(self) -> Iterator[Feedback]:
        """Every judgement by request id, streamed in bounded memory."""
        ...

    def save_journal(self, entries: Sequence[JournalEntry]) -> set[str]:
        """Keep these requests and replies in one transaction (durable on return); of one key the first entry stands.

        Returns the keys that may not be kept because a document whose text they hold is not here or was withdrawn.
        """
        ...

    def journal(self, keys: Sequence[str]) -> dict[str, JournalEntry]:
        """What is kept under these keys; unknown ones are absent."""
        ...

    def journal_entries(self) -> Iterator[JournalEntry]:
        """The whole journal by key, streamed in bounded memory."""
        ...

    def save_decision(self, decision: Decision) -> None:
        """Keep a review decision; a later one on the same sample takes its place.

        Raises :class:`UnknownDocument` if a document of the sample is not here or was withdrawn: nothing is kept.
        """
        ...

    def decisions(self) -> Iterator[Decision]:
        """Every review decision by sample id, streamed in bounded memory."""
        ...

    def restore(self, entries: Iterable[Restorable]) -> RestoreReport:
        """Write exported entries exactly as they were, batch by batch; an entry already there changes nothing.

        Revision numbers are kept. A revision whose number is taken by another text, and any revision, feedback, journal
        entry or decision of a document withdrawn here, is refused with a reason in the report.
        """
        ...

    def status(self) -> WarehouseStatus:
        """Counts for people."""
        ...

    def close(self) -> None:
        """Release the engine."""
        ...


class Fetched(Frozen):
    """An answer to a fetch: 2xx with content, 304 (``not_modified``), or a 4xx that the caller decides about."""

    url: str
    """What was asked for."""
    final_url: str
    """Where the redirects ended."""
    moved_permanently: bool = False
    """Every redirect on the way was permanent (301, 308), and there was at least one."""
    status: int
    content: bytes = b""
    content_type: str = ""
    """Media type in lower case without parameters; empty if the server named none."""
    charset: str | None = None
    etag: str | None = None
    last_modified: str | None = None

    @property
    def not_modified(self) -> bool:
        """The validators still hold: nothing was sent."""
        return self.status == 304


class Fetcher(Protocol):
    """Gets pages with manners and without being tricked. Safe to call from several threads.

    Promises: robots.txt and crawl-delay are kept; requests to one host are paced while different hosts go on in
    parallel; 429 and 5xx are retried a bounded number of times with backoff, honouring ``Retry-After``; size, time,
    redirects and decompression are limited; every hop connects only to a public address unless the host is excepted.
    Raises :class:`FetchRefused` or :class:`FetchFailed` with a short ``reason``; 304 and 4xx are answers.
    """

    def fetch(
        self,
        url: str,
        *,
        etag: str | None = None,
        last_modified: str | None = None,
        accept: Sequence[str] = (),
    ) -> Fetched:
        """Fetch one URL; with validators, conditionally. ``accept`` lists media types; any other is refused (empty: any)."""
        ...

    def addresses(self, url: str) -> Sequence[str]:
        """The permitted IP addresses of a URL's host, for engines that connect themselves; else :class:`FetchRefused`."""
        ...


class Repositories(Protocol):
    """Brings git repositories to a local folder."""

    def checkout(self, url_or_path: str) -> AbstractContextManager[Path]:
        """A folder with the files of the default branch (a shallow clone); removed when the context closes."""
        ...


class Embedder(Protocol):
    """Turns text into unit vectors. Deterministic on one machine; thread-safe.

    ``fingerprint`` changes exactly when vectors of the same text would differ in meaning: other weights, prompts or
    pooling; not for another numeric backend whose agreement with float32 was measured.
    """

    @property
    def fingerprint(self) -> str: ...

    @property
    def dimensions(self) -> int: ...

    @property
    def window(self) -> int:
        """Tokens of passage text that are read before the model cuts off, special tokens and prompt already deducted."""
        ...

    def count_tokens(self, text: str) -> int:
        """Length of a text in the model's own tokens, special tokens not counted."""
        ...

    def embed_passages(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector of ``dimensions`` floats with norm 1 per text, in order; batches by length inside."""
        ...

    def embed_query(self, text: str) -> list[float]:
        """The vector of a query (with the query prompt, where the model wants one)."""
        ...

    def embed_queries(self, texts: Sequence[str]) -> list[list[float]]:
        """What :meth:`embed_query` says of each, in order, in one go."""
        ...


class SparseEncoder(Protocol):
    """Turns text into BM25 term weights whose dot product, with the index's IDF, is the BM25 score."""

    @property
    def fingerprint(self) -> str: ...

    def encode_passage(self, text: str) -> SparseVector:
        """Saturated and length-normalised term frequencies."""
        ...

    def encode_query(self, text: str) -> SparseVector:
        """Weight 1 per distinct term."""
        ...


class IndexWriter(Protocol):
    """One writing session on an index; at most one exists at a time. Nothing is visible to readers of the embedded
    engine before :meth:`commit`; on a server, published points are visible at once.

    The embedded engine hands out the side that readers do not see, which may be one session behind: whoever writes brings
    it level from ``watermark_name``, else from ``inherited_watermark``.
    """

    @property
    def watermark_name(self) -> str:
        """Name of the watermark that belongs to what is being written."""
        ...

    @property
    def inherited_watermark(self) -> str | None:
        """Name of the watermark whose state this one was copied from, if it was copied."""
        ...

    def publish(self, chunks: Sequence[IndexedChunk]) -> None:
        """Insert or replace by chunk id; durable on return."""
        ...

    def retire(self, chunk_ids: Sequence[str]) -> None:
        """Remove chunks; unknown ids are passed over; durable on return."""
        ...

    def chunk_ids(self, document_ids: Sequence[str]) -> dict[str, set[str]]:
        """Ids of the indexed chunks of each of these documents (all given keys present)."""
        ...

    def document_ids(self) -> set[str]:
        """Ids of every document that has a chunk here."""
        ...

    def vectors(self, keys: Sequence[str]) -> Mapping[str, list[float]]:
        """Dense vectors already known under these keys, here or in the index being replaced; unknown keys are absent."""
        ...

    def commit(self, *, erase: bool = False) -> None:
        """Make everything written visible to readers in one step. Call after the watermark was set.

        ``erase``: what was retired leaves the files, too, and so do older states of the index as soon as no reader uses them.
        """
        ...


class Index(Protocol):
    """Finds chunks. Readers in other processes go on while a writer works and see its commit within seconds."""

    def writer(self, recipe: IndexRecipe, *, rebuild: bool = False) -> AbstractContextManager[IndexWriter]:
        """Begin writing. Leaving the context without :meth:`IndexWriter.commit` leaves readers with the old state.

        Raises :class:`StoreLocked` if another writer is at work, :class:`IndexMismatch` if the index was built by
        another recipe and ``rebuild`` is false. ``rebuild`` starts empty beside the old state, which serves until commit.
        """
        ...

    def recipe(self) -> IndexRecipe | None:
        """What the visible state was built with; ``None`` if nothing was built yet."""
        ...

    def search(self, query: IndexQuery) -> list[Hit]:
        """Best hits first, at most ``limit``; ties broken by chunk id. Raises :class:`IndexMissing` if there is no index."""
        ...

    def chunks(self) -> Iterator[IndexedChunk]:
        """Everything in the visible state, streamed; for copies and audits."""
        ...

    def status(self) -> IndexStatus:
        """State for people."""
        ...

    def sweep(self) -> None:
        """Remove older states that a commit with ``erase`` left because a reader used them. Cheap where there are none."""
        ...

    def close(self) -> None:
        """Release the engine."""
        ...


class ChatModel(Protocol):
    """Writes text. Asynchronous, so that a caller who leaves cancels the work; nothing blocks the event loop.

    Errors are :class:`ModelError` subclasses: :class:`ModelUnavailable` (down, refused, out of time, out of retries),
    :class:`PromptTooLong` (it does not fit the window) and :class:`ModelReplyInvalid` (no text, not the JSON that was asked
    for after one repair round).
    """

    @property
    def name(self) -> str:
        """What answers report as ``model``."""
        ...

    async def complete(self, prompt: Prompt, *, sampling: Sampling) -> Reply:
        """The whole reply."""
        ...

    def stream(self, prompt: Prompt, *, sampling: Sampling) -> AsyncIterator[str | Reply]:
        """Pieces of text as they come; the last item is the :class:`Reply` with the whole text and the counts."""
        ...

    async def structured(
        self, prompt: Prompt, *, shape: type[Structured], sampling: Sampling
    ) -> tuple[Structured, Reply]:
        """A reply validated as ``shape`` (by JSON schema where the server can), with one repair round.

        The :class:`Reply` is the one that was valid, with the tokens of every round.
        """
        ...

    def count_tokens(self, text: str) -> int:
        """Length in the model's own tokens where they are known; else a careful over-estimate."""
        ...

    async def check(self) -> None:
        """Raise :class:`ModelUnavailable` if it cannot answer now; cheap."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


class Reranker(Protocol):
    """Scores how well passages answer a query; thread-safe."""

    @property
    def name(self) -> str: ...

    def scores(self, query: str, passages: Sequence[str]) -> list[float]:
        """One score per passage, higher is better, in order."""
        ...


class Registry(Protocol):
    """Keeps trained models with where they came from, and says which one is current. Safe with several processes.

    Promises: a version's files and record appear together or not at all, and a killed process leaves nothing that counts;
    version numbers of a name grow and are never reused; of a name at most one version is current, at every moment.
    Raises :class:`UsageError` for references to what is not there, :class:`StoreError` for what is there and broken.
    """

    def register(
        self, folder: Path, *, name: str, lineage: Lineage, metrics: Mapping[str, float] | None = None
    ) -> ModelVersion:
        """Keep a copy of the folder as the next version of the name, as a candidate.

        Weights and lineage that a version of the name has already (and still holds) are that version: nothing is written.
        """
        ...

    def versions(self, name: str | None = None) -> list[ModelVersion]:
        """Every version (of the name), by name and number."""
        ...

    def find(self, reference: str) -> ModelVersion:
        """The version that ``NAME@VERSION``, ``NAME`` (its current one) or ``current`` (the only current one) names."""
        ...

    def folder(self, model: ModelVersion) -> Path:
        """Where its files are; :class:`StoreError` if one of them is gone or has another size."""
        ...

    def promote(self, reference: str) -> ModelVersion:
        """Make a version the current one of its name; the one that was current is retired. Its files must be whole."""
        ...

    def rollback(self, name: str) -> ModelVersion:
        """Make the version current again that was current before; :class:`UsageError` where there was none."""
        ...

    def retire(self, reference: str, *, erase: bool = False) -> ModelVersion:
        """Take a version out of use; with ``erase`` its files are removed for good, and only the record stays."""
        ...

    def saw(self, document_ids: Collection[str]) -> list[ModelVersion]:
        """The versions whose training saw any of these documents and whose files are still here."""
        ...

    def tidy(self) -> None:
        """Remove what killed processes left, which counts for nothing and yet holds weights."""
        ...
