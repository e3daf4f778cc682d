"""HTML to Markdown, so that the author's text survives: words, punctuation and paragraphs as written, code to the space.

Nothing is judged here: the whole tree is rendered. Whoever wants less of a page takes elements out first.
"""

import re

from llm_engineering.crawl.code_blocks import code_language, code_of, code_of_table, fence
from llm_engineering.crawl.html_tree import BLOCKS, HEADINGS, SILENT, Element, absolute, is_block, is_unseen, parse_html

_EMPHASIS = {"b": "**", "strong": "**", "i": "*", "em": "*", "cite": "*", "del": "~~", "s": "~~", "strike": "~~"}
_CODE = frozenset({"code", "kbd", "samp", "tt"})
_SPACE = re.compile(r"[ \t\n\r\f]+")
_TAG_LIKE = re.compile(r"<(?=/?[A-Za-z!][^<>]*>)")
_BLOCK_START = re.compile(
    r"^(?:(?=#{1,6}\s|>|[-+*]\s|-{3,}$|={2,}$|`{3}|~{3})|(?<!\d)(\d{1,9})(?=[.)]\s))", re.MULTILINE
)
_LONGEST_NUMBER = 9  # digits of a list's number in Markdown; int() itself raises past 4,300
_RAISED = str.maketrans("0123456789+-=()n", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿ")
_LOWERED = str.maketrans("0123456789+-=()", "₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎")
_BREAK = "\ue000"  # stands for <br> until white space is collapsed; private use, so never part of a text


def fragment_to_markdown(markup: str, *, base_url: str | None = None) -> str:
    """Markdown of an HTML fragment such as a feed entry or an exported post, all of it."""
    root = parse_html(markup)
    return "" if root is None else to_markdown(root, base_url=base_url)


def to_markdown(root: Element, *, base_url: str | None = None) -> str:
    """Markdown of a tree: headings, paragraphs, lists, tables, quotes, links, emphasis, fenced code.

    Links are made absolute with ``base_url``. Images, scripts and forms' controls are left out.
    """
    blocks = _Renderer(base_url).blocks(root)
    said = [index for index, block in enumerate(blocks) if block != "---"]  # one divides only what stands around it
    return "\n\n".join(blocks[said[0] : said[-1] + 1]) if said else ""


def plain_text(element: Element) -> str:
    """The words of an element, white space collapsed, without markup and without what a reader does not see."""
    return _SPACE.sub(" ", _Renderer(None, marks=False).inline_children(element).replace(_BREAK, " ")).strip()


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
            elif is_unseen(child):
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
        return _fenced(code_of(pre), code_language(pre))

    def _list(self, element: Element) -> list[str]:
        start = element.get("start", "1")
        number = int(start) if start.isdecimal() and len(start) <= _LONGEST_NUMBER else 1
        items, loose = [], False
        for child in element:
            if not isinstance(child.tag, str) or is_unseen(child):
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
        code = code_of_table(table)
        if code is not None:
            return _fenced(code)
        rows = [row for row in table.iter("tr") if next(row.iterancestors("table")) is table]
        grid = [[cell for cell in row if cell.tag in ("td", "th")] for row in rows]
        widest = max((len(row) for row in grid), default=0)
        cells = [cell for row in grid for cell in row if not is_unseen(cell)]
        holds_blocks = any(
            True for cell in cells for _ in cell.iter("table", "pre", "ul", "ol", "blockquote", *HEADINGS)
        )
        if widest < 2 or len(grid) < 2 or holds_blocks:  # layout, not data
            return [block for part in cells or [table] for block in self.blocks(part)]
        lines = [block for caption in table.iterchildren("caption") for block in self.blocks(caption)]
        table_lines = []
        for index, row in enumerate(grid):
            texts = [_SPACE.sub(" ", " ".join(self.blocks(cell))).replace("|", "\\|") for cell in row]
            table_lines.append("| " + " | ".join(texts + [""] * (widest - len(texts))) + " |")
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
                parts.append(" " if is_unseen(child) else self._inline(child, active))
            parts.append(self._text(child.tail))
        return "".join(parts)

    def _inline(self, element: Element, active: frozenset[str] = frozenset()) -> str:
        tag = element.tag
        if tag == "br":
            return _BREAK
        if tag == "script" or tag == "math":
            return self._formula(element)
        if tag in SILENT:
            return ""
        if tag == "button" and element.getparent().tag not in ("p", "li"):  # in a sentence it is a word of it
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
        return f" {inner} " if tag in BLOCKS else inner

    def _link(self, element: Element, inner: str) -> str:
        href = (element.get("href") or "").strip()
        label = inner.strip()
        if label in ("¶", "#", "↩", "↩︎", "§", "🔗"):
            return ""
        if not self._marks or not label or not href or href.startswith("#"):
            return inner
        target = absolute(href, self._base_url)
        inner = inner.replace(_BREAK, " ")
        if target is None or target in (label, label + "/"):
            return inner
        target = target.replace(" ", "%20")
        if target.count("(") != target.count(")"):
            target = target.replace("(", "%28").replace(")", "%29")
        return _around(inner, "[", f"]({target})")

    def _code_span(self, element: Element) -> str:
        if next(element.iter("br"), None) is not None and self._marks:  # code in lines, but not in <pre>
            return _BREAK.join(_SPACE.sub(" ", line) for line in code_of(element).split("\n"))
        code = _SPACE.sub(" ", code_of(element))
        if not code.strip() or not self._marks:
            return code
        ticks = fence(code, least=1)
        if code.strip()[0] == "`" or code.strip()[-1] == "`":
            return f"{ticks} {code.strip()} {ticks}"
        return _around(code, ticks, ticks)

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


def _fenced(code: str, language: str = "") -> list[str]:
    ticks = fence(code, least=3)
    return [f"{ticks}{language}\n{code}\n{ticks}"] if code.strip() else []


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
