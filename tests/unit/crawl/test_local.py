import os
from pathlib import Path

import pytest

from llm_engineering.crawl.local import READERS
from llm_engineering.domain.config import SourceConfig
from llm_engineering.domain.entities import Kind, TextFormat
from tests.doubles.crawling import outcomes, reasons


@pytest.fixture
def notes(tmp_path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    return folder


def only(world):
    [state] = world.live().values()
    return state


def test_markdown_keeps_what_follows_the_front_matter_to_the_character(world, notes):
    body = "# Heading\n\n    indented code\t\n\ntrailing spaces  \n"
    (notes / "a.md").write_text(f"---\ntitle: A Title\ndate: 2024-05-06\ntags: [rag, llm]\nlang: en-GB\n---\n{body}")
    world.crawl(str(notes))
    revision = only(world).revision
    assert (revision.text, revision.title, revision.language) == (body, "A Title", "en")
    assert (revision.published_at.isoformat(), revision.metadata["tags"]) == ("2024-05-06T00:00:00+00:00", "rag, llm")


def test_a_note_is_a_note_of_its_author_under_its_file_address(world, notes):
    (notes / "sub").mkdir()
    (notes / "sub" / "a b.md").write_text("Some words here.")
    world.crawl(str(notes))
    document = only(world).document
    assert (document.kind, document.platform) == (Kind.NOTE, "local")
    assert document.url == (notes / "sub" / "a b.md").as_uri()


@pytest.mark.parametrize(
    ("name", "text", "title"),
    [
        ("a.md", "```\n# no heading\n```\n\n## The first\n\n# Second", "The first"),
        ("b.md", "Underlined\n==========\ntext", "Underlined"),
        ("c.md", "no heading at all", "c"),
        ("d.rst", "Title of it\n===========\n\ntext", "Title of it"),
        ("e.txt", "# not a heading in plain text", "e"),
    ],
)
def test_the_title_is_the_first_heading_else_the_file_name(world, notes, name, text, title):
    (notes / name).write_text(text)
    world.crawl(str(notes))
    assert only(world).revision.title == title


def test_html_is_read_as_a_page_and_text_as_text(world, notes):
    (notes / "a.html").write_text("<html lang=en><title>Page</title><main><p>Words of the page.</p></main></html>")
    (notes / "b.txt").write_text("Words of the text.")
    world.crawl(str(notes))
    formats = {state.revision.title: state.revision.format for state in world.live().values()}
    assert formats == {"Page": TextFormat.MARKDOWN, "b": TextFormat.TEXT}


def test_every_file_that_is_no_text_gets_a_line_with_the_reason(world, notes):
    (notes / "good.md").write_text("good text")
    (notes / "empty.md").write_text(" \n")
    (notes / "binary.txt").write_bytes(b"text\0more")
    (notes / "picture.png").write_bytes(b"\x89PNG")
    (notes / "large.md").write_text("x" * 1_000_001)
    (notes / "draft.md").write_text("---\ndraft: true\n---\nnot yet")
    (notes / "link.md").symlink_to(notes / "good.md")
    (notes / "loop").symlink_to(notes)
    for name in (".obsidian", "node_modules"):
        (notes / name).mkdir()
        (notes / name / "inner.md").write_text("not mine")
    report = world.crawl(str(notes))
    assert world.texts() == {"good.md": "good text"}
    assert reasons(report) == {
        "empty.md": "empty",
        "binary.txt": "binary",
        "picture.png": "unsupported",
        "large.md": "too-large",
        "draft.md": "draft",
        "link.md": "symlink",
        "loop": "symlink",
        ".obsidian": "hidden",
        "node_modules": "vendored",
    }


def test_other_encodings_are_read_and_noted(world, notes):
    (notes / "latin.md").write_bytes("Grüße aus Köln".encode("cp1252"))
    (notes / "windows.txt").write_bytes("Grüße aus Köln".encode("utf-16"))
    world.crawl(str(notes))
    noted = {state.revision.title: state.revision.metadata["encoding"] for state in world.live().values()}
    assert noted == {"latin": "cp1252", "windows": "utf-16-le"}
    assert set(world.texts().values()) == {"Grüße aus Köln"}


def test_include_and_exclude_choose_files(world, notes):
    for name in ("a.md", "b.txt", "private/c.md"):
        (notes / name).parent.mkdir(exist_ok=True)
        (notes / name).write_text("some text")
    report = world.crawl(SourceConfig(at=str(notes), include=("*.md",), exclude=("private/*",)))
    assert list(world.texts()) == ["a.md"]
    assert reasons(report) == {"b.txt": "excluded", "c.md": "excluded"}


def test_a_single_file_is_a_source(world, notes):
    (notes / "one.md").write_text("just this")
    (notes / "other.md").write_text("not this")
    world.crawl(str(notes / "one.md"))
    assert world.texts() == {"one.md": "just this"}


def test_a_removed_file_is_gone_and_a_new_one_arrives(world, notes):
    (notes / "a.md").write_text("first text")
    (notes / "b.md").write_text("second text")
    world.crawl(str(notes))
    (notes / "a.md").unlink()
    (notes / "c.md").write_text("third text")
    report = world.crawl(str(notes))
    assert outcomes(report) == {"a.md": "gone", "b.md": "unchanged", "c.md": "stored"}
    assert set(world.texts()) == {"b.md", "c.md"}


def test_a_file_that_comes_back_is_the_same_document_again(world, notes):
    (notes / "a.md").write_text("first text")
    (notes / "b.md").write_text("second text")
    world.crawl(str(notes))
    (notes / "a.md").unlink()
    world.crawl(str(notes))
    (notes / "a.md").write_text("first text")
    report = world.crawl(str(notes))
    assert [line.detail for line in report.lines if line.url.endswith("a.md")] == ["back"]
    assert set(world.texts()) == {"a.md", "b.md"}


def test_what_becomes_a_draft_leaves_the_warehouse_and_is_told_once(world, notes):
    (notes / "a.md").write_text("first text")
    (notes / "b.md").write_text("second text")
    world.crawl(str(notes))
    (notes / "a.md").write_text("---\ndraft: true\n---\nfirst text")
    assert [line.outcome for line in world.crawl(str(notes)).lines] == ["refused", "unchanged", "gone"]
    assert set(world.texts()) == {"b.md"}
    assert [line.outcome for line in world.crawl(str(notes)).lines] == ["refused", "unchanged"]


def test_an_emptied_folder_deletes_nothing_and_says_so(world, notes):
    (notes / "a.md").write_text("first text")
    world.crawl(str(notes))
    (notes / "a.md").unlink()
    report = world.crawl(str(notes))
    assert set(world.texts()) == {"a.md"}
    [line] = report.lines
    assert line.outcome == "failed" and "is empty, but 1 document" in line.detail and not report.succeeded


def test_a_vanished_folder_deletes_nothing(world, notes):
    (notes / "a.md").write_text("first text")
    world.crawl(str(notes))
    (notes / "a.md").unlink()
    notes.rmdir()
    report = world.crawl(str(notes))
    assert set(world.texts()) == {"a.md"} and "There is no file or folder" in report.lines[0].detail


def test_an_unreadable_subfolder_deletes_nothing(world, notes, monkeypatch):
    (notes / "a.md").write_text("first text")
    (notes / "sub").mkdir()
    (notes / "sub" / "b.md").write_text("second text")
    world.crawl(str(notes))
    scandir = os.scandir

    def denied(path):
        if str(path).endswith("sub"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    report = world.crawl(str(notes))
    assert outcomes(report) == {"a.md": "unchanged", "sub": "failed"} and len(world.live()) == 2


def test_an_empty_folder_is_one_clear_line(world, notes):
    report = world.crawl(str(notes))
    [line] = report.lines
    assert "holds nothing to read" in line.detail and not report.succeeded


def test_a_file_whose_name_is_not_utf8_is_kept_at_its_exact_address(world, notes):
    for name in (b"caf\xe9.md", b"caf\xe8.txt"):
        Path(os.fsdecode(os.fsencode(notes) + b"/" + name)).write_text("some words without a heading")
    report = world.crawl(str(notes))
    assert set(world.texts()) == {"caf%E9.md", "caf%E8.txt"} and report.model_dump_json()
    assert {state.revision.title for state in world.live().values()} == {"caf�"}
    assert {state.revision.metadata["path"] for state in world.live().values()} == {"caf�.md", "caf�.txt"}


def test_front_matter_with_lone_surrogates_gives_a_title_that_can_be_shown(world, notes):
    (notes / "a.md").write_text('---\ntitle: "broken \\ud800 title"\n---\nsome words')
    world.crawl(str(notes))
    assert only(world).revision.title == "broken � title"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("posts.csv", "id,title,likes\n1,One,5\n"),
        ("posts.csv", "post_id,title\n1,One\n"),
        ("sub/posts.csv", "post_id,post_date,is_published,title\n1,2024-01-01,true,One\n"),
        ("posts/2024-01-02_my-note.html", "<html><title>My note</title><main><p>Words of it.</p></main></html>"),
        (
            "posts/draft_idea.html",
            '<article class="h-entry"><div class="e-content"><p>Words of it.</p></div></article>',
        ),
        ("Shares.csv", "Date,Ticker,Shares\n2024-01-01,ACME,5\n"),
        ("Articles/one.html", "<html><title>One</title><main><p>Words of it.</p></main></html>"),
    ],
)
def test_notes_beside_a_file_that_is_named_as_in_an_export_are_read(world, notes, name, content):
    (notes / "a.md").write_text("first text")
    (notes / name).parent.mkdir(exist_ok=True)
    (notes / name).write_text(content)
    world.crawl(str(notes))
    assert world.texts()["a.md"] == "first text"
    assert len(world.live()) == (2 if name.endswith(".html") else 1)


def test_a_note_on_which_a_parser_fails_is_one_failed_line_and_its_trace_is_logged(world, notes, monkeypatch, caplog):
    def broken(content, entry, url):
        raise RecursionError("too deep")

    monkeypatch.setitem(READERS, ".rst", broken)
    (notes / "a.md").write_text("first text")
    (notes / "b.rst").write_text("second text")
    report = world.crawl(str(notes))
    assert outcomes(report) == {"a.md": "stored", "b.rst": "failed"}
    assert reasons(report) == {"b.rst": "parser-error"}
    assert "RecursionError (too deep)" in report.lines[1].detail
    assert "b.rst" in caplog.text and "in broken" in caplog.text


def test_what_was_known_of_a_note_outlives_a_failing_parser(world, notes, monkeypatch):
    (notes / "a.md").write_text("first text")
    world.crawl(str(notes))
    monkeypatch.setitem(READERS, ".md", lambda *_: {}["absent"])
    assert outcomes(world.crawl(str(notes))) == {"a.md": "failed"} and "a.md" in world.texts()
