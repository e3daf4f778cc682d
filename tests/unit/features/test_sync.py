"""The index follows the warehouse, with the embedded engines for real."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_engineering.adapters.qdrant_edge import EdgeIndex
from llm_engineering.adapters.sqlite import SQLiteWarehouse
from llm_engineering.domain.config import EmbeddingConfig, IndexRecipe, SparseConfig, SyncConfig
from llm_engineering.domain.entities import (
    Author,
    Chunk,
    DocumentState,
    Draft,
    Filters,
    IndexQuery,
    Kind,
    TombstoneReason,
    chunk_id,
    document_id,
)
from llm_engineering.domain.errors import IndexMismatch
from llm_engineering.features.sync import SyncReport, sync
from tests.doubles.encoders import WordEmbedder, WordSparseEncoder

ADA = Author.named("Ada Winter")


def paragraphs(state: DocumentState) -> list[Chunk]:
    """One chunk per line: the simplest chunker that keeps the promises."""
    revision = state.revision
    assert revision is not None
    chunks, start = [], 0
    for line in revision.text.splitlines(keepends=True):
        end = start + len(line)
        chunks.append(
            Chunk(
                id=chunk_id(revision.document_id, start, end, line),
                document_id=revision.document_id,
                revision=revision.number,
                start=start,
                end=end,
                text=line,
                window_start=0,
                window_end=len(revision.text),
                embedded=line.strip(),
            )
        )
        start = end
    return chunks


class Twin:
    """A warehouse, an index and a counting embedder in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.warehouse = SQLiteWarehouse(folder / "warehouse.sqlite")
        self.warehouse.save_author(ADA)
        self.index = EdgeIndex(folder / "index")
        self.embedder = WordEmbedder()
        self.told: list[tuple[int, int]] = []

    def write(self, name: str, text: str) -> None:
        self.warehouse.record([draft(name, text)])

    def bury(self, name: str, reason: TombstoneReason = TombstoneReason.GONE) -> None:
        self.warehouse.bury([document_id(ADA.id, url(name))], reason=reason)

    def sync(self, *, rebuild: bool = False, chunker: str = "lines", batch: int = 4) -> SyncReport:
        recipe = IndexRecipe(
            model="words",
            embedder=self.embedder.fingerprint,
            dimensions=self.embedder.dimensions,
            embedding=EmbeddingConfig(),
            sparse=SparseConfig(),
            sparse_encoder="words",
            chunker=chunker,
        )
        return sync(
            self.warehouse,
            self.index,
            recipe=recipe,
            chunker=paragraphs,
            embedder=self.embedder,
            sparse=WordSparseEncoder(),
            config=SyncConfig(batch_documents=batch, batch_chunks=3),
            language_of=lambda text: "fr" if text.startswith("Bonjour") else None,
            rebuild=rebuild,
            progress=lambda done, total: self.told.append((done, total)),
        )

    def indexed(self) -> set[tuple[str, int, str]]:
        return {(item.chunk.id, item.chunk.revision, item.chunk.text) for item in self.index.chunks()}

    def expected(self) -> set[tuple[str, int, str]]:
        return {
            (chunk.id, chunk.revision, chunk.text)
            for state in self.warehouse.states()
            if state.live
            for chunk in paragraphs(state)
        }

    def close(self) -> None:
        self.index.close()
        self.warehouse.close()


def url(name: str) -> str:
    return f"https://ada.example/{name}"


def draft(name: str, text: str, **stated: Any) -> Draft:
    fields = {"kind": Kind.ARTICLE, "platform": "ada.example", "title": name} | stated
    return Draft(author_id=ADA.id, url=url(name), text=text, **fields)


@pytest.fixture
def twin(tmp_path: Path) -> Iterator[Twin]:
    twin = Twin(tmp_path)
    yield twin
    twin.close()


def test_the_index_equals_the_warehouse_after_a_sync(twin: Twin):
    for number in range(10):
        twin.write(f"post-{number}", f"first line of {number}\nsecond line of {number}\n")
    report = twin.sync()
    assert twin.indexed() == twin.expected()
    assert (report.documents, report.chunks, report.embedded) == (10, 20, 20)


def test_progress_begins_at_once_moves_within_a_batch_of_long_documents_and_reaches_the_end(twin: Twin):
    for name in ("one", "two", "three"):
        twin.write(name, "".join(f"line {number} of {name}\n" for number in range(6)))
    twin.sync()
    done = [done for done, _ in twin.told]
    assert (done[0], done[-1]) == (0, 3) and {1, 2} < set(done) and done == sorted(done)


def test_a_second_sync_does_nothing_at_all(twin: Twin):
    twin.write("post", "one\ntwo\n")
    twin.sync()
    again = twin.sync()
    assert again == SyncReport(watermark=again.watermark)
    assert len(twin.embedder.embedded) == 2


def test_an_edit_embeds_only_what_is_new_and_retires_what_is_stale(twin: Twin):
    twin.write("post", "kept line\nold line\n")
    twin.sync()
    twin.write("post", "kept line\nnew line\n")
    report = twin.sync()
    assert twin.indexed() == twin.expected()
    assert (report.embedded, report.reused, report.retired) == (1, 1, 1)


@pytest.mark.parametrize(
    "edit",
    [{"published_at": datetime(2024, 5, 5, tzinfo=UTC)}, {"language": "en"}, {"kind": Kind.NOTE}, {"platform": "x"}],
)
def test_an_edit_of_particulars_is_found_by_filters_and_embeds_nothing(twin: Twin, edit: dict[str, Any]):
    before = {"published_at": datetime(2020, 1, 1, tzinfo=UTC), "language": "de"}
    twin.warehouse.record([draft("post", "one\ntwo\n", **before), draft("other", "three\n", **before)])
    twin.sync()
    ids = {item.chunk.id for item in twin.index.chunks()}
    for published in (edit, before | {"kind": Kind.ARTICLE, "platform": "ada.example"}, edit):  # on both replicas
        twin.warehouse.record([draft("post", "one\ntwo\n", **(before | published))])
        report = twin.sync()
        assert (report.documents, report.embedded, report.reused, report.retired) == (1, 0, 2, 0)
    assert {item.chunk.id for item in twin.index.chunks()} == ids and twin.indexed() == twin.expected()
    [(name, value)] = edit.items()
    limits = Filters(since=value) if name == "published_at" else Filters(**edit)
    hits = twin.index.search(IndexQuery(dense=twin.embedder.embed_query("one"), filters=limits))
    assert {(hit.text, getattr(hit, name)) for hit in hits} == {("one\n", value), ("two\n", value)}


def test_an_edit_then_an_edit_keep_both_sides_level(twin: Twin):
    for text in ("a\nb\n", "a\nc\n", "a\nd\n", "e\nd\n"):
        twin.write("post", text)
        twin.sync()
        assert twin.indexed() == twin.expected()
    assert sorted(twin.embedder.embedded) == ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize("reason", list(TombstoneReason))
def test_a_tombstone_removes_every_chunk(twin: Twin, reason: TombstoneReason):
    twin.write("kept", "stays\n")
    twin.write("post", "goes\n")
    twin.sync()
    twin.bury("post", reason)
    report = twin.sync()
    assert {text for _, _, text in twin.indexed()} == {"stays\n"}
    assert (report.removed, report.retired, report.embedded) == (1, 1, 0)


def test_a_document_that_only_readers_have_counts_as_removed_once(twin: Twin):
    twin.write("kept", "stays\n")
    twin.sync()
    twin.write("passing", "comes and goes\n")
    twin.sync()
    twin.bury("passing")
    assert twin.sync(batch=1).removed == 1
    twin.write("kept", "stays, edited\n")
    assert twin.sync().removed == 0
    assert twin.indexed() == twin.expected()


def test_text_that_moves_to_another_document_is_not_embedded_again(twin: Twin):
    twin.write("old-home", "the same words\n")
    twin.sync()
    twin.write("new-home", "the same words\n")
    twin.bury("old-home", TombstoneReason.MOVED)
    assert twin.sync().embedded == 0


def test_another_chunker_is_refused_and_a_rebuild_reuses_every_vector(twin: Twin):
    twin.write("post", "one\ntwo\n")
    twin.sync()
    with pytest.raises(IndexMismatch, match="--rebuild"):
        twin.sync(chunker="other")
    report = twin.sync(chunker="other", rebuild=True)
    assert (report.embedded, report.reused, report.rebuilt) == (0, 2, True)
    assert twin.indexed() == twin.expected()


def test_an_index_of_another_warehouse_is_made_to_equal_this_one(twin: Twin, tmp_path: Path):
    twin.write("post", "from the first warehouse\n")
    twin.sync()
    twin.warehouse.close()
    twin.warehouse = SQLiteWarehouse(tmp_path / "other.sqlite")
    twin.warehouse.save_author(ADA)
    twin.write("another", "from the second warehouse\n")
    report = twin.sync()
    assert twin.indexed() == twin.expected()
    assert report.removed == 1


def test_a_warehouse_restored_from_an_older_backup_is_followed(twin: Twin, tmp_path: Path):
    twin.write("early", "early\n")
    twin.sync()
    twin.warehouse.close()
    backup = (tmp_path / "warehouse.sqlite").read_bytes()
    twin.warehouse = SQLiteWarehouse(tmp_path / "warehouse.sqlite")
    twin.write("late", "late\n")
    twin.sync()
    twin.warehouse.close()
    (tmp_path / "warehouse.sqlite").write_bytes(backup)
    twin.warehouse = SQLiteWarehouse(tmp_path / "warehouse.sqlite")
    twin.sync()
    assert twin.indexed() == twin.expected()


def test_a_document_that_came_and_went_between_two_syncs_leaves_nothing(twin: Twin):
    twin.write("kept", "stays\n")
    twin.sync()
    twin.write("brief", "here and gone\n")
    twin.bury("brief")
    report = twin.sync()
    assert twin.indexed() == twin.expected()
    assert (report.embedded, report.removed) == (0, 0)


def test_a_text_that_no_encoding_can_hold_costs_no_neighbour(twin: Twin):
    twin.write("broken", "half a \ud83d face\n")
    twin.write("whole", "sound\n")
    twin.sync()
    assert {text for _, _, text in twin.indexed()} == {"half a ? face\n", "sound\n"}


def test_a_rebuild_does_not_need_the_damaged_index_it_replaces(twin: Twin):
    twin.write("post", "one\n")
    twin.sync()
    twin.index.close()
    for damaged in (twin.folder / "index").rglob("*.json"):
        damaged.write_text("{")
    twin.index = EdgeIndex(twin.folder / "index")
    twin.sync(rebuild=True)
    assert twin.indexed() == twin.expected()


def test_an_empty_warehouse_makes_an_empty_index(twin: Twin):
    assert twin.sync().chunks == 0
    assert twin.indexed() == set()


@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("write"), st.integers(0, 4), st.lists(st.sampled_from("abcdef"), max_size=4)),
            st.tuples(st.just("bury"), st.integers(0, 4), st.sampled_from(list(TombstoneReason))),
            st.tuples(st.just("sync"), st.integers(1, 3), st.none()),
        ),
        max_size=14,
    )
)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_after_any_history_the_index_equals_the_warehouse(tmp_path_factory: pytest.TempPathFactory, steps):
    twin = Twin(tmp_path_factory.mktemp("history"))
    try:
        for action, number, detail in [*steps, ("sync", 2, None)]:
            if action == "write":
                twin.write(f"post-{number}", "".join(f"{letter}\n" for letter in detail))
            elif action == "bury":
                twin.bury(f"post-{number}", detail)
            else:
                twin.sync(batch=number)
                assert twin.indexed() == twin.expected()
    finally:
        twin.close()


def test_a_text_whose_source_states_no_language_is_indexed_in_the_one_it_is_written_in(twin: Twin):
    twin.write("one", "Bonjour tout le monde")
    twin.write("two", "Grüezi mitenand")
    twin.warehouse.record([draft("three", "Bonjour und hallo").model_copy(update={"language": "de"})])
    twin.sync()
    assert {item.title: item.language for item in twin.index.chunks()} == {"one": "fr", "two": None, "three": "de"}
