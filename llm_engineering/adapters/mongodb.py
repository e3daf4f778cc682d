"""The warehouse on MongoDB: document and log entry in one transaction, which takes a replica set (one node will do)."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from pymongo import ReplaceOne, ReturnDocument

from llm_engineering.adapters import mongodb_rows as rows
from llm_engineering.adapters.mongodb_rows import Row
from llm_engineering.adapters.mongodb_server import MongoServer, Session
from llm_engineering.domain.answers import Feedback
from llm_engineering.domain.entities import (
    Author,
    Change,
    Document,
    DocumentState,
    Draft,
    Link,
    Recorded,
    Revision,
    Tombstone,
    TombstoneReason,
    WarehouseStatus,
    now,
)
from llm_engineering.domain.ledger import (
    Ledger,
    author_called,
    batches,
    documents_of,
    link_key,
    total,
    with_names_of,
)
from llm_engineering.domain.ports import Restorable, RestoreReport
from llm_engineering.domain.samples import Decision, JournalEntry

_BATCH = 200
"""Entries of one transaction of a restore."""
_PAGE = 64
"""Documents read at a time while streaming: bounds memory and the age of a snapshot."""
_LIVE: Row = {"tombstone": None, "current": {"$ne": None}}


class MongoWarehouse:
    """The port ``Warehouse`` on a MongoDB database. Thread-safe.

    The log's sequences come from one counter document inside each transaction: of two writers at once one conflicts
    and is run again, so entries become visible in their order. Errors of the connection: see :class:`MongoServer`.
    """

    def __init__(self, url: str, database: str) -> None:
        self._server = MongoServer(url, database)

    def close(self) -> None:
        """Close the connections; every later call raises :class:`StoreUnavailable`."""
        self._server.close()

    def save_author(self, author: Author) -> Author:
        """See the port."""

        def work(session: Session) -> Author:
            known = {kept.id: kept for kept in self._authors(session)}
            saved = with_names_of(known[author.id], author) if author.id in known else author
            if known.get(author.id) != saved:
                self._server["authors"].replace_one(
                    {"_id": saved.id}, rows.author_row(saved), upsert=True, session=session
                )
            return saved

        return self._server.transaction(work)

    def authors(self) -> list[Author]:
        """See the port."""
        with self._server.speaking():
            return self._authors(None)

    def find_author(self, name: str) -> Author | None:
        """See the port."""
        return author_called(name, self.authors())

    def record(self, drafts: Sequence[Draft]) -> list[Recorded]:
        """See the port."""

        def work(session: Session) -> list[Recorded]:
            ledger = self._ledger(session, {draft.document_id for draft in drafts})
            recorded = [ledger.record(draft) for draft in drafts]
            self._commit(session, ledger)
            return recorded

        return self._server.transaction(work)

    def bury(
        self, document_ids: Sequence[str], *, reason: TombstoneReason, detail: str = "", at: datetime | None = None
    ) -> list[Tombstone]:
        """See the port."""
        moment = at or now()
        asked = [Tombstone(document_id=d, reason=reason, at=moment, detail=detail) for d in document_ids]

        def work(session: Session) -> list[Tombstone]:
            ledger = self._ledger(session, set(document_ids))
            buried = [tombstone for tombstone in asked if ledger.bury(tombstone)]
            self._commit(session, ledger)
            return buried

        return self._server.transaction(work)

    def state(self, document_ids: Sequence[str]) -> dict[str, DocumentState]:
        """See the port."""
        states = self._states({"_id": {"$in": list(document_ids)}}, limit=0)
        return {state.document.id: state for state in states}

    def states(self, *, author_id: str | None = None, include_deleted: bool = False) -> Iterator[DocumentState]:
        """See the port. Each page of documents is read anew, so a long walk sees what is written meanwhile."""
        chosen = ({} if include_deleted else _LIVE) | ({} if author_id is None else {"author_id": author_id})
        last = ""
        while page := self._states({**chosen, "_id": {"$gt": last}}, limit=_PAGE):
            yield from page
            last = page[-1].document.id

    def revision(self, document_id: str, number: int) -> Revision | None:
        """See the port."""
        with self._server.speaking():
            row = self._server["revisions"].find_one({"document_id": document_id, "number": number})
        return rows.revision(row) if row else None

    def find_documents(self, id_or_url: str) -> list[Document]:
        """See the port."""
        wanted = {"$or": [{"_id": rows.pack(id_or_url)}, {"url": rows.pack(id_or_url)}]}
        with self._server.speaking():
            return [rows.document(row) for row in self._server["documents"].find(wanted).sort("_id")]

    def changes(self, *, after: int, limit: int) -> list[Change]:
        """See the port."""
        if limit < 1:
            return []  # to MongoDB 0 would mean no limit
        with self._server.speaking():
            found = self._server["changes"].find({"sequence": {"$gt": after}}).sort("sequence").limit(limit)
            return [rows.change(row) for row in found]

    def head(self) -> int:
        """See the port."""
        with self._server.speaking():
            return self._head(None)

    def watermark(self, consumer: str) -> int | None:
        """See the port."""
        with self._server.speaking():
            row = self._server["watermarks"].find_one({"_id": consumer})
        return int(row["sequence"]) if row else None

    def set_watermark(self, consumer: str, sequence: int) -> None:
        """See the port."""
        with self._server.speaking():
            self._server["watermarks"].replace_one(
                {"_id": consumer}, {"_id": consumer, "sequence": sequence}, upsert=True
            )

    def drop_watermark(self, consumer: str) -> None:
        """See the port."""
        with self._server.speaking():
            self._server["watermarks"].delete_one({"_id": consumer})

    def links(self, *, author_id: str, source: str | None = None) -> list[Link]:
        """See the port."""
        chosen = {"author_id": author_id} | ({} if source is None else {"source": rows.pack(source)})
        with self._server.speaking():
            found = self._server["links"].find(chosen).sort([("url", 1), ("source", 1)])
            return [rows.link(row) for row in found]

    def save_links(self, links: Sequence[Link]) -> None:
        """See the port."""

        def work(session: Session) -> None:
            ledger = self._ledger(session, set())
            for link in links:
                ledger.require_author(link.author_id)
            self._put("links", [rows.link_row(link) for link in links], session)

        self._server.transaction(work)

    def save_feedback(self, feedback: Feedback) -> None:
        """See the port."""

        def work(session: Session) -> None:
            ledger = self._ledger(session, set(feedback.document_ids))
            ledger.judge(feedback)
            self._commit(session, ledger)

        self._server.transaction(work)

    def feedback(self) -> Iterator[Feedback]:
        """See the port."""
        last = ""
        while page := [rows.feedback(row) for row in self._rows_after(last, "feedback")]:
            yield from page
            last = page[-1].request_id

    def save_journal(self, entries: Sequence[JournalEntry]) -> set[str]:
        """See the port."""

        def work(session: Session) -> set[str]:
            ledger = self._ledger(session, documents_of(entries), entries)
            refused = {entry.key for entry in entries if not ledger.enter(entry)}
            self._commit(session, ledger)
            return refused

        return self._server.transaction(work)

    def journal(self, keys: Sequence[str]) -> dict[str, JournalEntry]:
        """See the port."""
        with self._server.speaking():
            found = self._server["journal"].find({"_id": {"$in": list(keys)}})
            return {row["_id"]: rows.journal_entry(row) for row in found}

    def journal_entries(self) -> Iterator[JournalEntry]:
        """See the port."""
        last = ""
        while page := [rows.journal_entry(row) for row in self._rows_after(last, "journal")]:
            yield from page
            last = page[-1].key

    def save_decision(self, decision: Decision) -> None:
        """See the port."""

        def work(session: Session) -> None:
            ledger = self._ledger(session, set(decision.document_ids))
            ledger.decide(decision)
            self._commit(session, ledger)

        self._server.transaction(work)

    def decisions(self) -> Iterator[Decision]:
        """See the port."""
        last = ""
        while page := [rows.decision(row) for row in self._rows_after(last, "decisions")]:
            yield from page
            last = page[-1].sample_id

    def _rows_after(self, after: str, collection: str) -> list[Row]:
        """A page of a collection's rows, by key."""
        with self._server.speaking():
            return list(self._server[collection].find({"_id": {"$gt": after}}).sort("_id").limit(_PAGE))

    def restore(self, entries: Iterable[Restorable]) -> RestoreReport:
        """See the port."""

        def restored(batch: list[Restorable]) -> RestoreReport:
            def work(session: Session) -> RestoreReport:
                ledger = self._ledger(session, documents_of(batch), batch)
                report = ledger.restore(batch)
                self._commit(session, ledger)
                return report

            return self._server.transaction(work)

        return total(restored(batch) for batch in batches(entries, _BATCH))

    def status(self) -> WarehouseStatus:
        """See the port."""

        def work(session: Session) -> WarehouseStatus:
            def counts(collection: str, field: str, chosen: Row) -> dict[str, int]:
                stages = [{"$match": chosen}, {"$group": {"_id": f"${field}", "count": {"$sum": 1}}}]
                found = self._server[collection].aggregate(stages, session=session)
                return dict(sorted((row["_id"], int(row["count"])) for row in found))

            watermarks = self._server["watermarks"].find({}, session=session).sort("_id")
            return WarehouseStatus(
                address=self._server.address,
                authors=self._server["authors"].count_documents({}, session=session),
                documents=counts("documents", "kind", _LIVE),
                tombstones=counts("documents", "tombstone.reason", {"tombstone": {"$ne": None}}),
                revisions=self._server["revisions"].count_documents({}, session=session),
                links=counts("links", "outcome", {}),
                head=self._head(session),
                watermarks={row["_id"]: int(row["sequence"]) for row in watermarks},
            )

        return self._server.transaction(work)

    def _ledger(self, session: Session, document_ids: set[str], entries: Sequence[Restorable] = ()) -> Ledger:
        """A ledger that knows these documents with all their revisions, of the entries those that are here, every author."""
        documents = self._server["documents"].find({"_id": {"$in": sorted(document_ids)}}, session=session)
        contents = self._server["revisions"].find(
            {"document_id": {"$in": sorted(document_ids)}},
            {"text": 0},
            session=session,
        )
        links = [link_key(entry) for entry in entries if isinstance(entry, Link)]
        keys = {rows.link_row_id(key): key for key in links}

        def present(collection: str, wanted: list[str]) -> list[str]:
            if not wanted:
                return []
            found = self._server[collection].find({"_id": {"$in": wanted}}, {"_id": 1}, session=session)
            return [row["_id"] for row in found]

        known_links = self._server["links"].find({"_id": {"$in": sorted(keys)}}, {"_id": 1}, session=session)
        return Ledger(
            self._authors(session),
            map(rows.standing, documents),
            {(row["document_id"], row["number"]): rows.content(row) for row in contents},
            [keys[row["_id"]] for row in known_links],
            present("feedback", [entry.request_id for entry in entries if isinstance(entry, Feedback)]),
            present("journal", [entry.key for entry in entries if isinstance(entry, JournalEntry)]),
            present("decisions", [entry.sample_id for entry in entries if isinstance(entry, Decision)]),
        )

    def _commit(self, session: Session, ledger: Ledger) -> None:
        """Write what the ledger decided; the caller's transaction makes it one step."""
        dependent = (ledger.feedback, ledger.journal, ledger.decisions)
        if not (ledger.authors or ledger.documents or ledger.revisions or ledger.links or any(dependent)):
            return
        # the counter is touched by every write, so that any two writers conflict: an erasure never misses a text
        log = self._server["meta"].find_one_and_update(
            {"_id": "log"},
            {"$inc": {"head": len(ledger.changes), "writes": 1}},
            return_document=ReturnDocument.AFTER,
            session=session,
        )
        first = log["head"] - len(ledger.changes) + 1
        at = now()
        changes = [
            Change(sequence=sequence, document_id=document_id, revision=revision, at=at)
            for sequence, (document_id, revision) in enumerate(ledger.changes, start=first)
        ]
        self._put("authors", [rows.author_row(author) for author in ledger.authors.values()], session)
        self._put("documents", [rows.document_row(standing) for standing in ledger.documents.values()], session)
        self._add("revisions", [rows.revision_row(revision) for revision in ledger.revisions], session)
        self._add("changes", [rows.change_row(change) for change in changes], session)
        self._put("links", [rows.link_row(link) for link in ledger.links], session)
        self._put("feedback", [rows.feedback_row(feedback) for feedback in ledger.feedback], session)
        self._add("journal", [rows.journal_row(entry) for entry in ledger.journal], session)
        self._put("decisions", [rows.decision_row(decision) for decision in ledger.decisions], session)
        self._erase(sorted(ledger.erased), session)

    def _erase(self, document_ids: list[str], session: Session) -> None:
        if not document_ids:
            return
        chosen = {"document_id": {"$in": document_ids}}
        self._server["revisions"].delete_many(chosen, session=session)
        for collection in ("feedback", "journal", "decisions"):
            self._server[collection].delete_many({"document_ids": {"$in": document_ids}}, session=session)
        blank = {"detail": "", "etag": None, "last_modified": None}
        self._server["links"].update_many(chosen, {"$set": blank}, session=session)

    def _put(self, collection: str, found: list[Row], session: Session) -> None:
        """Insert or replace by ``_id``."""
        if found:
            writes = [ReplaceOne({"_id": row["_id"]}, row, upsert=True) for row in found]
            self._server[collection].bulk_write(writes, session=session)

    def _add(self, collection: str, found: list[Row], session: Session) -> None:
        if found:
            self._server[collection].insert_many(found, session=session)

    def _authors(self, session: Session | None) -> list[Author]:
        found = self._server["authors"].find({}, session=session).sort([("full_name", 1), ("_id", 1)])
        return [rows.author(row) for row in found]

    def _head(self, session: Session | None) -> int:
        return int(self._server["meta"].find_one({"_id": "log"}, session=session)["head"])

    def _states(self, chosen: Row, *, limit: int) -> list[DocumentState]:
        """States of the chosen documents by id, of one moment; ``limit`` 0 for all."""

        def work(session: Session) -> list[DocumentState]:
            found = list(self._server["documents"].find(chosen, session=session).sort("_id").limit(limit))
            current = [f"{row['_id']}:{row['current']}" for row in found]
            texts = {
                row["document_id"]: row
                for row in self._server["revisions"].find({"_id": {"$in": current}}, session=session)
            }
            authors = {author.id: author for author in self._authors(session)}
            return [rows.state(row, authors, texts) for row in found]

        return self._server.transaction(work)
