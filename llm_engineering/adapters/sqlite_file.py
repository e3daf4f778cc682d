"""The file behind the embedded warehouse: its schema, its connections, its transactions, its errors in our words."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from llm_engineering.domain.errors import StoreError, StoreLocked, StoreUnavailable

_APPLICATION = 0x5457494E
"""``TWIN``: tells our files from those of other programs."""

_SCHEMA = (
    "CREATE TABLE authors (id TEXT PRIMARY KEY, full_name TEXT NOT NULL, aliases TEXT NOT NULL)",
    """CREATE TABLE documents (
        id TEXT PRIMARY KEY, author_id TEXT NOT NULL REFERENCES authors, kind TEXT NOT NULL, platform TEXT NOT NULL,
        url TEXT NOT NULL, current INTEGER, tombstone_reason TEXT, tombstone_at TEXT, tombstone_detail TEXT)""",
    "CREATE INDEX documents_by_url ON documents (url)",
    # the text comes last, so that reading the other columns never touches its pages
    """CREATE TABLE revisions (
        document_id TEXT NOT NULL REFERENCES documents, number INTEGER NOT NULL, content_hash TEXT NOT NULL,
        title TEXT NOT NULL, format TEXT NOT NULL, language TEXT, published_at TEXT, fetched_at TEXT NOT NULL,
        metadata TEXT NOT NULL, text TEXT NOT NULL, PRIMARY KEY (document_id, number))""",
    """CREATE TABLE changes (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT, document_id TEXT NOT NULL REFERENCES documents, revision INTEGER,
        at TEXT NOT NULL)""",
    "CREATE TABLE watermarks (consumer TEXT PRIMARY KEY, sequence INTEGER NOT NULL)",
    """CREATE TABLE links (
        author_id TEXT NOT NULL REFERENCES authors, source TEXT NOT NULL, url TEXT NOT NULL, document_id TEXT,
        outcome TEXT NOT NULL, detail TEXT NOT NULL, status INTEGER, etag TEXT, last_modified TEXT,
        misses INTEGER NOT NULL, fetched_at TEXT NOT NULL, PRIMARY KEY (author_id, source, url)) WITHOUT ROWID""",
    "CREATE INDEX links_by_document ON links (document_id)",
    "CREATE TABLE erasures (document_id TEXT PRIMARY KEY)",
    f"PRAGMA application_id = {_APPLICATION}",
)
_FEEDBACK = (
    """CREATE TABLE feedback (
        request_id TEXT PRIMARY KEY, vote TEXT NOT NULL, query TEXT NOT NULL, answer TEXT NOT NULL, better_answer TEXT,
        document_ids TEXT NOT NULL, at TEXT NOT NULL) WITHOUT ROWID""",
)
_TEACHING = (
    """CREATE TABLE journal (
        key TEXT PRIMARY KEY, purpose TEXT NOT NULL, model TEXT NOT NULL, reply TEXT NOT NULL, error TEXT NOT NULL,
        prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, document_ids TEXT NOT NULL, at TEXT NOT NULL)""",
    """CREATE TABLE decisions (
        sample_id TEXT PRIMARY KEY, verdict TEXT NOT NULL, instruction TEXT, document_ids TEXT NOT NULL,
        at TEXT NOT NULL) WITHOUT ROWID""",
)
_STEPS = (_SCHEMA, _FEEDBACK, _TEACHING)
"""What leads from each version to the next; an older file takes the steps that it lacks."""
_VERSION = len(_STEPS)

_ELSEWHERE = "Set WAREHOUSE_URL to another path."
_TROUBLE: dict[int, tuple[type[StoreError], str, str]] = {
    sqlite3.SQLITE_BUSY: (StoreLocked, "is held by another process", "Try again when that one is done."),
    sqlite3.SQLITE_LOCKED: (StoreLocked, "is held by another process", "Try again when that one is done."),
    sqlite3.SQLITE_FULL: (StoreUnavailable, "cannot grow: the disk is full", "Make room and run the same again."),
    sqlite3.SQLITE_READONLY: (StoreUnavailable, "cannot be written", f"Check its permissions. {_ELSEWHERE}"),
    sqlite3.SQLITE_PERM: (StoreUnavailable, "cannot be written", f"Check its permissions. {_ELSEWHERE}"),
    sqlite3.SQLITE_CANTOPEN: (StoreUnavailable, "cannot be opened", f"Check path and permissions. {_ELSEWHERE}"),
    sqlite3.SQLITE_IOERR: (StoreUnavailable, "cannot be read or written", "Check the disk, then run the same again."),
    sqlite3.SQLITE_NOTADB: (StoreUnavailable, "is not a SQLite database", _ELSEWHERE),
    sqlite3.SQLITE_CORRUPT: (StoreUnavailable, "is damaged", "Restore a backup or import an export into a new file."),
    sqlite3.SQLITE_TOOBIG: (StoreError, "cannot hold a text of more than a billion bytes", "Leave that document out."),
}


class SQLiteFile:
    """Connections to one warehouse file, made if it is absent. Thread-safe; raises :class:`StoreError` only."""

    def __init__(self, path: Path, *, patience: float) -> None:
        self.path = path
        self._patience = patience
        self._idle: list[sqlite3.Connection] = []
        self._closed = False
        self._one_writer = threading.Lock()  # threads queue here in order; SQLite's own lock would make them poll
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnavailable(
                f"The folder of the warehouse {path} cannot be made: {error.strerror}", hint=_ELSEWHERE
            ) from error
        try:
            with self._connection() as connection:
                self._make(connection)
            self._erase_what_a_crash_left()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close every connection; one that is at work in another thread closes when it is done."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """One consistent view of the whole file."""
        with self._connection() as connection:
            connection.execute("BEGIN")
            yield connection
            connection.execute("COMMIT")

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: on the disk when the block is left, undone if the block raises."""
        with self._one_writer, self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")

    def finish_erasures(self) -> None:
        """Remove from the bytes of the file what was deleted from its tables by an erasure.

        ``secure_delete`` is not enough: where SQLite once moved a row between pages, a copy may linger in unused space.
        So the file is rewritten without it, and the write-ahead log is emptied.
        """
        with self._one_writer, self._connection() as connection:
            if not connection.execute("SELECT 1 FROM erasures LIMIT 1").fetchone():
                return
            connection.execute("VACUUM")
            busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if busy:
                raise StoreLocked(
                    f"What was withdrawn is hidden, but {self.path}-wal still holds its bytes: another process is reading",
                    hint="Run the same again when that one is done.",
                )
            connection.execute("DELETE FROM erasures")

    def _erase_what_a_crash_left(self) -> None:
        with suppress(
            StoreError
        ):  # held by another, or the disk is full: reading still works, the next opening looks again
            self.finish_erasures()

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A connection that nobody else uses meanwhile. Leaves no transaction open; engine errors become ours."""
        try:
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = self._connect()
            try:
                yield connection
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                if self._closed:
                    connection.close()
                else:
                    self._idle.append(connection)
        except sqlite3.Error as error:
            raise self._explained(error) from error

    def _connect(self) -> sqlite3.Connection:
        if self._closed:
            raise StoreUnavailable(f"The warehouse {self.path} has been closed", hint="Open it again.")
        connection = sqlite3.connect(
            self.path, timeout=self._patience, isolation_level=None, check_same_thread=False, cached_statements=64
        )
        connection.row_factory = sqlite3.Row
        for pragma in ("synchronous = FULL", "secure_delete = ON", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    def _make(self, connection: sqlite3.Connection) -> None:
        """Make the schema where there is none or bring an older one up; refuse what is not ours or is newer than we are."""
        connection.execute("BEGIN")  # one view for all questions: another process may be making it right now
        version = self._version(connection)
        connection.execute("COMMIT")
        if version < _VERSION:
            connection.execute("BEGIN IMMEDIATE")
            for step in _STEPS[self._version(connection) :]:  # asked again: another process may have been first
                for statement in step:
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {_VERSION}")
            connection.execute("COMMIT")
        self._enter_wal(connection)

    def _version(self, connection: sqlite3.Connection) -> int:
        """Version of the schema, 0 where there is none."""
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (objects,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application != _APPLICATION and (objects or version):
            raise StoreUnavailable(f"{self.path} is the SQLite database of another program", hint=_ELSEWHERE)
        if version > _VERSION:
            raise StoreUnavailable(
                f"The warehouse {self.path} has version {version}, this program reads up to {_VERSION}",
                hint="Upgrade llm-engineering.",
            )
        return int(version)

    def _enter_wal(self, connection: sqlite3.Connection) -> None:
        """Switch to write-ahead logging, which no busy timeout covers: two first openers may meet here."""
        deadline = time.monotonic() + self._patience
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
            else:
                return

    def _explained(self, error: sqlite3.Error) -> StoreError:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # the low byte is the kind of trouble
        kind, what, hint = _TROUBLE.get(code, (StoreError, f"failed: {error}", ""))
        return kind(f"The warehouse {self.path} {what}", hint=hint)
