"""Sitemaps in XML, plain text and gzip, and which addresses of a site are lists rather than texts."""

import re
import zlib
from datetime import datetime
from urllib.parse import parse_qsl, urlsplit

import defusedxml.ElementTree

from llm_engineering.crawl.extract import decode
from llm_engineering.crawl.feeds import refuse_entities
from llm_engineering.crawl.frontmatter import parse_date
from llm_engineering.crawl.html_tree import absolute
from llm_engineering.domain.entities import Frozen
from llm_engineering.domain.errors import FetchRefused, SourceError

MAX_BYTES = 50_000_000
"""Largest sitemap that the protocol allows, uncompressed."""


class SitemapEntry(Frozen):
    """One page of a sitemap."""

    url: str
    last_modified: datetime | None = None


class Sitemap(Frozen):
    """What a sitemap lists: pages, and further sitemaps if it is an index. Every address occurs once, in order."""

    pages: tuple[SitemapEntry, ...] = ()
    children: tuple[str, ...] = ()


def read_sitemap(content: bytes, *, url: str, max_bytes: int = MAX_BYTES) -> Sitemap:
    """Read a sitemap in any of its forms. XML is read without entities; language variants of a page are not its pages.

    Raises :class:`FetchRefused` (``too-large``) past ``max_bytes`` of text and :class:`SourceError` if it is no sitemap.
    """
    text = decode(unpack(content, url=url, max_bytes=max_bytes)).strip()
    if re.search(r"<(?:\w+:)?(?:urlset|sitemapindex)[\s>]", text[:5000]):
        return _xml_sitemap(text, url)
    lines = text.split()
    if lines and all(line.startswith(("http://", "https://")) for line in lines):
        return Sitemap(pages=tuple(SitemapEntry(url=line) for line in dict.fromkeys(lines)))
    what = (
        "an empty answer"
        if not text
        else "an HTML page"
        if re.search(r"<html\b", text[:5000], re.I)
        else "something else"
    )
    raise SourceError(
        f"Expected a sitemap at {url} but got {what}", hint="Look for the address after 'Sitemap:' in robots.txt."
    )


def unpack(content: bytes, *, url: str, max_bytes: int) -> bytes:
    """The bytes behind gzip, if they are gzipped; never more than ``max_bytes`` of them are made."""
    if content.startswith(b"\x1f\x8b"):
        unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        try:
            content = unpacker.decompress(content, max_bytes + 1)
        except zlib.error as error:
            raise SourceError(f"The gzip archive {url} is damaged ({error})") from error
        if not unpacker.eof and len(content) <= max_bytes:
            raise SourceError(f"The gzip archive {url} ends before its end", hint="Fetch it again.")
    if len(content) > max_bytes:
        raise FetchRefused(f"The sitemap {url} has more than {max_bytes:,} bytes", reason="too-large")
    return content


def _xml_sitemap(text: str, url: str) -> Sitemap:
    refuse_entities(text, what="sitemap", url=url)
    try:
        root = defusedxml.ElementTree.fromstring(text)
    except (defusedxml.ElementTree.ParseError, ValueError) as error:
        raise SourceError(f"The sitemap {url} is not well-formed XML ({error})") from error
    pages: dict[str, SitemapEntry] = {}
    children: dict[str, None] = {}
    for entry in root:
        kind = _name(entry.tag)
        fields = {_name(child.tag): (child.text or "").strip() for child in reversed(entry)}
        address = absolute(fields.get("loc", ""), url) if fields.get("loc") else None
        if address is None or not address.startswith("http"):
            continue
        if kind == "sitemap":
            children[address] = None
        elif kind == "url":
            pages.setdefault(address, SitemapEntry(url=address, last_modified=parse_date(fields.get("lastmod"))))
    return Sitemap(pages=tuple(pages.values()), children=tuple(children))


def _name(tag: object) -> str:
    return str(tag).rpartition("}")[2].lower()


# Addresses that list, sort or ask instead of telling. Each rule: where in the address, pattern, what it is.
_LISTINGS = (
    ("path", r"/(tags?|labels?|schlagwort|etiqueta)(/|\.html?$|$)", "tag"),
    ("path", r"/(categor(y|ies)|categoria|kategorien?|rubrik)(/|\.html?$|$)", "category"),
    ("path", r"/(archives?|archiv)(\.html?|\.php|/)?$", "archive"),
    ("path", r"/archives?/\d{4}(/\d{1,2}){0,2}/?$", "archive"),
    ("path", r"/\d{4}(/(0?[1-9]|1[0-2])(/([0-2]?\d|3[01]))?)?/?$", "archive"),
    ("path", r"/(authors?|autor)(/[^/]+)?/?$", "author"),
    ("path", r"/author/", "author"),
    ("path", r"/(search|suche)(/|\.html?|\.php|$)", "search"),
    (
        "path",
        r"/(log-?in|log-?out|sign-?in|sign-?up|register|account|wp-login\.php|wp-admin|admin|cart|checkout)(/|\.\w+$|$)",
        "login",
    ),
    ("path", r"/(feeds?|rss|atom)(/|$)", "feed"),
    ("path", r"\.(atom|rss|rdf)(\.xml)?$|/(feed|rss|atom|index)\.(xml|json)$|\.atom\.xml$|\.rss\.xml$", "feed"),
    ("path", r"/(sitemap|robots)[^/]*\.(xml|txt|gz|html?)$", "sitemap"),
    ("path", r"/(page|seite)/?\d+/?$|/(index|page)-?\d+\.html?$", "pagination"),
    ("path", r"/(amp|embed|trackback)/?$|/(wp-json|xmlrpc\.php|cdn-cgi)(/|$)", "variant"),
    (
        "path",
        r"\.(jpe?g|png|gif|svg|webp|avif|ico|bmp|tiff?|mp[34]|m4[av]|ogg|wav|webm|mov|avi|pdf|zip|gz|tgz|bz2|xz|7z|rar|tar|"
        r"dmg|exe|whl|docx?|xlsx?|pptx?|css|js|mjs|json|xml|txt|csv|woff2?|ttf|eot|ipynb|bib|epub)$",
        "asset",
    ),
    ("query", r"^(s|q|search|query)$", "search"),
    ("query", r"^(page|paged|offset|start|seite)$", "pagination"),
    ("query", r"^(tag|cat|category|author|m|label|sort|order|orderby|filter)$", "listing"),
    ("query", r"^(replytocom|share|print|amp|action|feed|format)$", "variant"),
)
_RULES = tuple((part, re.compile(pattern, re.IGNORECASE), what) for part, pattern, what in _LISTINGS)


def is_listing_page(url: str) -> bool:
    """Whether the address is that of a list, a form or an asset by its looks: nothing that a site crawl keeps."""
    return listing_kind(url) is not None


def listing_kind(url: str) -> str | None:
    """What kind of list, form or asset the address is by its looks, as a word for reports; ``None`` for a text's address."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "asset"
    path = parts.path or "/"
    names = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    for part, pattern, what in _RULES:
        if any(pattern.search(subject) for subject in ([path] if part == "path" else names)):
            return what
    return None
