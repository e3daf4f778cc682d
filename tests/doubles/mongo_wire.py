"""A MongoDB server for tests: real pymongo talks OP_MSG over TCP to it, mongomock answers from memory.

It says that it is a one-node replica set (or a standalone server, if asked) and has transactions of the simplest kind:
one at a time. While one is open, every other session's command waits; an abort, or the client's death, undoes it.
"""

import itertools
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import bson
import mongomock
from bson import Int64, ObjectId
from bson.codec_options import CodecOptions

Command = dict[str, Any]
Reply = dict[str, Any]

_OP_REPLY, _OP_QUERY, _OP_MSG = 1, 2004, 2013
_MORE_TO_COME = 2
_NAIVE = CodecOptions(tz_aware=False)  # mongomock compares naive datetimes
_NEVER_WAIT = {"hello", "ismaster", "isMaster", "ping", "buildInfo", "endSessions", "killCursors"}
_LARGEST = 16 * 1024 * 1024
_ELECTION = ObjectId()


class Refusal(Exception):
    """A command answered with an error."""

    def __init__(self, code: int, message: str, *labels: str) -> None:
        super().__init__(message)
        self.code = code
        self.labels = labels


@dataclass
class Failure:
    """One prepared failure: the next command of that name is refused, before or after it was carried out."""

    command: str
    code: int
    labels: tuple[str, ...]
    after: bool


@dataclass
class Transaction:
    """The one open transaction: whose it is, over which connections it came, and how to undo it."""

    key: tuple[bytes, int]
    connections: set[int] = field(default_factory=set)
    undo: list[Callable[[], object]] = field(default_factory=list)


class MongoWireServer:
    """Use as a context manager; ``url`` is what pymongo connects to."""

    def __init__(self, *, replica_set: str | None = "rs0") -> None:
        self._replica_set = replica_set
        self._store = mongomock.MongoClient()
        self._turn = threading.Condition(threading.RLock())
        self._transaction: Transaction | None = None
        self._committed: set[tuple[bytes, int]] = set()
        self._failures: list[Failure] = []
        self._cursors: dict[int, tuple[list[Command], str]] = {}
        self._numbers = itertools.count(1000)
        self.commands: list[str] = []
        """Names of the commands carried out, in order."""
        self._tcp = _Listener(("127.0.0.1", 0), _Connection)
        self._tcp.answer = self.answer
        self._tcp.gone = self._gone
        self.address = f"127.0.0.1:{self._tcp.server_address[1]}"
        self.url = f"mongodb://{self.address}/"

    def __enter__(self) -> "MongoWireServer":
        threading.Thread(target=self._tcp.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.hang_up()

    def hang_up(self) -> None:
        """Go down: no new connection is taken, and every open one is cut."""
        self._tcp.shutdown()
        self._tcp.server_close()
        for connection in list(self._tcp.connections):
            with suppress(OSError):  # it may just have ended by itself
                connection.shutdown(socket.SHUT_RDWR)

    def fail_next(self, command: str, code: int, *labels: str, after: bool = False) -> None:
        """Refuse the next command of that name; with ``after`` it is carried out, and only its answer is lost."""
        self._failures.append(Failure(command, code, labels, after))

    def answer(self, message: Command, connection: int) -> Reply:
        """Carry out one command."""
        name = next(iter(message))
        try:
            if name in _NEVER_WAIT:
                return {**self._unhurried(name, message), "ok": 1.0}
            with self._turn:
                self._take_turn(message, connection)
                try:
                    return {**self._in_turn(name, message), "ok": 1.0}
                except Exception:
                    self._end_transaction(commit=False)  # as a real server does after any error
                    raise
        except Refusal as refusal:
            labels = {"errorLabels": list(refusal.labels)} if refusal.labels else {}
            return {"ok": 0.0, "code": refusal.code, "codeName": "Refused", "errmsg": str(refusal), **labels}
        except Exception as error:  # noqa: BLE001  # a server answers whatever goes wrong
            return {"ok": 0.0, "code": 2, "codeName": "BadValue", "errmsg": f"{type(error).__name__}: {error}"}

    def _in_turn(self, name: str, message: Command) -> Reply:
        failure = self._failure(name)
        if failure and not failure.after:
            raise Refusal(failure.code, "prepared failure", *failure.labels)
        self.commands.append(name)
        reply = self._carry_out(name, message)
        if failure:
            raise Refusal(failure.code, "prepared failure", *failure.labels)
        if "writeErrors" in reply:
            self._end_transaction(commit=False)
        return reply

    # transactions

    def _take_turn(self, message: Command, connection: int) -> None:
        """Wait until no other session's transaction is open; open this one's if it asks for it."""
        key = _transaction_key(message)
        while self._transaction is not None and self._transaction.key != key:
            if not self._turn.wait(timeout=60):
                raise Refusal(50, "another transaction has been open for twenty seconds")
        if message.get("startTransaction"):
            if self._replica_set is None:
                raise Refusal(20, "Transaction numbers are only allowed on a replica set member or mongos")
            assert key is not None
            self._transaction = Transaction(key)
        elif key is not None and self._transaction is None and key not in self._committed:
            raise Refusal(251, "no such transaction", "TransientTransactionError")
        if self._transaction is not None:
            self._transaction.connections.add(connection)

    def _end_transaction(self, *, commit: bool) -> Reply:
        if self._transaction is not None:
            if commit:
                self._committed.add(self._transaction.key)
            else:
                for undo in reversed(self._transaction.undo):
                    undo()
            self._transaction = None
            self._turn.notify_all()
        return {}

    def _gone(self, connection: int) -> None:
        """A connection was closed: the transaction that came over it is undone, as if its time had run out."""
        with self._turn:
            if self._transaction is not None and connection in self._transaction.connections:
                self._end_transaction(commit=False)

    def _failure(self, name: str) -> Failure | None:
        for failure in self._failures:
            if failure.command == name:
                self._failures.remove(failure)
                return failure
        return None

    def _remember(self, collection: Any, rows: list[Command]) -> None:  # mongomock is untyped
        """Before these rows change: how to bring them back."""
        if self._transaction is not None:
            for row in rows:
                self._transaction.undo.append(
                    lambda row=row: collection.replace_one({"_id": row["_id"]}, row, upsert=True)
                )

    def _remember_new(self, collection: Any, identity: object) -> None:  # mongomock is untyped
        if self._transaction is not None:
            self._transaction.undo.append(lambda: collection.delete_one({"_id": identity}))

    # commands

    def _unhurried(self, name: str, message: Command) -> Reply:
        if name == "buildInfo":
            return {"version": "7.0.0", "versionArray": [7, 0, 0, 0]}
        if name == "killCursors":
            for cursor in message["cursors"]:
                self._cursors.pop(cursor, None)
        return self._hello() if name in {"hello", "ismaster", "isMaster"} else {}

    def _hello(self) -> Reply:
        reply: Reply = {
            "helloOk": True,
            "ismaster": True,
            "isWritablePrimary": True,
            "maxBsonObjectSize": _LARGEST,
            "maxMessageSizeBytes": 48_000_000,
            "maxWriteBatchSize": 100_000,
            "localTime": datetime.now(UTC),
            "logicalSessionTimeoutMinutes": 30,
            "minWireVersion": 0,
            "maxWireVersion": 21,
            "readOnly": False,
        }
        if self._replica_set is not None:
            reply |= {
                "setName": self._replica_set,
                "setVersion": 1,
                "electionId": _ELECTION,
                "hosts": [self.address],
                "me": self.address,
                "primary": self.address,
                "secondary": False,
            }
        return reply

    def _carry_out(self, name: str, message: Command) -> Reply:
        commands: dict[str, Callable[[Command], Reply]] = {
            "insert": self._insert,
            "update": self._update,
            "delete": self._delete,
            "findAndModify": self._find_and_modify,
            "find": self._find,
            "getMore": self._get_more,
            "aggregate": self._aggregate,
            "createIndexes": self._create_indexes,
            "dropDatabase": lambda message: self._store.drop_database(message["$db"]) or {},
            "commitTransaction": lambda _: self._end_transaction(commit=True),
            "abortTransaction": lambda _: self._end_transaction(commit=False),
        }
        if name not in commands:
            raise Refusal(59, f"no such command: '{name}'")
        return commands[name](message)

    def _collection(self, message: Command) -> Any:  # mongomock is untyped
        return self._store[message["$db"]][next(iter(message.values()))]

    def _insert(self, message: Command) -> Reply:
        collection = self._collection(message)

        def insert(row: Command) -> int:
            if len(bson.encode(row)) > _LARGEST:
                raise mongomock.WriteError("BSONObj size is invalid", code=10334)
            collection.insert_one(row)
            self._remember_new(collection, row["_id"])
            return 1

        return _each(message, "documents", insert)

    def _update(self, message: Command) -> Reply:
        collection = self._collection(message)
        upserted: list[Command] = []
        index = itertools.count()

        def update(step: Command) -> int:
            position, many = next(index), step.get("multi", False)
            before = list(collection.find(step["q"]).limit(0 if many else 1))
            self._remember(collection, before)
            replaces = not any(key.startswith("$") for key in step["u"])
            change = collection.replace_one if replaces else collection.update_many if many else collection.update_one
            result = change(step["q"], step["u"], upsert=step.get("upsert", False))
            if before or result.upserted_id is None:
                return len(before)
            self._remember_new(collection, result.upserted_id)
            upserted.append({"index": position, "_id": result.upserted_id})
            return 1

        reply = _each(message, "updates", update)
        reply["nModified"] = reply["n"] - len(upserted)
        return {**reply, "upserted": upserted} if upserted else reply

    def _delete(self, message: Command) -> Reply:
        collection = self._collection(message)

        def delete(step: Command) -> int:
            before = list(collection.find(step["q"]).limit(step["limit"]))
            self._remember(collection, before)
            for row in before:
                collection.delete_one({"_id": row["_id"]})
            return len(before)

        return _each(message, "deletes", delete)

    def _find_and_modify(self, message: Command) -> Reply:
        collection = self._collection(message)
        self._remember(collection, list(collection.find(message["query"]).limit(1)))
        value = collection.find_one_and_update(
            message["query"], message["update"], return_document=message.get("new", False)
        )
        return {"value": value, "lastErrorObject": {"n": int(value is not None)}}

    def _find(self, message: Command) -> Reply:
        found = self._collection(message).find(message.get("filter", {}), message.get("projection"))
        if message.get("sort"):
            found = found.sort(list(message["sort"].items()))
        found = list(found.skip(message.get("skip", 0)).limit(message.get("limit", 0)))
        return self._cursor(message, found, len(found) if message.get("singleBatch") else message.get("batchSize"))

    def _aggregate(self, message: Command) -> Reply:
        found = list(self._collection(message).aggregate(message["pipeline"]))
        return self._cursor(message, found, message["cursor"].get("batchSize"))

    def _cursor(self, message: Command, rows: list[Command], size: int | None) -> Reply:
        namespace = f"{message['$db']}.{next(iter(message.values()))}"
        first, rest = rows[: size or 101], rows[size or 101 :]
        number = next(self._numbers) if rest else 0
        if rest:
            self._cursors[number] = (rest, namespace)
        return {"cursor": {"id": Int64(number), "ns": namespace, "firstBatch": first}}

    def _get_more(self, message: Command) -> Reply:
        number = message["getMore"]
        rows, namespace = self._cursors.pop(number)
        size = message.get("batchSize") or 1000
        if rows[size:]:
            self._cursors[number] = (rows[size:], namespace)
        cursor = {"id": Int64(number if rows[size:] else 0), "ns": namespace, "nextBatch": rows[:size]}
        return {"cursor": cursor}

    def _create_indexes(self, message: Command) -> Reply:
        for index in message["indexes"]:
            self._collection(message).create_index(
                list(index["key"].items()), name=index["name"], unique=index.get("unique", False)
            )
        return {}


def _each(message: Command, steps: str, carry_out: Callable[[Command], int]) -> Reply:
    """Carry out each step of a write command; the first error ends an ordered one, as on a real server."""
    count, errors = 0, []
    for index, step in enumerate(message[steps]):
        try:
            count += carry_out(step)
        except mongomock.WriteError as error:
            code = 11000 if isinstance(error, mongomock.DuplicateKeyError) else error.code or 2
            errors.append({"index": index, "code": code, "errmsg": str(error)})
            if message.get("ordered", True):
                break
    return {"n": count, **({"writeErrors": errors} if errors else {})}


def _transaction_key(message: Command) -> tuple[bytes, int] | None:
    if message.get("autocommit", True):
        return None
    return bytes(message["lsid"]["id"]), message["txnNumber"]


class _Listener(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    answer: Callable[[Command, int], Reply]
    gone: Callable[[int], None]

    def __init__(self, address: tuple[str, int], handler: type[socketserver.BaseRequestHandler]) -> None:
        super().__init__(address, handler)
        self.connections: set[socket.socket] = set()


class _Connection(socketserver.BaseRequestHandler):
    """Frames in, frames out: the wire protocol, nothing of MongoDB's meaning."""

    server: _Listener

    def handle(self) -> None:
        self.server.connections.add(self.request)
        try:
            for request, operation, body in self._frames():
                if operation == _OP_QUERY:  # a client's very first greeting
                    query = bson.decode(body[body.index(b"\0", 4) + 9 :])
                    reply = bson.encode(self.server.answer({**query, "$db": "admin"}, id(self)))
                    self._send(struct.pack("<iqii", 8, 0, 0, 1) + reply, request, _OP_REPLY)
                    continue
                (flags,) = struct.unpack_from("<I", body)
                reply = self.server.answer(_read_message(body), id(self))
                if not flags & _MORE_TO_COME:
                    self._send(struct.pack("<I", 0) + b"\0" + bson.encode(reply), request, _OP_MSG)
        except OSError:  # the client is gone, or this server is
            return
        finally:
            self.server.connections.discard(self.request)
            self.server.gone(id(self))

    def _frames(self) -> Iterator[tuple[int, int, bytes]]:
        while True:
            length, request, _, operation = struct.unpack("<iiii", self._receive(16))
            yield request, operation, self._receive(length - 16)

    def _receive(self, length: int) -> bytes:
        received = b""
        while len(received) < length:
            part = self.request.recv(length - len(received))
            if not part:
                raise ConnectionResetError
            received += part
        return received

    def _send(self, body: bytes, request: int, operation: int) -> None:
        self.request.sendall(struct.pack("<iiii", 16 + len(body), 0, request, operation) + body)


def _read_message(body: bytes) -> Command:
    """The sections of an OP_MSG: one command document, and sequences of documents that belong into it."""
    message: Command = {}
    sequences: Command = {}
    position = 4
    while position < len(body):
        kind, position = body[position], position + 1
        (length,) = struct.unpack_from("<i", body, position)
        section = body[position : position + length]
        if kind == 0:
            message = bson.decode(section, _NAIVE)
        else:
            end = section.index(b"\0", 4)
            sequences[section[4:end].decode()] = bson.decode_all(section[end + 1 :], _NAIVE)
        position += length
    return message | sequences
