"""Chunks: spans of a revision's text that fit the embedder's window and follow the structure of the text.

Sections, paragraphs, list items, code and table rows are kept together where they fit. Each chunk carries the path of headings
it stands under, the text that is embedded (title and headings, then the index view of its span) and a larger window for
the reader.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, takewhile

from llm_engineering.domain.blocks import BlockKind
from llm_engineering.domain.config import ChunkConfig, ChunkSize, CleanConfig
from llm_engineering.domain.entities import Chunk, Kind, Revision, TextFormat, chunk_id, fold
from llm_engineering.features.clean import Span, reading_spans
from llm_engineering.features.clean import reading_text as reading_text
from llm_engineering.features.normalise import normalise
from llm_engineering.features.pack import Unit, pack
from llm_engineering.features.split import lines, reluctance, sentences, tails
from llm_engineering.features.structure import Block, Heading, Outline, blocks

VERSION = 1
"""Raised with every change of the code after which the same text would give other chunks."""


def chunker_fingerprint(chunk: ChunkConfig, clean: CleanConfig, window: int) -> str:
    """Changes exactly when the same revision would give other chunks: other code, configuration or window."""
    parts = {"version": VERSION, "chunk": chunk.digest(), "clean": clean.digest(), "window": window}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def chunk(
    revision: Revision,
    *,
    kind: Kind,
    config: ChunkConfig,
    clean: CleanConfig,
    count_tokens: Callable[[str], int],
    window: int,
) -> list[Chunk]:
    """The chunks of a revision in order, size by size; a span that two sizes share comes once, under the first.

    The chunks of one size without overlap divide the reading view exactly, white space included: every character of it is
    in one of them, however short the text. ``revision.text[c.start:c.end] == c.text``, and ``c.embedded`` has at most
    ``min(size, window)`` tokens by ``count_tokens``. A text of white space alone has no chunks. Same revision and
    configuration, same chunks and ids.
    """
    if not revision.text.strip():
        return []
    document = _Document(revision, clean, count_tokens)
    found: dict[str, Chunk] = {}
    for size in config.by_kind.get(kind, config.sizes):
        for each in document.chunks(size, limit=max(1, min(size.size, window))):
            found.setdefault(each.id, each)
    return list(found.values())


_RELUCTANCE = {
    BlockKind.HEADING: 0.0,
    BlockKind.RULE: 0.0,
    BlockKind.PARAGRAPH: 0.05,
    BlockKind.ITEM: 0.2,
    BlockKind.TABLE: 0.25,
    BlockKind.CODE: 0.25,
    BlockKind.REFERENCE: 0.3,
}
"""Cost of beginning a chunk at a block: code, tables and lists belong to the words that introduce them."""


_CROSSING = 1.5
"""Cost of a chunk that reaches into the next section, and somewhat more where that section stands higher."""
_CONTENT = re.compile(r"\S")


class _Document:
    """One revision, read once: structure, index view, reading view and outline serve all sizes."""

    def __init__(self, revision: Revision, clean: CleanConfig, count_tokens: Callable[[str], int]) -> None:
        self._revision = revision
        self._text = revision.text
        structure = blocks(self._text, format=revision.format)
        self._view = normalise(self._text, format=revision.format, structure=structure)
        spans = reading_spans(self._text, format=revision.format, config=clean, structure=structure, view=self._view)
        self._kept = list(_cut_to(spans, structure))
        self._outline = Outline([heading for inside in self._kept for heading in self._headings(inside)])
        self._title = _one_line(normalise(revision.title, format=TextFormat.TEXT).text)
        self._count = count_tokens
        # What a line break between two units costs: nothing in WordPiece, a token in others.
        self._joint = max(0, count_tokens("a\nb") - count_tokens("a") - count_tokens("b"))
        self._lengths: dict[tuple[int, int], int] = {}
        self._prefixes: dict[tuple[int, int, int], tuple[str, int]] = {}

    def chunks(self, size: ChunkSize, *, limit: int) -> list[Chunk]:
        """The chunks of one size; none is embedded with more than ``limit`` tokens."""
        overlap = min(size.overlap, limit // 2)
        cores: list[_Core] = []
        for inside in self._kept:
            units = self._units(inside, limit - overlap)
            limits = [limit - overlap - self._prefix(unit.start, limit)[1] for unit in units]
            for first, last in pack(units, limits):
                cores += self._fitting(units[first:last], limit)
        windows = self._windows(cores, size.window)
        if overlap:
            cores = [cores[0], *(self._overlapping(*pair, overlap, limit) for pair in pairwise(cores))]
        return [self._chunk(core, window, size.name) for core, window in zip(cores, windows, strict=True)]

    def _chunk(self, core: "_Core", window: Span, size: str) -> Chunk:
        text = self._text[core.start : core.end]
        document = self._revision.document_id
        return Chunk(
            id=chunk_id(document, core.start, core.end, text),
            document_id=document,
            revision=self._revision.number,
            start=core.start,
            end=core.end,
            text=text,
            heading_path=self._path(core.start),
            window_start=min(window.start, core.start),
            window_end=window.end,
            embedded=core.embedded,
            size=size,
        )

    # ---- headings ----

    def _headings(self, inside: Sequence[Block]) -> Iterator[Heading]:
        for block in inside:
            if block.kind is BlockKind.HEADING:
                text = _one_line(self._view.between(block.start, block.end))
                if text:
                    yield Heading(block.start, block.end, block.level, text)

    def _section(self, offset: int) -> tuple[Heading, ...]:
        """The headings that hold for the first content at or after ``offset``."""
        content = _CONTENT.search(self._text, offset)
        return self._outline.at(content.start() if content else offset)

    def _path(self, offset: int) -> tuple[str, ...]:
        if self._revision.format is TextFormat.CODE:
            path = self._revision.metadata.get("path")
            return (path,) if path else ()
        return tuple(heading.text for heading in self._section(offset))

    def _prefix(self, start: int, limit: int) -> tuple[str, int]:
        """What is embedded before a chunk that begins at ``start``, and its tokens: at most a quarter of ``limit``.

        Title and headings, without those that the chunk itself begins with.
        """
        section = self._section(start)
        own = sum(heading.start >= start for heading in section) if section and section[-1].start >= start else 0
        key = (section[-1].start if section else -1, own, limit)
        if key not in self._prefixes:
            path = self._path(start)
            parts = path[: len(path) - own]
            if fold(self._title) not in map(fold, path):
                parts = (self._title, *parts)
            text = self._shortened([part for part in parts if part], limit // 4)
            self._prefixes[key] = (text, self._count(text) + self._joint if text else 0)
        return self._prefixes[key]

    def _shortened(self, parts: list[str], most: int) -> str:
        """The parts on lines of their own: the outer ones go first, then words of the title, then of the nearest."""
        while len(parts) > 2 and self._count("\n".join(parts)) > most:
            del parts[1]
        for index, part in enumerate(parts):
            words = part.split()
            while words and self._count("\n".join(filter(None, parts))) > most:
                words = words[: len(words) * 3 // 4]
                parts[index] = " ".join(words)
        return "\n".join(filter(None, parts))

    # ---- units ----

    def _length(self, start: int, end: int) -> int:
        """Tokens that the span adds to what is embedded; 0 exactly if the index view shows nothing of it."""
        if (start, end) not in self._lengths:
            body = self._view.between(start, end)
            self._lengths[start, end] = max(1, self._count(body) + self._joint) if body else 0
        return self._lengths[start, end]

    def _units(self, inside: Sequence[Block], limit: int) -> list[Unit]:
        """The blocks of a kept span as units that fit; a block after headings fits together with them."""
        units: list[Unit] = []
        level, headings = 0, 0
        for block in inside:
            room = max(1, limit - self._prefix(block.start, limit)[1])
            fits = room - headings if headings < room else room
            for start, end, reluctance_here in self._pieces(block, fits):
                is_heading = block.kind is BlockKind.HEADING
                crossing = 0.0
                if is_heading and start == block.start and not (units and units[-1].heading):
                    crossing = _CROSSING if block.level >= level else _CROSSING + 0.5
                unit = Unit(start, end, self._length(start, end), reluctance_here, crossing, is_heading)
                _append(units, unit, tiny=room // 16)
            if block.kind is BlockKind.HEADING:
                level, headings = block.level, headings + self._length(block.start, block.end)
            elif self._length(block.start, block.end):
                headings = 0
        return units

    def _pieces(self, block: Block, room: int) -> Iterator[tuple[int, int, float]]:
        """The block, cut where it is longer than ``room``: start, end, reluctance to begin a chunk there."""
        begin = _RELUCTANCE[block.kind]
        if self._revision.format is TextFormat.CODE:
            begin = 0.0 if block.level == 0 else 0.2
        if self._length(block.start, block.end) <= room:
            yield block.start, block.end, begin
            return
        by_line = block.kind in (BlockKind.CODE, BlockKind.TABLE)
        for start, end in self._cut(block.start, block.end, room, by_line=by_line):
            if start == block.start:
                yield start, end, begin
            elif by_line and self._text[start - 1] in "\r\n":
                yield start, end, 0.3
            else:
                yield start, end, reluctance(self._text, start)

    def _cut(self, start: int, end: int, room: int, *, by_line: bool) -> Iterator[tuple[int, int]]:
        """Pieces that fit, about an eighth of ``room`` where sentences allow; a single character is never cut."""
        pieces = lines(self._text, start, end) if by_line else []
        if len(pieces) < 2:
            wanted = (end - start) * room // (8 * max(1, self._length(start, end)))
            pieces = sentences(self._text, start, end, characters=max(1, min(wanted, (end - start) // 2)))
        for first, last in pieces:
            if last - first > 1 and self._length(first, last) > room:
                yield from self._cut(first, last, room, by_line=False)
            else:
                yield first, last

    # ---- what is embedded ----

    def _embedded(self, start: int, end: int, limit: int) -> str:
        prefix, _ = self._prefix(start, limit)
        body = self._view.between(start, end)
        return "\n".join(filter(None, (prefix, body))) or _one_line(self._text[start:end])

    def _fitting(self, units: list[Unit], limit: int) -> Iterator["_Core"]:
        """The run of units as one core, or as several where the exact count says that it is too long."""
        start, end = units[0].start, units[-1].end
        embedded = self._embedded(start, end, limit)
        if self._count(embedded) <= limit:
            yield _Core(start, end, embedded, sum(unit.tokens for unit in units))
            return
        if len(units) == 1:
            units = []
            for first, last in self._cut(start, end, max(1, limit // 2), by_line=False):
                _append(units, Unit(first, last, self._length(first, last), 0.0), tiny=0)
        if len(units) == 1:
            while self._count(embedded) > limit:  # one character that is many tokens: the index sees some of them
                embedded = embedded[: len(embedded) // 2]
            yield _Core(start, end, embedded, limit)
        else:
            middle = len(units) // 2
            yield from self._fitting(units[:middle], limit)
            yield from self._fitting(units[middle:], limit)

    def _overlapping(self, before: "_Core", core: "_Core", overlap: int, limit: int) -> "_Core":
        """The core with the last sentences before it, up to ``overlap`` tokens, of the same section and kept span."""
        section = self._section(core.start)
        lowest = max(before.start, section[-1].end if section else 0, core.start - 12 * overlap - 200)
        if before.end != core.start or lowest >= core.start:
            return core
        for beginnings in tails(self._text, lowest, core.start):
            fitting = takewhile(lambda start: self._length(start, core.start) <= overlap, beginnings)
            for start in [*fitting][-1:]:
                embedded = self._embedded(start, core.end, limit)
                return replace(core, start=start, embedded=embedded) if self._count(embedded) <= limit else core
        return core

    # ---- what is shown ----

    def _windows(self, cores: Sequence["_Core"], most: int) -> list[Span]:
        """For every core the span of its neighbours up to ``most`` tokens: first of its section, then beyond."""
        sections = [self._section(core.start)[-1:] for core in cores]
        windows: list[Span] = []
        for index, core in enumerate(cores):
            first = last = index
            tokens = core.tokens
            for anywhere in (False, True):
                grown = True
                while grown:
                    grown = False
                    for neighbour in (first - 1, last + 1):
                        if not 0 <= neighbour < len(cores) or tokens + cores[neighbour].tokens > most:
                            continue
                        if anywhere or sections[neighbour] == sections[index]:
                            tokens += cores[neighbour].tokens
                            first, last = min(first, neighbour), max(last, neighbour)
                            grown = True
            windows.append(Span(cores[first].start, cores[last].end))
        return windows


@dataclass(frozen=True, slots=True)
class _Core:
    """A chunk before it is one: its span, what is embedded, its own tokens without title and headings."""

    start: int
    end: int
    embedded: str
    tokens: int


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _cut_to(spans: Sequence[Span], structure: Sequence[Block]) -> Iterator[list[Block]]:
    """The blocks of each span, cut to it."""
    position = 0
    for span in spans:
        inside: list[Block] = []
        while position < len(structure) and structure[position].start < span.end:
            block = structure[position]
            if span.start <= block.start and block.end <= span.end:
                inside.append(block)
            elif block.end > span.start:
                inside.append(replace(block, start=max(block.start, span.start), end=min(block.end, span.end)))
            if block.end > span.end:
                break
            position += 1
        yield inside


def _append(units: list[Unit], unit: Unit, *, tiny: int) -> None:
    """Add a unit; what shows nothing, and the very short, joins the unit before it."""
    before = units[-1] if units else None
    if before is not None and before.tokens == 0:
        units[-1] = replace(unit, start=before.start)
    elif before is not None and (
        unit.tokens == 0 or not (unit.heading or before.heading or before.tokens + unit.tokens > tiny)
    ):
        units[-1] = replace(before, end=unit.end, tokens=before.tokens + unit.tokens)
    else:
        units.append(unit)
