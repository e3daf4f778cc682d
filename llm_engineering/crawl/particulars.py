"""What a page says about itself: title, author, date, language, canonical address, feeds, wishes of its publisher."""

import copy
import difflib
import json
import re
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urldefrag, urlsplit

from llm_engineering.crawl.frontmatter import parse_date
from llm_engineering.crawl.html_tree import Element, absolute
from llm_engineering.crawl.markdown import plain_text

_FEED_TYPES = frozenset({"application/rss+xml", "application/atom+xml", "application/feed+json", "application/rdf+xml"})
_SEPARATOR = re.compile(r"\s+(?:[|·•»«:/~–—-]|::|&[rl]aquo;)+\s+|\s*[|»«]\s*")
_MOST_HEADINGS = 60
_CLOSE = 0.85  # similarity at which a heading and a part of the title are one, wrong encodings aside
_AUTHOR_PATHS = (
    ".//meta[@name='author']/@content",
    ".//meta[@property='article:author' or @property='author' or @name='dc.creator' or @name='DC.creator']/@content",
    ".//*[contains(concat(' ', normalize-space(@class), ' '), ' p-author ')]",
    ".//*[@itemprop='author']//*[@itemprop='name'] | .//*[@itemprop='author']",
    ".//*[contains(concat(' ', normalize-space(@class), ' '), ' author ')]//*[contains(@class, 'fn')]",
    ".//a[@rel='author']",
    ".//*[contains(@class, 'byline') or contains(@class, 'post-author') or contains(@class, 'entry-author')]//a",
)
_TEXT_TYPES = re.compile(r"Article|Posting|Report|NewsItem")
_COMMENTS = "ancestor-or-self::*[contains(@class, 'comment') or contains(@id, 'comment')]"
_BY = re.compile(
    r"^(?:(?:written|posted|published|geschrieben|veröffentlicht) )?(?:by|von|par|por|di|door)\b:?\s*", re.IGNORECASE
)
_DATE_PATHS = (
    ".//meta[@property='article:published_time' or @property='og:article:published_time']/@content",
    ".//meta[@itemprop='datePublished' or @name='date' or @name='dc.date' or @name='DC.date.issued']/@content",
    ".//*[@itemprop='datePublished']/@datetime",
    ".//time/@datetime",
)
_PUBLISHED_PATHS = (
    ".//time[@pubdate or contains(@class, 'published')]/@datetime",
    ".//*[contains(concat(' ', normalize-space(@class), ' '), ' published ')]/@title",
)


def folded(text: str) -> str:
    """The letters and digits of a text in one case: for telling whether two headings say the same."""
    return "".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


def meta(root: Element, *names: str) -> str:
    """Content of the first ``<meta>`` of these names (or properties) that has one."""
    for name in names:
        for tag in root.iter("meta"):
            if name in (str(tag.get(key, "")).lower() for key in ("property", "name", "itemprop", "http-equiv")):
                content = " ".join((tag.get("content") or "").split())
                if content:
                    return content
    return ""


def title_of(root: Element, *, url: str) -> str:
    """The title of the text rather than of the browser's window: without the site's name where that can be told.

    A heading that the window's title contains is the title; of several the longest. Headings that name the site do not
    count: those that link to its home page, and those that equal ``og:site_name``.
    """
    tag = root.find(".//title")
    window = " ".join(tag.text_content().split()) if tag is not None else ""
    stated = meta(root, "og:title", "twitter:title") or window
    headings = [heading for heading in root.iter("h1", "h2", "h3") if plain_text(heading)][:_MOST_HEADINGS]
    sites = {folded(meta(root, "og:site_name", "application-name"))} | {
        folded(plain_text(heading)) for heading in headings if _links_home(heading, url)
    }
    named = [
        (plain_text(h), folded(plain_text(h)))
        for h in headings
        if folded(plain_text(h)) and folded(plain_text(h)) not in sites
    ]
    if not stated:
        return next((text for text, _ in named), "")
    parts = {folded(part) for whole in (stated, window) for part in _parts(whole)}
    matching = [text for text, fold in named if any(_close(fold, part) for part in parts)]
    if matching:
        return " ".join(max(matching, key=len).split())
    return _without_site(stated, sites)


def _parts(title: str) -> Iterator[str]:
    """Every run of neighbouring parts of a title such as ``Text - Section | Site``."""
    cuts = [0, *(position for match in _SEPARATOR.finditer(title) for position in match.span()), len(title)]
    spans = list(zip(cuts[::2], cuts[1::2], strict=True))[:8]
    for first in range(len(spans)):
        for last in range(first, len(spans)):
            yield title[spans[first][0] : spans[last][1]]


def _close(left: str, right: str) -> bool:
    if left == right:
        return True
    return (
        len(left) > 10
        and abs(len(left) - len(right)) < 5
        and difflib.SequenceMatcher(None, left, right).ratio() >= _CLOSE
    )


def _without_site(title: str, sites: set[str]) -> str:
    for part in sorted(_parts(title), key=len, reverse=True):
        rest = title.removesuffix(part).removeprefix(part)
        if folded(part) in sites and folded(rest):
            return re.sub(r"^[\s|·•»«:/~–—-]+|[\s|·•»«:/~–—-]+$", "", rest)
    return title


def _links_home(heading: Element, url: str) -> bool:
    own = urlsplit(url)
    for link in heading.xpath(".//a[@href] | ancestor::a[@href]"):
        target = absolute(link.get("href").strip(), url)
        if target and urlsplit(target).path in ("", "/", "/index.html", "/index.php") and own.path not in ("", "/"):
            return not urlsplit(target).query
    return False


def author_of(root: Element) -> str | None:
    """The author's name as the page writes it; ``None`` where nothing on it is plainly one."""
    names = [name for data in _linked_data(root) for name in _names(data.get("author"))]
    for path in _AUTHOR_PATHS:
        for found in root.xpath(path):
            if isinstance(found, str):
                names.append(found)
            elif not found.xpath(_COMMENTS):
                names.append(plain_text(found))
    return next((name for name in map(_clean_name, names) if name), None)


def _names(author: object) -> Iterator[str]:
    for one in author if isinstance(author, list) else [author]:
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict) and isinstance(one.get("name"), str):
            yield one["name"]


def _clean_name(text: str) -> str | None:
    name = _BY.sub("", " ".join(text.split())).strip(" ,;:|–—-")
    plausible = (
        0 < len(name) <= 60
        and len(name.split()) <= 6
        and not re.search(r"[\d@/<>{}]|^(?:admin|author|posted on)$", name, re.I)
    )
    return name if plausible else None


def _linked_data(root: Element) -> Iterator[dict[str, Any]]:
    """The JSON-LD objects that describe a text (an article, posting, page)."""
    for script in root.iter("script"):
        if script.get("type", "").lower() == "application/ld+json":
            try:
                data = json.loads(script.text_content())
            except (ValueError, RecursionError):
                continue
            for item in _objects(data):
                for part in _objects(item.get("@graph")) or [item]:
                    if any(_TEXT_TYPES.search(name) for name in _strings(part.get("@type"))):
                        yield part


def _objects(value: object) -> list[dict[str, Any]]:
    """The objects that a place of JSON holds, which is a list, one object, or nothing of use."""
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, dict) and one]


def _strings(value: object) -> list[str]:
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str)]


def published_of(root: Element, *, url: str) -> datetime | None:
    """When the text was published: the day by htmldate's judgement, the time of day if the page states it for that day."""
    from htmldate import find_date

    day = parse_date(find_date(copy.deepcopy(root), extensive_search=False, original_date=True, url=url))
    stated = [str(value) for path in _DATE_PATHS for value in root.xpath(path)]
    stated += [moment for data in _linked_data(root) for moment in _strings(data.get("datePublished"))]
    for value in stated:
        moment = parse_date(value)
        if moment and day and abs(moment - day) < timedelta(hours=38) and value.strip()[:10] == f"{day:%Y-%m-%d}":
            return moment
    return day if day is None or day <= datetime.now(UTC) else None


def states_date(root: Element, moment: datetime) -> bool:
    """Whether the page states for machines that it was published then: a plain ``<time>`` may be of anything."""
    stated = [str(value) for path in (*_DATE_PATHS[:-1], *_PUBLISHED_PATHS) for value in root.xpath(path)]
    stated += [value for data in _linked_data(root) for value in _strings(data.get("datePublished"))]
    return any(parse_date(value) == moment or value.strip()[:10] == f"{moment:%Y-%m-%d}" for value in stated)


def base_url_of(root: Element, url: str) -> str:
    """What relative links of the page are relative to."""
    base = root.find(".//base[@href]")
    return (absolute(base.get("href", "").strip(), url) if base is not None else None) or url


def canonical_of(root: Element, *, base_url: str, url: str) -> str | None:
    """The address that the page names as its own (``rel=canonical``, ``og:url``), if it is on the same host."""
    hrefs = [link.get("href", "") for link in root.iter("link") if "canonical" in link.get("rel", "").lower().split()]
    for href in [*hrefs, meta(root, "og:url")]:
        target = absolute(href.strip(), base_url) if href.strip() else None
        if target and target.startswith(("http://", "https://")) and _host(target) == _host(url):
            return target
    return None


def _host(url: str) -> str:
    return (urlsplit(url).hostname or "").removeprefix("www.")


def language_of(root: Element) -> str | None:
    """ISO 639-1 code of the language that the page states."""
    stated = root.get("lang") or root.get("xml:lang") or meta(root, "content-language", "og:locale", "dc.language")
    match = re.match(r"([A-Za-z]{2})(?:$|[-_,;\s])", (stated or "").strip())
    return match.group(1).lower() if match else None


def links_of(root: Element, *, base_url: str) -> tuple[str, ...]:
    """Every http(s) link, absolute and without fragment, once and in order."""
    found: dict[str, None] = {}
    for anchor in root.iter("a", "area"):
        target = absolute((anchor.get("href") or "").strip(), base_url) if anchor.get("href") else None
        if target and target.startswith(("http://", "https://")):
            found[urldefrag(target).url] = None
    return tuple(found)


def feeds_of(root: Element, *, base_url: str) -> tuple[str, ...]:
    """Addresses of the feeds that the page announces."""
    found: dict[str, None] = {}
    for link in root.iter("link"):
        if "alternate" in link.get("rel", "").lower().split() and link.get("type", "").lower().strip() in _FEED_TYPES:
            target = absolute(link.get("href", "").strip(), base_url)
            if target and target.startswith(("http://", "https://")):
                found[target] = None
    return tuple(found)


def wants_no_index(root: Element) -> bool:
    """Whether the page asks not to be kept by search engines."""
    return bool({"noindex", "none"} & set(re.split(r"[,\s]+", meta(root, "robots").lower())))
