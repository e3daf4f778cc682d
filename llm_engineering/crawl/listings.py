"""Feeds and sitemaps: which pages a source on the web consists of, before any of them is read."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from llm_engineering.crawl.feeds import Feed, FeedEntry, read_feed
from llm_engineering.crawl.findings import Complete, Event, Finding, failed, from_error, refused
from llm_engineering.crawl.pages import IN_FEED, PAGE_TYPES, Known, Pages
from llm_engineering.crawl.sitemaps import listing_kind, read_sitemap
from llm_engineering.crawl.sources import Source
from llm_engineering.crawl.urls import canonical_url, same_site
from llm_engineering.domain.entities import Link, LinkOutcome
from llm_engineering.domain.errors import SourceError, TwinError, UsageError
from llm_engineering.domain.ports import Fetched

FEED_TYPES = (
    "application/rss+xml", "application/atom+xml", "application/feed+json", "application/rdf+xml",
    "application/json", "application/xml", "text/xml",
)  # fmt: skip
SITEMAP_TYPES = (
    "application/xml", "text/xml", "text/plain", "application/gzip", "application/x-gzip", "application/octet-stream",
)  # fmt: skip
_SITEMAPS_OF_AN_INDEX = 1_000
_DEPTH_OF_AN_INDEX = 3
_PAGES_OF_A_FEED = 50
_FEED_LIKE = re.compile(
    rb"<(?:\w+:)?(?:rss|feed|RDF)[\s>]|"
    rb'^(?:\xef\xbb\xbf)?\s*\{.{0,2000}?"https?:(?:\\?/){2}jsonfeed\.org\\?/version',  # slashes as PHP writes them, too
    re.DOTALL,
)
_NOT_HAD = frozenset({LinkOutcome.FAILED, LinkOutcome.MISSING, LinkOutcome.REFUSED})
_SITEMAP_LIKE = re.compile(rb"<(?:\w+:)?(?:urlset|sitemapindex)[\s>]")


@dataclass(frozen=True)
class Item:
    """A page to read; with an entry, the text is there already."""

    url: str
    entry: FeedEntry | None = None
    language: str | None = None


@dataclass
class Listing:
    """What a source consists of. ``findings`` are remarks made on the way; ``complete`` promises that nothing is missing.

    ``state`` is a feed's own fetch state. Its validators are kept only if nothing has to be said of the feed again: an
    answer 304 says nothing of what was cut off, excluded or refused.
    """

    source: Source
    type: str
    items: list[Item] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    unchanged: list[Finding] = field(default_factory=list)
    """Pages whose text a feed carries that has not changed."""
    complete: bool = False
    error: TwinError | None = None
    state: Finding | None = None
    some_too_short: bool = False
    """A text that came whole in the feed is too short to keep: only the feed can say what becomes of it."""

    def closing(self) -> Iterator[Event]:
        """What is to be kept when all pages have been read, and not before: an interrupted run has to list them again."""
        if self.complete:
            yield Complete()
        if self.state is not None:
            again = bool(self.findings) or self.some_too_short
            yield replace(self.state, etag=None, last_modified=None) if again else self.state

    def events(self) -> Iterator[Event]:
        """What the report has to say about the listing itself."""
        yield from (*self.findings, *self.unchanged)
        if self.error is not None:
            yield self.error


def list_source(source: Source, pages: Pages, *, known: Known) -> Listing:
    """The pages of a source of type ``article``, ``feed``, ``sitemap`` or ``web``; never raises our errors."""
    listing = Listing(source, source.type)
    try:
        if source.type == "article" or (source.type == "web" and source.config.browser):
            listing.type = "article"
            listing.items.append(Item(source.name))
        elif source.config.type == "sitemap":
            _list_sitemap(listing, pages)
        else:
            _list_by_content(listing, pages, known)
    except TwinError as error:
        listing.error = error
    if listing.error is None and not listing.complete:
        listing.items += _unlisted(listing, known)
    return listing


def _list_by_content(listing: Listing, pages: Pages, known: Known) -> None:
    """Fetch the address and let its content decide what it is, unless the configuration has decided already."""
    source, own = listing.source, known.get(listing.source.name)
    was_feed = own is not None and own.document_id is None and own.outcome is LinkOutcome.UNCHANGED
    accept = (*FEED_TYPES, *PAGE_TYPES, *SITEMAP_TYPES) if source.type == "web" else ()
    conditional = own if own is not None and (own.document_id or was_feed) else None
    answer = pages.fetch(source.name, link=conditional, accept=accept)
    if answer.not_modified and was_feed:
        listing.type = "feed"
        listing.state = _feed_read(source, answer, own)
        _list_unchanged(listing, known)
        return
    looks = source.config.type or _told_by(answer)
    if looks == "article" and (source.type != "web" or was_feed):
        looks = "feed" if was_feed else source.type
    if looks == "article":
        listing.type = "article"
        listing.findings.append(_page(source, pages, answer, own))
    elif answer.status >= 400:
        raise SourceError(f"{source.config.at} answers {answer.status}", hint="Check the address.")
    elif looks == "sitemap":
        listing.type = "sitemap"
        _list_sitemap(listing, pages, first=answer)
    else:
        listing.type = "feed"
        _list_feed(listing, pages, answer)


def _page(source: Source, pages: Pages, answer: Fetched, own: Link | None) -> Finding:
    try:
        return pages.keep(source, source.name, pages.visit(source, source.name, answer, link=own)).finding
    except TwinError as error:
        return from_error(source.name, error)


def _told_by(answer: Fetched) -> str:
    head = answer.content[:5_000]
    if _SITEMAP_LIKE.search(head) or answer.content.startswith(b"\x1f\x8b"):
        return "sitemap"
    return "feed" if _FEED_LIKE.search(head) else "article"


def _list_feed(listing: Listing, pages: Pages, answer: Fetched) -> None:
    source = listing.source
    feed = read_feed(answer.content, url=answer.final_url, charset=answer.charset)
    _add_entries(listing, feed, pages)
    paged, following = {source.name}, feed.next_url
    while following and following not in paged and len(paged) < _PAGES_OF_A_FEED and _room(listing, pages):
        paged.add(following)
        try:
            answer = pages.fetch(following, link=None, accept=())
            feed = read_feed(answer.content, url=answer.final_url, charset=answer.charset)
        except TwinError as error:
            listing.findings.append(from_error(following, error, remember=False))
            break
        following = feed.next_url
        _add_entries(listing, feed, pages)
    if not _cut(listing, pages) and following and following not in paged:
        limit = f"{_PAGES_OF_A_FEED} pages of one feed" if _room(listing, pages) else "crawl.max_pages"
        text = f"page-limit: the feed goes on at {following}, which was not read ({limit})"
        listing.findings.append(refused(source.name, "page-limit", text, remember=False))
    if not listing.items and not listing.findings:
        listing.findings.append(
            failed(source.name, "empty", f"the feed {source.config.at} has no entries", remember=False)
        )
        return
    # A feed of several pages is always read whole: its first page says nothing about the others.
    listing.state = _feed_read(source, answer if len(paged) == 1 else None)


def _add_entries(listing: Listing, feed: Feed, pages: Pages) -> None:
    for problem in feed.problems:
        listing.findings.append(refused(listing.source.name, "no-address", f"no-address: {problem}", remember=False))
    for entry in feed.entries:
        if url := _wanted(listing, entry.url):
            listing.items.append(Item(url, entry if entry.complete else None, feed.language))
            if entry.complete and len(entry.text.split()) < pages.config.min_words:
                listing.some_too_short = True


def _list_sitemap(listing: Listing, pages: Pages, *, first: Fetched | None = None) -> None:
    """All pages of a sitemap and of the sitemaps it names; complete if every one of them was read and nothing was cut."""
    source, complete = listing.source, True
    todo, seen = [(source.name, 0)], {source.name}
    while todo:
        url, depth = todo.pop(0)
        try:
            answer = first if first is not None else pages.fetch(url, link=None, accept=SITEMAP_TYPES)
            first = None
            if answer.status >= 400:
                raise SourceError(f"The sitemap {url} answers {answer.status}", hint="Check the address.")
            sitemap = read_sitemap(answer.content, url=answer.final_url, max_bytes=pages.config.max_bytes)
        except TwinError as error:
            if url == source.name:
                raise
            listing.findings.append(from_error(url, error, remember=False))
            complete = False
            continue
        for page in sitemap.pages:
            if wanted := _wanted(listing, page.url, own_site=True):
                listing.items.append(Item(wanted))
        for child in sitemap.children:
            if child in seen:
                continue
            seen.add(child)
            problem = _why_not(child, source, depth=depth + 1, count=len(seen))
            if problem is None:
                todo.append((child, depth + 1))
            else:
                listing.findings.append(refused(child, problem, remember=False))
                complete = False
    listing.complete = not _cut(listing, pages) and complete


def _why_not(child: str, source: Source, *, depth: int, count: int) -> str | None:
    try:
        if not same_site(child, source.name):
            return "other-site"
    except UsageError:
        return "bad-url"
    return "sitemap-limit" if depth > _DEPTH_OF_AN_INDEX or count > _SITEMAPS_OF_AN_INDEX else None


def _wanted(listing: Listing, address: str, *, own_site: bool = False) -> str | None:
    """The canonical form of a listed address; a finding instead where it is not to be read."""
    source = listing.source
    try:
        url = canonical_url(address, base=source.name)
    except UsageError as error:
        listing.findings.append(refused(address, "bad-url", str(error), remember=False))
        return None
    if finding := _unwanted(source, url, own_site=own_site):
        listing.findings.append(finding)
        return None
    return url


def _unwanted(source: Source, url: str, *, own_site: bool) -> Finding | None:
    """Why a page is not to be read by the rules of today, if it is not."""
    if own_site and not same_site(url, source.name):
        return refused(url, "other-site", f"other-site: not on the site of {source.config.at}")
    if own_site and (kind := listing_kind(url)):
        return refused(url, "listing-page", f"listing-page: {kind}", listed=False)
    return None if source.selects(urlsplit(url).path) else refused(url, "excluded", listed=False)


def _room(listing: Listing, pages: Pages) -> bool:
    return len(listing.items) < pages.config.max_pages


def _cut(listing: Listing, pages: Pages) -> bool:
    """Drop repeated addresses, and what is past the page limit, saying so."""
    once: dict[str, Item] = {}
    for item in listing.items:
        once.setdefault(item.url, item)
    limit = pages.config.max_pages
    listing.items = list(once.values())[:limit]
    if len(once) <= limit:
        return False
    text = f"page-limit: {len(once) - limit} pages past the limit of {limit} were not read (crawl.max_pages)"
    listing.findings.append(refused(listing.source.name, "page-limit", text, remember=False))
    return True


def _unlisted(listing: Listing, known: Known) -> list[Item]:
    """Known links that the listing names no more, or does not name this time: falling out of a feed is no delete."""
    said = (*listing.findings, *listing.unchanged)
    named = {item.url for item in listing.items} | {finding.url for finding in said} | {listing.source.name}
    left = {url: link for url, link in known.items() if url not in named}
    asked = (url for url, link in left.items() if leads_to_document(link) or _owed(listing, link))
    return [Item(url) for url in asked if listing.source.selects(urlsplit(url).path)]


def _owed(listing: Listing, link: Link) -> bool:
    """Whether a page that was named once could not be had then: a feed that has not changed names nothing again.

    What was refused is asked again like what failed: a host was busy, a rule was another one. The rules of today decide.
    """
    if link.document_id is not None or link.outcome not in _NOT_HAD or listing.type == "article" or "#" in link.url:
        return False
    return _unwanted(listing.source, link.url, own_site=listing.type == "sitemap") is None


def leads_to_document(link: Link) -> bool:
    """Whether the link is worth asking for again although nothing names it."""
    return link.document_id is not None and link.outcome is not LinkOutcome.GONE


def _list_unchanged(listing: Listing, known: Known) -> None:
    """What an unchanged feed still carries, and which of its links are excluded since.

    What was excluded before has left the feed by now: no validators are kept of one that names it.
    """
    for url, link in known.items():
        if url == listing.source.name or link.outcome is LinkOutcome.GONE or "#" in url:
            continue
        if finding := _unwanted(listing.source, url, own_site=False):
            listing.findings += [finding] if link.detail != finding.detail else []
        elif link.detail == IN_FEED:
            unchanged = Finding(url, LinkOutcome.UNCHANGED, document_id=link.document_id, mark=IN_FEED)
            listing.unchanged.append(unchanged)


def _feed_read(source: Source, answer: Fetched | None, own: Link | None = None) -> Finding:
    """The feed's own fetch state, which is no line of the report; a 304 need not repeat the validators of ``own``."""
    state = Finding(source.name, LinkOutcome.UNCHANGED, quiet=True)
    if answer is None:
        return state
    etag, last_modified = (own.etag, own.last_modified) if own else (None, None)
    etag, last_modified = answer.etag or etag, answer.last_modified or last_modified
    return replace(state, status=answer.status, etag=etag, last_modified=last_modified)
