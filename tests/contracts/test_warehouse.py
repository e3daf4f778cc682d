"""What every warehouse promises: SQLite for real, MongoDB over the wire, a real MongoDB server where one is named."""

import os
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pymongo import MongoClient

from llm_engineering.adapters.mongodb import MongoWarehouse
from llm_engineering.adapters.sqlite import SQLiteWarehouse
from llm_engineering.domain.answers import Feedback
from llm_engineering.domain.entities import (
    Author,
    Draft,
    Kind,
    Link,
    LinkOutcome,
    RecordOutcome,
    TextFormat,
    Tombstone,
    TombstoneReason,
    content_hash,
)
from llm_engineering.domain.errors import StoreUnavailable, UnknownAuthor, UnknownDocument
from llm_engineering.domain.ports import Warehouse
from llm_engineering.domain.samples import Decision, JournalEntry
from tests.doubles.mongo_wire import MongoWireServer

ANN = Author.named("Ann Lee", "annie")
BOB = Author.named("Bob Ray")
NOON = datetime(2025, 3, 1, 12, 0, 0, 123_000, tzinfo=UTC)

Opener = Callable[[], Warehouse]


SERVER = os.environ.get("TWIN_TEST_MONGO_URI")


@pytest.fixture(params=["sqlite", "mongodb-wire", *(["mongodb-server"] if SERVER else [])])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Opens the same warehouse again and again; everything opened is closed after the test."""
    opened: list[SQLiteWarehouse | MongoWarehouse] = []

    def opening(make: Callable[[], SQLiteWarehouse | MongoWarehouse]) -> Opener:
        def open_one() -> Warehouse:
            opened.append(make())
            return opened[-1]

        return open_one

    if request.param == "sqlite":
        yield opening(lambda: SQLiteWarehouse(tmp_path / "warehouse.sqlite"))
    elif request.param == "mongodb-wire":
        with MongoWireServer() as server:
            yield opening(lambda: MongoWarehouse(server.url, "twin"))
            for warehouse in opened:
                warehouse.close()
            return
    else:
        name = f"twin_test_{uuid.uuid4().hex[:12]}"
        try:
            yield opening(lambda: MongoWarehouse(SERVER, name))
        finally:
            with MongoClient(SERVER) as client:
                client.drop_database(name)
    for warehouse in opened:
        warehouse.close()


@pytest.fixture
def warehouse(opener: Opener) -> Warehouse:
    """An open warehouse that knows two authors."""
    opened = opener()
    opened.save_author(ANN)
    opened.save_author(BOB)
    return opened


def draft(name: str = "a", text: str = "Hello.", *, title: str = "A title", author: Author = ANN, **more) -> Draft:
    fields = {"kind": Kind.ARTICLE, "platform": "example.org", "url": f"https://example.org/{name}"} | more
    return Draft(author_id=author.id, title=title, text=text, **fields)


def link(name: str = "a", *, source: str = "https://example.org/feed", **more) -> Link:
    fields = {"author_id": ANN.id, "outcome": LinkOutcome.STORED, "fetched_at": NOON} | more
    return Link(source=source, url=f"https://example.org/{name}", **fields)


def judgement(request: str = "r-1", *names: str, **more) -> Feedback:
    fields = {"vote": "up", "query": "Why?", "answer": "Because [1].", "at": NOON} | more
    return Feedback(request_id=request, document_ids=tuple(draft(name).document_id for name in names), **fields)


def call(key: str = "k-1", *names: str, **more) -> JournalEntry:
    fields = {"purpose": "ask", "model": "m", "reply": "{}", "prompt_tokens": 7, "completion_tokens": 3, "at": NOON}
    cited = tuple(draft(name).document_id for name in names)
    return JournalEntry(key=key, document_ids=cited, **(fields | more))


def decision(sample: str = "s-1", *names: str, **more) -> Decision:
    fields = {"verdict": "keep", "at": NOON} | more
    return Decision(sample_id=sample, document_ids=tuple(draft(name).document_id for name in names), **fields)


def log(warehouse: Warehouse) -> list[tuple[str, int | None]]:
    return [(change.document_id, change.revision) for change in warehouse.changes(after=0, limit=1000)]


def test_a_real_mongodb_server_keeps_these_promises_too():
    if not SERVER:
        pytest.skip("no MongoDB server: set TWIN_TEST_MONGO_URI to a replica set, such as `poe up` starts")


# authors


def test_an_author_is_found_by_id_name_and_alias_however_they_are_written(warehouse):
    assert {warehouse.find_author(name) for name in (ANN.id, "ann  LEE", "Annie")} == {ANN}
    assert warehouse.find_author("Nobody") is None


def test_a_full_name_goes_before_another_authors_alias(warehouse):
    warehouse.save_author(Author.named("Zoe", "Bob Ray", "Anna"))
    assert warehouse.find_author("bob ray") == BOB


def test_saving_an_author_again_adds_only_aliases_that_are_new(warehouse):
    kept = warehouse.save_author(Author.named("ANN LEE", "ANNIE", "a.lee"))
    assert kept == ANN.model_copy(update={"aliases": ("annie", "a.lee")})
    assert warehouse.save_author(ANN) == kept
    assert warehouse.authors() == [kept, BOB]


# recording


def test_a_new_document_is_stored_exactly_as_it_came(warehouse):
    text = "# Héllo 𝒳\r\n\r\n\tindented  \u2028 x\u0000y \U0001f600\n\n"
    given = draft(
        text=text,
        title=" Títle ",
        kind=Kind.POST,
        format=TextFormat.CODE,
        language="en",
        published_at=datetime(1969, 7, 20, 20, 17, 40, 999_000, tzinfo=UTC),
        fetched_at=NOON,
        metadata={"tags.a": "x", "$b": "", "": "y"},
    )
    (recorded,) = warehouse.record([given])
    assert (recorded.document_id, recorded.revision, recorded.outcome) == (given.document_id, 1, RecordOutcome.STORED)
    state = warehouse.state([given.document_id])[given.document_id]
    assert state.live
    assert state.author == ANN
    place = given.model_dump(include={"author_id", "url", "kind", "platform"})
    assert state.document.model_dump() == {"id": given.document_id, **place}
    kept = given.model_dump(exclude={"author_id", "url", "kind", "platform", "date_guessed"})
    assert state.revision.model_dump() == {
        "document_id": given.document_id,
        "number": 1,
        "content_hash": content_hash(text),
        **kept,
    }


def test_a_text_with_lone_surrogates_survives(warehouse):
    given = draft(text="bad \ud800 name", title="\udc80", metadata={"path": "\udcff"})
    warehouse.record([given])
    kept = warehouse.revision(given.document_id, 1)
    assert (kept.text, kept.title, kept.metadata) == (given.text, given.title, given.metadata)
    assert warehouse.record([given])[0].outcome is RecordOutcome.UNCHANGED


def test_recording_the_same_again_leaves_no_trace(warehouse):
    warehouse.record([draft(text="same \n", fetched_at=NOON)])
    before = (list(warehouse.states()), log(warehouse), warehouse.status())
    assert warehouse.record([draft(text="same\r\n", metadata={"etag": "2"})])[0].outcome is RecordOutcome.UNCHANGED
    assert (list(warehouse.states()), log(warehouse), warehouse.status()) == before


@pytest.mark.parametrize("change", [{"text": "Hello!"}, {"title": "Another title"}])
def test_another_text_or_title_becomes_the_next_revision_and_the_old_one_stays(warehouse, change):
    identity = draft().document_id
    warehouse.record([draft()])
    (recorded,) = warehouse.record([draft(**change)])
    assert (recorded.outcome, recorded.revision) == (RecordOutcome.REVISED, 2)
    assert warehouse.revision(identity, 1).text == "Hello."
    assert warehouse.state([identity])[identity].revision == warehouse.revision(identity, 2)
    assert log(warehouse) == [(identity, 1), (identity, 2)]


STATED = {"language": "de", "published_at": NOON, "metadata": {"tags": "a, b", "path": "x.md"}}


@pytest.mark.parametrize(
    "change", [{"language": "en"}, {"published_at": NOON + timedelta(milliseconds=1)}, {"metadata": {"tags": "a"}}]
)
@pytest.mark.parametrize("before", [{}, STATED])
def test_another_language_date_or_tags_of_the_same_text_become_the_next_revision(opener, warehouse, before, change):
    identity = draft().document_id
    warehouse.record([draft(**before)])
    (recorded,) = opener().record([draft(**(before | change))])
    assert (recorded.outcome, recorded.revision) == (RecordOutcome.REVISED, 2)
    kept = warehouse.state([identity])[identity].revision
    assert {name: getattr(kept, name) for name in change} == change
    assert log(warehouse) == [(identity, 1), (identity, 2)]
    assert warehouse.record([draft(**(before | change))])[0].outcome is RecordOutcome.UNCHANGED


@pytest.mark.parametrize(
    "later",
    [
        {},
        STATED,
        {"published_at": NOON + timedelta(days=1), "date_guessed": True},
        {"metadata": {"path": "y.md", "etag": "2"}},
    ],
)
def test_what_a_draft_does_not_state_or_only_guesses_is_no_change(warehouse, later):
    warehouse.record([draft(**STATED)])
    before = (list(warehouse.states()), log(warehouse), warehouse.status())
    assert warehouse.record([draft(**later)])[0].outcome is RecordOutcome.UNCHANGED
    assert (list(warehouse.states()), log(warehouse), warehouse.status()) == before


def test_what_was_stated_of_a_text_stands_until_something_else_is(warehouse):
    identity = draft().document_id
    guess = {"published_at": NOON + timedelta(days=1), "date_guessed": True}
    warehouse.record([draft(**STATED), draft(language="en", **guess)])
    kept = warehouse.revision(identity, 2)
    assert (kept.language, kept.published_at, kept.metadata) == ("en", NOON, {"tags": "a, b"})
    assert warehouse.record([draft(**(STATED | {"language": None}))])[0].outcome is RecordOutcome.UNCHANGED


@pytest.mark.parametrize("change", [{"kind": Kind.POST}, {"platform": "medium"}])
def test_another_kind_or_platform_changes_the_document_and_is_logged_but_no_new_revision(opener, warehouse, change):
    identity = draft().document_id
    warehouse.record([draft()])
    (recorded,) = opener().record([draft(**change)])
    assert (recorded.outcome, recorded.revision) == (RecordOutcome.UPDATED, 1)
    document = warehouse.state([identity])[identity].document
    assert {name: getattr(document, name) for name in change} == change
    assert (log(warehouse), warehouse.status().revisions) == ([(identity, 1), (identity, 1)], 1)
    assert warehouse.record([draft(**change)])[0].outcome is RecordOutcome.UNCHANGED


def test_a_document_that_was_gone_comes_back_as_it_is_stated_now(warehouse):
    identity = draft().document_id
    warehouse.record([draft()])
    warehouse.bury([identity], reason=TombstoneReason.GONE)
    (recorded,) = warehouse.record([draft(kind=Kind.POST, language="en")])
    assert (recorded.outcome, recorded.revision) == (RecordOutcome.RESTORED, 2)
    state = warehouse.state([identity])[identity]
    assert (state.live, state.document.kind, state.revision.language) == (True, Kind.POST, "en")


def test_several_drafts_of_one_document_are_applied_in_order(warehouse):
    outcomes = [kept.outcome.value for kept in warehouse.record([draft(text=text) for text in ("1", "1", "2", "1")])]
    assert outcomes == ["stored", "unchanged", "revised", "revised"]
    assert warehouse.revision(draft().document_id, 3).text == "1"


def test_answers_come_in_the_order_given(warehouse):
    drafts = [draft(name) for name in "zebra"]
    assert [kept.document_id for kept in warehouse.record(drafts)] == [given.document_id for given in drafts]


def test_recording_nothing_does_nothing(warehouse):
    assert warehouse.record([]) == []
    assert warehouse.bury([], reason=TombstoneReason.GONE) == []
    assert warehouse.head() == 0


def test_an_unknown_author_is_refused_and_nothing_of_the_call_is_kept(warehouse):
    with pytest.raises(UnknownAuthor):
        warehouse.record([draft("a"), draft("b", author=Author.named("Stranger"))])
    assert list(warehouse.states()) == []
    assert warehouse.head() == 0


def test_two_authors_may_have_written_at_one_address(warehouse):
    warehouse.record([draft(), draft(author=BOB)])
    found = warehouse.find_documents("https://example.org/a")
    assert {document.author_id for document in found} == {ANN.id, BOB.id}
    assert warehouse.find_documents(found[0].id) == [found[0]]
    assert warehouse.find_documents("https://example.org/other") == []


# tombstones


def test_a_buried_document_keeps_its_last_revision_and_is_no_longer_live(warehouse):
    warehouse.record([draft()])
    identity = draft().document_id
    buried = warehouse.bury([identity], reason=TombstoneReason.GONE, detail="410", at=NOON)
    assert buried == [Tombstone(document_id=identity, reason=TombstoneReason.GONE, at=NOON, detail="410")]
    state = warehouse.state([identity])[identity]
    assert (state.live, state.tombstone, state.revision.text) == (False, buried[0], "Hello.")
    assert log(warehouse) == [(identity, 1), (identity, None)]


def test_burying_again_or_the_unknown_changes_nothing(warehouse):
    warehouse.record([draft()])
    identity = draft().document_id
    assert len(warehouse.bury([identity, identity, "unknown"], reason=TombstoneReason.GONE)) == 1
    assert warehouse.bury([identity], reason=TombstoneReason.MOVED) == []
    assert warehouse.head() == 2


@pytest.mark.parametrize("reason", [TombstoneReason.GONE, TombstoneReason.MOVED])
@pytest.mark.parametrize(("text", "number"), [("Hello.", 1), ("Hello again.", 2)])
def test_a_document_that_was_gone_comes_back(warehouse, reason, text, number):
    identity = draft().document_id
    warehouse.record([draft()])
    warehouse.bury([identity], reason=reason)
    (recorded,) = warehouse.record([draft(text=text)])
    assert (recorded.outcome, recorded.revision) == (RecordOutcome.RESTORED, number)
    assert warehouse.state([identity])[identity].live
    assert log(warehouse)[-1] == (identity, number)


def test_a_withdrawn_document_never_comes_back(warehouse):
    identity = draft().document_id
    warehouse.record([draft()])
    warehouse.bury([identity], reason=TombstoneReason.WITHDRAWN)
    (recorded,) = warehouse.record([draft(text="Hello again.")])
    assert (recorded.outcome, recorded.revision) == (RecordOutcome.WITHDRAWN, None)
    assert warehouse.state([identity])[identity].revision is None
    assert warehouse.head() == 2


def test_withdrawing_erases_every_revision_and_the_details_of_its_links(warehouse):
    identity = draft().document_id
    warehouse.record([draft(text="first"), draft(text="second"), draft("b")])
    warehouse.save_links([link(document_id=identity, detail="second", etag='"s"'), link("b", detail="kept")])
    warehouse.bury([identity], reason=TombstoneReason.WITHDRAWN)
    assert [warehouse.revision(identity, number) for number in (1, 2)] == [None, None]
    assert [(kept.detail, kept.etag) for kept in warehouse.links(author_id=ANN.id)] == [("", None), ("kept", None)]
    assert warehouse.revision(draft("b").document_id, 1).text == "Hello."


def test_withdrawing_replaces_any_other_reason_once(warehouse):
    identity = draft().document_id
    warehouse.record([draft()])
    warehouse.bury([identity], reason=TombstoneReason.GONE)
    assert len(warehouse.bury([identity], reason=TombstoneReason.WITHDRAWN, detail="asked")) == 1
    assert warehouse.bury([identity], reason=TombstoneReason.WITHDRAWN) == []
    assert warehouse.bury([identity], reason=TombstoneReason.GONE) == []
    assert warehouse.state([identity])[identity].tombstone.detail == "asked"
    assert log(warehouse) == [(identity, 1), (identity, None), (identity, None)]


# reading


def test_states_stream_in_order_of_id_over_many_pages(warehouse):
    drafts = [draft(str(number), author=BOB if number % 3 else ANN) for number in range(150)]
    warehouse.record(drafts)
    warehouse.bury([drafts[0].document_id], reason=TombstoneReason.GONE)
    ids = sorted(given.document_id for given in drafts)
    assert [state.document.id for state in warehouse.states(include_deleted=True)] == ids
    assert [state.document.id for state in warehouse.states()] == [i for i in ids if i != drafts[0].document_id]
    assert sum(1 for _ in warehouse.states(author_id=ANN.id)) == 49


def test_a_walk_over_the_states_may_write_and_be_left_half_way(warehouse):
    warehouse.record([draft(str(number)) for number in range(70)])
    for state in warehouse.states():
        warehouse.bury([state.document.id], reason=TombstoneReason.GONE)
        break
    assert warehouse.status().tombstones == {"gone": 1}


def test_unknown_ids_are_absent(warehouse):
    warehouse.record([draft()])
    assert list(warehouse.state([draft().document_id, "unknown", ""])) == [draft().document_id]
    assert warehouse.revision(draft().document_id, 2) is None
    assert warehouse.revision("unknown", 1) is None


def test_the_log_is_read_in_pages(warehouse):
    warehouse.record([draft(str(number)) for number in range(5)])
    first = warehouse.changes(after=0, limit=3)
    rest = warehouse.changes(after=first[-1].sequence, limit=3)
    sequences = [change.sequence for change in first + rest]
    assert (len(first), len(rest)) == (3, 2)
    assert sequences == sorted(set(sequences))
    assert sequences[-1] == warehouse.head()
    assert warehouse.changes(after=warehouse.head(), limit=3) == []
    assert warehouse.changes(after=0, limit=0) == []


def test_everything_is_there_for_the_next_opener(opener, warehouse):
    warehouse.record([draft()])
    warehouse.set_watermark("index", 1)
    again = opener()
    assert list(again.states()) == list(warehouse.states())
    assert again.status() == warehouse.status()


def test_a_closed_warehouse_says_so(opener):
    warehouse = opener()
    warehouse.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        warehouse.head()
    with pytest.raises(StoreUnavailable, match="closed"):
        warehouse.save_author(ANN)


# watermarks, links, status


def test_watermarks_are_kept_by_consumer(warehouse):
    warehouse.set_watermark("index-1", 4)
    warehouse.set_watermark("index-2", 9)
    warehouse.set_watermark("index-1", 5)
    warehouse.drop_watermark("index-2")
    warehouse.drop_watermark("unknown")
    assert (warehouse.watermark("index-1"), warehouse.watermark("index-2")) == (5, None)


def test_links_are_replaced_by_author_source_and_url(warehouse):
    other = link("b", source="https://example.org/sitemap.xml", author_id=ANN.id)
    full = link("a", document_id="d", detail="x\u0000", status=200, etag='W/"1"', last_modified="Sat", misses=2)
    warehouse.save_links([link("b"), link("a"), other, link("a", author_id=BOB.id)])
    warehouse.save_links([full])
    assert warehouse.links(author_id=ANN.id, source=full.source) == [full, link("b")]
    assert len(warehouse.links(author_id=ANN.id)) == 3
    assert warehouse.links(author_id=ANN.id, source="https://example.org/other") == []


def test_links_of_an_unknown_author_are_refused(warehouse):
    with pytest.raises(UnknownAuthor):
        warehouse.save_links([link("a"), link("b", author_id=Author.named("Stranger").id)])
    assert warehouse.links(author_id=ANN.id) == []


def test_status_counts_what_is_there(warehouse):
    warehouse.record([draft("a"), draft("b", kind=Kind.NOTE), draft("c"), draft("d"), draft("a", text="new")])
    warehouse.bury([draft("c").document_id], reason=TombstoneReason.GONE)
    warehouse.bury([draft("d").document_id], reason=TombstoneReason.WITHDRAWN)
    warehouse.save_links([link("a"), link("b", outcome=LinkOutcome.FAILED)])
    warehouse.set_watermark("index", 3)
    status = warehouse.status()
    assert status.address
    assert (status.authors, status.revisions, status.head, status.watermarks) == (2, 4, 7, {"index": 3})
    assert status.documents == {"article": 1, "note": 1}
    assert status.tombstones == {"gone": 1, "withdrawn": 1}
    assert status.links == {"failed": 1, "stored": 1}


# feedback


def test_feedback_is_kept_as_it_came_by_request_id_over_many_pages(warehouse):
    warehouse.record([draft("a")])
    given = [judgement(f"r-{number:03}", "a", better_answer="\ud800 better") for number in reversed(range(150))]
    for feedback in given:
        warehouse.save_feedback(feedback)
    assert list(warehouse.feedback()) == given[::-1]


def test_a_later_judgement_of_the_same_request_takes_the_place_of_the_first(warehouse):
    warehouse.save_feedback(judgement(vote="up"))
    warehouse.save_feedback(judgement(vote="down", better_answer="No."))
    assert [(kept.vote, kept.better_answer) for kept in warehouse.feedback()] == [("down", "No.")]


def test_withdrawing_a_document_erases_every_feedback_on_an_answer_that_cited_it(warehouse):
    warehouse.record([draft("a"), draft("b")])
    for feedback in (judgement("r-1", "b", "a"), judgement("r-2", "b"), judgement("r-3")):
        warehouse.save_feedback(feedback)
    warehouse.bury([draft("a").document_id], reason=TombstoneReason.WITHDRAWN)
    assert [kept.request_id for kept in warehouse.feedback()] == ["r-2", "r-3"]


def test_feedback_on_what_is_withdrawn_or_unknown_is_refused_and_not_kept(warehouse):
    warehouse.record([draft("a"), draft("b")])
    warehouse.bury([draft("a").document_id], reason=TombstoneReason.WITHDRAWN)
    for cited in ("a", "unknown"):
        with pytest.raises(UnknownDocument):
            warehouse.save_feedback(judgement("r-1", "b", cited))
    assert list(warehouse.feedback()) == []


def test_a_restore_brings_no_feedback_on_what_was_withdrawn_here_and_keeps_the_one_made_here(warehouse):
    warehouse.record([draft("a"), draft("b")])
    warehouse.bury([draft("a").document_id], reason=TombstoneReason.WITHDRAWN)
    warehouse.save_feedback(judgement("r-1", "b", vote="down"))
    report = warehouse.restore([judgement("r-1", "b"), judgement("r-2", "b", "a"), judgement("r-3", "b")])
    assert (report.written, report.present, len(report.refused)) == (1, 1, 1)
    assert [(kept.request_id, kept.vote) for kept in warehouse.feedback()] == [("r-1", "down"), ("r-3", "up")]


def test_a_restored_withdrawal_erases_feedback_of_the_same_restore(warehouse):
    warehouse.record([draft("a")])
    withdrawal = Tombstone(document_id=draft("a").document_id, reason=TombstoneReason.WITHDRAWN, at=NOON)
    warehouse.restore([judgement("r-1", "a"), withdrawal])
    assert list(warehouse.feedback()) == []


# journal of model calls, and review decisions


def test_the_journal_is_kept_as_it_came_and_found_by_key_over_many_pages(warehouse):
    warehouse.record([draft("a")])
    given = [call(f"k-{number:03}", "a", reply="\ud800 {}", error="\x00") for number in range(150)]
    assert warehouse.save_journal(given[::-1]) == set()
    assert list(warehouse.journal_entries()) == given
    assert warehouse.journal(["k-003", "k-149", "unknown"]) == {"k-003": given[3], "k-149": given[149]}


def test_of_one_request_the_first_reply_stands(warehouse):
    warehouse.save_journal([call(reply="first"), call(reply="second")])
    warehouse.save_journal([call(reply="third"), call("k-2")])
    assert {key: kept.reply for key, kept in warehouse.journal(["k-1", "k-2"]).items()} == {"k-1": "first", "k-2": "{}"}


def test_decisions_are_kept_as_they_came_and_a_later_one_takes_the_place_of_the_first(warehouse):
    warehouse.record([draft("a")])
    given = [decision(f"s-{number:03}", "a", verdict="edit", instruction="\ud800") for number in range(70)]
    for made in (*given, refused := decision("s-005", "a", verdict="refuse")):
        warehouse.save_decision(made)
    assert list(warehouse.decisions()) == [*given[:5], refused, *given[6:]]


def test_withdrawing_a_document_erases_the_calls_and_decisions_that_hold_it(warehouse):
    warehouse.record([draft("a"), draft("b")])
    warehouse.save_journal([call("k-1", "b", "a"), call("k-2", "b"), call("k-3")])
    for made in (decision("s-1", "b", "a"), decision("s-2", "b"), decision("s-3")):
        warehouse.save_decision(made)
    warehouse.bury([draft("a").document_id], reason=TombstoneReason.WITHDRAWN)
    assert [kept.key for kept in warehouse.journal_entries()] == ["k-2", "k-3"]
    assert [kept.sample_id for kept in warehouse.decisions()] == ["s-2", "s-3"]


def test_a_call_on_what_is_withdrawn_or_unknown_is_named_and_not_kept_and_its_neighbours_are(warehouse):
    warehouse.record([draft("a"), draft("b")])
    warehouse.bury([draft("a").document_id], reason=TombstoneReason.WITHDRAWN)
    given = [call("k-1", "a"), call("k-2", "b"), call("k-3", "b", "unknown")]
    assert warehouse.save_journal(given) == {"k-1", "k-3"}
    assert list(warehouse.journal_entries()) == [given[1]]


def test_a_decision_on_what_is_withdrawn_or_unknown_is_refused_and_not_kept(warehouse):
    warehouse.record([draft("a")])
    warehouse.bury([draft("a").document_id], reason=TombstoneReason.WITHDRAWN)
    for name in ("a", "unknown"):
        with pytest.raises(UnknownDocument):
            warehouse.save_decision(decision("s-1", name))
    assert list(warehouse.decisions()) == []


def test_a_restore_brings_no_call_or_decision_on_what_was_withdrawn_here_and_keeps_those_made_here(warehouse):
    warehouse.record([draft("a"), draft("b")])
    warehouse.bury([draft("a").document_id], reason=TombstoneReason.WITHDRAWN)
    warehouse.save_journal([call("k-1", "b", reply="here")])
    warehouse.save_decision(decision("s-1", "b", verdict="refuse"))
    calls, decisions = [call("k-1", "b"), call("k-2", "a")], [decision("s-1", "b"), decision("s-2", "a")]
    report = warehouse.restore([*calls, *decisions, call("k-3", "b"), decision("s-3", "b")])
    assert (report.written, report.present, len(report.refused)) == (2, 2, 2)
    assert [(kept.key, kept.reply) for kept in warehouse.journal_entries()] == [("k-1", "here"), ("k-3", "{}")]
    assert [(kept.sample_id, kept.verdict) for kept in warehouse.decisions()] == [("s-1", "refuse"), ("s-3", "keep")]


def test_a_restored_withdrawal_erases_calls_and_decisions_of_the_same_restore(warehouse):
    warehouse.record([draft("a")])
    withdrawal = Tombstone(document_id=draft("a").document_id, reason=TombstoneReason.WITHDRAWN, at=NOON)
    warehouse.restore([call("k-1", "a"), decision("s-1", "a"), withdrawal])
    assert (list(warehouse.journal_entries()), list(warehouse.decisions())) == ([], [])


# restoring


def exported(source: Warehouse) -> list:
    """Everything in a small warehouse, in the order of an export."""
    states = list(source.states(include_deleted=True))
    numbers = [(state.document.id, number) for state in states for number in (1, 2)]
    revisions = [revision for revision in (source.revision(*key) for key in numbers) if revision]
    tombstones = [state.tombstone for state in states if state.tombstone]
    texts = [*(state.document for state in states), *revisions, *tombstones]
    return [*source.authors(), *texts, *source.links(author_id=ANN.id), *source.feedback()]


@pytest.fixture
def entries(tmp_path: Path) -> list:
    source = SQLiteWarehouse(tmp_path / "source.sqlite")
    source.save_author(ANN)
    source.record([draft("a"), draft("b"), draft("a", text="second"), draft("c"), draft("d")])
    source.bury([draft("b").document_id], reason=TombstoneReason.GONE, at=NOON)
    source.bury([draft("c").document_id], reason=TombstoneReason.WITHDRAWN, at=NOON)
    source.save_links([link("a"), link("b")])
    source.save_feedback(judgement("r-1", "b"))
    found = exported(source)
    source.close()
    return found


def test_a_restore_writes_entries_exactly_as_they_were(opener, entries):
    warehouse = opener()
    report = warehouse.restore(entries)
    assert (report.written, report.present, report.refused) == (len(entries), 0, ())
    assert exported(warehouse) == entries
    assert log(warehouse)[-2:] == [(entry.document_id, None) for entry in entries if isinstance(entry, Tombstone)]


def test_restoring_twice_changes_nothing(opener, entries):
    warehouse = opener()
    warehouse.restore(entries)
    before = (exported(warehouse), warehouse.status())
    report = warehouse.restore(entries)
    assert (report.written, report.present, report.refused) == (0, len(entries), ())
    assert (exported(warehouse), warehouse.status()) == before


def test_a_restore_refuses_a_number_that_another_text_has_and_reads_on(warehouse, entries):
    warehouse.record([draft("a", text="crawled here")])
    report = warehouse.restore(entries)
    assert len(report.refused) == 1
    assert "taken by another text" in report.refused[0]
    assert warehouse.revision(draft("a").document_id, 1).text == "crawled here"
    assert warehouse.state([draft("a").document_id])[draft("a").document_id].revision.text == "second"


def test_a_restore_never_brings_back_what_was_withdrawn_here(warehouse, entries):
    identity = draft("a").document_id
    warehouse.record([draft("a")])
    warehouse.bury([identity], reason=TombstoneReason.WITHDRAWN)
    report = warehouse.restore(entries)
    assert [("withdrawn" in line, identity in line) for line in report.refused] == [(True, True)] * 2
    assert warehouse.revision(identity, 2) is None


def test_a_restore_refuses_what_hangs_in_the_air(opener, entries):
    warehouse = opener()
    report = warehouse.restore([entry for entry in entries if not isinstance(entry, Author)])
    assert len(report.refused) == len(entries) - 1
    assert report.written == 0


def test_an_older_revision_restored_late_is_history_only(warehouse, entries):
    first, second = [entry for entry in entries if getattr(entry, "document_id", "") == draft("a").document_id][:2]
    document = next(entry for entry in entries if getattr(entry, "id", "") == draft("a").document_id)
    warehouse.restore([document, second])
    warehouse.restore([first])
    assert warehouse.revision(first.document_id, 1) == first
    assert log(warehouse) == [(first.document_id, 2)]


def test_a_newer_revision_lifts_a_tombstone(warehouse, entries):
    identity = draft("a").document_id
    warehouse.record([draft("a")])
    warehouse.bury([identity], reason=TombstoneReason.GONE)
    warehouse.restore(entries)
    assert warehouse.state([identity])[identity].live


def test_a_restored_withdrawal_erases(warehouse):
    identity = draft().document_id
    warehouse.record([draft()])
    warehouse.restore([Tombstone(document_id=identity, reason=TombstoneReason.WITHDRAWN, at=NOON)])
    assert warehouse.revision(identity, 1) is None


def test_a_restored_link_of_a_withdrawn_document_comes_without_details(warehouse):
    identity = draft().document_id
    warehouse.record([draft()])
    warehouse.bury([identity], reason=TombstoneReason.WITHDRAWN)
    warehouse.restore([link(document_id=identity, detail="Hello.", etag='"1"', last_modified="Sat")])
    assert warehouse.links(author_id=ANN.id) == [link(document_id=identity)]


def test_a_restore_of_many_entries_reads_them_batch_by_batch(warehouse):
    taken = []

    def stream():
        for number in range(450):
            taken.append(number)
            if number == 449:
                assert warehouse.status().links == {"stored": 400}  # what came before is on the disk already
            yield link(str(number))

    assert warehouse.restore(stream()).written == 450


# several at once


def run_together(*jobs: Callable[[], object]) -> None:
    with ThreadPoolExecutor(len(jobs)) as pool:
        for running in [pool.submit(job) for job in jobs]:
            running.result()


def test_threads_that_write_and_read_at_once_see_a_log_without_gaps_or_late_entries(opener, warehouse):
    other = opener()
    done = threading.Event()
    read: list[int] = []

    def write(through: Warehouse, name: str) -> None:
        for number in range(12):
            through.record([draft(f"{name}{number}"), draft("shared", text=f"{name} {number}")])

    def follow() -> None:
        while True:
            last_look = done.is_set()
            read.extend(change.sequence for change in warehouse.changes(after=read[-1] if read else 0, limit=5))
            if last_look and read[-1] == warehouse.head():
                return

    def write_all() -> None:
        run_together(*(lambda t=t, n=n: write(t, n) for t, n in ((warehouse, "x"), (warehouse, "y"), (other, "z"))))
        done.set()

    run_together(write_all, follow)
    assert read == list(range(1, 12 * 3 * 2 + 1))
    shared = draft("shared").document_id
    assert [number for document, number in log(warehouse) if document == shared] == list(range(1, 37))


def test_threads_that_save_one_author_keep_every_alias(opener, warehouse):
    run_together(*(lambda n=n: opener().save_author(Author.named("Ann Lee", f"alias {n}")) for n in range(4)))
    assert set(warehouse.find_author("Ann Lee").aliases) == {"annie", *(f"alias {n}" for n in range(4))}


def test_datetimes_come_back_in_whole_milliseconds_and_utc(warehouse):
    east = datetime(2025, 3, 1, 14, 0, 0, 123_456).astimezone()
    warehouse.record([draft(published_at=east, fetched_at=east)])
    kept = warehouse.revision(draft().document_id, 1)
    assert kept.published_at == kept.fetched_at == east - timedelta(microseconds=456)
    assert kept.published_at.utcoffset() == timedelta(0)
