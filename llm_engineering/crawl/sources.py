"""Tells the kinds of sources apart, by one table."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from llm_engineering.crawl.exports import detect_export
from llm_engineering.crawl.handbook import is_handbook
from llm_engineering.crawl.urls import canonical_url, is_github_repository, path_to_url
from llm_engineering.domain.config import SourceConfig
from llm_engineering.domain.entities import Author, Document, Kind
from llm_engineering.domain.errors import FetchRefused, SourceError

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
_SITEMAP = re.compile(r"/[^/]*sitemap[^/]*\.(xml|txt)(\.gz)?$|/sitemap/?$", re.IGNORECASE)
_FEED = re.compile(r"\.(rss|atom|rdf)$|/(feed|rss|atom|index)\.(xml|json)$|/(feed|rss|atom)/?$", re.IGNORECASE)


@dataclass(frozen=True)
class Address:
    """Where a source is: exactly one of ``path`` (existing, absolute) and ``url`` (canonical) is set."""

    path: Path | None = None
    url: str | None = None

    @property
    def name(self) -> str:
        """The one spelling under which the warehouse knows the source; GitHub takes any case."""
        if self.url is None:
            return path_to_url(self.path or Path())
        github = is_github_repository(self.url)
        return f"https://github.com/{'/'.join(github).lower()}" if github else self.url

    def path_is(self, predicate: Callable[[Path], bool]) -> bool:
        """Whether this is a path of which that holds."""
        return self.path is not None and predicate(self.path)

    def url_is(self, predicate: Callable[[str], object]) -> bool:
        """Whether this is a URL of which that holds."""
        return self.url is not None and bool(predicate(self.url))


def is_git(path: Path) -> bool:
    """Whether a folder is a git repository, bare or with a working tree."""
    return (path / ".git").exists() or ((path / "HEAD").is_file() and (path / "objects").is_dir())


def _is_root(url: str) -> bool:
    return urlsplit(url).path in ("", "/") and not urlsplit(url).query


SOURCE_TYPES: tuple[tuple[str, Callable[[Address], bool]], ...] = (
    ("repository", lambda at: at.path_is(is_git)),
    ("handbook", lambda at: at.path_is(is_handbook)),
    ("medium", lambda at: at.path_is(lambda path: detect_export(path) == "medium")),
    ("substack", lambda at: at.path_is(lambda path: detect_export(path) == "substack")),
    ("linkedin", lambda at: at.path_is(lambda path: detect_export(path) == "linkedin")),
    ("folder", lambda at: at.path is not None),
    ("repository", lambda at: at.url_is(lambda url: is_github_repository(url) or urlsplit(url).path.endswith(".git"))),
    ("sitemap", lambda at: at.url_is(lambda url: _SITEMAP.search(urlsplit(url).path))),
    ("feed", lambda at: at.url_is(lambda url: _FEED.search(urlsplit(url).path))),
    ("site", lambda at: at.url_is(_is_root)),
    ("web", lambda at: at.url is not None),
)
"""First match wins; an explicit ``type`` goes before all. ``web`` is a feed, a sitemap or a page, told by its content."""

_NEEDS_URL = frozenset({"article", "feed", "sitemap", "site"})
_NEEDS_PATH = frozenset({"folder", "medium", "substack", "linkedin", "handbook"})


@dataclass(frozen=True)
class Source:
    """A configured source with what was told of it."""

    config: SourceConfig
    type: str
    address: Address
    author: Author

    @property
    def name(self) -> str:
        """The source's key in the warehouse, whatever the spelling in the configuration."""
        return self.address.name

    def kind(self, usual: Kind) -> Kind:
        """The configured kind, else the usual one."""
        return self.config.kind or usual

    def platform(self, usual: str) -> str:
        """The configured platform, else the usual one."""
        return self.config.platform or usual

    def keeps(self, document: Document) -> bool:
        """Whether a document is kept as the configuration says, where it says something."""
        return (self.kind(document.kind), self.platform(document.platform)) == (document.kind, document.platform)

    def selects(self, path: str) -> bool:
        """Whether ``include`` and ``exclude`` let a file's path, or the path of a URL, through."""
        config = self.config
        return (not config.include or _matches(path, config.include)) and not _matches(path, config.exclude)


def address_of(at: str) -> Address:
    """Parse a URL or a path. Raises :class:`FetchRefused` for a scheme that is not crawled, :class:`SourceError` for a
    path that does not exist, ``UsageError`` for a broken URL."""
    scheme = _SCHEME.match(at)
    if scheme is None:
        return Address(path=_existing(at))
    if scheme[1].lower() in ("http", "https"):
        return Address(url=canonical_url(at))
    if scheme[1].lower() == "file":
        return Address(path=_existing(os.fsdecode(unquote_to_bytes(os.fsencode(urlsplit(at).path)))))
    raise FetchRefused(
        f"{at[:200]!r} is not something that can be crawled ({scheme[1]}:)",
        reason="unknown-scheme",
        hint="Give an http:// or https:// address, or a path.",
    )


def source_type(config: SourceConfig, address: Address) -> str:
    """The source's type: as configured, else by :data:`SOURCE_TYPES`. Raises :class:`SourceError` where they disagree."""
    if config.type is None:
        return next(name for name, holds in SOURCE_TYPES if holds(address))
    if config.type in _NEEDS_URL and address.url is None:
        raise SourceError(f"{config.at} is a path, but type {config.type} is read from the web", hint="Give its URL.")
    if config.type in _NEEDS_PATH and address.path is None:
        raise SourceError(f"{config.at} is a URL, but type {config.type} is read from disk", hint="Download it first.")
    return config.type


def _existing(at: str) -> Path:
    try:
        path = Path(at).expanduser()
        if at and path.exists():
            return path.resolve()
    except (OSError, ValueError, RuntimeError) as error:  # too long, a NUL, no such user's home
        raise SourceError(f"{at[:200]!r} cannot be opened: {error}", hint="Check the path.") from error
    raise SourceError(
        f"There is no file or folder {at[:200]!r}", hint="Check the path; a web address begins with https://."
    )


def _matches(path: str, patterns: tuple[str, ...]) -> bool:
    """Shell patterns over the whole path (``*`` crosses folders) or over its last part."""
    path = unquote(path).lstrip("/")
    name = path.rsplit("/", 1)[-1]
    return any(fnmatchcase(path, pattern.lstrip("/")) or fnmatchcase(name, pattern) for pattern in patterns)
