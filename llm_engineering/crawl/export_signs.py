"""What tells the archives of Medium, Substack and LinkedIn from any other folder or zip file.

Many a folder of notes or code has a ``posts.csv`` or ``posts/2024-01-02_note.html``: taken for an export, nothing of it
would be read. So a table counts by its columns, and a post by what its platform alone writes.
"""

import csv
import io
import re
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from llm_engineering.crawl.export_files import BROKEN_ARCHIVE, MAX_FILES
from llm_engineering.crawl.extract import decode

Platform = Literal["medium", "substack", "linkedin"]

LINKEDIN_ARTICLE = re.compile(r"(?:^|/)Articles/(?:Articles/)?[^/]+\.html$")

_HEAD_BYTES = 65_536
_DEEPEST = 3
_MOST_POSTS_LOOKED_AT = 20
_SUBSTACK_POST = re.compile(r"posts/\d+(?:\.[^/]*)?\.html")
_MEDIUM_POST = re.compile(r"posts/(?:\d{4}-\d\d-\d\d_|draft_)[^/]*\.html")
_MEDIUM_ID = re.compile(r"-[0-9a-f]{12}\.html$")
_MEDIUM_BODY = re.compile(rb'data-field="body"[^>]{0,200}class="e-content')
_LINKEDIN_TABLES = frozenset({"Profile.csv", "Connections.csv", "Comments.csv"})
_PATTERNS = (
    "posts.csv", "posts/*.html", "Shares.csv", *_LINKEDIN_TABLES, "Articles/*.html", "Articles/Articles/*.html",
)  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """The files of one folder by their path in it, with forward slashes, and the first bytes of each."""

    names: Collection[str]
    head: Callable[[str], bytes]

    def columns(self, table: str) -> frozenset[str]:
        """The names in the first row of a table; none if there is no such table."""
        if table not in self.names:
            return frozenset()
        try:
            return frozenset(next(csv.reader(io.StringIO(decode(self.head(table)), newline="")), ()))
        except csv.Error:
            return frozenset()


def platform_of(layouts: Iterable[Layout]) -> Platform | None:
    """The platform of the first of these layouts that is one's export."""
    return next((name for layout in layouts for name, holds in _SIGNS if holds(layout)), None)


def folder_layouts(folder: Path) -> Iterator[Layout]:
    """The folder itself; if all that it holds is one folder, that one, too, and so on."""
    for _ in range(_DEEPEST):
        yield _layout_of_folder(folder)
        try:
            visible = [entry for entry in folder.iterdir() if not is_chaff(entry.name)]
        except OSError:
            return
        if len(visible) != 1 or visible[0].is_symlink() or not visible[0].is_dir():
            return
        folder = visible[0]


def zip_layouts(archive: zipfile.ZipFile) -> Iterator[Layout]:
    """The same for the files of an archive."""
    raw = {
        info.filename.replace("\\", "/"): info
        for info in archive.infolist()[:MAX_FILES]
        if not info.filename.endswith("/")
    }
    inside = ""
    for _ in range(_DEEPEST):
        names = {name.removeprefix(inside): info for name, info in raw.items() if name.startswith(inside)}
        yield Layout(names, lambda name, names=names: _head_in_zip(archive, names[name]))  # type: ignore[misc]
        top = {name.partition("/")[0] for name in names if not is_chaff(name.partition("/")[0])}
        if len(top) != 1:
            return
        inside += f"{top.pop()}/"


def is_chaff(name: str) -> bool:
    """What systems add to folders and archives on their own."""
    return name.startswith(".") or name == "__MACOSX"


def _layout_of_folder(folder: Path) -> Layout:
    names = {entry.relative_to(folder).as_posix() for pattern in _PATTERNS for entry in folder.glob(pattern)}
    return Layout(names, lambda name: _head_of(folder / name))


def _head_of(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES)
    except OSError:  # a file that cannot be opened tells nothing; whoever reads the folder says so
        return b""


def _head_in_zip(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    try:
        with archive.open(info) as file:
            return file.read(_HEAD_BYTES)
    except BROKEN_ARCHIVE:  # it tells nothing; whoever reads the archive says so
        return b""


def _is_substack(layout: Layout) -> bool:
    return "post_id" in layout.columns("posts.csv") and any(map(_SUBSTACK_POST.fullmatch, layout.names))


def _is_medium(layout: Layout) -> bool:
    posts = sorted(filter(_MEDIUM_POST.fullmatch, layout.names))
    return any(map(_MEDIUM_ID.search, posts)) or any(
        b"h-entry" in head and _MEDIUM_BODY.search(head) for head in map(layout.head, posts[:_MOST_POSTS_LOOKED_AT])
    )


def _is_linkedin(layout: Layout) -> bool:
    articles = [name for name in layout.names if LINKEDIN_ARTICLE.match(name)]
    return (
        {"ShareCommentary", "ShareLink"} <= layout.columns("Shares.csv")
        or any(name.startswith("Articles/Articles/") for name in articles)
        or bool(articles and _LINKEDIN_TABLES & set(layout.names))
    )


_SIGNS: tuple[tuple[Platform, Callable[[Layout], bool]], ...] = (
    ("substack", _is_substack),
    ("medium", _is_medium),
    ("linkedin", _is_linkedin),
)
