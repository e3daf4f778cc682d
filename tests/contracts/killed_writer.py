"""A writer that kills itself (SIGKILL) at its n-th point, just before or just after a write is made to last.

``python -m tests.contracts.killed_writer FOLDER [MONGODB_URL]`` lets it die at every point there is, from the first on,
each time with a fresh warehouse: ``FOLDER/<point>.sqlite``, or the database ``point_<point>``. The steps that it saw done
are in ``FOLDER/<point>.acknowledged``. The last one survives.
"""

import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from pymongo import monitoring

from llm_engineering.adapters.mongodb import MongoWarehouse
from llm_engineering.adapters.sqlite import SQLiteWarehouse
from llm_engineering.domain.entities import (
    Author,
    Document,
    Draft,
    Kind,
    Link,
    LinkOutcome,
    Revision,
    Tombstone,
    TombstoneReason,
    content_hash,
)
from llm_engineering.domain.ports import Warehouse
from llm_engineering.domain.samples import Decision, JournalEntry

ANN = Author.named("Ann Lee")
NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)
SECRET = "the-secret-nobody-may-read"
LASTING_STATEMENTS = {"COMMIT", "VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)", "DELETE FROM erasures"}
LASTING_COMMANDS = {"commitTransaction", "update", "delete"}


def draft(name: str, text: str) -> Draft:
    url = f"https://x.org/{name}"
    return Draft(author_id=ANN.id, url=url, kind=Kind.NOTE, platform="x", title="t", text=text, fetched_at=NOON)


def ident(name: str) -> str:
    return draft(name, "").document_id


def exported(name: str) -> tuple[Document, Revision]:
    document = Document(id=ident(name), author_id=ANN.id, kind=Kind.NOTE, platform="x", url=f"https://x.org/{name}")
    text = f"text of {name}"
    digest = content_hash(text)
    return document, Revision(
        document_id=document.id, number=1, text=text, content_hash=digest, title="t", fetched_at=NOON
    )


ENTRIES = [entry for number in range(250) for entry in exported(f"restored-{number:03}")]
"""Three transactions of a restore."""
LINK = Link(author_id=ANN.id, source="s", url="https://x.org/b", outcome=LinkOutcome.STORED, fetched_at=NOON)
CALLS = [
    JournalEntry(key=f"k-{name}", purpose="p", model="m", reply=text, document_ids=(ident(name),), at=NOON)
    for name, text in (("a", "one"), ("c", SECRET))
]
DECISION = Decision(sample_id="s", verdict="edit", instruction=SECRET, document_ids=(ident("c"),), at=NOON)

Step = Callable[[Warehouse], object]


def steps(entries: list[Document | Revision]) -> list[Step]:
    """One call each; what a call does is the same whether or not its first attempt had already come through."""
    return [
        lambda w: w.save_author(ANN),
        lambda w: w.record([draft("a", "one"), draft("b", "one"), draft("c", SECRET)]),
        lambda w: w.record([draft("a", "two"), draft("b", "one"), draft("d", "one")]),
        lambda w: w.save_links([LINK, LINK.model_copy(update={"url": "https://x.org/c", "document_id": ident("c")})]),
        lambda w: w.bury([ident("b")], reason=TombstoneReason.GONE, at=NOON),
        lambda w: w.save_journal(CALLS),
        lambda w: w.save_decision(DECISION),
        lambda w: w.set_watermark("index", 3),
        lambda w: w.record([draft("b", "one"), draft("a", "three")]),
        lambda w: w.bury([ident("c"), ident("d")], reason=TombstoneReason.WITHDRAWN, at=NOON),
        lambda w: w.set_watermark("index", 7),
        lambda w: w.restore(entries),
        lambda w: w.restore([Tombstone(document_id=ident("a"), reason=TombstoneReason.GONE, at=NOON)]),
        lambda w: w.drop_watermark("index"),
    ]


class Fate:
    """Dies when the given number of points has been passed."""

    def __init__(self, point: int) -> None:
        self._left = point

    def pass_point(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def sqlite_warehouse(path: Path, fate: Fate) -> SQLiteWarehouse:
    """A warehouse whose connections pass a point before and after each lasting statement."""

    class Deadly(sqlite3.Connection):
        def execute(self, statement: str, *parameters):
            if statement not in LASTING_STATEMENTS:
                return super().execute(statement, *parameters)
            fate.pass_point()
            result = super().execute(statement, *parameters)
            fate.pass_point()
            return result

    connect = sqlite3.connect
    sqlite3.connect = lambda *arguments, **options: connect(*arguments, **options, factory=Deadly)
    return SQLiteWarehouse(path)


def mongodb_warehouse(url: str, database: str, fate: Fate) -> MongoWarehouse:
    """A warehouse whose client passes a point before and after each lasting command."""

    class Deadly(monitoring.CommandListener):
        def started(self, event: monitoring.CommandStartedEvent) -> None:
            self.succeeded(event)

        def succeeded(self, event: monitoring.CommandStartedEvent | monitoring.CommandSucceededEvent) -> None:
            if event.command_name in LASTING_COMMANDS:
                fate.pass_point()

        def failed(self, event: monitoring.CommandFailedEvent) -> None: ...

    monitoring.register(Deadly())
    return MongoWarehouse(url, database)


def write(warehouse: Warehouse, todo: list[Step], acknowledged: Path) -> None:
    with acknowledged.open("a") as log:
        for step in todo:
            step(warehouse)
            log.write(".")
            log.flush()


def survives(folder: Path, point: int, url: str | None) -> bool:
    """Run the writer in a fork of its own, and whether it came to its end."""
    acknowledged = folder / f"{point:03}.acknowledged"
    acknowledged.touch()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if url is None:
                warehouse: Warehouse = sqlite_warehouse(folder / f"{point:03}.sqlite", Fate(point))
                todo = steps(ENTRIES)
            else:
                warehouse = mongodb_warehouse(url, f"point_{point:03}", Fate(point))
                todo = steps(ENTRIES[:10])
            write(warehouse, todo, acknowledged)
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status) and status != 0:
        raise RuntimeError(f"the writer of point {point} failed")
    return status == 0


def main(folder: Path, url: str | None = None) -> None:
    point = 1
    while not survives(folder, point, url):
        point += 1


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
