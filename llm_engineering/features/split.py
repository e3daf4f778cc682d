"""Cutting a text that is too long for one chunk at the best places: lines, sentences, words, characters."""

import re
from collections.abc import Iterator
from itertools import pairwise

from semantic_text_splitter import TextSplitter

from llm_engineering.features.structure import line_starts

_SLICE = 4000
"""Characters given to the splitter at a time: it takes quadratic time on a text without boundaries."""

_SENTENCE_END = re.compile(r"[.!?…。！？][\"'”’)\]*_]{0,4}(?:\s+|(?<=[。！？]))")
_WORD_END = re.compile(r"\s+")


def lines(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """The lines of ``text[start:end)``, their line ends included."""
    return [(start + first, start + last) for first, last in pairwise(line_starts(text[start:end]))]


def sentences(text: str, start: int, end: int, *, characters: int) -> list[tuple[int, int]]:
    """Pieces of ``text[start:end)`` that lie end to end, none longer than ``characters``.

    They end at sentences where those fit, else between words, else (where it can be helped) not inside a grapheme.
    ``text`` holds no lone surrogates. Takes linear time.
    """
    splitter = TextSplitter(max(1, characters), trim=False)
    pieces: list[tuple[int, int]] = []
    for first, last in _slices(text, start, end):
        # A line end inside a paragraph is a blank, not the end of a sentence.
        for piece in splitter.chunks(text[first:last].replace("\r", " ").replace("\n", " ")):
            pieces.append((first, first + len(piece)))
            first += len(piece)
    return pieces


def _slices(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    while end - start > _SLICE:
        cut = text.rfind(" ", start + _SLICE // 2, start + _SLICE) + 1 or start + _SLICE
        yield start, cut
        start = cut
    if start < end:
        yield start, end


def tails(text: str, start: int, end: int) -> Iterator[list[int]]:
    """Where the last sentences of ``text[start:end)`` begin, nearest the end first; then the same for its words."""
    for pattern in (_SENTENCE_END, _WORD_END):
        yield [start + offset for offset in reversed(_ends(pattern, text[start:end])) if start + offset < end]


def _ends(pattern: re.Pattern[str], text: str) -> list[int]:
    return [match.end() for match in pattern.finditer(text)]


def reluctance(text: str, offset: int) -> float:
    """How bad it is to break a paragraph at ``offset``: after a sentence 0.4, a line 0.8, a word 2, inside a word 4."""
    before = text[max(0, offset - 24) : offset]
    if any(end == len(before) for end in _ends(_SENTENCE_END, before)):
        return 0.4
    if before[-1:] in ("\n", "\r"):
        return 0.8
    if before[-1:].isspace() or text[offset : offset + 1].isspace():
        return 2.0
    return 4.0
