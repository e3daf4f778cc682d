"""A sync after a small one learns what readers see from a small file, and from the whole visible side where it cannot."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_engineering.adapters import recent_vectors as module
from llm_engineering.adapters.edge_shard import EdgePoints
from llm_engineering.adapters.qdrant_edge import EdgeIndex
from llm_engineering.adapters.recent_vectors import RecentVectors, recent_vectors
from tests.doubles.folders import quick_folder
from tests.doubles.indexed import RECIPE, a_chunk, towards


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    with quick_folder(tmp_path) as folder:
        yield folder / "index"


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Folders of the shards that were loaded."""
    original, seen = EdgePoints.load, []

    def counting(folder: Path, *, dimensions: int | None = None) -> EdgePoints:
        seen.append(folder)
        return original(folder, dimensions=dimensions)

    monkeypatch.setattr(EdgePoints, "load", counting)
    return seen


@pytest.fixture
def index(path: Path) -> Iterator[EdgeIndex]:
    """After four small sessions, so that both sides have taken turns."""
    index = EdgeIndex(path)
    for number in range(4):
        session(index, f"text {number}")
    yield index
    index.close()


def session(index: EdgeIndex, name: str, *, ask: tuple[str, ...] = ()) -> dict[str, list[float]]:
    """Publish one text under a key of its name; what is known under these keys before that."""
    with index.writer(RECIPE) as writer:
        known = dict(writer.vectors([*ask, f"key {name}"]))
        writer.publish([a_chunk(name, dense=towards(0.6, 0.8), key=f"key {name}")])
        writer.commit()
    return known


def test_one_new_text_after_another_loads_one_side_alone(index: EdgeIndex, loads: list[Path]) -> None:
    loads.clear()
    assert session(index, "one more") == {}
    assert len(loads) == 1


def test_what_only_readers_have_is_known_all_the_same(index: EdgeIndex) -> None:
    known = session(index, "one more", ask=("key text 0", "key text 3"))
    assert known.keys() == {"key text 0", "key text 3"}
    assert known["key text 3"] == pytest.approx(towards(0.6, 0.8))


@pytest.mark.parametrize("damage", ["absent", "cut", "nonsense", "of another state"])
def test_without_the_file_the_visible_side_is_asked(
    path: Path, index: EdgeIndex, damage: str, loads: list[Path]
) -> None:
    file = path / (path / "current").read_text().strip() / "recent.npz"
    if damage == "absent":
        file.unlink()
    elif damage == "of another state":
        other = RecentVectors("another:1")
        other.add({"key text 3": towards(1)})
        other.save(file.parent)
    else:
        file.write_bytes(file.read_bytes()[:100] if damage == "cut" else b"nonsense")
    loads.clear()
    known = session(index, "one more", ask=("key text 3",))
    assert known["key text 3"] == pytest.approx(towards(0.6, 0.8))
    assert len(loads) == 2


def test_a_side_that_a_killed_session_began_on_is_not_trusted_to_be_level(index: EdgeIndex) -> None:
    with index.writer(RECIPE) as writer:  # never committed
        writer.retire([a_chunk("text 0").chunk.id])
    known = session(index, "one more", ask=("key text 0",))
    assert known["key text 0"] == pytest.approx(towards(0.6, 0.8))


def test_a_large_session_leaves_no_file_and_takes_the_last_one_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = RecentVectors("side:1")
    small.add({"one": [1.0, 0.0]})
    small.save(tmp_path)
    assert recent_vectors(tmp_path, beside="side:1") == {"one": [1.0, 0.0]}
    assert recent_vectors(tmp_path, beside="side:2") is None
    monkeypatch.setattr(module, "_MOST", 1)
    large = RecentVectors("side:2")
    large.add({"one": [1.0, 0.0], "two": [0.0, 1.0]})
    large.save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_session_that_published_nothing_says_so(tmp_path: Path) -> None:
    RecentVectors("side:1").save(tmp_path)
    assert recent_vectors(tmp_path, beside="side:1") == {}
