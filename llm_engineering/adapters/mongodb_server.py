"""The server behind the MongoDB warehouse: connection, collections and indexes, transactions, its errors in our words."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar
from urllib.parse import unquote_plus, urlsplit

from pymongo import MongoClient, ReadPreference
from pymongo.client_session import ClientSession
from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    ConnectionFailure,
    DocumentTooLarge,
    DuplicateKeyError,
    InvalidName,
    InvalidURI,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from llm_engineering.domain.errors import StoreError, StoreLocked, StoreUnavailable, UsageError

_VERSION = 3
_INDEXES: dict[str, tuple[tuple[tuple[str, ...], bool], ...]] = {
    "authors": ((("full_name",), False),),
    "documents": ((("author_id",), False), (("url",), False)),
    "revisions": ((("document_id", "number"), True),),
    "changes": ((("sequence",), True),),
    "links": ((("author_id", "url"), False), (("document_id",), False)),
    "feedback": ((("document_ids",), False),),
    "journal": ((("document_ids",), False),),
    "decisions": ((("document_ids",), False),),
}
"""By collection: the fields of each index, and whether it is unique."""

_WRITE_CONFLICT, _TOO_LARGE = 112, {10334, 17419, 17420}
_REFUSED = {8000: "the credentials", 18: "the credentials", 13: "this user", 11: "this user"}

_RECONNECTIONS = 2
"""Lost connections in a row that one transaction gets over."""

Done = TypeVar("Done")
Session = ClientSession


class MongoServer:
    """A database on a replica set (or behind a ``mongos``). Thread-safe; raises :class:`TwinError` subclasses only.

    ``url`` may name the database; else it is ``database``. No message ever shows user, password or options of the URL.
    A server that does not answer within ``patience`` seconds, or has no transactions, is :class:`StoreUnavailable`.
    """

    def __init__(self, url: str, database: str, *, patience: float = 5.0) -> None:
        wait = int(patience * 1000)
        self._closed = False
        try:
            self._client: MongoClient[dict[str, Any]] = MongoClient(
                url, tz_aware=True, serverSelectionTimeoutMS=wait, connectTimeoutMS=wait, connect=False
            )
            with ExitStack() as undo:
                undo.callback(self._client.close)
                self._database = self._client.get_default_database(
                    default=database, read_concern=ReadConcern("majority"), write_concern=WriteConcern("majority")
                )
                undo.pop_all()
        except (ConfigurationError, InvalidURI, InvalidName, ValueError, TypeError):
            # from None: the engine's message may repeat parts of the address, and with them the password
            raise UsageError(
                "WAREHOUSE_URL or WAREHOUSE_DATABASE is not an address that MongoDB's client understands",
                hint="Write mongodb://user:password@host:27017/database, with :/?#[]@% in user and password percent-encoded.",
            ) from None
        parts = urlsplit(url)
        self._secret = parts.password or ""
        self.address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/{self._database.name}"
        try:
            with self.speaking():
                self._require_transactions()
                self._prepare()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close every connection; every later call raises :class:`StoreUnavailable`."""
        self._closed = True
        self._client.close()

    def __getitem__(self, collection: str) -> Any:  # noqa: ANN401  # pymongo's generics say nothing more
        return self._database[collection]

    def transaction(self, work: Callable[[Session], Done]) -> Done:
        """Run the work in one transaction over one snapshot; it may run several times, when others write meanwhile."""
        lost = 0

        def attempt(session: Session) -> Done:
            nonlocal lost
            try:
                return work(session)
            except (
                ConnectionFailure
            ) as error:  # a new primary deserves another try; a dead server not two minutes of them
                lost += 1
                if lost > _RECONNECTIONS or isinstance(error, ServerSelectionTimeoutError):
                    raise self._explained(error) from error
                raise

        with self.speaking(), self._client.start_session() as session:
            return session.with_transaction(
                attempt,
                read_concern=ReadConcern("snapshot"),
                write_concern=WriteConcern("majority"),
                read_preference=ReadPreference.PRIMARY,
            )

    @contextmanager
    def speaking(self) -> Iterator[None]:
        """Errors of the engine become ours."""
        if self._closed:
            raise StoreUnavailable(f"The warehouse {self.address} has been closed", hint="Open it again.")
        try:
            yield
        except PyMongoError as error:
            raise self._explained(error) from error

    def _require_transactions(self) -> None:
        hello = self._client.admin.command("hello")
        if "setName" not in hello and hello.get("msg") != "isdbgrid":
            raise StoreUnavailable(
                f"The MongoDB server {self.address} stands alone, and only a replica set has transactions",
                hint="Start one with `poe up` (one node will do), or run mongod with --replSet and rs.initiate().",
            )

    def _prepare(self) -> None:
        """Indexes, the counter of the log and the version; made where they are absent."""
        for collection, indexes in _INDEXES.items():
            for fields, unique in indexes:
                self._database[collection].create_index([(field, 1) for field in fields], unique=unique)
        meta = self._database["meta"]
        for identity, fresh in (("schema", {"version": _VERSION}), ("log", {"head": 0, "writes": 0})):
            try:
                meta.update_one({"_id": identity}, {"$setOnInsert": fresh}, upsert=True)
            except DuplicateKeyError:
                continue  # another process was first
        meta.update_one({"_id": "schema", "version": {"$lt": _VERSION}}, {"$set": {"version": _VERSION}})
        schema = meta.find_one({"_id": "schema"}) or {}
        if schema.get("version", 0) > _VERSION:
            raise StoreUnavailable(
                f"The warehouse {self.address} has version {schema['version']}, this program reads up to {_VERSION}",
                hint="Upgrade llm-engineering.",
            )

    def _explained(self, error: PyMongoError) -> StoreError:
        where = f"The MongoDB server {self.address}"
        code = error.code if isinstance(error, OperationFailure) else None
        if isinstance(error, BulkWriteError):
            code = next((problem["code"] for problem in (error.details or {}).get("writeErrors", ())), code)
        match error:
            case _ if code in _REFUSED:
                return StoreUnavailable(f"{where} refuses {_REFUSED[code]}", hint="Check user, password and its roles.")
            case _ if code == _WRITE_CONFLICT:
                return StoreLocked(f"{where} is being written by too many others", hint="Run the same again.")
            case DocumentTooLarge():
                return StoreError(f"{where} holds no text of more than 16 MB", hint="Leave that document out.")
            case _ if code in _TOO_LARGE:
                return StoreError(f"{where} holds no text of more than 16 MB", hint="Leave that document out.")
            case ConnectionFailure():
                return StoreUnavailable(
                    f"{where} does not answer", hint="Start it with `poe up`, or correct WAREHOUSE_URL."
                )
            case _:
                return StoreError(f"{where} failed: {self._without_secret(str(error))}")

    def _without_secret(self, text: str) -> str:
        for secret in {self._secret, unquote_plus(self._secret)} - {""}:
            text = text.replace(secret, "***")
        return text
