"""Whole pieces of the author's text: sections, posts, notes, documented functions. They are the answers of the training set.

A passage is one unbroken span of a revision: exactly what the author wrote, with nothing of the page around it. Where the
page's furniture, a rule or a repeated signature stands in between, one passage ends and the next begins.
"""

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from llm_engineering.dataset.division import ENDS, parts
from llm_engineering.dataset.functions import CannotBeParsed, documented_functions
from llm_engineering.dataset.pieces import Piece, joined, with_whole_headings
from llm_engineering.dataset.words import count_words
from llm_engineering.domain.blocks import BlockKind
from llm_engineering.domain.dataset_config import AuthorTerms, PassageConfig
from llm_engineering.domain.entities import DocumentState, Kind, TextFormat, fold
from llm_engineering.domain.samples import AuthorPassage, Provenance, Refusal
from llm_engineering.domain.sentences import sentences

_NO_PROSE = re.compile(
    r"references?|bibliography|further reading|(?:related|previous|other|next|more|recommended)"
    r" (?:articles?|posts?|lessons?|readings?)|"
    r"articles? about .{1,40}|table of contents|contents|toc|sections|images?|comments?|footnotes|links|resources|"
    r"(?:this|the) (?:week|month)['’]s topics|discussion about this .{1,20}|acknowledge?ments?|about the author|"
    r"subscribe.{0,40}|whenever you['’]re ready, here is how .{1,40}|sponsors?|"
    r"see also|read next|share|changelog|licen[cs]e",
    re.IGNORECASE,
)
"""Headings of sections that list what others wrote or offer something: none of them is a text that one would ask for."""

_MARGINAL = re.compile(
    r"(?:(?:image|images|photo|figure|fig\.?|screenshot|picture|illustration|source|credits?|video|gif)\b"
    r"(?: \d+)?[^.!?]{0,100}|"
    r"[^.!?]{0,100}\[(?:image|images|photo|source)\b[^\]]{0,100}\]\.?|"
    r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]* \d{1,2},? \d{4}|\d[\d.,k]*|by|and|from|published|author|"
    r"[^\w]*)",
    re.IGNORECASE,
)
"""A caption, date, counter or stray mark: cut where it stands at the edge of a passage."""

_TITLE_TAIL = 4
"""A line of so few words without an end mark at the edge of a passage is a label, not a paragraph."""


@dataclass(frozen=True, slots=True)
class _Section:
    path: tuple[str, ...]
    pieces: list[Piece]


def passages(
    state: DocumentState,
    pieces: Sequence[Piece],
    *,
    config: PassageConfig,
    terms: AuthorTerms = AuthorTerms(),  # noqa: B008  # frozen
    furniture: frozenset[str] = frozenset(),
) -> tuple[list[AuthorPassage], list[Refusal]]:
    """The passages of a document in order, and why other parts of it are none; a document without one has a refusal.

    ``state.revision.text[p.start:p.end] == p.text`` for each; passages do not overlap; none begins or ends inside a code
    block or list item, or holds a paragraph of ``furniture`` (folded). Same state and configuration, same passages.
    """
    revision = state.revision
    if revision is None or not state.live:
        return [], []
    found = _Found(state, config, terms)
    if revision.format is TextFormat.CODE:
        found.functions()
        return found.passages, found.refusals
    whole = with_whole_headings(revision.text, pieces)
    edges = _edges(whole, furniture)
    found.headings = {name for piece in whole if piece.level and len(name := _words(piece.view)) >= _LONG_NAME}
    for section in _sections(whole, found.names, one=_is_one_text(state, whole, config)):
        if section.path and _NO_PROSE.fullmatch(_bare(section.path[-1])):
            found.refuse("furniture", section.pieces, section.path[-1])
            continue
        for run in _runs(section.pieces, furniture):
            for part in parts(revision.text, run, config):
                found.add(part, section.path, floor=edges[bisect_right(edges, part[0].start) - 1])
    found.nothing_said()
    return found.passages, found.refusals


class _Found:
    """What has been found in one document."""

    def __init__(self, state: DocumentState, config: PassageConfig, terms: AuthorTerms) -> None:
        assert state.revision is not None
        self._state, self._config, self._terms = state, config, terms
        self._text = state.revision.text
        self.title = joined(state.revision.title)
        self.names = (self.title, joined(state.revision.metadata.get("subtitle", "")))
        self.headings: set[tuple[str, ...]] = set()
        self.passages: list[AuthorPassage] = []
        self.refusals: list[Refusal] = []
        self._seen: Counter[str] = Counter()

    def add(self, part: list[Piece], path: tuple[str, ...], *, floor: int) -> None:
        """Keep a part as a passage, or say why not."""
        trimmed = _trimmed(part)
        if not trimmed:
            return
        words = sum(piece.words for piece in trimmed)
        if _is_bare_list(trimmed) or _is_contents(trimmed, self.headings):
            self.refuse("furniture", trimmed, path[-1] if path else self.title)
        elif words < self._config.min_words:
            self.refuse("too-short", trimmed, path[-1] if path else self.title)
        elif words > self._config.max_words * 1.5:
            self.refuse("too-long", trimmed, path[-1] if path else self.title)
        else:
            self._keep(trimmed[0].start, trimmed[-1].end, path, floor=floor)

    def functions(self) -> None:
        """Documented functions of a code document; one refusal if there are none."""
        assert self._state.revision is not None
        path = self._state.revision.metadata.get("path", self.title)
        try:
            functions = documented_functions(self._text, path)
        except CannotBeParsed as error:
            self._refuse("cannot-be-parsed", 0, len(self._text), f"{path}: {error}")
            return
        if not functions:
            self._refuse("no-documented-function", 0, len(self._text), path)
        for function in functions:
            words = count_words(self._text[function.start : function.end])
            if words < self._config.min_words:
                self._refuse("too-short", function.start, function.end, function.name)
            elif words > self._config.max_words * 1.5:
                self._refuse("too-long", function.start, function.end, function.name)
            else:
                named = (self._state.revision.metadata.get("path", ""), function.signature)
                self._keep(function.start, function.end, tuple(filter(None, named)), floor=function.start)

    def nothing_said(self) -> None:
        """One refusal for a document of headings, captions and the like alone."""
        if not self.passages and not self.refusals:
            self._refuse("too-short", 0, len(self._text), self.title)

    def refuse(self, reason: str, part: Sequence[Piece], detail: str) -> None:
        """Count a part that is no passage."""
        if part:
            self._refuse(reason, part[0].start, part[-1].end, detail)

    def _refuse(self, reason: str, start: int, end: int, detail: str) -> None:
        subject = f"{self._state.document.id}:{start}-{end}"
        self.refusals.append(
            Refusal(reason=reason, subject=subject, document_id=self._state.document.id, detail=detail[:120])
        )

    def _keep(self, start: int, end: int, path: tuple[str, ...], *, floor: int) -> None:
        revision, document = self._state.revision, self._state.document
        assert revision is not None
        where = Provenance(
            author_id=document.author_id,
            author=self._state.author.full_name,
            document_id=document.id,
            revision=revision.number,
            start=start,
            end=end,
            title=revision.title,
            url=document.url,
            kind=document.kind,
            heading_path=path,
            published_at=revision.published_at,
            language=revision.language,
            licence=self._terms.licence,
            consent=self._terms.consent,
        )
        before = _before(self._text, floor, start, self._config.before_words)
        text = self._text[start:end]
        self.passages.append(AuthorPassage(provenance=where, text=text, before=before, occurrence=self._seen[text]))
        self._seen[text] += 1


def _is_one_text(state: DocumentState, pieces: Sequence[Piece], config: PassageConfig) -> bool:
    """Posts and notes that are short enough are one passage, headings included."""
    short = state.document.kind in (Kind.POST, Kind.NOTE)
    return short and sum(piece.words for piece in pieces) <= config.max_words


def _sections(pieces: Sequence[Piece], names: Sequence[str], *, one: bool) -> Iterator[_Section]:
    """The text under each heading, with the path of headings; ``names``, title and subtitle, are no part of any path."""
    path: list[tuple[int, str]] = []
    inside: list[Piece] = []

    def outer_to_inner() -> tuple[str, ...]:
        return tuple(name for _, name in path)

    for piece in pieces:
        if piece.kind is not BlockKind.HEADING or (one and inside):
            inside.append(piece)
            continue
        if inside:
            yield _Section(outer_to_inner(), inside)
            inside = []
        path = [outer for outer in path if outer[0] < piece.level]
        if count_words(piece.view) and not any(_same_name(piece.view, name) for name in names if name):
            path.append((piece.level, piece.view))
    if inside:
        yield _Section(outer_to_inner(), inside)


def _same_name(heading: str, title: str) -> bool:
    left, right = fold(heading), fold(title)
    return left == right or (len(left) > 20 and (left in right or right in left))


def _bare(heading: str) -> str:
    return heading.strip(" *_:.#-").lstrip("0123456789.) ")


def _runs(pieces: Sequence[Piece], furniture: frozenset[str]) -> Iterator[list[Piece]]:
    """Unbroken runs of the author's own blocks."""
    run: list[Piece] = []
    for piece in pieces:
        stop = piece.kind is BlockKind.RULE or fold(piece.view) in furniture
        if run and (stop or piece.broken):
            yield run
            run = []
        if not stop:
            run.append(piece)
    if run:
        yield run


def _edges(pieces: Sequence[Piece], furniture: frozenset[str]) -> list[int]:
    """Offsets behind which the text before a passage may not reach: furniture, rules, the title."""
    edges = [0]
    for piece in pieces:
        if piece.broken:
            edges.append(piece.start)
        if piece.kind is BlockKind.RULE or fold(piece.view) in furniture or piece.level == 1:
            edges.append(piece.end)
    return edges


def _trimmed(part: Sequence[Piece]) -> list[Piece]:
    """Without captions, dates and labels at either end."""
    kept = list(part)
    while kept and _is_marginal(kept[0], first=True):
        kept.pop(0)
    while kept and _is_marginal(kept[-1], first=False):
        kept.pop()
    return kept


def _is_bare_list(part: Sequence[Piece]) -> bool:
    """A menu or a list of links: hardly anything but short items that end without a mark."""
    bare = sum(piece.words <= 8 and not piece.view.endswith(ENDS) for piece in part if piece.kind is BlockKind.ITEM)
    return bare >= 6 and bare >= 0.7 * len(part)


def _is_contents(part: Sequence[Piece], headings: Collection[tuple[str, ...]]) -> bool:
    """A list of what follows: mostly lines that say what headings of the same document say."""
    named = sum(piece.words for piece in part if any(_within(heading, _words(piece.view)) for heading in headings))
    return named >= 0.5 * sum(piece.words for piece in part)


def _within(heading: tuple[str, ...], line: tuple[str, ...]) -> bool:
    return len(line) <= len(heading) + 4 and any(
        line[start : start + len(heading)] == heading for start in range(len(line) - len(heading) + 1)
    )


def _words(view: str) -> tuple[str, ...]:
    words = re.findall(r"[^\W_]+", view.casefold())
    return tuple(words[1:] if words and words[0].isdigit() else words)


_LONG_NAME = 4


def _is_marginal(piece: Piece, *, first: bool) -> bool:
    if piece.kind in (BlockKind.REFERENCE, BlockKind.RULE, BlockKind.HEADING):
        return True
    if piece.kind is not BlockKind.PARAGRAPH:
        return False
    view = piece.view.strip()
    label = piece.words <= _TITLE_TAIL and not view.endswith(ENDS)
    return label or bool(_MARGINAL.fullmatch(view))


def _before(text: str, reached: int, start: int, most: int) -> str:
    """The last sentences of ``text[reached:start)``, at most so many words."""
    spans = sentences(text, reached, start)
    words, first = 0, None
    for begin, end in reversed(spans):
        words += count_words(text[begin:end])
        if words > most:
            break
        first = begin
    return text[first:start].strip() if first is not None else ""
