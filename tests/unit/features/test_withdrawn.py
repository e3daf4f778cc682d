"""What an author has withdrawn leaves the bytes of warehouse and index, whatever stops the sync that does it."""

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from llm_engineering.adapters.edge_shard import EdgePoints
from llm_engineering.adapters.qdrant_edge import EdgeIndex
from llm_engineering.adapters.replicas import ReplicaFolder
from llm_engineering.domain.entities import IndexQuery, TombstoneReason
from tests.unit.features.test_sync import Twin

ROOT = Path(__file__).resolve().parents[3]
SECRET = "withdrawnsecret"
STEPS = {
    "before the files are written anew": (EdgePoints, "erase_deleted", False),
    "after the files were written anew": (EdgePoints, "erase_deleted", True),
    "before older states are doomed": (ReplicaFolder, "doom", False),
    "before the pointer moves": (ReplicaFolder, "point_to", False),
    "after the pointer moved": (ReplicaFolder, "point_to", True),
    "while older states are removed": (ReplicaFolder, "discard", False),
    "before the next standby is copied": (ReplicaFolder, "clone", False),
    "at the last sweep": (EdgeIndex, "sweep", False),
}


def files_with(folder: Path, word: str = SECRET) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file() and word.encode() in file.read_bytes()]


def twin_with_a_secret(folder: Path) -> Twin:
    """Both sides of the index hold it, as after any two syncs."""
    twin = Twin(folder)
    for number in range(3):
        twin.write(f"post-{number}", f"kept {number}\n")
    twin.write("secret", f"{SECRET} one\nmore of it\n")
    twin.sync()
    twin.write("post-0", "edited\n")
    twin.sync()
    return twin


def child(folder: str, step: str) -> None:
    """Sync, and die for good at that step."""
    owner, name, afterwards = STEPS[step]
    original = getattr(owner, name)

    def dying(*args: object, **kwargs: object) -> None:
        if afterwards:
            original(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, dying)
    Twin(Path(folder)).sync()


def test_after_a_sync_no_file_holds_it(tmp_path: Path):
    twin = twin_with_a_secret(tmp_path)
    twin.bury("secret", TombstoneReason.WITHDRAWN)
    assert len({file for file in files_with(tmp_path) if file.is_relative_to(tmp_path / "index")}) >= 2
    report = twin.sync()
    assert files_with(tmp_path) == []
    assert (report.removed, report.retired) == (1, 2)
    assert twin.indexed() == twin.expected()
    twin.write("post-1", "edited, too\n")
    twin.sync()
    assert twin.indexed() == twin.expected()
    twin.close()


def test_what_is_only_gone_at_its_source_is_not_worth_writing_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    twin = twin_with_a_secret(tmp_path)
    twin.bury("secret", TombstoneReason.GONE)
    monkeypatch.setattr(EdgePoints, "erase_deleted", lambda *_, **__: pytest.fail("not asked for"))
    assert twin.sync().retired == 2
    twin.close()


@pytest.mark.parametrize("step", STEPS)
def test_a_sync_killed_while_it_erases_is_finished_by_the_next(tmp_path: Path, step: str):
    twin = twin_with_a_secret(tmp_path)
    twin.bury("secret", TombstoneReason.WITHDRAWN)
    twin.close()
    code = f"from tests.unit.features.test_withdrawn import child; child({str(tmp_path)!r}, {step!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    twin = Twin(tmp_path)
    twin.sync()
    assert twin.indexed() == twin.expected()
    assert files_with(tmp_path) == []
    twin.close()


def test_a_state_that_a_reader_uses_goes_once_the_reader_has_moved_on(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    twin = twin_with_a_secret(tmp_path)
    reader = EdgeIndex(tmp_path / "index")
    anything = IndexQuery(sparse=None, dense=twin.embedder.embed_query("kept"))
    reader.search(anything)
    twin.bury("secret", TombstoneReason.WITHDRAWN)
    with caplog.at_level(logging.WARNING):
        twin.sync()
    assert "still uses a state that holds withdrawn texts" in caplog.text
    assert SECRET not in {hit.text for hit in reader.search(anything)}
    assert twin.sync().retired == 0
    assert files_with(tmp_path) == []
    reader.close()
    twin.close()
