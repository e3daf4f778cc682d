"""Exports lose nothing, imports repeat harmlessly, and what cannot be taken is said line by line."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from llm_engineering.adapters.mongodb import MongoWarehouse
from llm_engineering.adapters.sqlite import SQLiteWarehouse
from llm_engineering.crawl.transfer import export_lines, import_from, import_handbook, import_lines
from llm_engineering.domain.answers import Feedback
from llm_engineering.domain.entities import (
    Author,
    Draft,
    Kind,
    Link,
    LinkOutcome,
    RecordOutcome,
    TextFormat,
    TombstoneReason,
    author_id,
    document_id,
)
from llm_engineering.domain.errors import UsageError
from llm_engineering.domain.samples import Decision, JournalEntry
from tests.doubles.mongo_wire import MongoWireServer

ANN = Author.named("Ann Lee", "annie")
NOON = datetime(2025, 3, 1, 12, 0, 0, 5_000, tzinfo=UTC)


def draft(name: str, text: str, **more) -> Draft:
    fields = {"kind": Kind.NOTE, "platform": "x", "title": "t", "url": f"https://x.org/{name}"} | more
    return Draft(author_id=ANN.id, text=text, **fields)


def ident(name: str) -> str:
    return draft(name, "").document_id


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[SQLiteWarehouse]:
    with closing(SQLiteWarehouse(tmp_path / "empty.sqlite")) as warehouse:
        yield warehouse


@pytest.fixture
def full(tmp_path: Path) -> Iterator[SQLiteWarehouse]:
    """One of everything: several revisions, something gone, something back, something withdrawn, odd characters."""
    with closing(SQLiteWarehouse(tmp_path / "full.sqlite")) as warehouse:
        warehouse.save_author(ANN)
        warehouse.save_author(Author.named("Zoë"))
        odd = draft(
            "odd", "\ud800 \u2028\u0085\r\n\x00 \U0001f600", title="ß", metadata={"a": "\udc80"}, published_at=NOON
        )
        warehouse.record([draft("a", "one"), draft("b", "one"), draft("c", "secret"), odd, draft("a", "two")])
        warehouse.bury([ident("a"), ident("b")], reason=TombstoneReason.GONE, detail="410", at=NOON)
        warehouse.bury([ident("c")], reason=TombstoneReason.WITHDRAWN, at=NOON)
        warehouse.record([draft("a", "two"), draft("b", "two")])
        warehouse.bury([ident("b")], reason=TombstoneReason.MOVED, at=NOON)
        link = Link(
            author_id=ANN.id, source="s", url="u", outcome=LinkOutcome.MISSING, status=404, misses=1, fetched_at=NOON
        )
        warehouse.save_links([link, link.model_copy(update={"url": "v", "etag": '"1"'})])
        cited = (ident("a"), ident("b"))
        warehouse.save_feedback(
            Feedback(request_id="r", vote="down", query="\ud800?", answer="two [1]", document_ids=cited, at=NOON)
        )
        warehouse.save_journal(
            [JournalEntry(key="k", purpose="ask", model="m", reply="{}", prompt_tokens=3, document_ids=cited, at=NOON)]
        )
        warehouse.save_decision(Decision(sample_id="s", verdict="edit", instruction="?", document_ids=cited, at=NOON))
        yield warehouse


# JSON lines


def test_an_export_comes_back_the_same_from_another_warehouse(full, empty):
    lines = list(export_lines(full))
    report = import_lines(empty, lines)
    assert (report.written, report.refused) == (len(lines) - 1, ())
    assert list(export_lines(empty)) == lines


def test_an_export_goes_from_sqlite_to_mongodb_and_back(full, empty):
    lines = list(export_lines(full))
    with MongoWireServer() as server, closing(MongoWarehouse(server.url, "twin")) as other:
        import_lines(other, lines)
        assert list(export_lines(other)) == lines
        import_lines(empty, export_lines(other))
    assert list(export_lines(empty)) == lines


def test_importing_twice_changes_nothing(full, empty):
    lines = list(export_lines(full))
    import_lines(empty, lines)
    before = empty.status()
    report = import_lines(empty, lines)
    assert (report.written, report.present, report.refused) == (0, len(lines) - 1, ())
    assert empty.status() == before


def test_what_was_withdrawn_is_in_no_export_but_stays_withdrawn(full, empty):
    lines = list(export_lines(full))
    assert not any("secret" in line for line in lines)
    import_lines(empty, lines)
    assert empty.record([draft("c", "secret")])[0].outcome is RecordOutcome.WITHDRAWN


def test_an_export_is_one_json_object_a_line_in_a_file(full, empty, tmp_path):
    path = tmp_path / "export.jsonl"
    path.write_text("".join(f"{line}\n" for line in export_lines(full)), encoding="utf-8", newline="\n")
    assert import_from(empty, path).refused == ()
    words = [next(iter(json.loads(line))) for line in path.read_text(encoding="utf-8").split("\n") if line]
    expected = ["format", "author", "document", "revision", "tombstone", "link", "feedback", "journal", "decision"]
    assert sorted(set(words), key=words.index) == expected


def test_what_is_written_during_an_export_does_not_break_it(full, empty):
    lines = export_lines(full)
    begun = [next(lines) for _ in range(4)]
    full.record([draft("new", "new"), draft("a", "three")])
    full.bury([ident("odd")], reason=TombstoneReason.WITHDRAWN)
    assert import_lines(empty, [*begun, *lines]).refused == ()


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "recursion"),
        ("[]", "not one entry"),
        ('{"author": {}, "link": {}}', "not one entry"),
        ('{"chunk": {}}', "'chunk' is not a kind of entry"),
        ('{"author": {"id": "x", "full_name": "X"}}', "UUID"),
        ('{"author": {"id": 1, "full_name": "X", "extra": 2}}', "id: .*; extra: "),
        ('{"author": {"id": "\udcff", "full_name": "X"}}', "not UTF-8"),
        ('{"tombstone": {"document_id": "d", "reason": "gone", "at": "2025-01-01T00:00:00"}}', "timezone"),
        ('{"tombstone": {"document_id": "d", "reason": "gone", "at": "0001-01-01T00:00:00+09:00"}}', "range"),
    ],
)
def test_a_bad_line_is_refused_with_its_number_and_its_neighbours_survive(full, empty, bad, reason):
    header, *rest = export_lines(full)
    report = import_lines(empty, [header, rest[0], bad, "\n", *rest[1:]])
    assert report.written == len(rest)
    (refusal,) = report.refused
    assert refusal.startswith("line 3: ")
    assert re.search(reason, refusal)


def tampered(full: SQLiteWarehouse, word: str, **fields) -> list[str]:
    lines = [json.loads(line) for line in export_lines(full)]
    chosen = next(line for line in lines if word in line)
    chosen[word].update(fields)
    return [json.dumps(line) for line in lines]


@pytest.mark.parametrize(
    ("word", "fields", "reason"),
    [
        ("revision", {"text": "forged"}, "does not match its hash"),
        ("revision", {"number": 10**12}, "larger than 1,000,000"),
        ("link", {"misses": 10**30}, "larger than 1,000,000"),
        ("document", {"url": "https://x.org/other"}, "does not follow from its author and address"),
    ],
)
def test_an_entry_that_no_export_would_hold_is_refused(full, empty, word, fields, reason):
    report = import_lines(empty, tampered(full, word, **fields))
    assert any(line.startswith("line ") and reason in line for line in report.refused)


@pytest.mark.parametrize("lines", [[], ["\n"], ["# notes"], ['{"format": "other"}'], ["[1]"], ["\udcff"]])
def test_what_is_no_export_is_refused_as_a_whole(empty, lines):
    with pytest.raises(UsageError, match="is no export of a warehouse"):
        import_lines(empty, lines)


def test_a_newer_format_is_refused_before_anything_is_written(full, empty):
    header, *rest = export_lines(full)
    with pytest.raises(UsageError, match="format version 2, this program reads version 1"):
        import_lines(empty, [header.replace('"version": 1', '"version": 2'), *rest])
    assert empty.authors() == []


def test_a_missing_file_and_a_folder_of_something_else_are_refused(empty, tmp_path):
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        import_from(empty, tmp_path / "missing.jsonl")
    with pytest.raises(UsageError, match=r"holds no ArticleDocument\.json"):
        import_from(empty, tmp_path)


KILLED = """
import os, signal, sys
from pathlib import Path
from llm_engineering.adapters.sqlite import SQLiteWarehouse
from llm_engineering.crawl import transfer

def dying(lines, after):
    for number, line in enumerate(lines):
        if number == after:
            os.kill(os.getpid(), signal.SIGKILL)
        yield line

warehouse = SQLiteWarehouse(Path(sys.argv[1]))
transfer.import_lines(warehouse, dying(open(sys.argv[2], encoding="utf-8", newline="\\n"), int(sys.argv[3])))
"""


@pytest.mark.parametrize("after", [1, 250, 550])
def test_an_import_that_was_killed_is_completed_by_the_next(tmp_path, full, after):
    full.record([draft(str(number), f"text {number}") for number in range(300)])
    lines = list(export_lines(full))
    (tmp_path / "export").write_text("\n".join(lines), encoding="utf-8", newline="\n")
    arguments = [str(tmp_path / "new.sqlite"), str(tmp_path / "export"), str(after)]
    assert subprocess.run([sys.executable, "-c", KILLED, *arguments]).returncode == -signal.SIGKILL
    with closing(SQLiteWarehouse(tmp_path / "new.sqlite")) as warehouse:
        report = import_lines(warehouse, lines)
        assert (report.written + report.present, report.refused) == (len(lines) - 1, ())
        assert list(export_lines(warehouse)) == lines


# the Handbook


def folder_of(path: Path, **collections: object) -> Path:
    path.mkdir(exist_ok=True)
    for name, records in collections.items():
        (path / f"{name}Document.json").write_text(json.dumps(records))
    return path


def article(**more) -> dict:
    content = {"Title": "A title", "Subtitle": "Below it", "Content": "Hello.", "language": "en"}
    record = {"_id": "1", "content": content, "platform": "medium", "author_id": "u", "author_full_name": "Ann Lee"}
    return record | {"link": "https://medium.com/p/1?source=rss"} | more


def test_the_handbooks_real_export_is_taken_whole_and_only_once(data, empty):
    folder = data / "handbook_warehouse"
    report = import_from(empty, folder)
    assert (report.written, report.present, report.refused) == (76, 0, ())
    status = empty.status()
    assert (status.authors, status.documents) == (2, {"article": 76})
    again = import_from(empty, folder)
    assert (again.written, again.present, again.refused) == (0, 76, ())
    assert empty.status() == status


def test_every_text_of_the_real_export_is_kept_to_the_letter(data, empty):
    folder = data / "handbook_warehouse"
    import_handbook(empty, folder)
    given = sorted(record["content"]["Content"] for record in json.loads((folder / "ArticleDocument.json").read_text()))
    assert sorted(state.revision.text for state in empty.states()) == given


def test_an_article_keeps_its_particulars(empty, tmp_path):
    import_handbook(empty, folder_of(tmp_path / "h", Article=[article()]))
    (state,) = empty.states()
    assert state.author.full_name == "Ann Lee"
    assert (state.document.url, state.document.platform) == ("https://medium.com/p/1", "medium")
    assert (state.revision.title, state.revision.language) == ("A title", "en")
    assert state.revision.metadata == {"handbook_id": "1", "subtitle": "Below it"}


def test_without_a_platform_the_host_is_named(empty, tmp_path):
    import_handbook(empty, folder_of(tmp_path / "h", Article=[article(platform=None, link="https://www.ann.blog/1")]))
    assert [state.document.platform for state in empty.states()] == ["ann.blog"]


def test_a_document_without_a_link_is_known_by_its_id(empty, tmp_path):
    posts = [article(_id="7", link=None, content={"Post_0": {"text": "First."}, "Post_1": {"text": "Second."}})]
    import_handbook(
        empty, folder_of(tmp_path / "h", Post=posts, User=[{"_id": "u", "first_name": "Bob", "last_name": "Ray"}])
    )
    (state,) = empty.states()
    assert state.document.id == document_id(author_id("Bob Ray"), "handbook:7")
    assert (state.document.kind, state.revision.title) == (Kind.POST, "First.")
    assert state.revision.text == "First.\n\nSecond."


def test_a_repository_becomes_one_document_a_file(empty, tmp_path):
    files = {"README.md": "# Hi", "src/a b.py": "x = 1\n", "empty.txt": ""}
    folder = folder_of(tmp_path / "h", Repository=[article(content=files, link="https://github.com/Ann/Tool.git")])
    report = import_handbook(empty, folder)
    kept = {s.document.url: (s.revision.title, s.revision.format, s.revision.text) for s in empty.states()}
    assert kept == {
        "https://github.com/ann/tool/blob/HEAD/README.md": ("README.md", TextFormat.MARKDOWN, "# Hi"),
        "https://github.com/ann/tool/blob/HEAD/src/a%20b.py": ("src/a b.py", TextFormat.CODE, "x = 1\n"),
    }
    assert report.refused == (
        "RepositoryDocument.json, record 1: https://github.com/ann/tool/blob/HEAD/empty.txt has no text",
    )


def test_every_bad_record_is_refused_with_its_reason_and_its_neighbours_are_kept(empty, tmp_path):
    articles = [
        article(),
        "no object",
        article(link="https://x.org/2", content=None),
        article(link="https://x.org/3", content={"Content": " \n"}),
        article(link="ftp://x.org/4"),
        article(link=None, _id=None),
        article(author_id=None, author_full_name=" "),
        article(content={"Title": "A title", "Content": "Another text."}),
        article(link="https://x.org/9"),
    ]
    folder = folder_of(tmp_path / "h", Article=articles, Post={}, User=[{"_id": "v"}])
    (folder / "RepositoryDocument.json").write_text("[")
    report = import_handbook(empty, folder)
    assert report.written == 2
    expected = [
        "UserDocument.json, record 1: a user without a name",
        "ArticleDocument.json, record 2: not a JSON object",
        "ArticleDocument.json, record 3: no content",
        "ArticleDocument.json, record 4: https://x.org/3 has no text",
        "ArticleDocument.json, record 5: 'ftp://x.org/4' is not a web address",
        "ArticleDocument.json, record 6: neither link nor _id",
        "ArticleDocument.json, record 7: its author is no user of the export and has no name",
        "ArticleDocument.json, record 8: an earlier record has another text for https://medium.com/p/1",
        "PostDocument.json: not a JSON list",
        "RepositoryDocument.json: cannot be read",
    ]
    assert [line for line, start in zip(report.refused, expected, strict=True) if not line.startswith(start)] == []


def test_an_old_export_undoes_nothing_that_was_found_since(empty, tmp_path):
    folder = folder_of(tmp_path / "h", Article=[article()])
    import_handbook(empty, folder)
    (state,) = empty.states()
    fields = {"url": state.document.url, "kind": Kind.ARTICLE, "platform": "medium", "title": "A title"}
    empty.record([Draft(author_id=state.author.id, text="Edited since.", **fields)])
    assert import_handbook(empty, folder).present == 1
    empty.bury([state.document.id], reason=TombstoneReason.GONE)
    assert import_handbook(empty, folder).present == 1
    assert [kept.live for kept in empty.states(include_deleted=True)] == [False]


def test_a_withdrawn_document_is_refused_by_name(empty, tmp_path):
    folder = folder_of(tmp_path / "h", Article=[article()])
    import_handbook(empty, folder)
    empty.bury([state.document.id for state in empty.states()], reason=TombstoneReason.WITHDRAWN)
    assert import_handbook(empty, folder).refused == ("https://medium.com/p/1: its author has withdrawn it",)


def test_an_author_known_by_an_alias_is_not_doubled(empty, tmp_path):
    empty.save_author(Author.named("Ann Marie Lee", "Ann Lee"))
    import_handbook(empty, folder_of(tmp_path / "h", Article=[article()]))
    assert [author.full_name for author in empty.authors()] == ["Ann Marie Lee"]
