import errno
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_engineering.adapters import replicas as replicas_module
from llm_engineering.adapters.edge_shard import EdgePoints
from llm_engineering.adapters.qdrant_edge import EdgeIndex
from llm_engineering.adapters.replicas import Lock, ReplicaFolder
from llm_engineering.domain.entities import IndexQuery
from llm_engineering.domain.errors import StoreError, StoreUnavailable
from tests.doubles.folders import quick_folder
from tests.doubles.indexed import RECIPE, Follower, a_chunk, towards


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    with quick_folder(tmp_path) as folder:
        yield folder / "index"


@pytest.fixture
def index(path: Path) -> Iterator[EdgeIndex]:
    index = EdgeIndex(path, patience=0.1)
    yield index
    index.close()


def fill(index: EdgeIndex, *texts: str, rebuild: bool = False) -> None:
    with index.writer(RECIPE, rebuild=rebuild) as writer:
        writer.publish([a_chunk(text) for text in texts])
        writer.commit()


def found(index: EdgeIndex) -> set[str]:
    return {hit.text for hit in index.search(IndexQuery(dense=towards(1)))}


def replicas(path: Path) -> list[Path]:
    return sorted(folder for folder in path.iterdir() if folder.is_dir())


def current(path: Path) -> Path:
    return path / (path / "current").read_text().strip()


def test_an_uncommitted_session_leaves_readers_with_the_old_state(index: EdgeIndex) -> None:
    fill(index, "old")
    with index.writer(RECIPE) as writer:
        writer.publish([a_chunk("new")])
        writer.retire([a_chunk("old").chunk.id])
        assert found(index) == {"old"}
    assert found(index) == {"old"}


def test_two_replicas_are_kept_however_many_sessions_there_were(path: Path, index: EdgeIndex) -> None:
    follower = Follower(path.parent / "watermarks")
    for number in range(5):
        follower.write(f"doc {number}", f"text {number}").sync(index)
        assert len(replicas(path)) == 2


def test_two_sessions_in_a_row_write_on_different_replicas(index: EdgeIndex) -> None:
    fill(index, "one")
    names = []
    for _ in range(3):
        with index.writer(RECIPE) as writer:
            names.append(writer.watermark_name)
            writer.commit()
    assert names[0] != names[1]
    assert names[0] == names[2]


def test_a_copy_names_the_watermark_of_what_it_was_copied_from(index: EdgeIndex) -> None:
    with index.writer(RECIPE) as first:
        assert first.inherited_watermark is None
        first.publish([a_chunk()])
        first.commit()
    with index.writer(RECIPE) as second:
        assert second.inherited_watermark == first.watermark_name


def test_a_reader_that_stays_behind_does_not_stop_writers(path: Path, index: EdgeIndex) -> None:
    follower = Follower(path.parent / "watermarks")
    follower.write("doc", "text 0").sync(index)
    slow = EdgeIndex(path)
    stream = slow.chunks()
    first = next(stream).chunk.text
    for number in range(1, 4):
        follower.write("doc", f"text {number}").sync(index)
    assert (first, [indexed.chunk.text for indexed in stream]) == ("text 0", [])
    assert found(index) == found(slow) == {"text 3"}
    follower.write("doc", "text 4").sync(index)
    assert len(replicas(path)) == 2
    slow.close()


def test_a_status_needs_no_engine(path: Path, index: EdgeIndex) -> None:
    fill(index, "one", "two")
    for folder in replicas(path):
        shutil.rmtree(folder / "shard")
    assert (index.status().chunks, index.status().documents) == (2, 1)


def test_a_damaged_standby_is_made_anew(path: Path, index: EdgeIndex) -> None:
    follower = Follower(path.parent / "watermarks")
    follower.write("doc", "one").sync(index)
    for folder in replicas(path):
        if folder != current(path):
            (folder / "shard" / "edge_config.json").write_text("{")
    follower.write("other", "two").sync(index)
    assert found(index) == {"one", "two"}


@pytest.mark.parametrize("damage", ["pointer", "meta", "shard"])
def test_a_damaged_index_says_what_to_do_and_a_rebuild_heals_it(path: Path, damage: str) -> None:
    fill(EdgeIndex(path), "old")
    target = current(path)
    if damage == "pointer":
        (path / "current").write_text("nonsense")
    elif damage == "meta":
        (target / "replica.json").write_text("{")
    else:
        (target / "shard" / "edge_config.json").write_text("{")
    index = EdgeIndex(path)
    with pytest.raises(StoreError, match="poe run-sync-pipeline --rebuild"):
        if damage == "meta":
            index.recipe()
        else:
            found(index)
    with index.writer(RECIPE, rebuild=True) as writer:
        writer.vectors(["some key"])
        writer.publish([a_chunk("new")])
        writer.commit()
    assert found(index) == {"new"}
    index.close()


def test_a_half_written_point_is_swept_when_the_next_session_begins(path: Path, index: EdgeIndex) -> None:
    import qdrant_edge as edge

    fill(index, "whole")
    with index.writer(RECIPE) as writer:
        writer.publish([a_chunk("more")])
        torn = edge.Point(id=a_chunk("torn").chunk.id, vector={"dense": towards(1)})
        writer._points._shard.update(edge.UpdateOperation.upsert_points([torn]))
    with index.writer(RECIPE) as writer:
        writer.commit()
    assert found(index) == {"whole", "more"}
    assert index.status().chunks == 2


def test_folders_of_others_are_left_alone(path: Path, index: EdgeIndex) -> None:
    (path / "holiday pictures").mkdir(parents=True)
    fill(index, "one")
    fill(index, "two", rebuild=True)
    assert (path / "holiday pictures").is_dir()


def test_what_a_killed_copy_left_behind_is_swept(path: Path, index: EdgeIndex) -> None:
    fill(index, "one")
    rest = path / "unfinished-00000000-0000-0000-0000-000000000000"
    (rest / "shard").mkdir(parents=True)
    fill(index, "one")
    assert not rest.exists()


def test_a_reader_never_holds_a_replica_that_is_not_current_any_more(path: Path, index: EdgeIndex) -> None:
    fill(index, "one")
    fill(index, "one")
    replica, lock = ReplicaFolder(path).hold_current()
    assert replica.folder == current(path)
    assert Lock.try_on(replica.lock, shared=False) is None
    lock.release()
    taken = Lock.try_on(replica.lock, shared=False)
    assert taken is not None
    taken.release()


def test_a_place_that_cannot_be_a_folder_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    index = EdgeIndex(tmp_path / "file" / "index")
    with pytest.raises(StoreUnavailable, match="INDEX_URL"), index.writer(RECIPE):
        pass


def test_a_full_disk_is_said_before_the_engine_meets_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = EdgeIndex(path)
    fill(index, "one")
    usage = shutil.disk_usage(path)
    with index.writer(RECIPE) as writer:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
        with pytest.raises(StoreUnavailable, match="full"):
            writer.publish([a_chunk("two")])
        monkeypatch.undo()
    assert found(index) == {"one"}
    index.close()


def copies_run_out_of_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Path, target: Path) -> None:
        target.mkdir()
        (target / "half").write_text("of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(replicas_module, "copy_folder", full)


def test_a_copy_that_runs_out_of_disk_leaves_nothing_behind(
    path: Path, index: EdgeIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(index, "one")
    before = replicas(path)
    copies_run_out_of_disk(monkeypatch)
    folder = ReplicaFolder(path)
    with pytest.raises(StoreUnavailable, match="No space left"):
        folder.clone(folder.hold_current()[0])
    assert replicas(path) == before


def test_a_rebuild_without_room_for_a_standby_frees_the_old_index(
    path: Path, index: EdgeIndex, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fill(index, "old")
    copies_run_out_of_disk(monkeypatch)
    fill(index, "new", rebuild=True)
    assert replicas(path) == [current(path)]
    assert found(index) == {"new"} and "no standby was made" in caplog.text


class FullShard:
    """An engine's shard on a disk without room for what the engine says of it."""

    def __init__(self, shard: Any, said: str) -> None:
        self._shard, self._said = shard, said

    def __getattr__(self, name: str) -> Any:
        return getattr(self._shard, name)

    def optimize(self) -> bool:
        raise Exception(self._said)  # the engine raises nothing more exact

    def update(self, _: Any) -> None:
        raise Exception(self._said)


NO_ROOM = "Not enough space available for optimization, needed: 465.83 MiB, available: 67.08 MiB"


def test_without_room_to_optimise_the_commit_stands(index: EdgeIndex, caplog: pytest.LogCaptureFixture) -> None:
    with index.writer(RECIPE) as writer:
        writer.publish([a_chunk("one")])
        points = writer._points
        points._shard = FullShard(points._shard, NO_ROOM)
        writer.commit()
    assert found(index) == {"one"}
    assert "not optimised" in caplog.text and NO_ROOM in caplog.text


def test_a_disk_that_is_full_at_the_commit_does_not_stop_it(
    index: EdgeIndex, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    usage = shutil.disk_usage("/")
    with index.writer(RECIPE) as writer:
        writer.publish([a_chunk("one")])
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
        writer.commit()
    assert found(index) == {"one"}
    assert "not optimised" in caplog.text and "no standby was made" in caplog.text


@pytest.mark.parametrize("said", [NO_ROOM, "Service error: No space left on device", "IO error (os error 28)"])
def test_a_full_disk_is_never_called_a_damage(path: Path, said: str) -> None:
    path.mkdir(parents=True)
    points = EdgePoints.create(path / "shard", dimensions=4)
    full = EdgePoints(FullShard(points._shard, said), path)
    with pytest.raises(StoreUnavailable) as failure:
        full.upsert([a_chunk("one")])
    points.close()
    assert "space" in (failure.value.hint or "") and "rebuild" not in (failure.value.hint or "")


def test_a_vector_of_the_wrong_length_is_our_error(index: EdgeIndex) -> None:
    fill(index, "one")
    with pytest.raises(StoreError, match="cannot be read"):
        index.search(IndexQuery(dense=[1.0, 0.0]))
