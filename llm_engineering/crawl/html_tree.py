"""HTML as a tree, whatever state it is in, and what a reader sees of it."""

import re
from typing import TypeAlias
from urllib.parse import urljoin, urlsplit

import lxml.html  # type: ignore[import-untyped]  # lxml brings no types
from lxml import etree

Element: TypeAlias = lxml.html.HtmlElement

HEADINGS = {"h1": 1, "h2": 2, "h3": 3, "h4": 4, "h5": 5, "h6": 6}
BLOCKS = frozenset({
    "address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details", "dialog", "div",
    "dl", "dt", "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header",
    "hgroup", "hr", "html", "legend", "li", "main", "nav", "ol", "p", "pre", "section", "summary", "table", "tbody",
    "td", "tfoot", "th", "thead", "tr", "ul",
})  # fmt: skip
SILENT = frozenset({
    "audio", "canvas", "datalist", "embed", "frame", "frameset", "head", "iframe", "img", "input", "link",
    "map", "meta", "noscript", "object", "option", "picture", "script", "select", "source", "style", "svg",
    "template", "textarea", "title", "track", "video",
})  # fmt: skip
_UNSEEN = re.compile(
    r"\b(headerlink|header-anchor|anchor-link|anchorjs-link|heading-link|hash-link|footnote-backref|reversefootnote|"
    r"katex-html|MathJax(_Preview|_Display|_SVG)?|sr-only|screen-reader-text|visually-hidden)\b"
)
_LINE_NUMBERS = re.compile(
    r"(?:^|[\s_-])(linenos?|linenodiv|line-?numbers?(?:-rows)?|gutter|lnt?|blob-num|nums)(?:$|[\s_-])"
)
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")
_WRAPPERS = re.compile(r"</?(?:div|span|font|center|b|i|u|em|strong|small|big|section)\b[^>]*>", re.IGNORECASE)


def words_in(text: str) -> list[str]:
    """The words of a text; of Chinese, Japanese and Korean, which are written without spaces, the characters."""
    return _WORD.findall(text)


def new_element(tag: str, text: str | None = None) -> Element:
    """An element of no tree yet."""
    element = lxml.html.Element(tag)
    element.text = text
    return element


def parse_html(markup: str) -> Element | None:
    """The tree of a page or fragment; ``None`` if there is nothing in it. Broken HTML is repaired, never refused."""
    # A declared encoding contradicts text that is already decoded, and NUL would end the document for libxml2.
    markup = re.sub(r"^\s*<\?xml[^>]*\?>", "", markup.replace("\x00", ""))
    root, too_deep = _parse(markup)
    if too_deep:  # past some 250 nested elements libxml2 reads no further: do without what only wraps
        root, _ = _parse(_WRAPPERS.sub(" ", markup))
    return root


def _parse(markup: str) -> tuple[Element | None, bool]:
    if not markup.strip():
        return None, False
    parser = lxml.html.HTMLParser(encoding="utf-8", remove_pis=True)
    try:
        root = lxml.html.document_fromstring(markup.encode("utf-8", "replace"), parser=parser)
    except etree.ParserError:  # nothing but comments
        return None, False
    return root, any(entry.type == etree.ErrorTypes.ERR_RESOURCE_LIMIT for entry in parser.error_log)


def is_block(element: Element) -> bool:
    """Whether the element starts a line of its own, or holds something that does."""
    return element.tag in BLOCKS or any(True for _ in element.iterdescendants(*BLOCKS))


def is_unseen(element: Element) -> bool:
    """Whether a reader does not see the element, or sees it as no part of the text: permalinks, line numbers."""
    names = element.get("class", "")
    hidden = element.get("hidden") is not None or re.search(r"display:\s*none", element.get("style", ""))
    if hidden and not is_block(element):  # blocks are hidden to be unfolded: tabs, spoilers
        return True
    if names and _UNSEEN.search(names):
        return True
    return bool(names and _LINE_NUMBERS.search(names)) and not re.search(r"[^\d\s]", element.text_content())


def absolute(href: str, base_url: str | None) -> str | None:
    """The http(s) or mail address behind a link; ``None`` for anything that cannot be followed."""
    try:
        target = urljoin(base_url, href) if base_url else href
        scheme = urlsplit(target).scheme
    except ValueError:
        return None
    return target if scheme in ("http", "https", "mailto") or (not scheme and not base_url) else None
