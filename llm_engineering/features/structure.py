"""Where the headings, paragraphs, list items, tables and code of a text are: one parse that cleaning and chunking share."""

import bisect
import re
from collections.abc import Iterator
from dataclasses import dataclass

from markdown_it import MarkdownIt
from markdown_it.token import Token

from llm_engineering.domain.blocks import BlockKind
from llm_engineering.domain.entities import TextFormat

_LINE = re.compile(r"[^\r\n]*+(?:\r\n|\r|\n|\Z)")
_DEFINITION = re.compile(r"[ \t>]*\[[^\[\]]{1,999}+\]:")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Block:
    """A leaf of the document: ``text[start:end)``, white space after it included, so that blocks lie end to end."""

    start: int
    end: int
    kind: BlockKind
    level: int = 0
    """Of a heading 1 to 6; of code the indent of its first line; otherwise 0."""
    fenced: bool = False
    """Code between fence lines."""


def without_surrogates(text: str) -> str:
    """The text with every lone surrogate replaced by U+FFFD, offsets unchanged: what engines can encode."""
    return _SURROGATE.sub("\ufffd", text)


def line_starts(text: str) -> list[int]:
    """Offset of every line, and of the end of the text; a line ends at CRLF, CR or LF."""
    starts = [match.start() for match in _LINE.finditer(text)]
    if not starts or starts[-1] != len(text):
        starts.append(len(text))
    return starts


def blocks(text: str, *, format: TextFormat) -> list[Block]:
    """The blocks of a text in order; together they are the whole text. An empty text has none. Takes linear time."""
    if not text:
        return []
    starts = line_starts(text)
    leaves = list(_LEAVES[format](text, starts))
    found: list[Block] = []
    for position, (line, kind, level, fenced) in enumerate(leaves):
        start = 0 if position == 0 else starts[line]  # what is before the first block belongs to it
        end = starts[leaves[position + 1][0]] if position + 1 < len(leaves) else len(text)
        found.append(Block(start, end, kind, level, fenced))
    return found or [Block(0, len(text), BlockKind.PARAGRAPH)]


_Leaf = tuple[int, BlockKind, int, bool]
"""First line, kind, level, fenced."""


def _markdown(text: str, starts: list[int]) -> Iterator[_Leaf]:
    """CommonMark blocks with tables. Lines that yield none are definitions of link targets, or paragraphs."""
    covered = 0
    for first, last, kind, level, fenced in _tokens(_parser().parse(text)):
        if first < covered:
            continue
        yield from _uncovered(text, starts, covered, first)
        yield first, kind, level, fenced
        covered = last
    yield from _uncovered(text, starts, covered, len(starts) - 1)


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark").enable("table")
    parser.core.ruler.enableOnly(["normalize", "block"])  # inline markup has no offsets there, and costs the most
    return parser


def _tokens(tokens: list[Token]) -> Iterator[tuple[int, int, BlockKind, int, bool]]:
    item_line = -1
    for token in tokens:
        if token.map is None:
            continue
        first, last = token.map
        match token.type:
            case "list_item_open":
                item_line = first
            case "heading_open" if token.level == 0:
                yield first, last, BlockKind.HEADING, int(token.tag[1:]), False
            case "paragraph_open" | "heading_open" | "html_block":
                yield first, last, BlockKind.ITEM if first == item_line else BlockKind.PARAGRAPH, 0, False
            case "fence" | "code_block":
                yield first, last, BlockKind.CODE, 0, token.type == "fence"
            case "table_open":
                yield first, last, BlockKind.TABLE, 0, False
            case "hr":
                yield first, last, BlockKind.RULE, 0, False


def _uncovered(text: str, starts: list[int], first: int, last: int) -> Iterator[_Leaf]:
    for line in range(first, last):
        content = text[starts[line] : starts[line + 1]].strip()
        if content:
            yield line, BlockKind.REFERENCE if _DEFINITION.match(content) else BlockKind.PARAGRAPH, 0, False
            return


def _plain(text: str, starts: list[int]) -> Iterator[_Leaf]:
    """Paragraphs between blank lines."""
    for line, _ in _after_blank(text, starts):
        yield line, BlockKind.PARAGRAPH, 0, False


def _code(text: str, starts: list[int]) -> Iterator[_Leaf]:
    """Groups of lines between blank lines; the level is the indent, so that a top-level definition has level 0."""
    for line, content in _after_blank(text, starts):
        yield line, BlockKind.CODE, len(content) - len(content.lstrip()), False


def _after_blank(text: str, starts: list[int]) -> Iterator[tuple[int, str]]:
    blank = True
    for line in range(len(starts) - 1):
        content = text[starts[line] : starts[line + 1]]
        if not content.strip():
            blank = True
        elif blank:
            blank = False
            yield line, content


_LEAVES = {TextFormat.MARKDOWN: _markdown, TextFormat.TEXT: _plain, TextFormat.CODE: _code}


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading as it stands in the text, its markup stripped."""

    start: int
    end: int
    level: int
    text: str


class Outline:
    """The headings of a document, to be asked which of them hold at an offset."""

    def __init__(self, headings: list[Heading]) -> None:
        self._starts = [heading.start for heading in headings]
        self._paths: list[tuple[Heading, ...]] = []
        path: tuple[Heading, ...] = ()
        for heading in headings:
            path = (*(outer for outer in path if outer.level < heading.level), heading)
            self._paths.append(path)

    def at(self, offset: int) -> tuple[Heading, ...]:
        """The enclosing headings, outermost first; at a heading itself, that heading is the last."""
        index = bisect.bisect_right(self._starts, offset) - 1
        return self._paths[index] if index >= 0 else ()
