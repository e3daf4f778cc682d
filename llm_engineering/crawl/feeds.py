"""RSS, Atom and JSON feeds: their entries, with as much text as the feed carries."""

import html
import io
import json
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import defusedxml.ElementTree
from defusedxml.common import DefusedXmlException

from llm_engineering.crawl.extract import decode, read_page
from llm_engineering.crawl.frontmatter import parse_date
from llm_engineering.crawl.html_tree import absolute, parse_html
from llm_engineering.crawl.markdown import fragment_to_markdown, plain_text
from llm_engineering.crawl.particulars import folded
from llm_engineering.domain.entities import Frozen
from llm_engineering.domain.errors import SourceError

_ROOT = re.compile(r"<(?:\w+:)?(rss|feed|RDF)[\s>]")
_MORE_LINK = re.compile(r"""class\s*=\s*["'][^"']*\b(more-link|read-?more|continue-reading)\b""", re.IGNORECASE)
_CUT_SHORT = re.compile(
    r"(?:\[?(?:…|\.{3})\]?|\b(?:read (?:more|on|the rest|the full)|continue reading|keep reading|view (?:post|full post)|"
    r"weiterlesen|mehr lesen|lire la suite|leer más|continua a leggere|lees verder)\b[^\n]{0,120})\W*$",
    re.IGNORECASE,
)
# WordPress appends this to full texts and excerpts alike; it is not the author's.
_TRAILER = re.compile(
    r"\n*^[^\n]{0,20}(?:The post \[|Der Beitrag \[|L’article \[|La entrada \[)[^\n]+(?:appeared first on|erschien zuerst auf|"
    r"est apparu en premier sur|se publicó primero en)[^\n]+\Z",
    re.MULTILINE,
)
_REFERENCE = re.compile(r"&#(?:[xX]([0-9a-fA-F]+)|([0-9]+));?")
_DIGITS_OF_A_CHARACTER = 7  # the last one, U+10FFFF, is 1114111
_LAST_CHARACTER = 0x10FFFF


class FeedEntry(Frozen):
    """One entry of a feed."""

    url: str
    title: str
    text: str = ""
    """Markdown of the content that the feed carries; empty if it carries a summary at most."""
    summary: str = ""
    published_at: datetime | None = None
    date_guessed: bool = False
    """The feed says only when the entry was last touched."""
    author: str | None = None
    complete: bool = False
    """``text`` is the whole text; otherwise the page behind ``url`` has to be read."""


class Feed(Frozen):
    """A feed, its entries in the order given; every address occurs once."""

    title: str
    author: str | None = None
    language: str | None = None
    entries: tuple[FeedEntry, ...] = ()
    next_url: str | None = None
    """The next page of a paged feed (RFC 5005)."""
    problems: tuple[str, ...] = ()
    """Entries that cannot be documents, with the reason."""


def read_feed(content: bytes, *, url: str, charset: str | None = None) -> Feed:
    """Read RSS 0.9 to 2.0, Atom or JSON Feed; ``url`` is the feed's own address.

    XML is read without entities. Raises :class:`SourceError` for anything else, saying what it got instead.
    """
    text = decode(content, charset).strip()
    if text.startswith("{"):
        return _json_feed(text, url)
    if not _ROOT.search(text[:5000]):
        raise _not_a_feed(content, text, url=url, charset=charset)
    refuse_entities(text, what="feed", url=url)
    return _xml_feed(text, url)


def refuse_entities(text: str, *, what: str, url: str) -> None:
    """Raise :class:`SourceError` if an XML text defines entities; whether it is well formed is not asked here."""
    try:
        defusedxml.ElementTree.fromstring(text)
    except DefusedXmlException as error:
        raise SourceError(f"The {what} {url} defines XML entities, which are never expanded") from error
    except (defusedxml.ElementTree.ParseError, ValueError) as error:
        if "<!ENTITY" in text:
            raise SourceError(
                f"The {what} {url} is broken and defines XML entities, which are never expanded"
            ) from error


def _not_a_feed(content: bytes, text: str, *, url: str, charset: str | None) -> SourceError:
    if re.search(r"<(!doctype html|html|head|body)\b", text[:5000], re.IGNORECASE):
        page = read_page(content, url=url, charset=charset)
        hint = (
            f"Its page names this feed: {page.feeds[0]}"
            if page.feeds
            else "Give the page as an article, or its feed's address."
        )
        return SourceError(f"Expected a feed at {url} but got an HTML page", hint=hint)
    what = (
        "an empty answer"
        if not text
        else "a sitemap"
        if re.search(r"<(urlset|sitemapindex)\b", text[:5000])
        else "something else"
    )
    return SourceError(f"Expected a feed at {url} but got {what}", hint="Check the address in a browser.")


def _xml_feed(text: str, url: str) -> Feed:
    import feedparser

    # The text is decoded already: whatever encoding it declares no longer holds.
    text = _paired(_REFERENCE.sub(_referred, re.sub(r"^<\?xml[^>]*\?>", "", text)))
    headers = {"content-type": "application/xml; charset=utf-8", "content-location": url}
    try:
        parsed = feedparser.parse(
            io.BytesIO(text.encode("utf-8", "replace")),
            response_headers=headers,
            resolve_relative_uris=False,
            sanitize_html=False,
        )
    except (ValueError, OverflowError) as error:  # its parser for broken XML lets them out
        raise SourceError(f"Expected a feed at {url} but got broken XML ({error})") from error
    feed = parsed.feed
    entries = [_xml_entry(entry, feed, url) for entry in parsed.entries]
    following = [link.get("href", "") for link in feed.get("links", ()) if link.get("rel") == "next"]
    return _feed(
        entries,
        title=_words(feed.get("title", ""), feed.get("title_detail", {})),
        author=_author(feed),
        language=feed.get("language"),
        next_url=absolute(following[0], url) if following and following[0] else None,
    )


def _referred(reference: re.Match[str]) -> str:
    """What a character reference becomes where it means no character: half of a pair, or U+FFFD; others stay."""
    digits = (reference[1] or reference[2]).lstrip("0") or "0"
    code = int(digits, 16 if reference[1] else 10) if len(digits) <= _DIGITS_OF_A_CHARACTER else _LAST_CHARACTER + 1
    if code > _LAST_CHARACTER:
        return "\ufffd"
    return chr(code) if 0xD800 <= code <= 0xDFFF else reference[0]


def _paired(text: str) -> str:
    """The text with every pair of surrogates made one character, and every lone one U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _xml_entry(entry: Any, feed: Any, url: str) -> FeedEntry:  # noqa: ANN401  # feedparser's dictionaries are untyped
    own = [link.get("href") for link in entry.get("links", ()) if link.get("rel") == "self"]
    candidates = [
        entry.get("feedburner_origlink"),
        entry.get("link"),
        *own,
        entry.get("id") if entry.get("guidislink", True) else "",
    ]
    address = _address(candidates, feed.get("title_detail", {}).get("base") or url)
    content = max(entry.get("content", ()), key=lambda part: len(part.get("value") or ""), default=None)
    text, markup = "", ""
    if content is not None:
        markup = content.get("value") or ""
        text = _markdown(markup, content.get("type", "text/html"), base_url=content.get("base") or address or url)
    summary = (entry.get("summary") or "") if content is None or entry.get("summary") != markup else ""
    detail = entry.get("summary_detail", {})
    return _entry(
        url=address or "",
        title=_words(entry.get("title", ""), entry.get("title_detail", {})),
        text=text,
        markup=markup,
        summary=_markdown(summary, detail.get("type", "text/html"), base_url=address or url),
        published_at=next(
            (moment for key in ("published", "created", "updated") if (moment := parse_date(entry.get(key)))),
            None,
        ),
        date_guessed=not any(parse_date(entry.get(key)) for key in ("published", "created")),
        author=_author(entry) or _author(feed),
    )


def _json_feed(text: str, url: str) -> Feed:
    try:
        feed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"Expected a feed at {url} but got broken JSON ({error})") from error
    items = feed.get("items")
    if not _said(feed.get("version")).startswith("https://jsonfeed.org/version/") or not isinstance(items, list):
        raise SourceError(
            f"Expected a feed at {url} but got JSON that is no JSON Feed", hint="Check the address in a browser."
        )
    return _feed(
        [_json_entry(item if isinstance(item, dict) else {}, feed, url) for item in items],
        title=_said(feed.get("title")),
        author=_json_author(feed),
        language=_said(feed.get("language")),
        next_url=absolute(following, url) if (following := _said(feed.get("next_url"))) else None,
    )


def _json_entry(item: dict[str, Any], feed: dict[str, Any], url: str) -> FeedEntry:
    address = _address([_said(one) for one in (item.get("url"), item.get("id")) if isinstance(one, str)], url)
    markup = _said(item.get("content_html"))
    text = fragment_to_markdown(markup, base_url=address or url) if markup else _said(item.get("content_text")).strip()
    return _entry(
        url=address or "",
        title=" ".join(_said(item.get("title")).split()),
        text=text,
        markup=markup,
        summary=_said(item.get("summary")).strip(),
        published_at=parse_date(item.get("date_published")) or parse_date(item.get("date_modified")),
        date_guessed=parse_date(item.get("date_published")) is None,
        author=_json_author(item) or _json_author(feed),
    )


def _json_author(item: dict[str, Any]) -> str | None:
    authors = item.get("authors") or item.get("author")
    named = [one for one in (authors if isinstance(authors, list) else [authors]) if isinstance(one, dict)]
    return ", ".join(name for author in named if (name := " ".join(_said(author.get("name")).split()))) or None


def _said(value: object) -> str:
    """A place of JSON as text; empty for what is none. JSON may hold half of a character, which no store takes."""
    return _paired(str(value)) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""


def _entry(*, text: str, markup: str, summary: str, **particulars: Any) -> FeedEntry:  # noqa: ANN401  # fields of FeedEntry
    text = _TRAILER.sub("", text).strip()
    cut_short = _CUT_SHORT.search(text) or _MORE_LINK.search(markup) or folded(text) == folded(summary)
    return FeedEntry(text=text, summary=summary, complete=bool(text) and not cut_short, **particulars)


def _address(candidates: Iterable[object], base_url: str) -> str | None:
    """The first of them that is a web address; an id such as ``urn:uuid:…`` or ``17`` is none."""
    for candidate in candidates:
        text = str(candidate or "").strip()
        target = absolute(text, base_url) if re.search(r"[/.?]", text) else None
        if target and target.startswith(("http://", "https://")):
            return target
    return None


def _feed(entries: Iterable[FeedEntry], *, language: object, **particulars: Any) -> Feed:  # noqa: ANN401  # fields of Feed
    kept: dict[str, FeedEntry] = {}
    problems = []
    for number, entry in enumerate(entries, start=1):
        if entry.url.startswith(("http://", "https://")):
            kept.setdefault(entry.url, entry)
        else:
            named = entry.title or " ".join((entry.text or entry.summary)[:60].split())
            problems.append(f"entry “{named}” has no address" if named else f"entry {number} has no address")
    code = re.match(r"[A-Za-z]{2}(?![A-Za-z])", str(language or ""))
    return Feed(
        entries=tuple(kept.values()),
        language=code.group().lower() if code else None,
        problems=tuple(problems),
        **particulars,
    )


def _author(item: Any) -> str | None:  # noqa: ANN401  # feedparser's dictionaries are untyped
    name = item.get("author_detail", {}).get("name") or item.get("author") or ""
    return " ".join(str(name).split()) or None


def _markdown(value: str, kind: str, *, base_url: str) -> str:
    return value.strip() if kind == "text/plain" else fragment_to_markdown(value, base_url=base_url)


def _words(value: str, detail: Any) -> str:  # noqa: ANN401  # feedparser's dictionaries are untyped
    """A title without markup. RSS does not say whether a title is HTML: only what cannot be meant literally is undone."""
    if "html" in detail.get("type", "") or re.search(r"</?(?:b|em|i|strong|code|span|sub|sup|a)\b[^>]*>", value):
        root = parse_html(f"<p>{value}</p>")
        value = plain_text(root) if root is not None else ""
    return " ".join(html.unescape(value).split())
