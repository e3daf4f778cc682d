"""From hits to the passages that a model is shown: larger windows of the text as the warehouse has it now, within a budget."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from llm_engineering.domain.answers import Passage
from llm_engineering.domain.entities import DocumentState, Hit, Revision
from llm_engineering.domain.ports import Warehouse
from llm_engineering.domain.sentences import Span, is_prose, sentences

Terms = Callable[[str], frozenset[int]]
"""The terms of a text, as the index knows them."""

_EXAMPLE_CHARACTERS = 700


@dataclass(frozen=True)
class Assembled:
    """Passages in the order in which they are shown, excerpts for style, and how many hits were no longer true."""

    passages: tuple[Passage, ...]
    stale: int = 0
    examples: tuple[str, ...] = ()


@dataclass
class _Region:
    """Neighbouring hits of one revision: the window around them, and what was found in it (best first)."""

    state: DocumentState
    revision: Revision
    hit: Hit
    start: int
    end: int
    cores: list[Span] = field(default_factory=list)


def assemble(
    hits: Sequence[Hit],
    *,
    query: str,
    warehouse: Warehouse,
    terms: Terms,
    count_tokens: Callable[[str], int],
    budget: int,
    examples: int = 0,
) -> Assembled:
    """Passages for these hits (best first); each is exactly ``[start:end)`` of its document's current revision.

    A hit whose document is deleted, or whose words no longer stand at its span, is dropped and counted. Windows of one
    document that touch become one passage, so that no character is shown twice. Together the passages have at most
    ``budget`` tokens: a window that is longer than its share keeps what was found and the sentences around it. The best
    passage comes first and the second best last, where models read most attentively (Liu et al., 2023).
    """
    states = warehouse.state(list(dict.fromkeys(hit.document_id for hit in hits)))
    current = [hit for hit in hits if _stands(hit, states)]
    regions = _regions(current, states)
    wanted = terms(query)
    left = budget
    spans: list[tuple[_Region, Span]] = []
    for position, region in enumerate(regions):
        share = left // (len(regions) - position)
        span = _fitted(region, share, wanted, terms, count_tokens)
        if span[0] < span[1]:
            spans.append((region, span))
            left -= count_tokens(region.revision.text[span[0] : span[1]])
    shown = [_passage(region, span, marker) for marker, (region, span) in enumerate(_best_at_the_edges(spans), start=1)]
    return Assembled(
        passages=tuple(shown), stale=len(hits) - len(current), examples=_examples(current, states, examples)
    )


def _stands(hit: Hit, states: Mapping[str, DocumentState]) -> bool:
    state = states.get(hit.document_id)
    return (
        state is not None
        and state.live
        and state.revision is not None
        and _encodable(state.revision.text[hit.start : hit.end]) == _encodable(hit.text)
    )


def _encodable(text: str) -> str:
    """A lone surrogate cannot be kept by every index: ``?`` stands for it."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _regions(hits: Sequence[Hit], states: Mapping[str, DocumentState]) -> list[_Region]:
    """Windows by document, joined where they touch, each at the rank of its best hit."""
    regions: list[_Region] = []
    for hit in hits:
        state = states[hit.document_id]
        revision = state.revision
        if revision is None:
            continue
        start, end = hit.start, hit.end
        if hit.revision == revision.number:
            start, end = min(start, hit.window_start), min(max(end, hit.window_end), len(revision.text))
        region = _Region(state, revision, hit, start, end, [(hit.start, hit.end)])
        while touching := next((each for each in regions if _touch(each, region)), None):
            regions.remove(touching)
            touching.start, touching.end = min(touching.start, region.start), max(touching.end, region.end)
            touching.cores += region.cores
            region = touching
        regions.append(region)
    order = {hit.chunk_id: rank for rank, hit in enumerate(hits)}
    return sorted(regions, key=lambda region: order[region.hit.chunk_id])


def _touch(one: _Region, other: _Region) -> bool:
    if one.revision.document_id != other.revision.document_id:
        return False
    first, second = sorted((one, other), key=lambda region: region.start)
    return not one.revision.text[first.end : second.start].strip()


def _fitted(
    region: _Region, share: int, wanted: frozenset[int], terms: Terms, count_tokens: Callable[[str], int]
) -> Span:
    """The region, or as many whole sentences around what was found as fit the share; words of one if none fits."""
    text = region.revision.text
    if count_tokens(text[region.start : region.end]) <= share:
        return _stripped(text, region.start, region.end)
    spans = sentences(text, region.start, region.end)
    worth = [len(wanted & terms(text[start:end])) for start, end in spans]

    def fits(first: int, last: int) -> bool:
        return count_tokens(text[spans[first][0] : spans[last][1]]) <= share

    seeds = [_covering(spans, min(start for start, _ in region.cores), max(end for _, end in region.cores))]
    seeds += [_covering(spans, *core) for core in region.cores]
    inside = range(seeds[1][0], seeds[1][1] + 1)
    best = max(inside, key=lambda index: (worth[index], -index))
    first, last = next((seed for seed in seeds if fits(*seed)), (best, best))
    if not fits(first, last):
        return _words(text, spans[first], share, count_tokens)
    seed = (first, last)
    ends = [start for start, _ in spans[1:]] + [spans[-1][1]]
    # counted once each, with the blanks behind them: whole spans at every step would take the square of the time
    sizes = [count_tokens(text[start:end]) for (start, _), end in zip(spans, ends, strict=True)]
    left = share - sum(sizes[first : last + 1])
    taken: list[int] = []
    while True:
        options = [
            (worth[index], -abs(index - best), index)
            for index in (first - 1, last + 1)
            if 0 <= index < len(spans) and sizes[index] <= left
        ]
        if not options:
            break
        taken.append(max(options)[2])
        left -= sizes[taken[-1]]
        first, last = min(first, taken[-1]), max(last, taken[-1])
    while (first, last) != seed and not fits(first, last):  # tokens of parts are seldom fewer than those of the whole
        first, last = (first + 1, last) if taken.pop() == first else (first, last - 1)
    return spans[first][0], spans[last][1]


def _covering(spans: Sequence[Span], start: int, end: int) -> tuple[int, int]:
    """Indices of the first and last sentence that reach into ``[start:end)``."""
    inside = [index for index, (first, last) in enumerate(spans) if first < end and last > start]
    return (inside[0], inside[-1]) if inside else (0, 0)


def _words(text: str, span: Span, share: int, count_tokens: Callable[[str], int]) -> Span:
    """The longest beginning of a sentence that fits, cut between words."""
    start, end = span
    low, high = start, end
    while low < high:
        middle = (low + high + 1) // 2
        if count_tokens(text[start:middle]) <= share:
            low = middle
        else:
            high = middle - 1
    cut = low if low == end else max(text.rfind(" ", start, low), text.rfind("\n", start, low), start)
    return _stripped(text, start, cut)


def _stripped(text: str, start: int, end: int) -> Span:
    piece = text[start:end]
    left = len(piece) - len(piece.lstrip())
    return start + left, max(start + left, start + len(piece.rstrip()))


def _best_at_the_edges(spans: Sequence[tuple[_Region, Span]]) -> list[tuple[_Region, Span]]:
    """Ranks 1 3 5 … 6 4 2."""
    return [*spans[::2], *reversed(spans[1::2])]


def _passage(region: _Region, span: Span, marker: int) -> Passage:
    document, revision = region.state.document, region.revision
    return Passage(
        marker=marker,
        document_id=document.id,
        revision=revision.number,
        title=revision.title,
        url=document.url,
        kind=document.kind,
        author=region.state.author.full_name,
        published_at=revision.published_at,
        heading_path=region.hit.heading_path,
        text=revision.text[span[0] : span[1]],
        start=span[0],
        end=span[1],
        score=region.hit.score,
    )


def _examples(hits: Sequence[Hit], states: Mapping[str, DocumentState], count: int) -> tuple[str, ...]:
    """How these documents begin: the first prose of each, best document first."""
    found: list[str] = []
    for document_id in dict.fromkeys(hit.document_id for hit in hits):
        revision = states[document_id].revision
        if len(found) < count and revision is not None:
            text = revision.text
            prose = [span for span in sentences(text, 0, min(len(text), 6000)) if is_prose(text[slice(*span)])]
            if prose:
                start = prose[0][0]
                end = max((last for _, last in prose if last - start <= _EXAMPLE_CHARACTERS), default=prose[0][1])
                found.append(text[start:end])
    return tuple(found)
