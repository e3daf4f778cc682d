"""Folders of notes: Markdown, HTML and plain text, each file one document."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from llm_engineering.crawl.defects import found
from llm_engineering.crawl.extract import decode, read_page
from llm_engineering.crawl.files import FileEntry, decode_exactly, first_heading, is_binary, walk
from llm_engineering.crawl.findings import Complete, Event, Finding, failed, refused
from llm_engineering.crawl.frontmatter import parse_date, split_front_matter
from llm_engineering.crawl.markdown import fragment_to_markdown
from llm_engineering.crawl.sources import Source
from llm_engineering.crawl.urls import path_to_url
from llm_engineering.domain.config import CrawlConfig
from llm_engineering.domain.entities import Draft, Kind, TextFormat


@dataclass(frozen=True)
class _Note:
    """What one file says; ``refusal`` set means that it is not to be kept."""

    text: str
    title: str
    format: TextFormat = TextFormat.MARKDOWN
    language: str | None = None
    date: object = None
    date_guessed: bool = False
    metadata: Mapping[str, str] | None = None
    refusal: str = ""


def read_folder(source: Source, config: CrawlConfig) -> Iterator[Event]:
    """Every text below a folder (or the one file that the source names), sorted by path.

    Hidden files, symbolic links and folders of other people's or generated files are passed over with a line each.
    """
    root = source.address.path or Path()
    complete = True
    for entry in [FileEntry(root, root.name)] if root.is_file() else walk(root):
        finding = _read(entry, source, config)
        # An unreadable folder hides files of which nothing is known then.
        complete = complete and not (entry.failed and finding.url.endswith("/"))
        yield finding
    if complete:
        yield Complete()


def read_limited(path: Path, limit: int) -> bytes | None:
    """The content of a file, or ``None`` if it has more bytes than the limit. Raises ``OSError``."""
    with path.open("rb") as file:
        content = file.read(limit + 1)
    return content if len(content) <= limit else None


def _read(entry: FileEntry, source: Source, config: CrawlConfig) -> Finding:
    if entry.failed:
        return failed(entry.path.as_uri() + "/", "unreadable", f"unreadable: {entry.reason}", remember=False)
    if entry.reason:
        return refused(entry.path.as_uri(), entry.reason, listed=False)
    url = path_to_url(entry.path)
    return found(url, lambda: _read_file(entry, source, config, url))


def _read_file(entry: FileEntry, source: Source, config: CrawlConfig, url: str) -> Finding:
    if not source.selects(entry.relative):
        return refused(url, "excluded", listed=False)
    reader = READERS.get(entry.path.suffix.lower())
    if reader is None:
        return refused(url, "unsupported", "unsupported: neither Markdown, HTML nor plain text", listed=False)
    try:
        content = read_limited(entry.path, config.max_file_bytes)
    except FileNotFoundError:
        return refused(url, "vanished", "vanished while the folder was read", listed=False)
    except OSError as error:
        return failed(url, "unreadable", f"unreadable: {error.strerror or error}")
    if content is None:
        return refused(url, "too-large", f"too-large: more than {config.max_file_bytes:,} bytes")
    if is_binary(content):
        return refused(url, "binary")
    note = reader(content, entry, url)
    if note.refusal:
        return refused(url, note.refusal, listed=False)
    if not note.text.strip():
        return refused(url, "empty", listed=False)
    return Finding(
        url,
        draft=Draft(
            author_id=source.author.id,
            url=url,
            kind=source.kind(Kind.NOTE),
            platform=source.platform("local"),
            title=note.title,
            text=note.text,
            format=note.format,
            language=note.language,
            published_at=parse_date(note.date),
            date_guessed=note.date_guessed,
            metadata={"path": entry.relative, **(note.metadata or {})},
        ),
    )


def _markdown(content: bytes, entry: FileEntry, url: str) -> _Note:
    text, noted = _text(content)
    front, body, problem = split_front_matter(text)
    if problem:
        noted["front_matter"] = problem
    if tags := front.get("tags") or front.get("keywords"):
        noted["tags"] = ", ".join(str(tag) for tag in (tags if isinstance(tags, list) else [tags]))
    text = text[body:]
    return _Note(
        text=text,
        title=_words(front.get("title")) or first_heading(text) or _stem(entry),
        language=_language(front.get("lang") or front.get("language")),
        date=front.get("date") or front.get("published"),
        metadata=noted,
        refusal="draft" if front.get("draft") is True or front.get("published") is False else "",
    )


def _html(content: bytes, entry: FileEntry, url: str) -> _Note:
    page = read_page(content, url=url)
    text = page.text or fragment_to_markdown(decode(content))  # a file too small to tell its main part is all of it
    metadata = {"author": page.author} if page.author else {}
    return _Note(
        text=text,
        title=page.title or _stem(entry),
        language=page.language,
        date=page.published_at,
        date_guessed=page.date_guessed,
        metadata=metadata,
    )


def _plain(content: bytes, entry: FileEntry, url: str) -> _Note:
    text, noted = _text(content)
    heading = first_heading(text) if entry.path.suffix.lower() == ".rst" else None
    return _Note(text, heading or _stem(entry), TextFormat.TEXT, metadata=noted)


READERS: dict[str, Callable[[bytes, FileEntry, str], _Note]] = {
    ".md": _markdown,
    ".markdown": _markdown,
    ".mdx": _markdown,
    ".html": _html,
    ".htm": _html,
    ".xhtml": _html,
    ".txt": _plain,
    ".rst": _plain,
    ".org": _plain,
}
"""How a file of a folder is read, by its suffix."""


def _text(content: bytes) -> tuple[str, dict[str, str]]:
    """The text without a byte order mark, and a note of the encoding where it is not UTF-8."""
    text, encoding = decode_exactly(content)
    return text.removeprefix("\ufeff"), {} if encoding == "utf-8" else {"encoding": encoding}


def _stem(entry: FileEntry) -> str:
    return PurePosixPath(entry.relative).stem


def _words(value: object) -> str:
    return "" if value is None else " ".join(str(value).split())


def _language(value: object) -> str | None:
    code = str(value or "").strip().lower().replace("_", "-").split("-")[0]
    return code if len(code) == 2 and code.isalpha() else None
