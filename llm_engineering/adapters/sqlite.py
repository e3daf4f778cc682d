"""The warehouse in one SQLite file: nothing to start, several processes at once, every commit on the disk."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from llm_engineering.adapters import sqlite_rows as rows
from llm_engineering.adapters.sqlite_file import SQLiteFile
from llm_engineering.adapters.sqlite_rows import bound
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
"""Documents read at a time while streaming: bounds memory, and no read lasts long enough to hold up a writer."""

_STATE = """
SELECT documents.id, documents.author_id, documents.kind, documents.platform, documents.url,
       authors.full_name, authors.aliases, tombstone_reason, tombstone_at, tombstone_detail,
       revisions.document_id, number, text, content_hash, title, format, language, published_at, fetched_at, metadata
FROM documents JOIN authors ON authors.id = documents.author_id
LEFT JOIN revisions ON revisions.document_id = documents.id AND revisions.number = documents.current
"""
_LIVE = "documents.tombstone_reason IS NULL AND documents.current IS NOT NULL"


class SQLiteWarehouse:
    """The port ``Warehouse`` on a SQLite file, which is made if it is absent. Thread-safe.

    A write waits ``patience`` seconds for the writer of another process, then raises :class:`StoreLocked`. A file that
    is no warehouse, a newer one, a folder that cannot be written or a full disk raise :class:`StoreUnavailable`.
    """

    def __init__(self, path: Path, *, patience: float = 30.0) -> None:
        self._file = SQLiteFile(Path(path), patience=patience)

    def close(self) -> None:
        """Release the file; every later call raises :class:`StoreUnavailable`."""
        self._file.close()

    def save_author(self, author: Author) -> Author:
        """See the port."""
        with self._file.writing() as store:
            known = {kept.id: kept for kept in _authors(store)}
            saved = with_names_of(known[author.id], author) if author.id in known else author
            if known.get(author.id) != saved:
                _put_authors(store, [saved])
        return saved

    def authors(self) -> list[Author]:
        """See the port."""
        with self._file.reading() as store:
            return _authors(store)

    def find_author(self, name: str) -> Author | None:
        """See the port."""
        return author_called(name, self.authors())

    def record(self, drafts: Sequence[Draft]) -> list[Recorded]:
        """See the port."""
        with self._file.writing() as store:
            ledger = _ledger(store, {draft.document_id for draft in drafts})
            recorded = [ledger.record(draft) for draft in drafts]
            _commit(store, ledger)
        return recorded

    def bury(
        self, document_ids: Sequence[str], *, reason: TombstoneReason, detail: str = "", at: datetime | None = None
    ) -> list[Tombstone]:
        """See the port. Erased text is gone from the bytes of the file, too, when this returns."""
        moment = at or now()
        with self._file.writing() as store:
            ledger = _ledger(store, set(document_ids))
            asked = [Tombstone(document_id=d, reason=reason, at=moment, detail=detail) for d in document_ids]
            buried = [tombstone for tombstone in asked if ledger.bury(tombstone)]
            _commit(store, ledger)
        if reason is TombstoneReason.WITHDRAWN:
            self._file.finish_erasures()
        return buried

    def state(self, document_ids: Sequence[str]) -> dict[str, DocumentState]:
        """See the port."""
        wanted = json.dumps(list(document_ids))
        with self._file.reading() as store:
            found = store.execute(f"{_STATE} WHERE documents.id IN (SELECT value FROM json_each(?))", [wanted])
            return {row["id"]: rows.state(row) for row in found}

    def states(self, *, author_id: str | None = None, include_deleted: bool = False) -> Iterator[DocumentState]:
        """See the port. Each page of documents is read anew, so a long walk sees what is written meanwhile."""
        last = ""
        while page := self._page(last, author_id, include_deleted):
            yield from page
            last = page[-1].document.id

    def _page(self, after: str, author_id: str | None, include_deleted: bool) -> list[DocumentState]:
        chosen = f"documents.id > ? AND (? OR {_LIVE}) AND documents.author_id = coalesce(?, documents.author_id)"
        with self._file.reading() as store:
            found = store.execute(
                f"{_STATE} WHERE {chosen} ORDER BY documents.id LIMIT {_PAGE}", (after, include_deleted, author_id)
            )
            return [rows.state(row) for row in found]

    def revision(self, document_id: str, number: int) -> Revision | None:
        """See the port."""
        with self._file.reading() as store:
            row = store.execute(
                "SELECT * FROM revisions WHERE document_id = ? AND number = ?", (document_id, number)
            ).fetchone()
            return rows.revision(row) if row else None

    def find_documents(self, id_or_url: str) -> list[Document]:
        """See the port."""
        with self._file.reading() as store:
            found = store.execute("SELECT * FROM documents WHERE id = ?1 OR url = ?1 ORDER BY id", bound(id_or_url))
            return [rows.document(row) for row in found]

    def changes(self, *, after: int, limit: int) -> list[Change]:
        """See the port."""
        with self._file.reading() as store:
            found = store.execute(
                "SELECT * FROM changes WHERE sequence > ? ORDER BY sequence LIMIT ?", (after, max(limit, 0))
            )
            return [rows.change(row) for row in found]

    def head(self) -> int:
        """See the port."""
        with self._file.reading() as store:
            return _head(store)

    def watermark(self, consumer: str) -> int | None:
        """See the port."""
        with self._file.reading() as store:
            row = store.execute("SELECT sequence FROM watermarks WHERE consumer = ?", bound(consumer)).fetchone()
        return row["sequence"] if row else None

    def set_watermark(self, consumer: str, sequence: int) -> None:
        """See the port."""
        with self._file.writing() as store:
            store.execute("INSERT OR REPLACE INTO watermarks VALUES (?, ?)", bound(consumer, sequence))

    def drop_watermark(self, consumer: str) -> None:
        """See the port."""
        with self._file.writing() as store:
            store.execute("DELETE FROM watermarks WHERE consumer = ?", bound(consumer))

    def links(self, *, author_id: str, source: str | None = None) -> list[Link]:
        """See the port."""
        with self._file.reading() as store:
            found = store.execute(
                "SELECT * FROM links WHERE author_id = ? AND source = coalesce(?, source) ORDER BY url, source",
                bound(author_id, source),
            )
            return [rows.link(row) for row in found]

    def save_links(self, links: Sequence[Link]) -> None:
        """See the port."""
        with self._file.writing() as store:
            ledger = _ledger(store, set())
            for link in links:
                ledger.require_author(link.author_id)
            _put_links(store, links)

    def save_feedback(self, feedback: Feedback) -> None:
        """See the port."""
        with self._file.writing() as store:
            ledger = _ledger(store, set(feedback.document_ids))
            ledger.judge(feedback)
            _commit(store, ledger)

    def feedback(self) -> Iterator[Feedback]:
        """See the port."""
        last = ""
        while page := [rows.feedback(row) for row in self._rows_after(last, "feedback", "request_id")]:
            yield from page
            last = page[-1].request_id

    def _rows_after(self, after: str, table: str, key: str) -> list[sqlite3.Row]:
        """A page of a table's rows, by key."""
        with self._file.reading() as store:
            return store.execute(
                f"SELECT * FROM {table} WHERE {key} > ? ORDER BY {key} LIMIT {_PAGE}", [after]
            ).fetchall()

    def save_journal(self, entries: Sequence[JournalEntry]) -> set[str]:
        """See the port."""
        with self._file.writing() as store:
            ledger = _ledger(store, documents_of(entries), entries)
            refused = {entry.key for entry in entries if not ledger.enter(entry)}
            _commit(store, ledger)
        return refused

    def journal(self, keys: Sequence[str]) -> dict[str, JournalEntry]:
        """See the port."""
        with self._file.reading() as store:
            found = store.execute(
                "SELECT * FROM journal WHERE key IN (SELECT value FROM json_each(?))", [json.dumps(list(keys))]
            )
            return {row["key"]: rows.journal_entry(row) for row in found}

    def journal_entries(self) -> Iterator[JournalEntry]:
        """See the port."""
        last = ""
        while page := [rows.journal_entry(row) for row in self._rows_after(last, "journal", "key")]:
            yield from page
            last = page[-1].key

    def save_decision(self, decision: Decision) -> None:
        """See the port."""
        with self._file.writing() as store:
            ledger = _ledger(store, set(decision.document_ids))
            ledger.decide(decision)
            _commit(store, ledger)

    def decisions(self) -> Iterator[Decision]:
        """See the port."""
        last = ""
        while page := [rows.decision(row) for row in self._rows_after(last, "decisions", "sample_id")]:
            yield from page
            last = page[-1].sample_id

    def restore(self, entries: Iterable[Restorable]) -> RestoreReport:
        """See the port."""
        try:
            return total(self._restore(batch) for batch in batches(entries, _BATCH))
        finally:
            self._file.finish_erasures()

    def _restore(self, batch: list[Restorable]) -> RestoreReport:
        with self._file.writing() as store:
            ledger = _ledger(store, documents_of(batch), batch)
            report = ledger.restore(batch)
            _commit(store, ledger)
        return report

    def status(self) -> WarehouseStatus:
        """See the port."""
        with self._file.reading() as store:

            def counts(query: str) -> dict[str, int]:
                return {row[0]: row[1] for row in store.execute(query)}

            return WarehouseStatus(
                address=str(self._file.path),
                authors=store.execute("SELECT count(*) FROM authors").fetchone()[0],
                documents=counts(f"SELECT kind, count(*) FROM documents WHERE {_LIVE} GROUP BY kind ORDER BY kind"),
                tombstones=counts(
                    "SELECT tombstone_reason, count(*) FROM documents WHERE tombstone_reason IS NOT NULL GROUP BY 1 ORDER BY 1"
                ),
                revisions=store.execute("SELECT count(*) FROM revisions").fetchone()[0],
                links=counts("SELECT outcome, count(*) FROM links GROUP BY outcome ORDER BY outcome"),
                head=_head(store),
                watermarks=counts("SELECT consumer, sequence FROM watermarks ORDER BY consumer"),
            )


def _ledger(store: sqlite3.Connection, document_ids: set[str], entries: Sequence[Restorable] = ()) -> Ledger:
    """A ledger that knows these documents with all their revisions, of the entries those that are here, every author."""
    chosen = [json.dumps(sorted(document_ids))]
    documents = store.execute("SELECT * FROM documents WHERE id IN (SELECT value FROM json_each(?))", chosen)
    contents = store.execute(
        "SELECT document_id, number, content_hash, title, language, published_at, metadata FROM revisions"
        " WHERE document_id IN (SELECT value FROM json_each(?))",
        chosen,
    )
    links = [link_key(entry) for entry in entries if isinstance(entry, Link)]
    known = "SELECT 1 FROM links WHERE author_id = ? AND source = ? AND url = ?"

    def present(table: str, key: str, keys: list[str]) -> list[str]:
        wanted = f"SELECT {key} FROM {table} WHERE {key} IN (SELECT value FROM json_each(?))"
        return [row[0] for row in store.execute(wanted, [json.dumps(keys)])] if keys else []

    return Ledger(
        _authors(store),
        [rows.standing(row) for row in documents],
        {(row["document_id"], row["number"]): rows.content(row) for row in contents},
        [key for key in links if store.execute(known, bound(*key)).fetchone()],
        present("feedback", "request_id", [entry.request_id for entry in entries if isinstance(entry, Feedback)]),
        present("journal", "key", [entry.key for entry in entries if isinstance(entry, JournalEntry)]),
        present("decisions", "sample_id", [entry.sample_id for entry in entries if isinstance(entry, Decision)]),
    )


def _commit(store: sqlite3.Connection, ledger: Ledger) -> None:
    """Write what the ledger decided; the caller's transaction makes it one step."""
    _put_authors(store, ledger.authors.values())
    store.executemany(
        "INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
        " kind = excluded.kind, platform = excluded.platform, current = excluded.current,"
        " tombstone_reason = excluded.tombstone_reason, tombstone_at = excluded.tombstone_at,"
        " tombstone_detail = excluded.tombstone_detail",
        map(rows.document_values, ledger.documents.values()),
    )
    store.executemany(
        "INSERT INTO revisions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", map(rows.revision_values, ledger.revisions)
    )
    at = now()
    store.executemany(
        "INSERT INTO changes (document_id, revision, at) VALUES (?, ?, ?)",
        (
            rows.change_values(Change(sequence=0, document_id=document_id, revision=revision, at=at))  # SQLite numbers
            for document_id, revision in ledger.changes
        ),
    )
    _put_links(store, ledger.links)
    store.executemany(
        "INSERT OR REPLACE INTO feedback VALUES (?, ?, ?, ?, ?, ?, ?)", map(rows.feedback_values, ledger.feedback)
    )
    store.executemany(
        "INSERT INTO journal VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", map(rows.journal_values, ledger.journal)
    )
    store.executemany(
        "INSERT OR REPLACE INTO decisions VALUES (?, ?, ?, ?, ?)", map(rows.decision_values, ledger.decisions)
    )
    if ledger.erased:
        of_these = "EXISTS (SELECT 1 FROM json_each(document_ids) WHERE value IN (SELECT value FROM json_each(?)))"
        for table in ("feedback", "journal", "decisions"):
            store.execute(f"DELETE FROM {table} WHERE {of_these}", [json.dumps(sorted(ledger.erased))])
    for document_id in ledger.erased:
        store.execute("DELETE FROM revisions WHERE document_id = ?", (document_id,))
        store.execute(
            "UPDATE links SET detail = '', etag = NULL, last_modified = NULL WHERE document_id = ?", (document_id,)
        )
        store.execute("INSERT OR IGNORE INTO erasures VALUES (?)", (document_id,))


def _authors(store: sqlite3.Connection) -> list[Author]:
    return [rows.author(row) for row in store.execute("SELECT * FROM authors ORDER BY full_name, id")]


def _put_authors(store: sqlite3.Connection, authors: Iterable[Author]) -> None:
    store.executemany(
        "INSERT INTO authors VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET aliases = excluded.aliases",
        map(rows.author_values, authors),
    )


def _put_links(store: sqlite3.Connection, links: Iterable[Link]) -> None:
    store.executemany(
        "INSERT OR REPLACE INTO links VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", map(rows.link_values, links)
    )


def _head(store: sqlite3.Connection) -> int:
    return int(store.execute("SELECT coalesce(max(sequence), 0) FROM changes").fetchone()[0])
