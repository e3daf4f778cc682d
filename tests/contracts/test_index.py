"""What every index promises: Qdrant Edge for real, the Qdrant client over HTTP, a real Qdrant server where one is named."""

import os
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_engineering.adapters.index_copy import copy_index
from llm_engineering.adapters.qdrant import QdrantServerIndex
from llm_engineering.adapters.qdrant_edge import EdgeIndex
from llm_engineering.domain.entities import Filters, Fusion, Hit, IndexedChunk, IndexQuery, Kind, SparseVector
from llm_engineering.domain.errors import IndexMismatch, IndexMissing, StoreError, StoreLocked
from llm_engineering.domain.ports import Index
from tests.doubles.folders import quick_folder
from tests.doubles.indexed import ANN, BOB, RECIPE, Follower, a_chunk, terms, towards
from tests.doubles.qdrant_http import qdrant_server

Opener = Callable[[], Index]
SERVER = os.environ.get("TWIN_TEST_QDRANT_URL")
SERVER_KEY = os.environ.get("TWIN_TEST_QDRANT_API_KEY")
NOON = datetime(2025, 3, 1, 12, 0, 0, 123_000, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with quick_folder(tmp_path) as quick:
        yield quick


@pytest.fixture(params=["edge", "client-over-http", *(["server"] if SERVER else [])])
def opener(request: pytest.FixtureRequest, folder: Path) -> Iterator[Opener]:
    """Opens the same index again and again; everything opened is closed after the test."""
    with ExitStack() as closing:
        if request.param == "edge":
            make: Opener = lambda: EdgeIndex(folder / "index", patience=0.2)  # noqa: E731
        elif request.param == "client-over-http":
            server = closing.enter_context(qdrant_server(folder / "server"))
            make = lambda: QdrantServerIndex(server.url, None, "twin")  # noqa: E731
        else:
            name = f"twin-test-{uuid.uuid4().hex[:12]}"
            closing.callback(remove_collections, name)
            make = lambda: QdrantServerIndex(SERVER, SERVER_KEY, name)  # noqa: E731

        def open_one() -> Index:
            index = make()
            closing.callback(index.close)
            return index

        yield open_one


@pytest.fixture
def index(opener: Opener) -> Index:
    return opener()


def remove_collections(name: str) -> None:
    from qdrant_client import QdrantClient

    client = QdrantClient(url=SERVER, api_key=SERVER_KEY)
    for collection in client.get_collections().collections:
        if collection.name.startswith(name):
            client.delete_collection(collection.name)
    client.close()


def fill(index: Index, *chunks: IndexedChunk, rebuild: bool = False) -> None:
    with index.writer(RECIPE, rebuild=rebuild) as writer:
        writer.publish(chunks)
        writer.commit()


def found(index: Index, **query: object) -> list[str]:
    wanted = {"dense": towards(1), "limit": 50} | query
    return [hit.text for hit in index.search(IndexQuery(**wanted))]  # type: ignore[arg-type]


def everything(index: Index) -> dict[str, IndexedChunk]:
    return {indexed.chunk.id: indexed for indexed in index.chunks()}


@pytest.mark.skipif(SERVER is None, reason="no Qdrant server named by TWIN_TEST_QDRANT_URL")
def test_a_real_server_is_there_for_this_suite() -> None:
    index = QdrantServerIndex(SERVER or "", SERVER_KEY, f"twin-test-{uuid.uuid4().hex[:12]}")
    assert index.recipe() is None
    index.close()


# State


def test_nothing_indexed_yet_is_an_error_that_says_what_to_run(index: Index) -> None:
    with pytest.raises(IndexMissing, match="poe run-feature-pipeline"):
        index.search(IndexQuery(dense=towards(1)))


def test_the_status_of_a_missing_index_has_no_recipe(index: Index) -> None:
    assert index.recipe() is None
    assert (index.status().chunks, index.status().recipe, index.status().watermark_name) == (0, None, None)


def test_the_recipe_comes_back_as_it_was_stamped(opener: Opener) -> None:
    fill(opener(), a_chunk())
    assert opener().recipe() == RECIPE


def test_the_status_counts_chunks_and_documents(index: Index) -> None:
    fill(index, a_chunk("one"), a_chunk("two", start=9), a_chunk("three", of="https://example.org/two"))
    assert (index.status().chunks, index.status().documents) == (3, 2)


def test_the_count_of_documents_follows_what_comes_and_goes(index: Index) -> None:
    fill(index, a_chunk("one"), a_chunk("two", of="b"), a_chunk("three", of="b", start=9))
    with index.writer(RECIPE) as writer:
        writer.publish([a_chunk("four", of="c"), a_chunk("one")])
        writer.retire([a_chunk("two", of="b").chunk.id, a_chunk("one").chunk.id])
        writer.commit()
    assert (index.status().chunks, index.status().documents) == (2, 2)


def test_the_watermark_is_named_after_the_state_that_is_written(index: Index) -> None:
    with index.writer(RECIPE) as writer:
        name = writer.watermark_name
        writer.publish([a_chunk()])
        writer.commit()
    assert index.status().watermark_name == name


# Round trip


def test_a_chunk_comes_back_exactly_as_it_went_in(index: Index) -> None:
    kept = a_chunk(
        "Zeile eins\n\tvoid\0 naïve 𝗯𝗼𝗹𝗱 🦊 'quoted' \"twice\"",
        dense=towards(0.6, 0.8),
        sparse=terms(alpha=1.25, beta=0.5),
        published_at=NOON,
        language=None,
        kind=Kind.REPOSITORY,
    )
    fill(index, kept)
    assert list(index.chunks()) == [
        kept.model_copy(update={"dense": pytest.approx(kept.dense, abs=1e-6), "sparse": kept.sparse})
    ]


def test_a_chunk_without_a_single_term_or_date_comes_back_too(index: Index) -> None:
    kept = a_chunk("🦊🦊", sparse=SparseVector(indices=[], values=[]))
    fill(index, kept)
    assert everything(index)[kept.chunk.id].sparse == kept.sparse
    assert found(index) == ["🦊🦊"]


def test_a_hit_carries_the_chunk_and_both_scores(index: Index) -> None:
    kept = a_chunk("some text", start=7, published_at=NOON, sparse=terms(alpha=1.0))
    fill(index, kept, a_chunk("other", dense=towards(0, 1), sparse=terms(beta=1.0)))
    hit = index.search(IndexQuery(dense=towards(1), sparse=terms(alpha=1.0), limit=1))[0]
    assert (hit.chunk_id, hit.text, hit.start, hit.end) == (kept.chunk.id, "some text", 7, 16)
    assert (hit.title, hit.url, hit.kind, hit.author, hit.published_at) == (
        "A title",
        kept.url,
        Kind.ARTICLE,
        "Ann Lee",
        NOON,
    )
    assert hit.heading_path == ("Part", "Section")
    assert hit.dense_score == pytest.approx(1.0)
    assert hit.sparse_score is not None and hit.sparse_score > 0
    assert hit.score == 1.0


# Writing


def test_what_is_published_twice_is_there_once(index: Index) -> None:
    fill(index, a_chunk(), a_chunk())
    fill(index, a_chunk())
    assert len(everything(index)) == 1


def test_a_republished_chunk_replaces_the_old_one(index: Index) -> None:
    fill(index, a_chunk(language="en"))
    fill(index, a_chunk(language="de"))
    assert [indexed.language for indexed in index.chunks()] == ["de"]


def test_a_retired_chunk_never_comes_back(index: Index) -> None:
    fill(index, a_chunk("stays"), a_chunk("goes"))
    for _ in range(3):
        with index.writer(RECIPE) as writer:
            writer.retire([a_chunk("goes").chunk.id])
            writer.commit()
        assert found(index) == ["stays"]


def test_retiring_the_unknown_changes_nothing(index: Index) -> None:
    fill(index, a_chunk())
    with index.writer(RECIPE) as writer:
        writer.retire([str(uuid.uuid4())])
        writer.commit()
    assert len(everything(index)) == 1


def test_a_writer_sees_its_own_work(index: Index) -> None:
    one, two = a_chunk("one"), a_chunk("two", of="b")
    with index.writer(RECIPE) as writer:
        writer.publish([one, two])
        writer.retire([two.chunk.id])
        unknown = str(uuid.uuid4())
        ids = [one.chunk.document_id, two.chunk.document_id, unknown]
        assert writer.chunk_ids(ids) == dict(zip(ids, [{one.chunk.id}, set(), set()], strict=True))
        assert writer.document_ids() == {one.chunk.document_id}


def test_nothing_may_be_written_after_the_commit(index: Index) -> None:
    with index.writer(RECIPE) as writer:
        writer.publish([a_chunk()])
        writer.commit()
        with pytest.raises(StoreError, match="session is over"):
            writer.publish([a_chunk("late")])
    assert len(everything(index)) == 1


def test_a_commit_is_seen_by_everyone_who_has_it_open(opener: Opener) -> None:
    writing, reading = opener(), opener()
    fill(writing, a_chunk("old"))
    assert found(reading) == ["old"]
    fill(writing, a_chunk("new"))
    assert sorted(found(reading)) == ["new", "old"]


def test_sessions_that_follow_their_watermark_add_up(opener: Opener, folder: Path) -> None:
    index, reader, follower = opener(), opener(), Follower(folder / "watermarks")
    for number in range(6):
        follower.write(f"doc {number % 4}", f"text {number}", f"more {number}")
        follower.sync(index)
        assert set(found(reader)) == follower.texts()
        assert (index.status().chunks, index.status().documents) == (len(follower.texts()), min(4, number + 1))


def test_a_second_writer_is_refused_with_the_number_of_the_first(opener: Opener) -> None:
    index, other = opener(), opener()
    fill(index, a_chunk())
    with index.writer(RECIPE), pytest.raises(StoreLocked, match=f"process {os.getpid()}"), other.writer(RECIPE):
        pass
    fill(other, a_chunk("afterwards"))


def test_a_failed_session_lets_the_next_writer_in(index: Index) -> None:
    with pytest.raises(ZeroDivisionError), index.writer(RECIPE) as writer:
        writer.publish([a_chunk("half")])
        raise ZeroDivisionError
    fill(index, a_chunk("whole"))
    assert "whole" in found(index)


# Recipes and rebuilds


@pytest.mark.parametrize("part", ["embedder", "sparse_encoder", "chunker"])
def test_an_index_of_another_recipe_is_refused(index: Index, part: str) -> None:
    fill(index, a_chunk())
    with pytest.raises(IndexMismatch, match=part), index.writer(RECIPE.model_copy(update={part: "other"})):
        pass


def test_another_numeric_backend_is_the_same_recipe_and_is_stamped(index: Index) -> None:
    fill(index, a_chunk("one"))
    other = RECIPE.embedding.model_copy(update={"backend": "float32"})
    with index.writer(RECIPE.model_copy(update={"embedding": other})) as writer:
        writer.publish([a_chunk("two")])
        writer.commit()
    assert len(everything(index)) == 2
    recipe = index.recipe()
    assert recipe is not None and recipe.embedding == other


def test_a_rebuild_starts_empty_and_replaces_everything_at_the_commit(opener: Opener) -> None:
    index, reader = opener(), opener()
    fill(index, a_chunk("old"))
    with index.writer(RECIPE, rebuild=True) as writer:
        assert writer.document_ids() == set()
        writer.publish([a_chunk("new")])
        assert found(reader) == ["old"]
        writer.commit()
    assert found(reader) == ["new"]


def test_an_abandoned_rebuild_leaves_the_old_state(opener: Opener) -> None:
    index = opener()
    fill(index, a_chunk("old"))
    with index.writer(RECIPE, rebuild=True) as writer:
        writer.publish([a_chunk("new")])
    assert found(index) == ["old"]
    fill(index, a_chunk("more"))
    assert sorted(found(index)) == ["more", "old"]


def test_a_rebuild_may_change_the_dimensions(index: Index) -> None:
    fill(index, a_chunk("old"))
    wider = RECIPE.model_copy(update={"dimensions": 6, "embedder": "toy-2"})
    with index.writer(wider, rebuild=True) as writer:
        writer.publish([a_chunk("new", dense=[1.0, 0, 0, 0, 0, 0])])
        writer.commit()
    assert found(index, dense=[1.0, 0, 0, 0, 0, 0]) == ["new"]


def test_a_commit_that_erases_keeps_everything_else(index: Index) -> None:
    fill(index, a_chunk("one"), a_chunk("two"), a_chunk("three"))
    kept = {id_: item for id_, item in everything(index).items() if item.chunk.text != "two"}
    with index.writer(RECIPE) as writer:
        writer.publish([a_chunk("one"), a_chunk("three")])
        writer.retire([a_chunk("two").chunk.id])
        writer.commit(erase=True)
    index.sweep()
    assert everything(index) == kept
    assert sorted(found(index)) == ["one", "three"]
    assert index.status().chunks == 2
    fill(index, a_chunk("four"))
    index.sweep()
    assert {"four"} <= set(found(index))


def test_known_vectors_are_found_by_key(index: Index) -> None:
    fill(index, a_chunk("one", dense=towards(0.6, 0.8), key="k1"))
    with index.writer(RECIPE) as writer:
        writer.publish([a_chunk("two", dense=towards(0, 1), key="k2")])
        known = writer.vectors(["k1", "k2", "k3"])
    assert known.keys() == {"k1", "k2"}
    assert known["k1"] == pytest.approx(towards(0.6, 0.8))


def test_a_rebuild_knows_the_vectors_of_what_it_replaces(index: Index) -> None:
    fill(index, a_chunk(dense=towards(0.6, 0.8), key="k1"))
    chunker = RECIPE.model_copy(update={"chunker": "other"})
    with index.writer(chunker, rebuild=True) as writer:
        assert writer.vectors(["k1"])["k1"] == pytest.approx(towards(0.6, 0.8))


def test_vectors_of_another_embedder_are_never_reused(index: Index) -> None:
    fill(index, a_chunk(key="k1"))
    with index.writer(RECIPE.model_copy(update={"embedder": "other"}), rebuild=True) as writer:
        assert dict(writer.vectors(["k1"])) == {}


def test_a_copy_in_another_place_finds_the_same(index: Index, folder: Path) -> None:
    fill(index, *[a_chunk(f"text {number}", dense=towards(1, number / 10)) for number in range(20)])
    copy = EdgeIndex(folder / "copy")
    assert copy_index(index, copy) == 20
    assert everything(copy) == everything(index)
    assert found(copy) == found(index)
    copy.close()


# Ranking


def test_the_nearest_vector_comes_first(index: Index) -> None:
    fill(index, *[a_chunk(f"{angle}", dense=towards(1, angle)) for angle in (0.3, 0.1, 0.2)])
    assert found(index) == ["0.1", "0.2", "0.3"]


def test_terms_alone_rank_by_rarity(index: Index) -> None:
    common = [a_chunk(f"common {number}", sparse=terms(cat=1.0)) for number in range(5)]
    fill(index, *common, a_chunk("rare", sparse=terms(yak=1.0)))
    hits = index.search(IndexQuery(sparse=terms(cat=1.0, yak=1.0), limit=3))
    assert hits[0].text == "rare"
    assert [hit.dense_score for hit in hits] == [None] * 3


def test_a_query_of_no_vector_finds_nothing(index: Index) -> None:
    fill(index, a_chunk())
    assert index.search(IndexQuery()) == []
    assert index.search(IndexQuery(sparse=SparseVector(indices=[], values=[]))) == []


def test_a_query_without_terms_ranks_by_the_vector(index: Index) -> None:
    fill(index, a_chunk("far", dense=towards(0, 1)), a_chunk("near"))
    assert found(index, sparse=SparseVector(indices=[], values=[])) == ["near", "far"]


def weighed(index: Index, alpha: float) -> list[str]:
    chunks = [
        a_chunk("meaning", dense=towards(1), sparse=terms(other=1.0)),
        a_chunk("words", dense=towards(0.2, 1), sparse=terms(word=2.0)),
        a_chunk("neither", dense=towards(0, 1), sparse=terms(other=1.0)),
    ]
    fill(index, *chunks)
    return found(index, sparse=terms(word=1.0), alpha=alpha)


def test_weighted_fusion_follows_the_vectors_with_alpha_one(index: Index) -> None:
    assert weighed(index, 1.0) == ["meaning", "words", "neither"]


def test_weighted_fusion_follows_the_terms_with_alpha_zero(index: Index) -> None:
    assert weighed(index, 0.0)[0] == "words"


def test_weighted_fusion_adds_the_shares(index: Index) -> None:
    weighed(index, 0.5)
    hits = index.search(IndexQuery(dense=towards(1), sparse=terms(word=1.0), alpha=0.5))
    scores = {hit.text: hit.score for hit in hits}
    assert scores["meaning"] == pytest.approx(0.5)
    assert scores["words"] == pytest.approx(0.5 * (0.2 / 1.04**0.5) + 0.5)
    assert scores["neither"] == pytest.approx(0.0, abs=1e-6)


def test_a_second_best_match_of_terms_keeps_its_share(index: Index) -> None:
    fill(index, a_chunk("first", sparse=terms(word=2.0)), a_chunk("second", sparse=terms(word=1.8)), a_chunk("none"))
    hits = index.search(IndexQuery(dense=towards(1), sparse=terms(word=1.0), alpha=0.0))
    assert [round(hit.score, 3) for hit in hits] == [1.0, 0.9, 0.0]


def test_reciprocal_ranks_reward_agreement(index: Index) -> None:
    fill(
        index,
        a_chunk("both", dense=towards(1), sparse=terms(word=1.0)),
        a_chunk("dense", dense=towards(1, 0.1)),
        a_chunk("sparse", dense=towards(0, 0, 1), sparse=terms(word=2.0)),
    )
    hits = index.search(IndexQuery(dense=towards(1), sparse=terms(word=1.0), fusion=Fusion.RRF))
    assert [hit.text for hit in hits] == ["both", "sparse", "dense"]
    assert hits[0].score == pytest.approx(1 / 61 + 1 / 62)
    assert hits[1].score == pytest.approx(1 / 61 + 1 / 63)


def test_ties_are_broken_by_the_id_of_the_chunk(index: Index) -> None:
    same = [a_chunk(f"same {number}") for number in range(300)]
    fill(index, *same)
    ids = sorted(indexed.chunk.id for indexed in same)
    for query in (
        IndexQuery(dense=towards(1), limit=7),
        IndexQuery(sparse=terms(text=1.0), limit=7),
        IndexQuery(dense=towards(1), sparse=terms(text=1.0), limit=7),
    ):
        assert [hit.chunk_id for hit in index.search(query)] == ids[:7]


@pytest.mark.parametrize(("limit", "expected"), [(1, 1), (3, 3), (10_000, 3)])
def test_at_most_the_limit_comes_back(index: Index, limit: int, expected: int) -> None:
    fill(index, *[a_chunk(f"text {number}") for number in range(3)])
    assert len(found(index, limit=limit)) == expected
    assert len(found(index, limit=limit, sparse=terms(text=1.0))) == expected


def test_one_object_answers_many_threads(index: Index) -> None:
    fill(index, *[a_chunk(f"text {number}", dense=towards(1, number / 50)) for number in range(50)])
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: found(index, limit=5), range(100)))
    assert answers == [[f"text {number}" for number in range(5)]] * 100


# Filters


LIBRARY = [
    a_chunk("ann article", published_at=NOON),
    a_chunk("ann post", of="p", kind=Kind.POST, platform="example.net", published_at=NOON - timedelta(days=10)),
    a_chunk("ann undated", of="u", language="de"),
    a_chunk("bob article", author=BOB, published_at=NOON + timedelta(days=10), language="de"),
    a_chunk("bob note", of="n", author=BOB, kind=Kind.NOTE, language=None),
]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (Filters(), {"ann article", "ann post", "ann undated", "bob article", "bob note"}),
        (Filters(author_id=BOB.id), {"bob article", "bob note"}),
        (Filters(kind=Kind.POST), {"ann post"}),
        (Filters(platform="example.net"), {"ann post"}),
        (Filters(language="de"), {"ann undated", "bob article"}),
        (Filters(since=NOON), {"ann article", "bob article"}),
        (Filters(until=NOON), {"ann post"}),
        (Filters(since=NOON, until=NOON + timedelta(milliseconds=1)), {"ann article"}),
        (Filters(document_ids=(LIBRARY[0].chunk.document_id,)), {"ann article"}),
        (Filters(document_ids=()), set()),
        (Filters(author_id=ANN.id, language="de"), {"ann undated"}),
        (Filters(author_id=ANN.id, kind=Kind.NOTE), set()),
        (Filters(author_id=BOB.id, since=NOON, language="de", kind=Kind.ARTICLE), {"bob article"}),
        (Filters(platform="nowhere"), set()),
    ],
)
def test_filters_leave_exactly_what_they_say(index: Index, filters: Filters, expected: set[str]) -> None:
    fill(index, *LIBRARY)
    assert set(found(index, filters=filters)) == expected
    assert set(found(index, filters=filters, sparse=terms(text=1.0))) == expected
    assert set(found(index, filters=filters, dense=None, sparse=terms(text=1.0))) == expected


AUTHORS = st.sampled_from([ANN, BOB])
NUMBERS = st.floats(-1, 1, width=32).map(lambda number: round(number, 3))


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    owners=st.lists(AUTHORS, min_size=1, max_size=25),
    author=AUTHORS,
    direction=st.lists(NUMBERS, min_size=4, max_size=4),
    fusion=st.sampled_from(Fusion),
    limit=st.integers(1, 30),
)
def test_a_search_limited_to_an_author_never_returns_another(
    index: Index, owners: list, author: object, direction: list[float], fusion: Fusion, limit: int
) -> None:
    fill(index, *[a_chunk(f"text {number}", author=owner) for number, owner in enumerate(owners)], rebuild=True)
    filters = Filters(author_id=author.id)  # type: ignore[attr-defined]
    query = IndexQuery(dense=direction, sparse=terms(text=1.0), filters=filters, fusion=fusion, limit=limit)
    hits = index.search(query)
    assert {hit.author_id for hit in hits} <= {author.id}  # type: ignore[attr-defined]
    assert len(hits) == min(limit, owners.count(author))


# Both engines alike


def rounded(hits: list[Hit]) -> list[tuple[str, float]]:
    return [(hit.chunk_id, round(hit.score, 5)) for hit in hits]


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    vectors=st.lists(st.tuples(*[st.integers(-9, 9)] * 4).filter(any), min_size=1, max_size=40),
    query=st.tuples(*[st.integers(-9, 9)] * 4).filter(any),
    alpha=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    fusion=st.sampled_from(Fusion),
)
def test_a_server_gives_the_same_hits_as_the_embedded_engine(
    folder: Path,
    vectors: list[tuple[int, ...]],
    query: tuple[int, ...],
    alpha: float,
    fusion: Fusion,
) -> None:
    chunks = [
        a_chunk(f"{number}", dense=list(map(float, vector)), sparse=terms(**{"abc"[number % 3]: 1.0 + number % 5}))
        for number, vector in enumerate(vectors)
    ]
    wanted = IndexQuery(dense=list(map(float, query)), sparse=terms(a=1.0, b=1.0), alpha=alpha, fusion=fusion, limit=9)
    place = folder / uuid.uuid4().hex
    embedded = EdgeIndex(place / "index")
    with qdrant_server(place / "server") as server:
        over_http = QdrantServerIndex(server.url, None, "twin")
        fill(embedded, *chunks)
        fill(over_http, *chunks)
        assert rounded(over_http.search(wanted)) == rounded(embedded.search(wanted))
        over_http.close()
    embedded.close()
