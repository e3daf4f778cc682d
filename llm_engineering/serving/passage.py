"""What stands around a quote in its document, so that a reader finds the sentence where it was written."""

import bisect
import itertools

from markdown_it import MarkdownIt

from llm_engineering.domain.entities import Revision, TextFormat
from llm_engineering.domain.errors import UnknownDocument, UsageError
from llm_engineering.domain.ports import Warehouse

AROUND = 300
"""Characters shown on each side of a quote, at most."""
LONGEST = 5_000
"""Characters of a span that is still a quote, and no copy of the document."""


def passage(warehouse: Warehouse, document_id: str, revision: int, start: int, end: int) -> dict[str, object]:
    """The span ``[start:end)`` of that revision with the text around it, cut at words, and what is known of its document.

    Raises :class:`UnknownDocument` if there is no such text or its document is gone, :class:`UsageError` for a span that
    does not lie in it.
    """
    state = warehouse.state([document_id]).get(document_id)
    kept = warehouse.revision(document_id, revision) if state is not None and state.live else None
    if state is None or kept is None:
        raise UnknownDocument(
            "That source is not here, or is no more", hint="Ask again to get sources as they are now."
        )
    if not 0 <= start < end <= len(kept.text) or end - start > LONGEST:
        raise UsageError(
            f"Revision {revision} has {len(kept.text)} characters and no quote from {start} to {end}",
            hint=f"Give start < end as in a citation, at most {LONGEST} characters apart.",
        )
    return {
        "before": _before(kept.text, start),
        "quote": kept.text[start:end],
        "after": _after(kept.text, end),
        "title": kept.title,
        "url": state.document.url,
        "published_at": kept.published_at.isoformat() if kept.published_at else None,
        "heading_path": headings_above(kept, start),
    }


def headings_above(revision: Revision, position: int) -> list[str]:
    """Titles of the sections that a position lies in, outermost first; empty for text without headings."""
    if revision.format is not TextFormat.MARKDOWN:
        return []
    line = bisect.bisect_right(_line_starts(revision.text), position) - 1
    tokens = MarkdownIt("commonmark").disable("inline").parse(revision.text.encode(errors="replace").decode())
    path: list[tuple[int, str]] = []
    for opening, content in itertools.pairwise(tokens):
        if opening.type == "heading_open" and opening.map is not None and opening.map[0] <= line:
            level = int(opening.tag[1:])
            path = [*((outer, title) for outer, title in path if outer < level), (level, content.content)]
    return [title for _, title in path if title]


def _line_starts(text: str) -> list[int]:
    """Offsets of the lines as Markdown counts them: CR LF, CR and LF end one."""
    starts, position = [0], 0
    for line in text.splitlines(keepends=True):
        position += len(line)
        if line.endswith(("\n", "\r")):
            starts.append(position)
    return starts


def _before(text: str, start: int) -> str:
    if start <= AROUND:
        return text[:start]
    _, space, rest = text[start - AROUND : start].partition(" ")
    return f"… {rest}" if space else "… "


def _after(text: str, end: int) -> str:
    if len(text) - end <= AROUND:
        return text[end:]
    rest, space, _ = text[end : end + AROUND].rpartition(" ")
    return f"{rest} …" if space else " …"
