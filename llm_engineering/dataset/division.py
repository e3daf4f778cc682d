"""A long section divided into parts of about equal length, where a reader would pause."""

import re
from collections.abc import Iterator, Sequence
from itertools import accumulate

from llm_engineering.dataset.pieces import Piece
from llm_engineering.domain.blocks import BlockKind
from llm_engineering.domain.dataset_config import PassageConfig

_LIKE_ITEM = re.compile(r"[-•*↳→]|\d{1,2}[.)]\s")
ENDS = (".", "!", "?", ":", "…", ")", "”", '"', "。", "！", "？", ";")
"""What a paragraph ends with that is no label."""


def parts(text: str, run: list[Piece], config: PassageConfig) -> Iterator[list[Piece]]:
    """The run whole if it is short enough; else in parts of about equal length, divided where a reader would pause."""
    words = sum(piece.words for piece in run)
    if words <= config.max_words:
        yield run
        return
    units = list(_units(text, run))
    reached = [0, *accumulate(sum(piece.words for piece in unit) for unit in units)]
    count = -(-words // config.max_words)
    wanted = words / count
    first = 0
    for number in range(1, count):
        costs = {
            index: abs(reached[index] - number * wanted) + wanted * _reluctance(units[index - 1], units[index])
            for index in range(first + 1, len(units))
            if reached[index] - reached[first] >= config.min_words and words - reached[index] >= config.min_words
        }
        if not costs:
            break
        cut = min(costs, key=lambda index: (costs[index], index))
        yield [piece for unit in units[first:cut] for piece in unit]
        first = cut
    yield [piece for unit in units[first:] for piece in unit]


def _reluctance(before: Sequence[Piece], unit: Sequence[Piece]) -> float:
    """How unwelcome a beginning here is, in parts of the wanted length."""
    opening = unit[0].view
    if before[-1].view.endswith((":", "↓")) or _is_label(before[-1]):
        return 1.0
    if _is_label(unit[0]):
        return -0.25
    if unit[0].kind is not BlockKind.PARAGRAPH or _LIKE_ITEM.match(opening):
        return 0.3
    return 0.15 if opening[:1].islower() else 0.0


def _is_label(piece: Piece) -> bool:
    """A line in bold or the like that stands over what follows."""
    return piece.kind is BlockKind.PARAGRAPH and piece.words <= 8 and not piece.view.endswith(ENDS)


def _units(text: str, run: Sequence[Piece]) -> Iterator[list[Piece]]:
    """Blocks that stay together: a list, and code, table or list with the sentence that introduces it."""
    unit: list[Piece] = []
    for piece in run:
        if unit and not _belongs(text, unit, piece):
            yield unit
            unit = []
        unit.append(piece)
    if unit:
        yield unit


def _belongs(text: str, unit: Sequence[Piece], piece: Piece) -> bool:
    before = unit[-1]
    if piece.kind is BlockKind.ITEM:
        return before.kind is BlockKind.ITEM and _indent(text, piece) > _indent(text, unit[0])
    if any(each.kind is BlockKind.ITEM for each in unit) and _indent(text, piece) >= 2:
        return True  # another paragraph, or code, of the same item
    introduced = before.view.endswith(":") and piece.kind is not BlockKind.PARAGRAPH
    return before.kind is BlockKind.HEADING or introduced


def _indent(text: str, piece: Piece) -> int:
    inside = text[piece.start : piece.end]
    return len(inside) - len(inside.lstrip(" \t"))
