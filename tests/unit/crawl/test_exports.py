"""The archives of Medium, Substack and LinkedIn, as folders and as zip files."""

import os
import shutil
import zipfile
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_engineering.crawl import export_files, exports
from llm_engineering.crawl.exports import ExportItem, ExportProblem, detect_export, read_export
from llm_engineering.domain.entities import Kind
from llm_engineering.domain.errors import SourceError, UsageError

EXPORTS = Path(__file__).resolve().parents[2] / "fixtures" / "exports"
PLATFORMS = ("medium", "substack", "linkedin")


def items(path: Path) -> list[ExportItem]:
    return [entry for entry in read_export(path) if isinstance(entry, ExportItem)]


def problems(path: Path) -> dict[str, str]:
    return {entry.path: entry.reason for entry in read_export(path) if isinstance(entry, ExportProblem)}


def item(path: Path, title: str) -> ExportItem:
    return next(entry for entry in items(path) if entry.title == title)


def zipped(folder: Path, target: Path, *, inside: str = "") -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, f"{inside}{file.relative_to(folder)}")
    return target


@pytest.mark.parametrize("platform", PLATFORMS)
def test_an_export_is_recognised_as_folder_and_as_zip_file(platform: str, tmp_path: Path) -> None:
    assert detect_export(EXPORTS / platform) == platform
    assert detect_export(zipped(EXPORTS / platform, tmp_path / "export.zip")) == platform
    assert detect_export(zipped(EXPORTS / platform, tmp_path / "nested.zip", inside="export-2024/")) == platform


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_zip_file_says_the_same_as_the_folder(platform: str, tmp_path: Path) -> None:
    archive = zipped(EXPORTS / platform, tmp_path / "export.zip")

    assert list(read_export(archive)) == list(read_export(EXPORTS / platform))


def test_a_folder_of_notes_is_no_export(tmp_path: Path) -> None:
    (tmp_path / "note.md").write_text("# Hello")
    (tmp_path / "posts").mkdir()
    (tmp_path / "posts" / "index.html").write_text("<p>Hello</p>")

    assert detect_export(tmp_path) is None
    assert detect_export(tmp_path / "absent.zip") is None


def test_a_medium_post_has_its_title_date_address_and_code() -> None:
    post = item(EXPORTS / "medium", "What a watermark is for")

    assert post.url == "https://medium.com/@mirabrandt/what-a-watermark-is-for-3f9a1c5d7e20"
    assert post.published_at == datetime(2023, 3, 14, 8, 15, 30, 250000, tzinfo=UTC)
    assert post.kind is Kind.ARTICLE
    assert "```python\ndef advance(log, mark):\n    for entry in log[mark:]:\n        yield  entry\n```" in post.text
    assert "> “Last” is the whole trick." in post.text
    assert "# What a watermark is for" not in post.text


def test_a_response_on_medium_is_a_post() -> None:
    response = item(EXPORTS / "medium", "I would add that the mark must be durable, too.")

    assert (response.kind, response.metadata["type"]) == (Kind.POST, "response")


@pytest.mark.parametrize(
    ("platform", "title"), [("medium", "Half a thought"), ("substack", "Unfinished"), ("linkedin", "Not out yet")]
)
def test_what_was_never_published_is_marked_as_draft(platform: str, title: str) -> None:
    assert [entry.title for entry in items(EXPORTS / platform) if entry.draft] == [title]


def test_a_substack_post_takes_its_title_and_date_from_the_table() -> None:
    post = item(EXPORTS / "substack", "Small to big, and back")

    assert post.url == "https://marginnotes.substack.com/p/small-to-big"
    assert post.published_at == datetime(2024, 2, 6, 9, 30, tzinfo=UTC)
    assert post.metadata["subtitle"] == "Find the sentence, show the page"


def test_a_substack_post_is_read_without_subscribe_boxes() -> None:
    text = item(EXPORTS / "substack", "Small to big, and back").text

    assert "```\nwindow = text[max(0, start - 400):end + 400]\n    # four hundred is a guess\n```" in text
    assert text.endswith("That is all.")
    assert not [word for word in ("Subscribe", "Thanks for reading", "Join to read") if word in text]


def test_a_substack_file_is_found_by_the_number_of_the_post_alone() -> None:
    assert item(EXPORTS / "substack", "What do you reread?").kind is Kind.POST


def test_missing_and_unlisted_files_of_substack_are_reported() -> None:
    assert problems(EXPORTS / "substack") == {
        "posts.csv#5": "no file for the post “Lost file”",
        "posts/48999999.orphan.html": "not listed in posts.csv",
    }


def test_a_linkedin_post_loses_the_quotes_that_the_export_puts_around_lines_and_keeps_its_own() -> None:
    post = item(EXPORTS / "linkedin", "Three things I learned from deleting code:")

    assert post.text.splitlines()[2:5] == [
        "1. Nobody asked for it back.",
        "2. The tests got faster.",
        '3. She said "finally"',
    ]
    assert post.url == "https://www.linkedin.com/feed/update/urn%3Ali%3Ashare%3A7196012345678901248"


def test_a_linkedin_post_without_that_quirk_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "Shares.csv").write_text(
        'Date,ShareLink,ShareCommentary\n2024-01-01 00:00:00,https://e.org/1,"He said ""no""\n""Yes"", I said\nand left."\n'
    )

    assert items(tmp_path)[0].text == 'He said "no"\n"Yes", I said\nand left.'


def test_backslashes_are_text_in_posts_and_escapes_in_comments() -> None:
    texts = {entry.text for entry in items(EXPORTS / "linkedin")}

    assert {"One line, with a comma and a C:\\path.", 'I call it "subtraction", and it pays.'} <= texts


def test_a_share_without_words_is_reported() -> None:
    assert problems(EXPORTS / "linkedin") == {"Shares.csv#2024-06-01 10:00:00": "shared without a word of its own"}


def test_a_linkedin_article_has_its_address_and_date() -> None:
    article = item(EXPORTS / "linkedin", "Why the author's words are the answer")

    assert article.url == "https://www.linkedin.com/pulse/why-authors-words-answer-mira-brandt-x1y2z"
    assert article.published_at == datetime(2024, 1, 10, 7, 5, tzinfo=UTC)
    assert article.text.startswith("Ask a model") and "### So don't ask" in article.text


def test_one_damaged_file_does_not_cost_its_neighbours(tmp_path: Path) -> None:
    archive = zipped(EXPORTS / "medium", tmp_path / "export.zip")
    content = bytearray(archive.read_bytes())
    at = content.find(b"draft_Half") + 200  # inside of that file's compressed bytes
    content[at : at + 8] = b"\xff" * 8
    archive.write_bytes(content)

    assert len(items(archive)) == 2
    assert [reason.split()[0] for reason in problems(archive).values()] == ["damaged"]


def test_an_entry_that_leads_out_of_the_archive_is_refused(tmp_path: Path) -> None:
    archive = zipped(EXPORTS / "medium", tmp_path / "export.zip")
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("../posts/2024-01-01_Evil-1234567890ab.html", "<p>evil</p>")

    assert problems(archive) == {
        "../posts/2024-01-01_Evil-1234567890ab.html": "its path leads out of the archive",
    }


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.html").write_text("<p>secret</p>")
    export = tmp_path / "export"
    (export / "posts").mkdir(parents=True)
    (export / "posts" / "2024-01-01_Link-1234567890ab.html").symlink_to(tmp_path / "secret.html")

    assert list(problems(export).values()) == ["links to outside of the folder"]


def test_a_zip_bomb_is_refused_before_it_unfolds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_files, "MAX_FILE_BYTES", 100_000)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("posts/2024-01-01_Bomb-1234567890ab.html", b" " * 50_000_000)

    assert list(problems(tmp_path / "bomb.zip").values()) == ["larger than 100,000 bytes"]


def test_what_is_no_export_is_refused_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "export.zip").write_bytes(b"PK\x03\x04 cut off")

    with pytest.raises(SourceError, match="is no Medium, Substack or LinkedIn export"):
        list(read_export(tmp_path / "export.zip"))
    with pytest.raises(UsageError, match="There is no"):
        list(read_export(tmp_path / "absent"))


def test_an_entry_that_names_no_file_is_reported(tmp_path: Path) -> None:
    archive = zipped(EXPORTS / "medium", tmp_path / "export.zip")
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr(".", "nothing")

    assert problems(archive) == {".": "its path names no file"} and len(items(archive)) == 3


_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


@pytest.mark.parametrize("method", _METHODS)
def test_a_damaged_entry_of_any_compression_does_not_cost_its_neighbours(tmp_path: Path, method: int) -> None:
    names = [f"posts/2024-01-0{day}_Post-1234567890a{day}.html" for day in (1, 2)]
    with zipfile.ZipFile(tmp_path / "export.zip", "w", method) as archive:
        for name in names:
            archive.writestr(name, (EXPORTS / "medium/posts/draft_Half-a-thought-77aa01bc93de.html").read_bytes())
        at = archive.infolist()[0].header_offset + 30 + len(names[0]) + 9
    content = bytearray((tmp_path / "export.zip").read_bytes())
    content[at : at + 40] = b"\xff" * 40
    (tmp_path / "export.zip").write_bytes(content)

    assert [entry.path for entry in items(tmp_path / "export.zip")] == names[1:]
    assert [reason.split()[0] for reason in problems(tmp_path / "export.zip").values()] == ["damaged"]


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(_METHODS),
    st.lists(st.tuples(st.floats(0, 0.999), st.binary(min_size=1, max_size=4)), min_size=1, max_size=3),
)
def test_a_zip_file_with_any_damage_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, method: int, damage: list[tuple[float, bytes]]
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "export.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("posts/2024-01-01_Post-1234567890ab.html", "<div class='e-content'><p>Words.</p></div>")
        archive.writestr("posts/2024-01-02_Pöst-1234567890ac.html", "<div class='e-content'><p>Words.</p></div>")
    content = bytearray(path.read_bytes())
    for where, garbage in damage:
        at = int(where * len(content))
        content[at : at + len(garbage)] = garbage
    path.write_bytes(content)

    detect_export(path)
    with suppress(SourceError):
        list(read_export(path, "medium"))


def test_files_whose_names_are_not_utf8_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "posts").mkdir()
    body = (EXPORTS / "medium/posts/draft_Half-a-thought-77aa01bc93de.html").read_bytes()
    for name in (b"caf\xe9", b"caf\xe8"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/posts/2024-01-01_" + name + b"-1234567890ab.html")).write_bytes(
            body
        )

    assert {entry.path for entry in items(tmp_path)} == {
        "posts/2024-01-01_caf\\xe9-1234567890ab.html",
        "posts/2024-01-01_caf\\xe8-1234567890ab.html",
    }


def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    (tmp_path / "posts").mkdir()
    (tmp_path / "posts" / "2024-01-01_A-1234567890ab.html").symlink_to("2024-01-01_B-1234567890ac.html")
    (tmp_path / "posts" / "2024-01-01_B-1234567890ac.html").symlink_to("2024-01-01_A-1234567890ab.html")

    assert set(problems(tmp_path).values()) == {"links to outside of the folder"}


@pytest.mark.parametrize(
    "files",
    [
        {"posts.csv": "id,title\n1,One\n", "posts/1.one.html": "<p>One</p>"},
        {"posts.csv": "post_id,post_date,is_published,title\n1,2024-01-01,true,One\n", "one.md": "One"},
        {"data/posts.csv": "post_id,title\n1,One\n", "data/posts/1.one.html": "<p>One</p>", "one.md": "One"},
        {"posts/2024-01-02_my-note.html": "<p>Mine</p>", "posts/draft_other.html": "<p>Mine</p>"},
        {"posts/2024-01-02_my-note.html": '<article class="h-entry"><div class="e-content">Mine</div></article>'},
        {"Shares.csv": "Date,Ticker,Shares\n2024-01-01,ACME,5\n"},
        {"Articles/one.html": "<p>One</p>"},
    ],
)
def test_names_alone_make_no_export(tmp_path: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (tmp_path / "notes" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "notes" / name).write_text(content)

    assert detect_export(tmp_path / "notes") is None
    assert detect_export(zipped(tmp_path / "notes", tmp_path / "notes.zip")) is None


def test_a_medium_export_is_known_by_its_markup_where_its_names_are_short(tmp_path: Path) -> None:
    (tmp_path / "posts").mkdir()
    for number, post in enumerate(sorted((EXPORTS / "medium" / "posts").iterdir())):
        (tmp_path / "posts" / f"2024-01-0{number + 1}_Post-1c5d7e20.html").write_bytes(post.read_bytes())

    assert detect_export(tmp_path) == "medium" and len(items(tmp_path)) == 3


def test_an_export_inside_an_otherwise_empty_folder_is_found(tmp_path: Path) -> None:
    shutil.copytree(EXPORTS / "substack", tmp_path / "downloads" / "export-2024")
    (tmp_path / "downloads" / ".DS_Store").write_text("")

    assert detect_export(tmp_path / "downloads") == "substack"
    (tmp_path / "downloads" / "diary.md").write_text("mine")
    assert detect_export(tmp_path / "downloads") is None


def test_notes_that_lie_in_an_export_are_told_of(tmp_path: Path) -> None:
    shutil.copytree(EXPORTS / "medium", tmp_path / "medium")
    (tmp_path / "medium" / "diary.md").write_text("mine")

    assert problems(tmp_path / "medium") == {"diary.md": "no part of an export; name it as a source of its own"}


def test_an_archive_that_is_named_an_export_and_holds_none_says_so(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        archive.writestr("picture.png", "x")

    with pytest.raises(SourceError, match="holds no text as Medium exports it"):
        list(read_export(tmp_path / "export.zip", "medium"))


def test_a_post_on_which_the_parser_fails_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(markup: str) -> None:
        raise KeyError("planted" if "Half a thought" in markup else "other")

    monkeypatch.setattr(exports, "parse_html", broken)

    assert not items(EXPORTS / "medium") and len(problems(EXPORTS / "medium")) == 3
    assert "KeyError ('planted')" in problems(EXPORTS / "medium")["posts/draft_Half-a-thought-77aa01bc93de.html"]
