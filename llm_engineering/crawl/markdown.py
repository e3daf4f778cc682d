"""HTML to Markdown, so that the author's text survives: words, punctuation and paragraphs as written, code to the space.

Nothing is judged here: the whole tree is rendered. Whoever wants less of a page takes elements out first.
"""

import re
from collections.abc import Iterator
from typing import TypeAlias
from urllib.parse import urljoin, urlsplit

import lxml.html  # type: ignore[import-untyped]  # lxml brings no types
from lxml import etree

Element: TypeAlias = lxml.html.HtmlElement

HEADINGS = {"h1": 1, "h2": 2, "h3": 3, "h4": 4, "h5": 5, "h6": 6}
_SILENT = frozenset(
    {
        "audio",
        "button",
        "canvas",
        "datalist",
        "embed",
        "frame",
        "frameset",
        "head",
        "iframe",
        "img",
        "input",
        "link",
        "map",
        "meta",
        "noscript",
        "object",
        "option",
        "picture",
        "script",
        "select",
        "source",
        "style",
        "svg",
        "template",
        "textarea",
        "title",
        "track",
        "video",
    }
)
_BLOCKS = frozenset(
    {
        "address",
        "article",
        "aside",
        "blockquote",
        "body",
        "caption",
        "center",
        "dd",
        "details",
        "dialog",
        "div",
        "dl",
        "dt",
        "fieldset",
        "figcaption",
        "figure",
        "footer",
        "form",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "header",
        "hgroup",
        "hr",
        "html",
        "legend",
        "li",
        "main",
        "nav",
        "ol",
        "p",
        "pre",
        "section",
        "summary",
        "table",
        "tbody",
        "td",
        "tfoot",
        "th",
        "thead",
        "tr",
        "ul",
    }
)
_EMPHASIS = {"b": "**", "strong": "**", "i": "*", "em": "*", "cite": "*", "del": "~~", "s": "~~", "strike": "~~"}
_CODE = frozenset({"code", "kbd", "samp", "tt"})
_LINE_NUMBERS = re.compile(
    r"(?:^|[\s_-])(linenos?|linenodiv|line-?numbers?(?:-rows)?|gutter|lnt?|hljs-ln-numbers)(?:$|\s)"
)
_UNSEEN = re.compile(
    r"\b(headerlink|header-anchor|anchor-link|anchorjs-link|heading-link|footnote-backref|reversefootnote|"
    r"katex-html|MathJax(_Preview|_Display|_SVG)?|sr-only|screen-reader-text|visually-hidden)\b"
)
_LANGUAGE = re.compile(
    r"(?:^|\s)(?:language-|lang-|highlight-source-|highlight-|brush:\s*|sourceCode\s+)([A-Za-z0-9+#_.-]+)"
)
_NO_LANGUAGE = frozenset({"none", "text", "plaintext", "default", "plain", "txt", "notranslate", "nohighlight"})
_SPACE = re.compile(r"[ \t\n\r\f]+")
_TAG_LIKE = re.compile(r"<(?=/?[A-Za-z!][^<>]*>)")
_BLOCK_START = re.compile(
    r"^(?:(?=#{1,6}\s|>|[-+*]\s|-{3,}$|={2,}$|`{3}|~{3})|(?<!\d)(\d{1,9})(?=[.)]\s))", re.MULTILINE
)
_RAISED = str.maketrans("0123456789+-=()n", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿ")
_LOWERED = str.maketrans("0123456789+-=()", "₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎")
_BREAK = "\ue000"  # stands for <br> until white space is collapsed; private use, so never part of a text


def parse_html(markup: str) -> Element | None:
    """The tree of a page or fragment; ``None`` if there is nothing in it. Broken HTML is repaired, never refused."""
    # A declared encoding contradicts text that is already decoded, and NUL would end the document for libxml2.
    markup = re.sub(r"^\s*<\?xml[^>]*\?>", "", markup.replace("\x00", ""))
    if not markup.strip():
        return None
    parser = lxml.html.HTMLParser(encoding="utf-8", remove_pis=True)
    try:
        return lxml.html.document_fromstring(markup.encode("utf-8", "replace"), parser=parser)
    except etree.ParserError:  # nothing but comments
        return None


def fragment_to_markdown(markup: str, *, base_url: str | None = None) -> str:
    """Markdown of an HTML fragment such as a feed entry or an exported post, all of it."""
    root = parse_html(markup)
    return "" if root is None else to_markdown(root, base_url=base_url)


def to_markdown(root: Element, *, base_url: str | None = None) -> str:
    """Markdown of a tree: headings, paragraphs, lists, tables, quotes, links, emphasis, fenced code.

    Links are made absolute with ``base_url``. Images, scripts and forms' controls are left out.
    """
    return "\n\n".join(_Renderer(base_url).blocks(root))


def plain_text(element: Element) -> str:
    """The words of an element, white space collapsed, without markup and without what a reader does not see."""
    return _SPACE.sub(" ", _Renderer(None, marks=False).inline_children(element).replace(_BREAK, " ")).strip()


def is_block(element: Element) -> bool:
    """Whether the element starts a line of its own, or holds something that does."""
    return element.tag in _BLOCKS or any(True for _ in element.iterdescendants(*_BLOCKS))


def code_of(pre: Element) -> str:
    """The code inside ``<pre>`` as a reader would copy it: without line numbers, ``<br>`` as newline."""
    code = "".join(_code_parts(pre)).replace("\r\n", "\n").replace("\r", "\n")
    return code.removeprefix("\n").rstrip("\n")


def _code_parts(element: Element) -> Iterator[str]:
    yield element.text or ""
    for child in element:
        if isinstance(child.tag, str):
            if child.tag == "br":
                yield "\n"
            elif child.tag not in _SILENT and not _LINE_NUMBERS.search(child.get("class", "")):
                yield from _code_parts(child)
        yield child.tail or ""


def _language_of(pre: Element) -> str:
    """The language that a highlighter noted on the code, its ``<code>`` or one of the three elements around it."""
    around = [
        ancestor for _, ancestor in zip(range(3), pre.iterancestors("div", "figure", "td", "tr", "table"), strict=False)
    ]
    for element in [pre, *pre.iter("code"), *around]:
        named = element.get("data-lang") or element.get("data-language")
        match = None if named else _LANGUAGE.search(element.get("class", ""))
        language = (named or (match.group(1) if match else "")).strip().lower()
        if language and re.fullmatch(r"[a-z0-9+#_.-]{1,30}", language) and language not in _NO_LANGUAGE:
            return language
    return ""


def _fence(text: str, least: int) -> str:
    """A run of backticks longer than any in the text."""
    return "`" * max([least, *(len(run) + 1 for run in re.findall("`+", text))])


class _Renderer:
    """Walks one tree. ``marks`` off leaves Markdown's signs out."""

    def __init__(self, base_url: str | None, *, marks: bool = True) -> None:
        self._base_url = base_url
        self._marks = marks

    # Blocks

    def blocks(self, element: Element) -> list[str]:
        """The blocks inside an element, in order; loose text between them is a paragraph of its own."""
        found: list[str] = []
        run = [self._text(element.text)]
        for child in element:
            if not isinstance(child.tag, str):
                pass
            elif self._unseen(child):
                run.append(" ")
            elif is_block(child):
                found += self._paragraphs("".join(run)) + self._block(child)
                run = []
            else:
                run.append(self._inline(child))
            run.append(self._text(child.tail))
        return found + self._paragraphs("".join(run))

    def _block(self, element: Element) -> list[str]:
        tag = element.tag
        if tag in HEADINGS:
            heading = _SPACE.sub(" ", self.inline_children(element, frozenset({"**"})).replace(_BREAK, " ")).strip()
            return [f"{'#' * HEADINGS[tag]} {heading}"] if heading else []
        if tag == "pre":
            return self._code_block(element)
        if tag == "hr":
            return ["---"]
        if tag == "blockquote":
            inner = "\n\n".join(self.blocks(element))
            return ["\n".join(f"> {line}" if line else ">" for line in inner.split("\n"))] if inner else []
        if tag in ("ul", "ol"):
            return self._list(element)
        if tag == "table":
            return self._table(element)
        return self.blocks(element)

    def _code_block(self, pre: Element) -> list[str]:
        code = code_of(pre)
        if not code.strip():
            return []
        fence = _fence(code, 3)
        return [f"{fence}{_language_of(pre)}\n{code}\n{fence}"]

    def _list(self, element: Element) -> list[str]:
        start = element.get("start", "1")
        number = int(start) if start.isdecimal() else 1
        items, loose = [], False
        for child in element:
            if not isinstance(child.tag, str) or self._unseen(child):
                continue
            # A list directly inside a list belongs to the item before it.
            inner = self._block(child) if child.tag in ("ul", "ol") else self.blocks(child)
            if not inner:
                continue
            marker = f"{number}. " if element.tag == "ol" else "- "
            number += 1
            # A nested list follows its item's text tightly; anything else needs a blank line before it.
            body = inner[0]
            for block in inner[1:]:
                nested = bool(re.match(r"(?:[-*+]|\d+\.) ", block))
                body += ("\n" if nested else "\n\n") + block
                loose = loose or not nested
            indent = " " * len(marker)
            lines = body.split("\n")
            items.append("\n".join([marker + lines[0], *(indent + line if line else "" for line in lines[1:])]))
        return [("\n\n" if loose else "\n").join(items)] if items else []

    def _table(self, table: Element) -> list[str]:
        rows = [row for row in table.iter("tr") if next(row.iterancestors("table")) is table]
        grid = [[cell for cell in row if cell.tag in ("td", "th")] for row in rows]
        widest = max((len(row) for row in grid), default=0)
        code = [cell for row in grid for cell in row if not _LINE_NUMBERS.search(cell.get("class", ""))]
        holds_blocks = any(
            True for cell in code for _ in cell.iter("table", "pre", "ul", "ol", "blockquote", *HEADINGS)
        )
        if widest < 2 or len(grid) < 2 or holds_blocks:  # layout, not data
            return [block for part in code or [table] for block in self.blocks(part)]
        lines = [block for caption in table.iterchildren("caption") for block in self.blocks(caption)]
        table_lines = []
        for index, row in enumerate(grid):
            cells = [_SPACE.sub(" ", " ".join(self.blocks(cell))).replace("|", "\\|") for cell in row]
            table_lines.append("| " + " | ".join(cells + [""] * (widest - len(cells))) + " |")
            if index == 0:
                table_lines.append("|" + " --- |" * widest)
        return [*lines, "\n".join(table_lines)]

    def _paragraphs(self, inline: str) -> list[str]:
        """Paragraphs of inline Markdown: two line breaks in a row end one, as many old blogs write them."""
        text = re.sub(f" ?{_BREAK} ?", _BREAK, _SPACE.sub(" ", inline))
        parts = (part.strip().strip(_BREAK).strip() for part in re.split(f"{_BREAK}{{2,}}", text))
        paragraphs = [part.replace(_BREAK, "  \n") for part in parts if part]
        return [_BLOCK_START.sub(lambda m: f"{m.group(1) or ''}\\", part) for part in paragraphs]

    # Inline

    def inline_children(self, element: Element, active: frozenset[str] = frozenset()) -> str:
        """Inline Markdown of an element's content; ``active`` emphasis is not opened again."""
        parts = [self._text(element.text)]
        for child in element:
            if isinstance(child.tag, str):
                parts.append(" " if self._unseen(child) else self._inline(child, active))
            parts.append(self._text(child.tail))
        return "".join(parts)

    def _inline(self, element: Element, active: frozenset[str] = frozenset()) -> str:
        tag = element.tag
        if tag == "br":
            return _BREAK
        if tag == "script" or tag == "math":
            return self._formula(element)
        if tag in _SILENT:
            return ""
        if tag in _CODE:
            return self._code_span(element)
        if tag in ("sup", "sub"):
            return _raised(self.inline_children(element, active), _RAISED if tag == "sup" else _LOWERED)
        mark = _EMPHASIS.get(tag, "") if self._marks else ""
        if mark and mark not in active:
            return _around(self.inline_children(element, active | {mark}), mark, mark)
        inner = self.inline_children(element, active)
        if tag == "a":
            return self._link(element, inner)
        if tag == "q":
            return _around(inner, "“", "”")
        return f" {inner} " if tag in _BLOCKS else inner

    def _link(self, element: Element, inner: str) -> str:
        href = (element.get("href") or "").strip()
        label = inner.strip()
        if label in ("¶", "#", "↩", "↩︎", "§", "🔗"):
            return ""
        if not self._marks or not label or not href or href.startswith("#"):
            return inner
        target = absolute(href, self._base_url)
        if target is None or target in (label, label + "/") or _BREAK in label:
            return inner
        target = target.replace(" ", "%20")
        if target.count("(") != target.count(")"):
            target = target.replace("(", "%28").replace(")", "%29")
        return _around(inner, "[", f"]({target})")

    def _code_span(self, element: Element) -> str:
        if next(element.iter("br"), None) is not None and self._marks:  # code in lines, but not in <pre>
            return _BREAK.join(_SPACE.sub(" ", line) for line in code_of(element).split("\n"))
        code = _SPACE.sub(" ", "".join(_code_parts(element)))
        if not code.strip() or not self._marks:
            return code
        fence = _fence(code, 1)
        if code.strip()[0] == "`" or code.strip()[-1] == "`":
            return f"{fence} {code.strip()} {fence}"
        return _around(code, fence, fence)

    def _formula(self, element: Element) -> str:
        """TeX kept by MathJax (``script type=math/tex``) or in MathML's annotation; other scripts say nothing."""
        if element.tag == "script":
            kind = element.get("type", "")
            tex, display = (element.text or "", "mode=display" in kind) if kind.startswith("math/tex") else ("", False)
        else:
            notes = [note for note in element.iter("annotation") if "tex" in note.get("encoding", "")]
            tex = notes[0].text or "" if notes else ""
            display = element.get("display") == "block"
            if not tex:
                return self.inline_children(element)
        sign = "$$" if display else "$"
        return f"{sign}{tex.strip()}{sign}" if tex.strip() else ""

    def _text(self, text: str | None) -> str:
        if not text:
            return ""
        text = text.replace(_BREAK, "")
        return _TAG_LIKE.sub(r"\\<", text) if self._marks else text

    @staticmethod
    def _unseen(element: Element) -> bool:
        if element.get("hidden") is not None or _UNSEEN.search(element.get("class", "")):
            return True
        return bool(re.search(r"display:\s*none", element.get("style", "")))


def absolute(href: str, base_url: str | None) -> str | None:
    """The http(s) or mail address behind a link; ``None`` for anything that cannot be followed."""
    try:
        target = urljoin(base_url, href) if base_url else href
        scheme = urlsplit(target).scheme
    except ValueError:
        return None
    return target if scheme in ("http", "https", "mailto") or (not scheme and not base_url) else None


def _around(inner: str, opening: str, closing: str) -> str:
    """Put marks around the text, outside of them the white space that flanks it (Markdown wants it there)."""
    core = inner.strip().strip(_BREAK).strip()
    if not core:
        return inner
    before, _, after = inner.partition(core)
    return f"{before}{opening}{core}{closing}{after}"


def _raised(inner: str, table: dict[int, int]) -> str:
    """Superscript and subscript digits and signs as the characters that Unicode has for them."""
    text = inner.strip()
    return text.translate(table) if text and all(ord(char) in table for char in text) else inner
