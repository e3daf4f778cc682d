"""Git repositories: README, documentation and code, byte for byte, one document per file."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path, PurePosixPath
from urllib.parse import quote, urlsplit

from llm_engineering.crawl.defects import found
from llm_engineering.crawl.files import FileEntry, decode_exactly, first_heading, skip_reason, walk
from llm_engineering.crawl.findings import Complete, Event, Finding, failed, refused
from llm_engineering.crawl.local import read_limited
from llm_engineering.crawl.sources import Source, is_git
from llm_engineering.crawl.urls import is_github_repository, path_to_url
from llm_engineering.domain.config import CrawlConfig
from llm_engineering.domain.entities import Draft, Kind, TextFormat
from llm_engineering.domain.ports import Repositories

_FORMATS = {
    ".md": TextFormat.MARKDOWN,
    ".markdown": TextFormat.MARKDOWN,
    ".mdx": TextFormat.MARKDOWN,
    ".rst": TextFormat.TEXT,
    ".txt": TextFormat.TEXT,
    ".org": TextFormat.TEXT,
    ".adoc": TextFormat.TEXT,
}
_PLAIN_NAMES = frozenset(
    [
        "readme",
        "license",
        "licence",
        "copying",
        "authors",
        "contributors",
        "changelog",
        "changes",
        "news",
        "todo",
        "notice",
    ]
)

_LANGUAGES = {
    ".py": "python",
    ".pyi": "python",
    ".js": "javascript",
    ".mjs": "javascript",
    ".jsx": "javascript",
    ".ts": "typescript",
    ".tsx": "typescript",
    ".go": "go",
    ".rs": "rust",
    ".java": "java",
    ".kt": "kotlin",
    ".scala": "scala",
    ".rb": "ruby",
    ".php": "php",
    ".c": "c",
    ".h": "c",
    ".cc": "cpp",
    ".cpp": "cpp",
    ".cxx": "cpp",
    ".hpp": "cpp",
    ".cs": "csharp",
    ".swift": "swift",
    ".jl": "julia",
    ".r": "r",
    ".lua": "lua",
    ".pl": "perl",
    ".hs": "haskell",
    ".ex": "elixir",
    ".exs": "elixir",
    ".clj": "clojure",
    ".sh": "shell",
    ".bash": "shell",
    ".sql": "sql",
    ".html": "html",
    ".css": "css",
    ".scss": "scss",
    ".json": "json",
    ".yaml": "yaml",
    ".yml": "yaml",
    ".toml": "toml",
    ".ini": "ini",
    ".xml": "xml",
    ".tf": "terraform",
    ".ipynb": "jupyter",
    ".proto": "protobuf",
}


def read_repository(source: Source, repositories: Repositories, config: CrawlConfig) -> Iterator[Event]:
    """Every file of the default branch that its author wrote, sorted by path; each other one is refused with a reason.

    A local folder that is no git repository is read as it lies there.
    """
    with _files_of(source, repositories) as folder:
        complete = True
        for entry in walk(folder):
            complete = complete and not entry.failed
            yield _read(entry, source, config)
        if complete:
            yield Complete()


def _files_of(source: Source, repositories: Repositories) -> AbstractContextManager[Path]:
    path = source.address.path
    if path is not None and not is_git(path):
        return nullcontext(path)
    return repositories.checkout(str(path) if path is not None else source.address.url or source.name)


def _read(entry: FileEntry, source: Source, config: CrawlConfig) -> Finding:
    url = _file_url(source, entry.relative)
    return found(url, lambda: _read_file(entry, source, config, url))


def _read_file(entry: FileEntry, source: Source, config: CrawlConfig, url: str) -> Finding:
    if entry.failed:
        return failed(url, "unreadable", f"unreadable: {entry.reason}", remember=False)
    if entry.reason:
        return refused(url, entry.reason, listed=False)
    if not source.selects(entry.relative):
        return refused(url, "excluded", listed=False)
    try:
        content = read_limited(entry.path, config.max_file_bytes)
    except OSError as error:
        return failed(url, "unreadable", f"unreadable: {error.strerror or error}")
    if content is None:
        return refused(url, "too-large", f"too-large: more than {config.max_file_bytes:,} bytes")
    if reason := skip_reason(entry.relative, content):
        return refused(url, reason, listed=False)
    return Finding(url, draft=_draft(content, entry, source, url))


def _draft(content: bytes, entry: FileEntry, source: Source, url: str) -> Draft:
    text, encoding = decode_exactly(content)
    path = PurePosixPath(entry.relative)
    form = _FORMATS.get(path.suffix.lower(), TextFormat.CODE)
    if not path.suffix and path.name.lower() in _PLAIN_NAMES:
        form = TextFormat.TEXT
    metadata = {"path": entry.relative, "repository": source.name}
    if encoding != "utf-8":
        metadata["encoding"] = encoding
    if form is TextFormat.CODE and (language := _LANGUAGES.get(path.suffix.lower())):
        metadata["code_language"] = language
    heading = first_heading(text) if form is not TextFormat.CODE else None
    return Draft(
        author_id=source.author.id,
        url=url,
        kind=source.kind(Kind.REPOSITORY),
        platform=source.platform(_platform(source)),
        title=heading or entry.relative,
        text=text,
        format=form,
        metadata=metadata,
    )


def _platform(source: Source) -> str:
    if source.address.url is None:
        return "git"
    if is_github_repository(source.name):
        return "github"
    return (urlsplit(source.name).hostname or "git").removeprefix("www.")


def _file_url(source: Source, relative: str) -> str:
    """The address of a file at the head of the default branch, as GitHub and GitLab show it; ``file://`` for local ones."""
    quoted = quote(os.fsencode(relative))  # git keeps names as bytes, which need not be UTF-8
    if source.address.path is not None:
        return f"{path_to_url(source.address.path)}/{quoted}"
    if github := is_github_repository(source.name):
        return f"https://github.com/{'/'.join(github).lower()}/blob/HEAD/{quoted}"
    return f"{source.name.removesuffix('/').removesuffix('.git')}/-/blob/HEAD/{quoted}"
