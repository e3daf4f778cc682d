"""Whether an answer's sources are true: each marker is matched to a quote, each quote to the warehouse as it is now."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from llm_engineering.domain.answers import MARKERS, Citation, Passage
from llm_engineering.domain.entities import DocumentState
from llm_engineering.domain.ports import Warehouse
from llm_engineering.domain.sentences import Span, sentences, without_lead
from llm_engineering.rag.assemble import Terms

SUPPORT = 0.5
"""Share of a claim's terms that its quote must hold."""
SHARED_SUPPORT = 0.35
"""The same where a claim names several sources, each of which holds a part of it."""
_LONGEST_QUOTE = 3
"""Sentences of a quote at most."""
_LENGTH_COST = 0.04
"""Support that each further sentence of a quote must add to be worth it."""

_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)
_QUOTED = re.compile(r"“(.+?)”|\"([^\"\n]+)\"", re.DOTALL)
_NUMBER = re.compile(r"(?<![\w.])\d+(?:[.,]\d+)*")


@dataclass(frozen=True)
class Verified:
    """The text with only those markers that were verified, and their citations by marker and place."""

    text: str
    citations: tuple[Citation, ...]
    removed: int = 0
    """Markers that could not be verified."""
    refused: int = 0
    """Of these, markers of documents that were edited or deleted since they were shown."""


@dataclass
class _Claim:
    """A sentence of a reply, the markers that speak for it, and where these stand."""

    text: str
    span: Span
    markers: list[tuple[int, Span]]


class _Shown:
    """A passage with the terms of its sentences, read once."""

    def __init__(self, passage: Passage, terms: Terms) -> None:
        self.passage, self._terms = passage, terms

    @cached_property
    def sentences(self) -> list[tuple[Span, frozenset[int]]]:
        text = self.passage.text
        spans = [without_lead(text, span) for span in sentences(text)]
        return [(span, self._terms(text[slice(*span)])) for span in spans if span[0] < span[1]]

    @cached_property
    def numbers(self) -> set[str]:
        return _numbers(self.passage.text)

    def holds(self, words: str) -> Span | None:
        """Where the words stand, white space aside."""
        pattern = r"\s+".join(re.escape(word) for word in words.split())
        match = re.search(pattern, self.passage.text, re.IGNORECASE) if pattern else None
        return match.span() if match else None

    def support(self, claim: frozenset[int]) -> tuple[float, Span]:
        """The highest share of the claim's terms in one to three neighbouring sentences, and their span."""
        best, found = 0.0, (0, 0)
        if not claim:
            return best, found
        for first in range(len(self.sentences)):
            held: frozenset[int] = frozenset()
            for length, (span, words) in enumerate(self.sentences[first : first + _LONGEST_QUOTE]):
                held |= claim & words
                share = len(held) / len(claim) - _LENGTH_COST * length
                if share > best:
                    best, found = share, (self.sentences[first][0][0], span[1])
        return best, found


def verify(reply: str, passages: Sequence[Passage], *, warehouse: Warehouse, terms: Terms) -> Verified:
    """Keep exactly the markers whose claim a shown passage supports with words that stand in the warehouse now.

    A claim is supported by words that it quotes and that stand in the passage, or by a passage that holds enough of its
    terms and all of its numbers. Of a document that was edited or deleted since it was shown, nothing is cited, and a
    sentence that rests on it alone is taken out.
    """
    shown = {passage.marker: _Shown(passage, terms) for passage in passages}
    states = warehouse.state(list(dict.fromkeys(passage.document_id for passage in passages)))
    outdated = [each for each in shown.values() if not _current(each.passage, states)]
    citations: dict[tuple[int, int, int], Citation] = {}
    edits: dict[Span, str] = {}
    removed = refused = 0
    for claim in _claims(reply):
        kept: dict[Span, list[int]] = {place: [] for _, place in claim.markers}
        for marker, place in claim.markers:
            quote = _supporting(claim, marker, shown, terms)
            citation = _checked(shown[marker].passage, quote, states) if quote else None
            if citation is not None:
                citations.setdefault((marker, citation.start, citation.end), citation)
                kept[place].append(marker)
            else:
                removed += 1
                refused += marker in shown and shown[marker] in outdated
        if not any(kept.values()) and outdated and _rests_on(claim, outdated, terms):
            edits[claim.span] = ""
        for place, markers in kept.items():
            edits[place] = "".join(f"[{marker}]" for marker in markers)
    return Verified(
        text=_edited(reply, edits),
        citations=tuple(citations[key] for key in sorted(citations)),
        removed=removed,
        refused=refused,
    )


def _supporting(claim: _Claim, marker: int, shown: Mapping[int, _Shown], terms: Terms) -> Span | None:
    """Where in the marked passage the claim's support stands; ``None`` if nowhere."""
    if marker not in shown:
        return None
    cited = [shown[number] for number, _ in claim.markers if number in shown]
    quotes = [quote for quote in (one or other for one, other in _QUOTED.findall(claim.text)) if len(quote.split()) > 2]
    if any(all(each.holds(quote) is None for each in cited) for quote in quotes):
        return None
    places = [place for place in map(shown[marker].holds, quotes) if place]
    if places:
        return max(places, key=lambda place: place[1] - place[0])
    if not _numbers(claim.text) <= set().union(*(each.numbers for each in cited)):
        return None
    share, span = shown[marker].support(terms(claim.text))
    return span if share >= (SUPPORT if len(cited) == 1 else SHARED_SUPPORT) else None


def _current(passage: Passage, states: Mapping[str, DocumentState]) -> bool:
    state = states.get(passage.document_id)
    return (
        state is not None
        and state.live
        and state.revision is not None
        and state.revision.number == passage.revision
        and state.revision.text[passage.start : passage.end] == passage.text
    )


def _checked(passage: Passage, quote: Span, states: Mapping[str, DocumentState]) -> Citation | None:
    """The citation, if its document is live, at the revision that was shown, and holds the quote at that place."""
    state = states.get(passage.document_id)
    start, end = passage.start + quote[0], passage.start + quote[1]
    words = passage.text[quote[0] : quote[1]]
    if not _current(passage, states) or state is None or state.revision is None:
        return None
    if not words.strip() or state.revision.text[start:end] != words:
        return None
    return Citation(
        marker=passage.marker,
        document_id=passage.document_id,
        revision=state.revision.number,
        title=state.revision.title,
        url=state.document.url,
        quote=words,
        start=start,
        end=end,
    )


def _rests_on(claim: _Claim, outdated: Sequence[_Shown], terms: Terms) -> bool:
    wanted = terms(claim.text)
    marked = {marker for marker, _ in claim.markers}
    return any(each.passage.marker in marked or each.support(wanted)[0] >= SUPPORT for each in outdated)


def _claims(reply: str) -> list[_Claim]:
    """The sentences of a reply, each with the markers in or right after it; markers in code are code."""
    code = [match.span() for match in _CODE.finditer(reply)]
    groups = [
        match for match in MARKERS.finditer(reply) if not any(start <= match.start() < end for start, end in code)
    ]
    plain = reply
    for match in groups:
        plain = plain[: match.start()] + " " * len(match.group()) + plain[match.end() :]
    claims = [_Claim(plain[start:end], (start, end), []) for start, end in sentences(plain)]
    for match in groups:
        claim = _spoken_for(match.start(), claims, reply)
        numbers = [int(number) for number in re.findall(r"\d+", match.group(1))]
        if claim is None:
            claim = _Claim("", match.span(), [])
            claims.append(claim)
        claim.markers += [(number, match.span()) for number in dict.fromkeys(numbers)]
    return sorted(claims, key=lambda claim: claim.span)


def _spoken_for(position: int, claims: Sequence[_Claim], reply: str) -> _Claim | None:
    """The sentence that a marker at this position belongs to: the one around or before it, at a line's start the next."""
    before = [claim for claim in claims if claim.span[0] < position]
    after = [claim for claim in claims if claim.span[0] >= position]
    if before and "\n" not in reply[min(before[-1].span[1], position) : position]:
        return before[-1]
    return after[0] if after else (before[-1] if before else None)


def _edited(reply: str, edits: Mapping[Span, str]) -> str:
    """The reply with these spans replaced, and without the blanks that are left where nothing takes their place."""
    text, position = "", 0
    for (start, end), words in sorted(edits.items()):
        if end <= position:
            continue
        text += reply[position:start] if start > position else ""
        rest = reply[end : end + 1]
        if not words and (not rest or rest in " \t\n.,;:!?"):
            text = text.rstrip(" \t")
        text += words
        position = end
    return re.sub(r"\n{3,}", "\n\n", text + reply[position:]).strip()


def _numbers(text: str) -> set[str]:
    return {number.replace(",", "").rstrip(".") for number in _NUMBER.findall(text)}
