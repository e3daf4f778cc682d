"""Two questions about a list of chunks: are they exact, and do they cover the text?"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Chunk(NamedTuple):
    """A span ``[start:end)`` in characters, and the words that are said to stand there."""

    start: int
    end: int
    text: str


class Mismatch(NamedTuple):
    """A chunk that is not what it says; ``at`` is the first character of the text that differs."""

    number: int
    chunk: Chunk
    at: int

    def __str__(self) -> str:
        return f"chunk {self.number}: [{self.chunk.start}:{self.chunk.end}) differs from the text at character {self.at}"


class Gap(NamedTuple):
    """A stretch of the text that no chunk covers."""

    start: int
    end: int
    text: str

    def __str__(self) -> str:
        shown = self.text if len(self.text) <= 40 else self.text[:37] + "..."
        return f"gap: [{self.start}:{self.end}) {shown!r}"


def mismatches(text: str, chunks: Iterable[Chunk]) -> Iterator[Mismatch]:
    """Chunks whose text is not exactly ``text[start:end]``, numbered from 1 in the order given."""
    for number, chunk in enumerate(chunks, start=1):
        if not 0 <= chunk.start <= chunk.end <= len(text):
            # A span outside the text would be cut short by slicing and might then look right.
            yield Mismatch(number, chunk, min(max(chunk.start, 0), len(text)))
        elif text[chunk.start : chunk.end] != chunk.text:
            yield Mismatch(number, chunk, chunk.start + _first_difference(text[chunk.start : chunk.end], chunk.text))


def gaps(text: str, chunks: Iterable[Chunk]) -> Iterator[Gap]:
    """Stretches between, before and after the chunks that hold more than white space, without that white space."""
    covered = 0
    for start, end in [*sorted((chunk.start, chunk.end) for chunk in chunks), (len(text), len(text))]:
        left_out = text[covered:start]
        if left_out.strip():
            begin = covered + len(left_out) - len(left_out.lstrip())
            words = left_out.strip()
            yield Gap(begin, begin + len(words), words)
        covered = max(covered, end)


def problems(text: str, chunks: Iterable[Chunk]) -> list[Mismatch | Gap]:
    """Everything that is wrong: mismatches in the order of the chunks, then gaps in the order of the text."""
    chunks = list(chunks)
    return [*mismatches(text, chunks), *gaps(text, chunks)]


def _first_difference(one: str, other: str) -> int:
    for position, (left, right) in enumerate(zip(one, other)):
        if left != right:
            return position
    return min(len(one), len(other))
