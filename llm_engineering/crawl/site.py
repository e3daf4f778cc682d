"""A bounded crawl of one site: breadth first from its start page, never off its host or out of its folder."""

import re
from collections import deque
from collections.abc import Iterator
from urllib.parse import urlsplit

from llm_engineering.crawl.findings import Event, Finding, refused
from llm_engineering.crawl.listings import leads_to_document
from llm_engineering.crawl.pages import Known, Pages, Visit
from llm_engineering.crawl.sitemaps import listing_kind
from llm_engineering.crawl.sources import Source
from llm_engineering.crawl.urls import canonical_url, same_site
from llm_engineering.domain.entities import Link, LinkOutcome
from llm_engineering.domain.errors import FetchFailed, FetchRefused, UsageError

_NEVER_FETCHED = frozenset({"asset", "feed", "sitemap", "login", "search", "variant"})
"""Kinds of addresses that lead to no further page worth reading."""
_INDEX = re.compile(r"/(index\.\w+)?$")


def crawl_site(source: Source, pages: Pages, *, known: Known) -> Iterator[Event]:
    """Read the pages of a site, at most ``max_pages``; lists such as tags and archives are followed, but not kept.

    Pages that earlier runs found are asked again although nothing links to them now, those first that were asked the
    longest ago: a page that has not changed is not sent, and names no links. What is missing is no delete: only its own
    address can say that it is gone. Raises :class:`SourceError` if the start page cannot be read.
    """
    frontier, limit = _Frontier(source, known), pages.config.max_pages
    cut = known.get(_limit_mark(source))
    # After a cut or an interruption, a page that is not sent again could hide links that were never followed.
    conditional = cut is None or cut.detail in ("", str(limit))
    for count, url in enumerate(frontier):
        if count >= limit:
            left = 1 + len(frontier)
            text = f"page-limit: {left} further pages were not read past the limit of {limit} (crawl.max_pages)"
            yield refused(source.name, "page-limit", text, remember=False)
            yield Finding(_limit_mark(source), LinkOutcome.REFUSED, detail=str(limit), quiet=True)
            return
        again = conditional and url != source.name
        visit = pages.read(source, url, known=known, conditional=again, only_links=_list_kind(source, url) is not None)
        if url == source.name:
            _check_start(source, visit)
            yield Finding(_limit_mark(source), LinkOutcome.REFUSED, detail="unfinished", quiet=True)
        frontier.add(visit.links)
        yield _kept(source, pages, url, visit)
    yield Finding(_limit_mark(source), LinkOutcome.UNCHANGED, quiet=True)


def _kept(source: Source, pages: Pages, url: str, visit: Visit) -> Finding:
    """The page's finding, or why its text is not kept although it was read for its links."""
    finding, kind = visit.finding, _list_kind(source, url)
    if finding.outcome is not None and finding.reason != "listing-page":
        return finding
    if kind:
        finding = refused(url, "listing-page", f"listing-page: {kind}", listed=False)
    elif not source.selects(urlsplit(url).path):
        finding = refused(url, "excluded", listed=False)
    elif visit.noindex:
        finding = refused(url, "noindex", "noindex: the page asks not to be kept", listed=False)
    else:
        return finding
    return pages.keep(source, url, Visit(finding, visit.links)).finding


def _list_kind(source: Source, url: str) -> str | None:
    """What kind of list a page is by its address: the entrance of what is crawled is one, too."""
    path = "" if urlsplit(url).query else urlsplit(url).path
    if _INDEX.search(path) and (url == source.name or _INDEX.sub("/", path) in ("/", _folder(source.name))):
        return "front page"
    return listing_kind(url)


def _check_start(source: Source, visit: Visit) -> None:
    """Raise if the start page was not there; one that is merely nothing to keep still has links to follow."""
    finding = visit.finding
    if visit.links or finding.reason == "listing-page" or finding.outcome in (None, LinkOutcome.UNCHANGED):
        return
    message = f"The site {source.config.at} cannot be crawled: {finding.detail}"
    if finding.outcome is LinkOutcome.REFUSED:
        raise FetchRefused(message, reason=finding.reason)
    raise FetchFailed(message, reason=finding.reason)


def _limit_mark(source: Source) -> str:
    """Under this address the warehouse remembers how the crawl ended; no page has a fragment in its address."""
    return f"{source.name}#page-limit"


class _Frontier:
    """The pages still to be read: links in the order in which they are found, then what earlier runs knew."""

    def __init__(self, source: Source, known: Known) -> None:
        self._source = source
        self._inside = _folder(source.name)
        self._todo: deque[str] = deque([source.name])
        self._found = {source.name}
        earlier = sorted(known.values(), key=lambda link: (link.fetched_at, link.url))
        self._earlier = deque(link.url for link in earlier if self._to_ask_again(link))

    def __iter__(self) -> Iterator[str]:
        while self._todo or self._earlier:
            if self._todo:
                yield self._todo.popleft()
            elif (url := self._earlier.popleft()) not in self._found:
                self._found.add(url)
                yield url

    def __len__(self) -> int:
        return len(self._todo) + sum(url not in self._found for url in self._earlier)

    def add(self, links: tuple[str, ...]) -> None:
        """Links of a page that was read."""
        for link in links:
            try:
                url = canonical_url(link)
            except UsageError:  # pages link to anything; what is no web address is no page of this site
                continue
            site = urlsplit(self._source.name)  # http and https, with and without www, are one site
            url = urlsplit(url)._replace(scheme=site.scheme, netloc=site.netloc).geturl() if self._belongs(url) else url
            if url not in self._found and self._belongs(url) and listing_kind(url) not in _NEVER_FETCHED:
                self._found.add(url)
                self._todo.append(url)

    def _to_ask_again(self, link: Link) -> bool:
        """Documents, and whatever else may lead to some: lists, pages that failed or were refused."""
        if leads_to_document(link):
            return True
        page = link.outcome is not LinkOutcome.GONE and "#" not in link.url
        return page and self._belongs(link.url) and listing_kind(link.url) not in _NEVER_FETCHED

    def _belongs(self, url: str) -> bool:
        path = urlsplit(url).path
        return same_site(url, self._source.name) and (path + "/").startswith(self._inside)


def _folder(url: str) -> str:
    """The part of a site that a crawl from this page covers: ``/blog/`` for ``/blog``, ``/blog/`` and ``/blog/index.html``."""
    path = urlsplit(url).path or "/"
    if "." in path.rsplit("/", 1)[-1]:
        path = path.rsplit("/", 1)[0]
    return path.rstrip("/") + "/"
