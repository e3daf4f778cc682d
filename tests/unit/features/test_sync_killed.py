"""A sync killed before any of its writes loses nothing, serves nothing half-done, and the next run converges."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llm_engineering.domain.ports import IndexWriter
from tests.unit.features.test_sync import Twin

ROOT = Path(__file__).resolve().parents[3]
WRITES = ("publish", "retire", "set_watermark", "commit")


class Recording:
    """Passes every call on, and tells the name of each write before it happens."""

    def __init__(self, inner: Any, before: Any) -> None:
        self._inner, self._before = inner, before

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if name not in WRITES:
            return value
        return lambda *args, **kwargs: (self._before(name), value(*args, **kwargs))[1]


class RecordingIndex(Recording):
    """Hands out writers that tell their writes."""

    def writer(self, *args: Any, **kwargs: Any) -> Any:
        session = self._inner.writer(*args, **kwargs)
        before = self._before

        class Session:
            def __enter__(self) -> IndexWriter:
                return Recording(session.__enter__(), before)  # type: ignore[return-value]

            def __exit__(self, *trace: Any) -> Any:
                return session.__exit__(*trace)

        return Session()


def listened(twin: Twin, before: Any) -> Twin:
    """The twin with both stores telling their writes."""
    twin.warehouse = Recording(twin.warehouse, before)  # type: ignore[assignment]
    twin.index = RecordingIndex(twin.index, before)  # type: ignore[assignment]
    return twin


def first_state(twin: Twin) -> None:
    for number in range(6):
        twin.write(f"post-{number}", f"kept {number}\nold {number}\n")


def second_state(twin: Twin) -> None:
    for number in range(4):
        twin.write(f"post-{number}", f"kept {number}\nnew {number}\n")
    twin.bury("post-5")


def child(folder: str, fatal: str) -> None:
    """Sync, and die for good right before the write of that number."""
    seen = 0

    def before(name: str) -> None:
        nonlocal seen
        seen += 1
        if seen == int(fatal):
            os.kill(os.getpid(), signal.SIGKILL)

    listened(Twin(Path(folder)), before).sync()


def test_stale_chunks_go_after_new_ones_came_and_the_watermark_moves_last(tmp_path: Path):
    twin = Twin(tmp_path)
    first_state(twin)
    twin.sync()
    second_state(twin)
    order: list[str] = []
    listened(twin, order.append).sync(batch=100)
    names = [name for position, name in enumerate(order) if order[position - 1 : position] != [name]]
    assert names == ["publish", "retire", "set_watermark", "commit"]
    twin.close()


@pytest.mark.parametrize("fatal", range(1, 11))
def test_a_sync_killed_before_any_write_leaves_readers_as_they_were_and_the_next_converges(tmp_path: Path, fatal: int):
    twin = Twin(tmp_path)
    first_state(twin)
    twin.sync()
    before = twin.indexed()
    second_state(twin)
    twin.close()
    code = f"from tests.unit.features.test_sync_killed import child; child({str(tmp_path)!r}, '{fatal}')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    twin = Twin(tmp_path)
    if done.returncode:
        assert twin.indexed() == before
    twin.sync()
    assert twin.indexed() == twin.expected()
    assert len({chunk for chunk, _, _ in twin.indexed()}) == len(twin.indexed())
    twin.close()
