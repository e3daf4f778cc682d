"""A document as the dataset stage reads it: its kept blocks in order, headings told from paragraphs."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from llm_engineering.dataset.words import count_words
from llm_engineering.domain.blocks import BlockKind
from llm_engineering.domain.entities import DocumentState, fold


@dataclass(frozen=True)
class Piece:
    """``text[start:end)`` of a revision: one block without the white space around it, nothing of the page's furniture."""

    start: int
    end: int
    kind: BlockKind
    view: str
    """The block as it is read aloud: markup left out, compatibility characters unified, lines joined."""
    level: int = 0
    """Of a heading 1 to 6."""
    broken: bool = False
    """Furniture of the page was dropped right before it."""

    @cached_property
    def words(self) -> int:
        """Number of words that a reader sees."""
        return count_words(self.view)


ReadPieces = Callable[[DocumentState], Sequence[Piece]]
"""The kept blocks of a document, in order and apart from each other; bootstrap brings the feature stage's reading."""

RECURRING = 3
"""A paragraph that stands in so many writings of one author is a signature or an advertisement, not part of any of them."""

_LINE_OF_WRAPPED_TEXT = 76
_LONGEST_HEADING = 300


def word_set(text: str) -> frozenset[str]:
    """The words of a list written as one text."""
    return frozenset(text.split())


def with_whole_headings(text: str, pieces: Sequence[Piece]) -> list[Piece]:
    """The pieces with headings put together again that a converter had wrapped at the width of a terminal.

    Markdown ends a heading with its line, so the rest of a wrapped one looks like a paragraph right under it.
    """
    whole: list[Piece] = []
    for piece in pieces:
        before = whole[-1] if whole else None
        if before is not None and before.kind is BlockKind.HEADING and _goes_on(text, before, piece):
            whole[-1] = replace(before, end=piece.end, view=joined(f"{before.view} {piece.view}"))
        else:
            whole.append(piece)
    return whole


def joined(text: str) -> str:
    """The text on one line; a word that was broken at a hyphen is whole again."""
    return re.sub(r"(\w)- (?=[a-z])", r"\1-", " ".join(text.split()))


def recurring(documents: Mapping[str, Iterable[Piece]]) -> frozenset[str]:
    """Paragraphs (folded) that stand in :data:`RECURRING` or more of these writings; near-duplicates count as one writing."""
    counts: dict[str, int] = {}
    for pieces in documents.values():
        for paragraph in {fold(piece.view) for piece in pieces if piece.kind in _RECURRING_KINDS and piece.words >= 3}:
            counts[paragraph] = counts.get(paragraph, 0) + 1
    return frozenset(paragraph for paragraph, count in counts.items() if count >= RECURRING)


_RECURRING_KINDS = frozenset({BlockKind.PARAGRAPH, BlockKind.ITEM, BlockKind.HEADING})


def _goes_on(text: str, heading: Piece, piece: Piece) -> bool:
    if piece.kind is not BlockKind.PARAGRAPH or piece.broken or text[heading.end : piece.start].count("\n") != 1:
        return False
    last_line = text[text.rfind("\n", 0, heading.end) + 1 : heading.end]
    rest = text[piece.start : piece.end]
    first_word = rest.split(maxsplit=1)[0] if rest.split() else ""
    full = len(last_line.rstrip()) + 1 + len(first_word) >= _LINE_OF_WRAPPED_TEXT
    return full and len(rest) <= _LONGEST_HEADING
