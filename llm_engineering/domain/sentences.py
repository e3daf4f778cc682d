"""What a sentence is, in Markdown and plain text: quoting, verifying and compressing agree on it."""

import re
from collections.abc import Iterator

Span = tuple[int, int]
"""``[start:end)`` in characters of the text."""

_LINE = re.compile(r"[^\n]*\n?")
_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})")
_OWN_LINE = re.compile(r"\s*(?:[-*+]\s|\d{1,3}[.)]\s|#{1,6}\s|\||>|={3,}\s*$|-{3,}\s*$)")
_LEAD = re.compile(r"\s*(?:>\s*|[-*+]\s+|\d{1,3}[.)]\s+)*")
_END = re.compile(r"[.!?…]+[\"'”’)\]*_`]{0,4}(?=\s)|[。！？]+[”’」』）]?")
_ABBREVIATED = re.compile(r"(?:\b(?:e\.g|i\.e|cf|vs|etc|al|Dr|Mr|Mrs|Ms|Prof|St|No|Fig|Eq|approx)|(?<!\w)[A-Z])\.$")
_HEADING = re.compile(r"\s*#{1,6}\s|\s*\|")
_WORD = re.compile(r"[^\W\d_]+")


def sentences(text: str, start: int = 0, end: int | None = None) -> list[Span]:
    """The sentences of ``text[start:end)`` in order, without the white space around them; together they hold all the rest.

    Headings, list items, table rows and quoted lines are never joined with their neighbours; a fenced block is one sentence.
    """
    stop = len(text) if end is None else end
    return [
        span
        for first, last, fenced in _blocks(text, start, stop)
        for span in ([_trimmed(text, first, last)] if fenced else _split(text, first, last))
        if span[0] < span[1]
    ]


def is_prose(sentence: str) -> bool:
    """Whether a sentence says something: no heading, table row or code block, and at least four words."""
    return not _HEADING.match(sentence) and not _FENCE.match(sentence) and len(_WORD.findall(sentence)) >= 4


def without_lead(text: str, span: Span) -> Span:
    """The sentence without the bullet, number or quotation mark of its line."""
    lead = _LEAD.match(text, *span)
    return (min(lead.end(), span[1]), span[1]) if lead else span


def _blocks(text: str, start: int, end: int) -> Iterator[tuple[int, int, bool]]:
    """Runs of lines that belong together: paragraphs, single lines of lists and tables, whole fenced blocks."""
    first, position, fence = start, start, ""
    while position < end:
        match = _LINE.match(text, position, end)
        last = match.end() if match else end
        line = text[position:last]
        mark = _FENCE.match(line)
        if fence:
            if mark and mark.group(1).startswith(fence) and not line[mark.end() :].strip():
                yield first, last, True
                first, fence = last, ""
        elif mark:
            yield first, position, False
            first, fence = position, mark.group(1)
        elif not line.strip() or _OWN_LINE.match(line):
            yield first, position, False
            first = position
            if _HEADING.match(line):
                yield first, last, False
                first = last
        position = last
    yield first, end, bool(fence)


def _split(text: str, start: int, end: int) -> Iterator[Span]:
    first = start
    for match in _END.finditer(text, start, end):
        said = text[first : match.end()]
        if not _ABBREVIATED.search(said) and not _LEAD.fullmatch(said + " "):
            yield _trimmed(text, first, match.end())
            first = match.end()
    yield _trimmed(text, first, end)


def _trimmed(text: str, start: int, end: int) -> Span:
    piece = text[start:end]
    left = len(piece) - len(piece.lstrip())
    return (start + left, start + len(piece.rstrip())) if left < len(piece) else (start, start)
