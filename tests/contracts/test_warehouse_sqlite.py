"""What the SQLite warehouse promises beyond the port: several processes, erasure down to the bytes, clear refusals."""

import os
import random
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from llm_engineering.adapters.sqlite import SQLiteWarehouse
from llm_engineering.adapters.sqlite_file import SQLiteFile
from llm_engineering.domain.answers import Feedback
from llm_engineering.domain.entities import Author, Draft, Kind, Link, LinkOutcome, TombstoneReason, now
from llm_engineering.domain.errors import StoreLocked, StoreUnavailable
from llm_engineering.domain.samples import Decision, JournalEntry

ANN = Author.named("Ann Lee")

WRITER = """
import sys
from pathlib import Path
from llm_engineering.adapters.sqlite import SQLiteWarehouse
from llm_engineering.domain.entities import Author, Draft, Kind

warehouse = SQLiteWarehouse(Path(sys.argv[1]))
ann = warehouse.save_author(Author.named("Ann Lee", sys.argv[2]))
for number in range(20):
    common = dict(author_id=ann.id, kind=Kind.NOTE, platform="x", title="t")
    own = Draft(url=f"https://x.org/{sys.argv[2]}/{number}", text="own", **common)
    warehouse.record([own, Draft(url="https://x.org/shared", text=f"{sys.argv[2]} {number}", **common)])
warehouse.close()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "warehouse.sqlite"


@pytest.fixture
def warehouse(path: Path) -> Iterator[SQLiteWarehouse]:
    with closing(SQLiteWarehouse(path, patience=0.1)) as opened:
        opened.save_author(ANN)
        yield opened


def draft(name: str, text: str = "Hello.", **more) -> Draft:
    fields = {"kind": Kind.NOTE, "platform": "x", "title": "A title", "url": f"https://x.org/{name}"} | more
    return Draft(author_id=ANN.id, text=text, **fields)


def bytes_of(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(path.parent.iterdir()))


# several processes


def test_processes_that_open_and_write_at_once_lose_and_double_nothing(path):
    names = ["one", "two", "three"]
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), name]) for name in names]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    with closing(SQLiteWarehouse(path)) as warehouse:
        changes = warehouse.changes(after=0, limit=1000)
        assert [change.sequence for change in changes] == list(range(1, 3 * 20 * 2 + 1))
        assert len(list(warehouse.states())) == 3 * 20 + 1
        assert set(warehouse.authors()[0].aliases) == set(names)


def test_a_writer_that_is_kept_waiting_too_long_says_who_is_in_the_way(warehouse, path):
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreLocked, match=r"held by another process\. Try again") as caught:
            warehouse.record([draft("a")])
        assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
        assert warehouse.head() == 0  # reading goes on meanwhile
    assert warehouse.record([draft("a")])[0].revision == 1


# erasure


SECRET = "the-secret-nobody-may-read"


def test_nothing_of_a_withdrawn_text_is_left_in_the_files(warehouse, path):
    marks = {"title": f"{SECRET} title", "metadata": {"k": f"{SECRET} metadata"}}
    warehouse.record([draft("a", f"{SECRET} first " * 500, **marks), draft("a", f"{SECRET} second", **marks)])
    kept = Link(author_id=ANN.id, source="s", url="u", outcome=LinkOutcome.STORED, fetched_at=now())
    warehouse.save_links([kept.model_copy(update={"document_id": draft("a").document_id, "detail": SECRET})])
    cited = (draft("a").document_id,)
    warehouse.save_feedback(
        Feedback(request_id="r", vote="up", query="?", answer=f"{SECRET} quoted " * 300, document_ids=cited)
    )
    warehouse.save_journal(
        [JournalEntry(key="k", purpose="ask", model="m", reply=f"{SECRET} " * 300, document_ids=cited)]
    )
    warehouse.save_decision(Decision(sample_id="s", verdict="edit", instruction=SECRET, document_ids=cited))
    assert SECRET.encode() in bytes_of(path)
    warehouse.bury([draft("a").document_id], reason=TombstoneReason.WITHDRAWN)
    assert SECRET.encode() not in bytes_of(path)
    warehouse.close()
    assert SECRET.encode() not in bytes_of(path)


@pytest.mark.parametrize("seed", [1, 2])
def test_no_ghost_of_a_withdrawn_text_is_left_where_rows_were_moved_about(warehouse, path, seed):
    chance = random.Random(seed)
    names = [str(chance.random()) for _ in range(300)]
    for edition in (1, 2):
        texts = {name: f"{edition} " + f"secret-{name} " * chance.randint(1, 40) for name in names}
        warehouse.record([draft(name, text) for name, text in texts.items()])
    withdrawn = chance.sample(names, 200)
    for part in range(5):
        ids = [draft(name).document_id for name in withdrawn[part::5]]
        warehouse.bury(ids, reason=TombstoneReason.WITHDRAWN)
    left = bytes_of(path)
    assert [name for name in withdrawn if f"secret-{name}".encode() in left] == []


def test_an_erasure_that_a_reader_holds_up_is_said_and_made_good_by_repeating(warehouse, path):
    warehouse.record([draft("a", SECRET)])
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM revisions").fetchone()
        with pytest.raises(StoreLocked, match="another process is reading"):
            warehouse.bury([draft("a").document_id], reason=TombstoneReason.WITHDRAWN)
    assert warehouse.revision(draft("a").document_id, 1) is None
    warehouse.bury([draft("a").document_id], reason=TombstoneReason.WITHDRAWN)
    assert SECRET.encode() not in bytes_of(path)


def test_an_erasure_that_a_crash_cut_short_is_finished_by_the_next_opening(path, monkeypatch):
    with monkeypatch.context() as patched, closing(SQLiteWarehouse(path)) as warehouse:
        patched.setattr(SQLiteFile, "finish_erasures", lambda _: None)  # as if killed right after the commit
        warehouse.save_author(ANN)
        warehouse.record([draft("a", SECRET)])
        warehouse.bury([draft("a").document_id], reason=TombstoneReason.WITHDRAWN)
        assert SECRET.encode() in bytes_of(path)
    with closing(SQLiteWarehouse(path)):
        assert SECRET.encode() not in bytes_of(path)


# refusals


def refusal_of(path: Path) -> str:
    with pytest.raises(StoreUnavailable) as caught:
        SQLiteWarehouse(path, patience=0.1)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_file_that_is_no_database_is_left_alone(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("These are my notes. " * 100)
    assert "is not a SQLite database. Set WAREHOUSE_URL" in refusal_of(path)
    assert path.read_text() == "These are my notes. " * 100


def test_the_database_of_another_program_is_left_alone(tmp_path):
    path = tmp_path / "other.sqlite"
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE theirs (id)")
    before = path.read_bytes()
    assert "another program" in refusal_of(path)
    assert path.read_bytes() == before


def test_a_newer_warehouse_asks_for_an_upgrade(path):
    SQLiteWarehouse(path).close()
    with closing(sqlite3.connect(path)) as newer:
        newer.execute("PRAGMA user_version = 99")
    assert "version 99, this program reads up to 3. Upgrade" in refusal_of(path)


def test_a_file_of_the_first_version_is_brought_up_and_loses_nothing(path):
    with closing(SQLiteWarehouse(path)) as first:
        first.save_author(ANN)
        first.record([draft("a")])
    with closing(sqlite3.connect(path)) as older:
        older.executescript("DROP TABLE feedback; DROP TABLE journal; DROP TABLE decisions; PRAGMA user_version = 1")
    with closing(SQLiteWarehouse(path)) as second:
        second.save_feedback(Feedback(request_id="r", vote="up", query="?", answer="!"))
        assert second.state([draft("a").document_id])[draft("a").document_id].live
    with closing(SQLiteWarehouse(path)) as third:
        assert [kept.request_id for kept in third.feedback()] == ["r"]


def test_a_file_of_the_second_version_is_brought_up_and_loses_nothing(path):
    with closing(SQLiteWarehouse(path)) as second:
        second.save_author(ANN)
        second.record([draft("a")])
        second.save_feedback(Feedback(request_id="r", vote="up", query="?", answer="!"))
    with closing(sqlite3.connect(path)) as older:
        older.executescript("DROP TABLE journal; DROP TABLE decisions; PRAGMA user_version = 2")
    entry = JournalEntry(key="k", purpose="ask", model="m", reply="!", document_ids=(draft("a").document_id,))
    with closing(SQLiteWarehouse(path)) as third:
        third.save_journal([entry])
        third.save_decision(Decision(sample_id="s", verdict="keep"))
        assert [kept.request_id for kept in third.feedback()] == ["r"]
    with closing(SQLiteWarehouse(path)) as again:
        assert (again.journal(["k"]), [kept.sample_id for kept in again.decisions()]) == ({"k": entry}, ["s"])


def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path):
    assert "cannot be opened" in refusal_of(tmp_path)


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").touch()
    assert "cannot be made" in refusal_of(tmp_path / "file" / "warehouse.sqlite")


def test_a_damaged_file_is_refused(path):
    with closing(SQLiteWarehouse(path)) as warehouse:
        warehouse.save_author(ANN)
        warehouse.record([draft(str(number), "text " * 2000) for number in range(20)])
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    with pytest.raises(StoreUnavailable, match="damaged"), closing(SQLiteWarehouse(path)) as warehouse:
        list(warehouse.states())


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A folder that this process may not write into, even when it is the superuser's."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o555)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            yield folder
        finally:
            if user == 0:
                os.seteuid(0)
            folder.chmod(0o755)


def test_a_read_only_folder_is_refused(read_only):
    assert "cannot be opened. Check path and permissions" in refusal_of(read_only / "warehouse.sqlite")
    assert "cannot be made: Permission denied" in refusal_of(read_only / "new" / "warehouse.sqlite")


def test_a_full_disk_loses_nothing_that_was_acknowledged(path, monkeypatch):
    connect = sqlite3.connect

    def small_disk(*arguments, **options) -> sqlite3.Connection:
        connection = connect(*arguments, **options)
        connection.execute("PRAGMA max_page_count = 60")
        return connection

    monkeypatch.setattr(sqlite3, "connect", small_disk)
    with closing(SQLiteWarehouse(path)) as warehouse:
        warehouse.save_author(ANN)
        warehouse.record([draft("a")])
        with pytest.raises(StoreUnavailable, match=r"the disk is full\. Make room and run the same again"):
            warehouse.record([draft("b"), draft("c", "text " * 100_000)])
        assert [state.document.url for state in warehouse.states()] == ["https://x.org/a"]
        assert warehouse.record([draft("b")])[0].revision == 1
        assert warehouse.head() == 2


# size


def test_the_states_of_many_documents_stream_in_bounded_memory(tmp_path):
    script = f"""
import resource
from pathlib import Path
from llm_engineering.adapters.sqlite import SQLiteWarehouse
from llm_engineering.domain.entities import Author, Draft, Kind

warehouse = SQLiteWarehouse(Path({str(tmp_path / "warehouse.sqlite")!r}))
ann = warehouse.save_author(Author.named("Ann Lee"))
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for start in range(0, 3_000, 500):
    warehouse.record([
        Draft(author_id=ann.id, url=f"https://x.org/{{n}}", kind=Kind.NOTE, platform="x", title="t", text=f"{{n:07}} " * 3000)
        for n in range(start, start + 500)
    ])
before = peak()
assert sum(len(state.revision.text) for state in warehouse.states()) == 3_000 * 24_000
assert warehouse.head() == 3_000
assert peak() - before < 20_000, f"{{peak() - before}} kB more while streaming"
warehouse.close()
"""
    subprocess.run([sys.executable, "-c", script], check=True)
