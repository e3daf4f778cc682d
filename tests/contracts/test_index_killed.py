"""Several processes on one index: readers beside a writer, and a writer killed at every point where it matters."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from llm_engineering.adapters.qdrant import QdrantServerIndex
from llm_engineering.adapters.qdrant_edge import EdgeIndex
from llm_engineering.domain.entities import IndexQuery
from llm_engineering.domain.errors import StoreLocked
from llm_engineering.domain.ports import Index
from tests.doubles.folders import quick_folder
from tests.doubles.index_process import EARLIER, LATER, POINTS, VISIBLE_AT
from tests.doubles.indexed import RECIPE, Follower, a_chunk, towards
from tests.doubles.qdrant_http import qdrant_server

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with quick_folder(tmp_path) as quick:
        yield quick


@contextmanager
def process(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.doubles.index_process", *map(str, arguments)]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def line_of(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def visible(index: Index) -> set[str]:
    return {hit.text for hit in index.search(IndexQuery(dense=towards(1), limit=100))}


def earlier(watermarks: Path) -> Follower:
    follower = Follower(watermarks)
    follower.log = list(EARLIER)
    return follower


@pytest.mark.parametrize("point", POINTS)
def test_a_writer_killed_at_any_point_leaves_readers_whole_and_the_next_one_finishes(folder: Path, point: str) -> None:
    index, follower = EdgeIndex(folder / "index", patience=0.2), earlier(folder / "watermarks")
    follower.sync(index, rebuild=point == "in the middle of a copy")
    if point == "in the middle of a copy":  # the only standby is held by a reader, so that the writer must copy
        follower.sync(index)
        slow = EdgeIndex(folder / "index")
        visible(slow)
        follower.sync(index)
    before = visible(index)
    with process("write", folder / "index", folder / "watermarks", point) as child:
        assert line_of(child) == "", "the writer was to die before it was done"
        assert child.wait() == -9
    follower.log += LATER
    assert visible(index) == (follower.texts() if point in VISIBLE_AT else before)
    follower.sync(index)
    assert visible(index) == follower.texts()
    assert sorted(indexed.chunk.text for indexed in index.chunks()) == sorted(follower.texts())
    assert (index.status().chunks, index.status().documents) == (4, 3)
    follower.sync(index)
    assert visible(index) == follower.texts()
    index.close()


def test_a_first_build_that_was_killed_is_continued(folder: Path) -> None:
    with process("write", folder / "index", folder / "watermarks", "after the last retire") as child:
        assert child.wait() == -9
    index, follower = EdgeIndex(folder / "index"), earlier(folder / "watermarks")
    assert index.recipe() is None
    follower.log += LATER
    with index.writer(RECIPE) as writer:
        assert writer.watermark_name in (folder / "watermarks").read_text()
    follower.sync(index)
    assert visible(index) == follower.texts()
    index.close()


def test_readers_in_other_processes_go_on_and_see_every_commit(folder: Path) -> None:
    index, follower = EdgeIndex(folder / "index", patience=0.2), Follower(folder / "watermarks")
    follower.write("first", "text 0").sync(index)
    with (
        process("read", folder / "index", "text 6") as one,
        process("read", folder / "index", "text 6") as two,
    ):
        assert [line_of(one), line_of(two)] == ["reading", "reading"]
        for number in range(1, 7):
            follower.write(f"doc {number}", f"text {number}").sync(index)
        assert [line_of(one), line_of(two)] == ["seen", "seen"]
        assert [one.wait(), two.wait()] == [0, 0]
    index.close()


def test_a_writer_in_another_process_is_named_and_its_death_frees_the_index(folder: Path) -> None:
    index = EdgeIndex(folder / "index")
    with process("hold", folder / "index") as child:
        assert line_of(child) == "holding"
        with pytest.raises(StoreLocked, match=f"process {child.pid}"), index.writer(RECIPE):
            pass
    with index.writer(RECIPE) as writer:
        writer.publish([a_chunk("afterwards")])
        writer.commit()
    assert visible(index) == {"afterwards"}
    index.close()


def test_a_killed_writer_of_a_server_frees_its_lease(folder: Path) -> None:
    with qdrant_server(folder / "server") as server:
        index = QdrantServerIndex(server.url, None, "twin")
        with process("hold", server.url) as child:
            assert line_of(child) == "holding"
            with pytest.raises(StoreLocked, match=f"process {child.pid}"), index.writer(RECIPE):
                pass
        with index.writer(RECIPE) as writer:
            writer.publish([a_chunk("afterwards")])
            writer.commit()
        assert visible(index) == {"afterwards"}
        index.close()
