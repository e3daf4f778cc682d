"""The archives that Medium, Substack and LinkedIn give their users, as a folder or as the zip file itself.

One bad file never costs its neighbours: it is an :class:`ExportProblem`.
"""

import csv
import io
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime
from functools import partial
from pathlib import Path, PurePosixPath

from llm_engineering.crawl.defects import contained
from llm_engineering.crawl.export_files import (
    BROKEN_ARCHIVE,
    ExportFiles,
    ExportProblem,
    FolderFiles,
    Unreadable,
    ZipFiles,
)
from llm_engineering.crawl.export_signs import (
    LINKEDIN_ARTICLE,
    Platform,
    folder_layouts,
    is_chaff,
    platform_of,
    zip_layouts,
)
from llm_engineering.crawl.extract import decode
from llm_engineering.crawl.frontmatter import parse_date
from llm_engineering.crawl.html_tree import Element, parse_html
from llm_engineering.crawl.markdown import plain_text, to_markdown
from llm_engineering.domain.entities import Frozen, Kind
from llm_engineering.domain.errors import SourceError, TwinError, UsageError

_NOTES = frozenset([".md", ".markdown", ".mdx", ".txt", ".rst", ".org"])
"""No platform exports such files: somebody put them there."""


class ExportItem(Frozen):
    """One text of an archive. A ``draft`` was never published: to be reported, not kept."""

    url: str | None
    path: str
    """Inside the archive; for a row of a table with its date, such as ``Shares.csv#2024-05-14 07:21:09``."""
    title: str
    text: str
    """Markdown."""
    kind: Kind
    published_at: datetime | None = None
    draft: bool = False
    metadata: dict[str, str] = {}  # noqa: RUF012  # pydantic copies defaults


def detect_export(path: Path) -> Platform | None:
    """Whose archive this folder or zip file is, by the files in it; ``None`` if it is none of them.

    A name alone says little (many a folder has a ``posts.csv``): tables are known by their columns, posts by what the
    platform writes into their names or markup.
    """
    try:
        if path.is_dir():
            return platform_of(folder_layouts(path))
        if not path.is_file() or not zipfile.is_zipfile(path):
            return None
        with zipfile.ZipFile(path) as archive:
            return platform_of(zip_layouts(archive))
    except BROKEN_ARCHIVE:
        return None


def read_export(path: Path, platform: Platform | None = None) -> Iterator[ExportItem | ExportProblem]:
    """Every text of an archive and everything in it that could not be read, one bad file never costing its neighbours.

    ``platform`` says whose archive it is where it does not look like one. Raises :class:`UsageError` if there is no such
    file, :class:`SourceError` if it is no archive of a known platform, or one without a single text.
    """
    if not path.exists():
        raise UsageError(
            f"There is no {path}", hint="Give the folder or zip file of a Medium, Substack or LinkedIn export."
        )
    platform = platform or detect_export(path)
    if platform is None:
        raise SourceError(
            f"{path} is no Medium, Substack or LinkedIn export",
            hint="Give the archive as the platform sent it, zip or unpacked.",
        )
    empty = True
    with nullcontext(FolderFiles(path)) if path.is_dir() else _opened(path) as files:
        for entry in _read(files, platform):
            empty = False
            yield entry
    if empty:
        raise SourceError(
            f"{path} holds no text as {platform.title()} exports it", hint="If it is no export, leave out its type."
        )


@contextmanager
def _opened(path: Path) -> Iterator[ExportFiles]:
    try:
        archive = zipfile.ZipFile(path)
    except BROKEN_ARCHIVE as error:
        raise SourceError(f"The archive {path} cannot be read ({error})", hint="Download it again.") from error
    with archive:
        yield ZipFiles(archive)


def _read(archive: ExportFiles, platform: Platform) -> Iterator[ExportItem | ExportProblem]:
    yield from archive.problems
    yield from _READERS[platform](archive)
    for name in archive.names:
        if PurePosixPath(name).suffix.lower() in _NOTES and not any(map(is_chaff, PurePosixPath(name).parts)):
            yield ExportProblem(path=name, reason="no part of an export; name it as a source of its own")


def _each(
    archive: ExportFiles, names: Iterable[str], read: Callable[[str, bytes], ExportItem | ExportProblem]
) -> Iterator[ExportItem | ExportProblem]:
    for name in names:
        try:
            content = archive.read(name)
            with contained(name):
                item = read(name, content)
        except (Unreadable, TwinError) as error:
            item = ExportProblem(path=name, reason=str(error))
        yield item


# Medium: posts/2019-05-08_Title-with-dashes-0a1b2c3d4e5f.html, drafts as posts/draft_…html; each an h-entry.


def _medium(archive: ExportFiles) -> Iterator[ExportItem | ExportProblem]:
    names = [name for name in archive.names if re.search(r"(?:^|/)posts/[^/]+\.html$", name)]
    yield from _each(archive, names, _medium_post)


def _medium_post(name: str, content: bytes) -> ExportItem | ExportProblem:
    root = parse_html(decode(content))
    body = None if root is None else _first(root, "e-content")
    if root is None or body is None:
        return ExportProblem(path=name, reason="not a post as Medium exports it")
    heading, published = _first(root, "p-name"), _first(root, "dt-published")
    canonical = _first(root, "p-canonical")
    title = plain_text(heading) if heading is not None else (root.findtext(".//title") or "").strip()
    own_title = _first(body, "graf--title") is not None
    for repeated in body.xpath(".//*[contains(@class, 'graf--title')]"):
        repeated.drop_tree()
    text = to_markdown(body, base_url="https://medium.com/")
    subtitle = _first(root, "p-summary")
    metadata = {"subtitle": plain_text(subtitle)} if subtitle is not None and plain_text(subtitle) else {}
    # A response to somebody's post has no title of its own: Medium shows its first words.
    response = not own_title and len(text.split()) < 300
    return ExportItem(
        url=canonical.get("href") if canonical is not None else None,
        path=name,
        title=title,
        text=text,
        kind=Kind.POST if response else Kind.ARTICLE,
        published_at=parse_date(published.get("datetime")) if published is not None else None,
        draft=PurePosixPath(name).name.startswith("draft_"),
        metadata=metadata | ({"type": "response"} if response else {}),
    )


def _first(root: Element, css_class: str) -> Element | None:
    found = root.xpath(f".//*[contains(concat(' ', normalize-space(@class), ' '), ' {css_class} ')]")
    return found[0] if found else None


# Substack: posts.csv names the posts, posts/<post_id>.html holds the body of each.


def _substack(archive: ExportFiles) -> Iterator[ExportItem | ExportProblem]:
    tables = [name for name in archive.names if PurePosixPath(name).name == "posts.csv"]
    bodies = {PurePosixPath(name).stem: name for name in archive.names if re.search(r"(?:^|/)posts/[^/]+\.html$", name)}
    by_number = {stem.partition(".")[0]: stem for stem in bodies}
    host = next(
        (
            match.group(1)
            for name in archive.names
            if (match := re.search(r"(?:^|/)email_list\.([a-z0-9-]+)\.csv$", name))
        ),
        None,
    )
    for table in tables[:1]:
        try:
            rows = list(_rows(archive, table))
        except Unreadable as error:
            yield ExportProblem(path=table, reason=str(error))
            return
        for line, row in rows:
            stem = row.get("post_id", "")
            stem = stem if stem in bodies else by_number.get(stem.partition(".")[0], "")
            name = bodies.pop(stem, None)
            if name is None:
                yield ExportProblem(path=f"{table}#{line}", reason=f"no file for the post “{row.get('title', '')}”")
            else:
                yield from _each(archive, [name], partial(_substack_post, row=row, host=host))
    for name in bodies.values():
        yield ExportProblem(path=name, reason="not listed in posts.csv")


_SUBSTACK_PITCHES = (  # subscribe boxes, buttons, and what only readers without a subscription are shown
    ".//*[contains(@class, 'subscription-widget') or contains(@class, 'button-wrapper')"
    " or contains(@data-dynamic-audiences, 'non_sub') or contains(@data-dynamic-audiences, 'free_sub')]"
)


def _substack_post(name: str, content: bytes, *, row: dict[str, str], host: str | None) -> ExportItem:
    root = parse_html(decode(content))
    if root is not None:
        for widget in root.xpath(_SUBSTACK_PITCHES):
            if widget.getparent() is not None:
                widget.drop_tree()
    slug = PurePosixPath(name).stem.partition(".")[2]
    kept = {key: row[key] for key in ("subtitle", "type", "audience", "podcast_url") if row.get(key)}
    return ExportItem(
        url=f"https://{host}.substack.com/p/{slug}" if host and slug else None,
        path=name,
        title=row.get("title", "").strip() or slug.replace("-", " "),
        text="" if root is None else to_markdown(root),
        kind=Kind.POST if row.get("type") == "thread" else Kind.ARTICLE,
        published_at=parse_date(row.get("post_date")),
        draft=row.get("is_published", "").lower() != "true",
        metadata=kept,
    )


# LinkedIn: Shares.csv, Articles/Articles/*.html, Comments.csv.


def _linkedin(archive: ExportFiles) -> Iterator[ExportItem | ExportProblem]:
    for table, read in (("Shares.csv", _linkedin_share), ("Comments.csv", _linkedin_comment)):
        for name in (name for name in archive.names if PurePosixPath(name).name == table):
            try:
                for line, row in _rows(archive, name, escape="\\" if table == "Comments.csv" else None):
                    yield _row(read, f"{name}#{row.get('Date') or line}", row)  # dates stay, lines move between exports
            except Unreadable as error:
                yield ExportProblem(path=name, reason=str(error))
    yield from _each(archive, [name for name in archive.names if LINKEDIN_ARTICLE.search(name)], _linkedin_article)


def _row(
    read: Callable[[str, dict[str, str]], ExportItem | ExportProblem], path: str, row: dict[str, str]
) -> ExportItem | ExportProblem:
    try:
        with contained(path):
            return read(path, row)
    except TwinError as error:
        return ExportProblem(path=path, reason=str(error))


def _linkedin_share(path: str, row: dict[str, str]) -> ExportItem | ExportProblem:
    text = _unquote_lines(row.get("ShareCommentary", ""))
    if not text:
        return ExportProblem(path=path, reason="shared without a word of its own")
    kept = {
        name: row[key]
        for name, key in (("shared_url", "SharedUrl"), ("media_url", "MediaUrl"), ("visibility", "Visibility"))
        if row.get(key)
    }
    return _linkedin_item(path, text, row.get("ShareLink"), row.get("Date"), kept)


def _linkedin_comment(path: str, row: dict[str, str]) -> ExportItem | ExportProblem:
    text = _unquote_lines(row.get("Message", ""))
    if not text:
        return ExportProblem(path=path, reason="a comment without text")
    kept = {"type": "comment"} | ({"comment_on": row["Link"]} if row.get("Link") else {})
    return _linkedin_item(path, text, None, row.get("Date"), kept)


def _linkedin_item(path: str, text: str, url: str | None, date: str | None, metadata: dict[str, str]) -> ExportItem:
    return ExportItem(
        url=url or None,
        path=path,
        title=_headline(text),
        text=text,
        kind=Kind.POST,
        published_at=parse_date(date),
        metadata=metadata,
    )


def _unquote_lines(commentary: str) -> str:
    """LinkedIn puts every line of a text between quotes of its own; where all line breaks look like that, undo it."""
    text = commentary.replace("\r\n", "\n")
    if "\n" in text and text.count("\n") == len(re.findall(r'"\n(?=")', text)):
        text = text.replace('"\n"', "\n")
    return text.strip()


def _headline(text: str, longest: int = 80) -> str:
    line = next(line.strip() for line in text.splitlines() if line.strip())
    return line if len(line) <= longest else line[:longest].rsplit(" ", 1)[0].rstrip(" ,;:–-") + "…"


def _linkedin_article(name: str, content: bytes) -> ExportItem | ExportProblem:
    root = parse_html(decode(content))
    body = None if root is None else root.find("body")
    if root is None or body is None:
        return ExportProblem(path=name, reason="not an article as LinkedIn exports it")
    heading = body.find(".//h1")
    title = plain_text(heading) if heading is not None else (root.findtext(".//title") or "").strip()
    link = heading.find(".//a[@href]") if heading is not None else None
    dates = {kind: _first(root, kind) for kind in ("created", "published")}
    moments = {
        kind: parse_date(re.sub(r"^\D*", "", plain_text(element)))
        for kind, element in dates.items()
        if element is not None
    }
    for element in [heading, *dates.values()]:
        if element is not None:
            element.drop_tree()
    return ExportItem(
        url=link.get("href") if link is not None else None,
        path=name,
        title=title,
        text=to_markdown(body, base_url="https://www.linkedin.com/"),
        kind=Kind.ARTICLE,
        published_at=moments.get("published"),
        draft=moments.get("published") is None,
    )


def _rows(archive: ExportFiles, name: str, *, escape: str | None = None) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a CSV file by column, each with the number of its line."""
    reader = csv.DictReader(
        io.StringIO(decode(archive.read(name)), newline=""), restkey="", restval="", escapechar=escape
    )
    try:
        for row in reader:
            yield reader.line_num, {key: value for key, value in row.items() if key and isinstance(value, str)}
    except csv.Error as error:
        raise Unreadable(f"not a readable table ({error})") from error


_READERS: dict[Platform, Callable[[ExportFiles], Iterator[ExportItem | ExportProblem]]] = {
    "medium": _medium,
    "substack": _substack,
    "linkedin": _linkedin,
}
