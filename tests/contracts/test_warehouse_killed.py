"""A writer is killed before and after every write that is made to last: nothing is lost, nothing is doubled."""

import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from llm_engineering.adapters.mongodb import MongoWarehouse
from llm_engineering.adapters.sqlite import SQLiteWarehouse
from llm_engineering.domain.ports import Warehouse
from tests.contracts.killed_writer import ANN, ENTRIES, SECRET, ident, steps
from tests.doubles.mongo_wire import MongoWireServer

RESTORE = 11
"""Number of the step that takes several transactions."""


def picture(warehouse: Warehouse) -> tuple:
    """Everything that a reader of the warehouse can see, except when it was written."""
    return (
        warehouse.authors(),
        list(warehouse.states(include_deleted=True)),
        [(change.sequence, change.document_id, change.revision) for change in warehouse.changes(after=0, limit=9999)],
        warehouse.links(author_id=ANN.id),
        [*warehouse.journal_entries(), *warehouse.decisions()],
        warehouse.status().watermarks,
    )


def pictures(warehouse: Warehouse, entries: list) -> list[list[tuple]]:
    """For each number of steps done, what may be seen if the next one is cut short or came through unacknowledged."""
    seen = [[picture(warehouse)]]
    for number, step in enumerate(steps(entries)):
        between = []
        if number == RESTORE:
            for size in range(200, len(entries), 200):
                warehouse.restore(entries[:size])
                between.append(picture(warehouse))
        step(warehouse)
        seen[-1] += [*between, picture(warehouse)]
        seen.append([picture(warehouse)])
    return seen


def log_and_state_agree(warehouse: Warehouse) -> bool:
    latest = {change.document_id: change.revision for change in warehouse.changes(after=0, limit=9999)}
    now = {
        state.document.id: state.revision.number if state.live else None
        for state in warehouse.states(include_deleted=True)
        if state.revision or state.tombstone
    }
    return latest == now


def check_each(folder: Path, expected: list[list[tuple]], entries: list, reopen: Callable[[str], Warehouse]) -> int:
    """Look at what each killed writer left, let another finish its steps, and count the dead."""
    points = sorted(folder.glob("*.acknowledged"))
    for acknowledged in points:
        done = len(acknowledged.read_text())
        warehouse = reopen(acknowledged.stem)
        with closing(warehouse):
            assert picture(warehouse) in expected[done], f"point {acknowledged.stem}: not what {done} steps leave"
            assert log_and_state_agree(warehouse), f"point {acknowledged.stem}: log and state disagree"
            for step in steps(entries)[done:]:
                step(warehouse)
            assert picture(warehouse) == expected[-1][0], f"point {acknowledged.stem}: another end"
    return len(points) - 1


def kill_at_every_point(folder: Path, *url: str) -> None:
    subprocess.run([sys.executable, "-m", "tests.contracts.killed_writer", str(folder), *url], check=True)


def test_sqlite_survives_kill_9_at_every_commit(tmp_path):
    with closing(SQLiteWarehouse(tmp_path / "undisturbed" / "warehouse.sqlite")) as warehouse:
        expected = pictures(warehouse, ENTRIES)
    kill_at_every_point(tmp_path)

    def reopen(point: str) -> SQLiteWarehouse:
        warehouse = SQLiteWarehouse(tmp_path / f"{point}.sqlite")
        state = warehouse.state([ident("c")]).get(ident("c"))
        if state is not None and state.tombstone is not None:  # withdrawn, perhaps without the time to rewrite the file
            left = b"".join(file.read_bytes() for file in tmp_path.glob(f"{point}.sqlite*"))
            assert SECRET.encode() not in left, f"point {point}: withdrawn text is still in the file"
        return warehouse

    assert check_each(tmp_path, expected, ENTRIES, reopen) >= 36


def test_mongodb_survives_kill_9_of_its_client_at_every_commit(tmp_path):
    entries = ENTRIES[:10]
    with MongoWireServer() as server:
        with closing(MongoWarehouse(server.url, "undisturbed")) as warehouse:
            expected = pictures(warehouse, entries)
        kill_at_every_point(tmp_path, server.url)
        dead = check_each(tmp_path, expected, entries, lambda point: MongoWarehouse(server.url, f"point_{point}"))
    assert dead >= 36
