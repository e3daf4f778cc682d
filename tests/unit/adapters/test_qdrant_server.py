import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_engineering.adapters.qdrant import QdrantServerIndex
from llm_engineering.domain.entities import IndexQuery
from llm_engineering.domain.errors import StoreError, StoreLocked, StoreUnavailable
from tests.doubles.folders import quick_folder
from tests.doubles.indexed import RECIPE, a_chunk, towards
from tests.doubles.qdrant_http import Running, qdrant_server

KEY = "a-very-secret-key"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    with quick_folder(tmp_path) as folder, qdrant_server(folder / "server", api_key=KEY) as running:
        yield running


@pytest.fixture
def index(server: Running) -> Iterator[QdrantServerIndex]:
    index = QdrantServerIndex(server.url, KEY, "twin")
    yield index
    index.close()


def fill(index: QdrantServerIndex, *texts: str, rebuild: bool = False) -> None:
    with index.writer(RECIPE, rebuild=rebuild) as writer:
        writer.publish([a_chunk(text) for text in texts])
        writer.commit()


def found(index: QdrantServerIndex) -> set[str]:
    return {hit.text for hit in index.search(IndexQuery(dense=towards(1)))}


def test_a_server_that_is_not_there_is_unavailable() -> None:
    index = QdrantServerIndex("http://127.0.0.1:9", KEY, "twin")
    with pytest.raises(StoreUnavailable, match="poe up") as caught:
        index.status()
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("key", [None, "wrong-key"])
def test_a_refused_key_is_said_and_not_shown(server: Running, key: str | None) -> None:
    index = QdrantServerIndex(server.url, key, "twin")
    with pytest.raises(StoreUnavailable, match="INDEX_API_KEY") as caught:
        index.search(IndexQuery(dense=towards(1)))
    assert "wrong-key" not in str(caught.value)


@pytest.mark.parametrize("version", ["1.10.0", "2.0.0", "unknown"])
def test_a_server_of_another_version_is_refused(tmp_path: Path, version: str) -> None:
    with qdrant_server(tmp_path, version=version) as server:
        index = QdrantServerIndex(server.url, None, "twin")
        with pytest.raises(StoreUnavailable, match="version"):
            index.status()


def test_a_password_in_the_address_is_never_shown(server: Running) -> None:
    address = server.url.replace("http://", f"http://someone:{KEY}@")
    index = QdrantServerIndex(address, "wrong", "twin")
    with pytest.raises(StoreUnavailable) as caught:
        index.status()
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(("status", "kind"), [(500, StoreUnavailable), (429, StoreUnavailable), (400, StoreError)])
def test_a_failing_server_is_our_error(
    server: Running, index: QdrantServerIndex, status: int, kind: type[StoreError]
) -> None:
    fill(index, "one")
    server.state.failing_with = status
    with pytest.raises(kind, match=str(status)):
        index.search(IndexQuery(dense=towards(1)))


def test_published_chunks_are_visible_before_the_commit(index: QdrantServerIndex) -> None:
    with index.writer(RECIPE) as writer:
        writer.publish([a_chunk("at once")])
        assert found(index) == {"at once"}


def test_a_rebuild_leaves_one_collection_behind_the_alias(server: Running, index: QdrantServerIndex) -> None:
    fill(index, "old")
    fill(index, "new", rebuild=True)
    assert list(server.state.collections) == [server.state.aliases["twin"]]
    assert found(index) == {"new"}


def test_what_a_killed_rebuild_left_is_removed_and_other_collections_are_not(
    server: Running, index: QdrantServerIndex
) -> None:
    fill(index, "old")
    with index.writer(RECIPE, rebuild=True) as writer:
        writer.publish([a_chunk("half")])
    other = QdrantServerIndex(server.url, KEY, "twin-other")
    fill(other, "another")
    assert len(server.state.collections) == 3
    fill(index, "more")
    assert len(server.state.collections) == 2
    assert found(index) == {"old", "more"}
    assert found(other) == {"another"}
    other.close()


def test_a_lapsed_lease_lets_the_next_writer_in(server: Running, index: QdrantServerIndex) -> None:
    fill(index, "one")
    metadata = server.state.collections[server.state.aliases["twin"]].metadata
    lease = {"host": "elsewhere", "pid": 7, "token": "another", "until": time.time() + 100}
    metadata["lease"] = lease
    with pytest.raises(StoreLocked, match="process 7 on elsewhere"), index.writer(RECIPE):
        pass
    metadata["lease"] = lease | {"until": time.time() - 1}
    fill(index, "two")
    assert found(index) == {"one", "two"}
    assert "lease" not in metadata


def test_a_session_cut_short_makes_the_next_one_count_documents_anew(index: QdrantServerIndex) -> None:
    fill(index, "one")
    with index.writer(RECIPE) as writer:
        writer.publish([a_chunk("two", of="another")])
    assert index.status().documents == 2
    fill(index, "three")
    assert index.status().documents == 2


def test_many_chunks_go_in_several_requests(index: QdrantServerIndex) -> None:
    fill(index, *[f"text {number}" for number in range(450)])
    assert index.status().chunks == 450
    assert len(list(index.chunks())) == 450


def test_a_collection_that_is_not_ours_is_refused(server: Running, index: QdrantServerIndex) -> None:
    fill(index, "one")
    server.state.collections[server.state.aliases["twin"]].metadata.clear()
    with pytest.raises(StoreError, match="not an index of ours"):
        index.recipe()
