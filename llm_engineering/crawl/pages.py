"""Pages of the web: one link in, one finding out, each page fetched at most once in a run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import unquote, urlsplit

from llm_engineering.crawl.defects import contained, found
from llm_engineering.crawl.extract import Page, decode, looks_like_error_page, read_page
from llm_engineering.crawl.feeds import FeedEntry
from llm_engineering.crawl.files import first_heading
from llm_engineering.crawl.findings import Finding, failed, from_error, refused
from llm_engineering.crawl.html_tree import parse_html
from llm_engineering.crawl.particulars import base_url_of, links_of
from llm_engineering.crawl.sitemaps import listing_kind
from llm_engineering.crawl.sources import Source
from llm_engineering.crawl.urls import canonical_url, host_of, same_site
from llm_engineering.domain.config import CrawlConfig
from llm_engineering.domain.entities import Draft, Kind, Link, LinkOutcome, TextFormat
from llm_engineering.domain.errors import FetchFailed, FetchRefused, TwinError, UsageError
from llm_engineering.domain.ports import Fetched, Fetcher

HTML = ("text/html", "application/xhtml+xml")
NOTES = {"text/plain": TextFormat.TEXT, "text/markdown": TextFormat.MARKDOWN, "text/x-markdown": TextFormat.MARKDOWN}
PAGE_TYPES = (*HTML, *NOTES)

IN_FEED = "text from the feed"
"""Mark of a link whose text came complete in the feed, the last time that the feed was read."""
FROM_FEED = "text from the feed it has left"
"""Mark of a link whose page says the same as the feed once did."""

_UNREACHABLE = frozenset({"dns", "connection", "tls", "timeout"})
_FAILURES_OF_A_DEAD_HOST = 3

Known = Mapping[str, Link]
"""Fetch state by URL; validators only where the document they stand for is live."""


@dataclass(frozen=True, slots=True)
class Visit:
    """What reading a link gave. ``links`` are those of the page, absolute, for a site crawl; none after a 304."""

    finding: Finding
    links: tuple[str, ...] = ()
    noindex: bool = False


@dataclass
class Pages:
    """Reads pages and remembers for the run what each link gave. Every host belongs to one thread at a time."""

    fetcher: Fetcher
    config: CrawlConfig
    browser: Callable[[], Fetcher] | None = None
    _visits: dict[tuple[str, str], Visit] = field(default_factory=dict)
    _failures: dict[str, int] = field(default_factory=dict)
    _opened: Fetcher | None = None

    def read(
        self, source: Source, url: str, *, known: Known, conditional: bool = True, only_links: bool = False
    ) -> Visit:
        """Fetch a canonical URL (with validators, if they are known) and read the page. Errors become findings.

        ``only_links`` reads a page that is not to be kept, such as a list of other pages.
        """
        key = (source.author.id, url)
        if key not in self._visits:
            link = known.get(url)
            usable = conditional and link is not None and link.document_id is not None
            try:
                engine = self._browser(source) if source.config.browser else self.fetcher
                with contained(url):
                    answer = self.fetch(url, link=link if usable else None, engine=engine)
                    visit = self.visit(source, url, answer, link=link, only_links=only_links)
            except TwinError as error:
                visit = Visit(from_error(url, error))
            return self._keep(key, visit)
        return self._again(self._visits[key])

    def read_entry(self, source: Source, url: str, entry: FeedEntry, language: str | None) -> Visit:
        """Take a page's text from the feed that carries it whole, unless the page itself was read in this run."""
        key = (source.author.id, url)
        if key in self._visits:
            return self._again(self._visits[key])
        return self._keep(key, Visit(found(url, lambda: self._entry(source, url, entry, language))))

    def keep(self, source: Source, url: str, visit: Visit) -> Visit:
        """Remember a visit that was made elsewhere."""
        return self._keep((source.author.id, url), visit)

    def fetch(
        self, url: str, *, link: Link | None, accept: tuple[str, ...] = PAGE_TYPES, engine: Fetcher | None = None
    ) -> Fetched:
        """Fetch, with the validators of ``link``. A host that did not answer several times in a row is not asked again."""
        host = host_of(url)
        if self._failures.get(host, 0) >= _FAILURES_OF_A_DEAD_HOST:
            raise FetchFailed(f"{host} did not answer several times in a row; {url} was not tried", reason="host-down")
        try:
            answer = (engine or self.fetcher).fetch(
                url, etag=link.etag if link else None, last_modified=link.last_modified if link else None, accept=accept
            )
        except FetchFailed as error:
            if error.reason in _UNREACHABLE:
                self._failures[host] = self._failures.get(host, 0) + 1
            raise
        self._failures[host] = 0
        return answer

    def visit(self, source: Source, url: str, answer: Fetched, *, link: Link | None, only_links: bool = False) -> Visit:
        """What an answer to this link says.

        Raises :class:`FetchRefused` where it is nothing to keep, :class:`FetchFailed` where a parser failed on it.
        """
        with contained(url):
            return self._visit(source, url, answer, link=link, only_links=only_links)

    def _visit(self, source: Source, url: str, answer: Fetched, *, link: Link | None, only_links: bool) -> Visit:
        if answer.not_modified:
            return Visit(_unchanged(url, answer, link))
        if answer.status == 410:
            return Visit(Finding(url, LinkOutcome.GONE, status=410, reason="http-410", detail="410: gone for good"))
        if answer.status == 404:
            return Visit(Finding(url, LinkOutcome.MISSING, status=404, reason="http-404", detail="404: not found"))
        if answer.status >= 400:
            return Visit(failed(url, f"http-{answer.status}", f"the server answered {answer.status}"))
        final = canonical_url(answer.final_url)
        if final != url and (_path(final) == "/" != _path(url) or (listing_kind(final) and not listing_kind(url))):
            return Visit(refused(url, "soft-404", f"soft-404: redirects to {final}, which is not the page asked for"))
        if only_links:
            return Visit(refused(url, "listing-page", listed=False), _links_of(answer))
        page, form = _page_of(answer)
        if problem := looks_like_error_page(page, answer.status):
            return Visit(refused(url, problem), page.links)
        if page.word_count < self.config.min_words:
            short = f"too-short: {page.word_count} words, at least {self.config.min_words} are wanted"
            return Visit(refused(url, "too-short", short), page.links)
        moved = answer.moved_permanently and final != url
        address = _identity(page, final=final, asked=final if moved else url)
        draft = _draft(source, address, page, form, {})
        finding = Finding(
            url,
            draft=draft,
            moved=moved,
            status=answer.status,
            etag=answer.etag,
            last_modified=answer.last_modified,
        )
        return Visit(finding, page.links, page.noindex)

    def _entry(self, source: Source, url: str, entry: FeedEntry, language: str | None) -> Finding:
        if len(entry.text.split()) < self.config.min_words:
            return refused(url, "too-short", f"too-short: fewer than {self.config.min_words} words in the feed")
        page = Page(
            title=entry.title,
            text=entry.text,
            language=language,
            published_at=entry.published_at,
            date_guessed=entry.date_guessed,
            author=entry.author,
        )
        draft = _draft(source, url, page, TextFormat.MARKDOWN, {"text_from": "feed"})
        return Finding(url, draft=draft, mark=IN_FEED)

    def _browser(self, source: Source) -> Fetcher:
        if self._opened is None:
            if self.browser is None:
                raise UsageError(f"{source.config.at} wants a browser, but this run has none")
            self._opened = self.browser()
        return self._opened

    def _keep(self, key: tuple[str, str], visit: Visit) -> Visit:
        finding = visit.finding
        if finding.draft is not None:  # the text goes on to the warehouse; what stays in memory is small
            document = finding.draft.document_id
            finding = replace(
                finding, outcome=LinkOutcome.UNCHANGED, draft=None, document_id=document, moved=False, mark=""
            )
        self._visits[key] = Visit(finding, visit.links)
        return visit

    @staticmethod
    def _again(visit: Visit) -> Visit:
        if visit.finding.outcome is not LinkOutcome.UNCHANGED:
            return visit
        return Visit(replace(visit.finding, detail="already read in this run"), visit.links)


def _unchanged(url: str, answer: Fetched, link: Link | None) -> Finding:
    """A 304 need not repeat the validators that it confirms."""
    return Finding(
        url,
        LinkOutcome.UNCHANGED,
        document_id=link.document_id if link else None,
        status=answer.status,
        etag=answer.etag or (link.etag if link else None),
        last_modified=answer.last_modified or (link.last_modified if link else None),
    )


def _page_of(answer: Fetched) -> tuple[Page, TextFormat]:
    """The page behind a good answer. What a server names no type for is taken for HTML."""
    kind = answer.content_type
    if kind in NOTES:
        text = decode(answer.content, answer.charset)
        title = first_heading(text) or _last_segment(answer.final_url)
        return Page(title=title, text=text, word_count=len(text.split())), NOTES[kind]
    if kind and kind not in HTML:
        raise FetchRefused(f"{answer.final_url} is {kind}, not a page", reason="content-type")
    return read_page(answer.content, url=answer.final_url, charset=answer.charset), TextFormat.MARKDOWN


def _links_of(answer: Fetched) -> tuple[str, ...]:
    root = parse_html(decode(answer.content, answer.charset)) if answer.content_type in ("", *HTML) else None
    if root is None:
        return ()
    return links_of(root, base_url=base_url_of(root, answer.final_url))


def _identity(page: Page, *, final: str, asked: str) -> str:
    """The document's address: what the page names as canonical on its own site, else the address asked for.

    A page below the root that calls the site's front page its canonical address is a theme's mistake.
    """
    if page.url is None:
        return asked
    try:
        named = canonical_url(page.url)
    except UsageError:
        return asked
    if not same_site(named, final) or (_path(named) == "/" != _path(final)) or listing_kind(named):
        return asked
    return named


def _draft(source: Source, url: str, page: Page, form: TextFormat, noted: dict[str, str]) -> Draft:
    metadata = noted | ({"author": page.author} if page.author else {})
    return Draft(
        author_id=source.author.id,
        url=url,
        kind=source.kind(Kind.ARTICLE),
        platform=source.platform(host_of(url).removeprefix("www.")),
        title=page.title or _last_segment(url),
        text=page.text,
        format=form,
        language=page.language,
        published_at=page.published_at,
        date_guessed=page.date_guessed,
        metadata=metadata,
    )


def _path(url: str) -> str:
    return urlsplit(url).path or "/"


def _last_segment(url: str) -> str:
    return unquote(_path(url).rstrip("/").rsplit("/", 1)[-1]) or host_of(url)
