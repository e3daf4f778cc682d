"""From the bytes of a page to its title, its text as Markdown and its particulars.

Which part of a page is the author's text is trafilatura's judgement; the text itself is taken from the page, so that
nothing of it is retouched on the way (trafilatura's own Markdown loses line breaks and indents of code).
"""

import codecs
import re
from datetime import datetime

from llm_engineering.crawl import particulars
from llm_engineering.crawl.html_tree import Element, parse_html, words_in
from llm_engineering.crawl.main_content import main_content
from llm_engineering.crawl.markdown import plain_text, to_markdown
from llm_engineering.crawl.no_documents import why_no_document
from llm_engineering.domain.entities import Frozen

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DECLARED = re.compile(
    rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([A-Za-z0-9_:.-]+)|<\?xml[^>]{0,100}?encoding\s*=\s*["']([A-Za-z0-9_:.-]+)""",
    re.IGNORECASE,
)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\ufffd]")


class Page(Frozen):
    """What a page says. ``text`` is Markdown without the title; a page without main content has an empty one."""

    title: str
    text: str
    url: str | None = None
    """The page's canonical address as it names it itself, if that is on the same host."""
    language: str | None = None
    """ISO 639-1 code."""
    published_at: datetime | None = None
    date_guessed: bool = False
    """The date was told by the page's looks or its address; no entry for machines states it."""
    author: str | None = None
    links: tuple[str, ...] = ()
    """Every http(s) link of the whole page, absolute, without fragments, in order."""
    feeds: tuple[str, ...] = ()
    word_count: int = 0
    """Words; of Chinese, Japanese and Korean, characters."""
    noindex: bool = False
    """The page asks not to be kept by search engines."""


def decode(content: bytes, charset: str | None = None) -> str:
    """The text of a page or feed, whatever its encoding.

    A byte order mark decides; then bytes that are valid UTF-8 are UTF-8 whatever is claimed; then the claim of the
    server, of the document itself, and at last windows-1252. Bytes without meaning become U+FFFD, never nothing.
    """
    for mark, encoding in _BOMS:
        if content.startswith(mark):
            return content.decode(encoding, "replace").removeprefix("\ufeff")
    declared = _DECLARED.search(content[:4096])
    claims = [charset, *(group.decode("ascii") for group in (declared.groups() if declared else ()) if group)]
    known = [name for claim in claims if claim and (name := _codec(claim))]
    if unmarked := _unmarked_utf16(content):
        return content.decode(unmarked, "replace")
    if known and known[0].startswith(("iso2022", "hz", "utf-7")):  # their bytes are ASCII, but mean something else
        known, first = [], known
    else:
        first = []
    for encoding in [*first, "utf-8", *known]:
        text = _strictly(content, encoding)
        if text is not None:
            return text
    return content.decode((first or known or ["cp1252"])[0], "replace")


def _unmarked_utf16(content: bytes) -> str | None:
    """UTF-16 without its mark: markup in it is every second byte NUL, which no other encoding has."""
    sample = content[:400]
    if sample.count(0) * 3 < len(sample) or not sample:
        return None
    return "utf-16-le" if sample[1::2].count(0) > sample[::2].count(0) else "utf-16-be"


def _codec(name: str) -> str | None:
    try:
        found = codecs.lookup(name.strip().strip("\"'"))
        "".encode(found.name)
    except (LookupError, ValueError):  # unknown, or a codec that is none of text, such as "hex"
        return None
    # What calls itself Latin-1 or ASCII is windows-1252 on the web (WHATWG Encoding).
    return "cp1252" if found.name in ("iso8859-1", "ascii") else found.name


def _strictly(content: bytes, encoding: str) -> str | None:
    try:
        return content.decode(encoding)
    except (UnicodeError, ValueError):
        return None


def read_page(content: bytes, *, url: str, charset: str | None = None) -> Page:
    """Read a page. Broken HTML is repaired; what is no HTML at all gives a page without text. Raises nothing."""
    markup = decode(content, charset)
    root = None if _binary(markup) else parse_html(markup)
    if root is None:
        return Page(title="", text="")
    base_url = particulars.base_url_of(root, url)
    title = particulars.title_of(root, url=url)
    main = main_content(root, url=url)
    if main is not None:
        _drop_title(main, title)
    text = "" if main is None else to_markdown(main, base_url=base_url)
    published_at = particulars.published_of(root, url=url)
    return Page(
        title=title,
        text=text,
        url=particulars.canonical_of(root, base_url=base_url, url=url),
        language=particulars.language_of(root),
        published_at=published_at,
        date_guessed=published_at is not None and not particulars.states_date(root, published_at),
        author=particulars.author_of(root),
        links=particulars.links_of(root, base_url=base_url),
        feeds=particulars.feeds_of(root, base_url=base_url),
        word_count=len(words_in(text)),
        noindex=particulars.wants_no_index(root),
    )


def _binary(markup: str) -> bool:
    """Whether this is no text: an image or an archive that was served as a page."""
    sample = markup[:4096]
    return len(_CONTROL.findall(sample)) > 0.1 * len(sample)


def _drop_title(main: Element, title: str) -> None:
    for heading in list(main.iter("h1", "h2", "h3")):
        if particulars.folded(plain_text(heading)) == particulars.folded(title):
            heading.drop_tree()
            return


def looks_like_error_page(page: Page, status: int) -> str | None:
    """Why a page that was fetched is no document, as a short stable word; ``None`` if it is one.

    ``http-404`` and the like, ``soft-404``, ``access-denied``, ``login-wall``, ``bot-check``, ``parked-domain``,
    ``needs-javascript``, ``cookie-wall``, ``empty``.
    """
    return f"http-{status}" if status >= 400 else why_no_document(page.title, page.text, words=page.word_count)
