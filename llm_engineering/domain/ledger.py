"""What a write makes of a document: the rules that every warehouse shares, decided without a store.

An adapter loads what it knows of the documents concerned, lets a :class:`Ledger` decide, and commits what the ledger
then asks for in one transaction.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from llm_engineering.domain.answers import Feedback
from llm_engineering.domain.entities import (
    Author,
    Document,
    Draft,
    Link,
    Recorded,
    RecordOutcome,
    Revision,
    Tombstone,
    TombstoneReason,
    content_hash,
    fold,
)
from llm_engineering.domain.errors import UnknownAuthor, UnknownDocument
from llm_engineering.domain.ports import Restorable, RestoreReport
from llm_engineering.domain.samples import Decision, JournalEntry

TAGS = "tags"
"""The one entry of a draft's metadata that its author states; all others say how the text was come by."""

Dependent = Feedback | JournalEntry | Decision
"""Kept only while every document that it names is."""

LinkKey = tuple[str, str, str]
"""Author id, source, URL."""


@dataclass(frozen=True)
class Content:
    """What of a kept revision decides whether a draft brings anything new."""

    content_hash: str
    title: str
    language: str | None = None
    published_at: datetime | None = None
    tags: str | None = None

    @classmethod
    def of(cls, revision: Revision) -> "Content":
        """What that revision says."""
        return cls(
            content_hash=revision.content_hash,
            title=revision.title,
            language=revision.language,
            published_at=revision.published_at,
            tags=revision.metadata.get(TAGS),
        )

    def has_text_of(self, state: Draft | Revision) -> bool:
        """Whether text and title are the same."""
        digest = content_hash(state.text) if isinstance(state, Draft) else state.content_hash
        return (self.content_hash, self.title) == (digest, state.title)

    def says_all_of(self, draft: Draft) -> bool:
        """Whether the draft states nothing else: what it does not state, or only guesses, is no change."""
        return (
            self.has_text_of(draft)
            and draft.language in (None, self.language)
            and (draft.date_guessed or draft.published_at in (None, self.published_at))
            and draft.metadata.get(TAGS) in (None, self.tags)
        )

    def completed(self, draft: Draft) -> Draft:
        """The draft of the same text, with what was stated before where it states nothing."""
        stated = None if draft.date_guessed else draft.published_at
        tags = {} if self.tags is None else {TAGS: self.tags}
        return draft.model_copy(
            update={
                "language": draft.language or self.language,
                "published_at": stated or self.published_at or draft.published_at,
                "metadata": tags | draft.metadata,
            }
        )


@dataclass(frozen=True)
class Standing:
    """A document as a warehouse knows it: its newest revision (``None`` if none is kept) and its tombstone."""

    document: Document
    current: int | None = None
    tombstone: Tombstone | None = None

    @property
    def withdrawn(self) -> bool:
        """Whether its author had it forgotten."""
        return self.tombstone is not None and self.tombstone.reason is TombstoneReason.WITHDRAWN


class Ledger:
    """Decides one transaction, given what is known: authors, and those documents, revisions, links, judged requests,
    journalled requests and decided samples that it will meet.

    Afterwards it holds what is to be written: ``authors``, ``documents``, ``links``, ``feedback``, ``decisions`` (insert or
    replace), ``revisions``, ``journal`` (insert), ``changes`` (document id, the revision that became current or ``None``;
    appended to the log), ``erased`` (ids of documents whose revisions, earlier ones too, feedback, journal entries, decisions
    and link details must go for good).
    """

    def __init__(
        self,
        authors: Iterable[Author],
        standings: Iterable[Standing] = (),
        contents: Mapping[tuple[str, int], Content] | None = None,
        link_keys: Iterable[LinkKey] = (),
        judged: Iterable[str] = (),
        journalled: Iterable[str] = (),
        decided: Iterable[str] = (),
    ) -> None:
        self._authors = {author.id: author for author in authors}
        self._standings = {standing.document.id: standing for standing in standings}
        self._contents = dict(contents or {})
        self._link_keys = set(link_keys)
        self._judged = set(judged)
        self._journalled = set(journalled)
        self._decided = set(decided)
        self.authors: dict[str, Author] = {}
        self.documents: dict[str, Standing] = {}
        self.links: list[Link] = []
        self.feedback: list[Feedback] = []
        self.journal: list[JournalEntry] = []
        self.decisions: list[Decision] = []
        self.revisions: list[Revision] = []
        self.changes: list[tuple[str, int | None]] = []
        self.erased: set[str] = set()

    def record(self, draft: Draft) -> Recorded:
        """Keep a state that a crawl or an import brought; raises :class:`UnknownAuthor`."""
        self.require_author(draft.author_id)
        identity = draft.document_id
        standing = self._standings.get(identity)
        if standing is not None and standing.withdrawn:
            return Recorded(document_id=identity, revision=None, outcome=RecordOutcome.WITHDRAWN)
        current = standing.current if standing is not None else None
        kept = self._contents.get((identity, current)) if current is not None else None
        document, number = _document(draft), current or 0
        if kept is None or not kept.says_all_of(draft):
            number += 1
            same_text = kept is not None and kept.has_text_of(draft)
            self._add(_revision(kept.completed(draft) if kept and same_text else draft, number), document)
            outcome = RecordOutcome.STORED if current is None else RecordOutcome.REVISED
        elif standing == Standing(document, current):
            return Recorded(document_id=identity, revision=current, outcome=RecordOutcome.UNCHANGED)
        else:
            self._stand(Standing(document, number), log=number)
            outcome = RecordOutcome.UPDATED
        if standing is not None and standing.tombstone is not None:
            outcome = RecordOutcome.RESTORED
        return Recorded(document_id=identity, revision=number, outcome=outcome)

    def bury(self, tombstone: Tombstone) -> bool:
        """Tombstone a document; false where it is unknown, or buried already and not withdrawn now."""
        standing = self._standings.get(tombstone.document_id)
        withdrawing = tombstone.reason is TombstoneReason.WITHDRAWN
        if standing is None or standing.withdrawn or (standing.tombstone is not None and not withdrawing):
            return False
        self._stand(Standing(standing.document, None if withdrawing else standing.current, tombstone), log=None)
        if withdrawing:
            self.erased.add(tombstone.document_id)
            self.revisions = [kept for kept in self.revisions if kept.document_id != tombstone.document_id]
            self.feedback = [kept for kept in self.feedback if tombstone.document_id not in kept.document_ids]
            self.journal = [kept for kept in self.journal if tombstone.document_id not in kept.document_ids]
            self.decisions = [kept for kept in self.decisions if tombstone.document_id not in kept.document_ids]
        return True

    def judge(self, feedback: Feedback) -> None:
        """Keep a judgement in place of an earlier one; raises :class:`UnknownDocument` if what was cited is not here."""
        refusal = self._refused(feedback)
        if refusal:
            raise UnknownDocument(refusal, hint="Ask again: answers cite only what is there.")
        self._judged.add(feedback.request_id)
        self.feedback.append(feedback)

    def enter(self, entry: JournalEntry) -> bool:
        """Keep a request and its reply, once; false if a document whose text it holds is not here or was withdrawn."""
        if self._refused(entry):
            return False
        if entry.key not in self._journalled:
            self._journalled.add(entry.key)
            self.journal.append(entry)
        return True

    def decide(self, decision: Decision) -> None:
        """Keep a decision in place of an earlier one; raises :class:`UnknownDocument` if the sample's document is not here."""
        refusal = self._refused(decision)
        if refusal:
            raise UnknownDocument(refusal, hint="Build the dataset again: it drops what is gone.")
        self._decided.add(decision.sample_id)
        self.decisions.append(decision)

    def restore(self, entries: Iterable[Restorable]) -> RestoreReport:
        """Write exported entries as they were. A newer revision lifts a tombstone, except of a withdrawn document."""
        verdicts = [self._restore(entry) for entry in entries]
        return RestoreReport(
            written=sum(verdict is True for verdict in verdicts),
            present=sum(verdict is False for verdict in verdicts),
            refused=tuple(verdict for verdict in verdicts if isinstance(verdict, str)),
        )

    def require_author(self, author_id: str) -> None:
        """Raise :class:`UnknownAuthor` if there is no author with that id."""
        if author_id not in self._authors:
            raise UnknownAuthor(f"No author with id {author_id} is in the warehouse", hint="Save the author first.")

    def _restore(self, entry: Restorable) -> bool | str:
        """True if the entry is new, false if it was there, or the reason why it is refused."""
        match entry:
            case Author():
                return self._restore_author(entry)
            case Document() | Link() if entry.author_id not in self._authors:
                return f"{type(entry).__name__.lower()} {entry.url}: its author is not in the warehouse"
            case Document():
                if entry.id in self._standings:
                    return False
                self._standings[entry.id] = self.documents[entry.id] = Standing(entry)
                return True
            case Link():
                return self._restore_link(entry)
            case Feedback() | JournalEntry() | Decision():
                return self._restore_dependent(entry)
            case _ if entry.document_id not in self._standings:
                return f"{_name(entry)}: its document is not in the warehouse"
            case Tombstone():
                return self.bury(entry)
            case Revision():
                return self._restore_revision(entry, self._standings[entry.document_id])

    def _restore_author(self, entry: Author) -> bool:
        kept = self._authors.get(entry.id)
        author = entry if kept is None else with_names_of(kept, entry)
        if author == kept:
            return False
        self._authors[author.id] = self.authors[author.id] = author
        return True

    def _restore_link(self, entry: Link) -> bool:
        key = link_key(entry)
        if key in self._link_keys:
            return False
        standing = self._standings.get(entry.document_id or "")
        self._link_keys.add(key)
        self.links.append(without_details(entry) if standing is not None and standing.withdrawn else entry)
        return True

    def _restore_dependent(self, entry: Dependent) -> bool | str:
        match entry:
            case Feedback():
                present = entry.request_id in self._judged
            case JournalEntry():
                present = entry.key in self._journalled
            case Decision():
                present = entry.sample_id in self._decided
        if present:
            return False
        if refusal := self._refused(entry):
            return refusal
        match entry:
            case Feedback():
                self.judge(entry)
            case JournalEntry():
                self.enter(entry)
            case Decision():
                self.decide(entry)
        return True

    def _refused(self, entry: Dependent) -> str:
        """Why this may not be kept; empty if it may. What cites a document that is not here could never be forgotten."""
        name = _name(entry)
        for document_id in entry.document_ids:
            standing = self._standings.get(document_id)
            if standing is None:
                return f"{name}: document {document_id} is not in the warehouse"
            if standing.withdrawn:
                return f"{name}: the author of document {document_id} has withdrawn it"
        return ""

    def _restore_revision(self, entry: Revision, standing: Standing) -> bool | str:
        if standing.withdrawn:
            return f"{_name(entry)}: its author has withdrawn the document"
        kept = self._contents.get((entry.document_id, entry.number))
        if kept is not None:
            return False if kept.has_text_of(entry) else f"{_name(entry)}: the number is taken by another text or title"
        if standing.current is None or entry.number > standing.current:
            self._add(entry, standing.document)
        else:  # history behind a newer state: nothing became current, so the log does not speak of it
            self.revisions.append(entry)
            self._contents[entry.document_id, entry.number] = Content.of(entry)
        return True

    def _add(self, revision: Revision, document: Document) -> None:
        self.revisions.append(revision)
        self._contents[revision.document_id, revision.number] = Content.of(revision)
        self._stand(Standing(document, revision.number), log=revision.number)

    def _stand(self, standing: Standing, *, log: int | None) -> None:
        identity = standing.document.id
        self._standings[identity] = self.documents[identity] = standing
        self.changes.append((identity, log))


def documents_of(entries: Iterable[Restorable]) -> set[str]:
    """Ids of the documents that a ledger must know to restore these entries."""
    identities: set[str | None] = set()
    for entry in entries:
        match entry:
            case Document():
                identities.add(entry.id)
            case Feedback() | JournalEntry() | Decision():
                identities.update(entry.document_ids)
            case Revision() | Tombstone() | Link():
                identities.add(entry.document_id)
    return {identity for identity in identities if identity}


def with_names_of(kept: Author, other: Author) -> Author:
    """The kept author, with those names of the other added as aliases that it does not have yet."""
    known = {fold(name) for name in (kept.full_name, *kept.aliases)}
    aliases = list(kept.aliases)
    for name in (other.full_name, *other.aliases):
        if fold(name) not in known:
            known.add(fold(name))
            aliases.append(name)
    return kept.model_copy(update={"aliases": tuple(aliases)})


def author_called(name: str, authors: Iterable[Author]) -> Author | None:
    """The author with that id, else with that full name, else with that alias; names are compared folded."""
    everyone = list(authors)
    by_alias = {fold(alias): author for author in reversed(everyone) for alias in author.aliases}
    by_name = {fold(author.full_name): author for author in reversed(everyone)}
    by_id = {author.id: author for author in everyone}
    return by_id.get(name) or by_name.get(fold(name)) or by_alias.get(fold(name))


def link_key(link: Link) -> LinkKey:
    """What a link is known by."""
    return (link.author_id, link.source, link.url)


def without_details(link: Link) -> Link:
    """The link without anything that was learnt from its content."""
    return link.model_copy(update={"detail": "", "etag": None, "last_modified": None})


def batches(entries: Iterable[Restorable], size: int) -> Iterator[list[Restorable]]:
    """The entries in lists of at most ``size``."""
    rest = iter(entries)
    while batch := list(islice(rest, size)):
        yield batch


def total(reports: Iterable[RestoreReport]) -> RestoreReport:
    """The sum of several reports."""
    everything = list(reports)
    return RestoreReport(
        written=sum(report.written for report in everything),
        present=sum(report.present for report in everything),
        refused=tuple(line for report in everything for line in report.refused),
    )


def storable(text: str) -> str | bytes:
    """The text as an engine can hold it that insists on valid UTF-8: bytes where it has lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def readable(stored: str | bytes) -> str:
    """The inverse of :func:`storable`."""
    return stored if isinstance(stored, str) else stored.decode("utf-8", "surrogatepass")


def _document(draft: Draft) -> Document:
    return Document(
        id=draft.document_id, author_id=draft.author_id, kind=draft.kind, platform=draft.platform, url=draft.url
    )


def _revision(draft: Draft, number: int) -> Revision:
    kept = draft.model_dump(exclude={"author_id", "url", "kind", "platform", "date_guessed"})
    return Revision(document_id=draft.document_id, number=number, content_hash=content_hash(draft.text), **kept)


def _name(entry: Revision | Tombstone | Dependent) -> str:
    match entry:
        case Revision():
            return f"revision {entry.number} of document {entry.document_id}"
        case Tombstone():
            return f"tombstone of document {entry.document_id}"
        case Feedback():
            return f"feedback on request {entry.request_id}"
        case JournalEntry():
            return f"journal entry {entry.key}"
        case Decision():
            return f"decision on sample {entry.sample_id}"
