"""Train, validation and test by source document: a side once taken is kept, and near-duplicates stand on one side.

The side of a document follows from a hash of its id alone, so that a new document never moves an old one. A document that is
nearly the same as an earlier one takes that one's side. One that is like documents on two sides would tear down the wall
between them: it is refused, and the old ones stay where they are. A small corpus may leave a side with too few documents: then
the newcomers nearest to it by hash take it.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from llm_engineering.dataset.near_duplicates import shingles
from llm_engineering.dataset.words import parts_of_words, runs, same_question
from llm_engineering.domain.dataset_config import SplitConfig
from llm_engineering.domain.samples import InstructionStyle, Pair, Refusal, Sample, Split

BETWEEN_SIDES = "between-sides"
"""A document that is like documents on two sides."""
HELD_OUT_ELSEWHERE = "held-out-elsewhere"
"""A sample that shares a run of words with the held-out writing."""
NOT_IN_THE_BUILD = "document-not-in-the-build"
"""A pair that speaks of a document of another author, or of one that is gone."""

ALIKE = 0.4
"""Two documents are near-duplicates if one holds so many of the other's runs of five words (containment; Broder, 1997)."""
RUN = 8
"""Words in a row that no text may share with the held-out side; twice as many characters where nothing parts words."""

FEWEST = 10
"""Documents from which no side stays empty."""
LONG = 400
"""Words of a document that much can be said of: such ones are given to sides that have too few."""

_WHOLE_BELOW = 1000
_ONE_IN = 4


@dataclass(frozen=True, slots=True)
class Writing:
    """A document as the split sees it."""

    document_id: str
    text: str
    """Its reading view."""


@dataclass(frozen=True, slots=True)
class Sides:
    """Which side each document stands on."""

    of: dict[str, Split]
    like: dict[str, str] = field(default_factory=dict)
    """The earlier document that a near-duplicate followed."""
    refusals: tuple[Refusal, ...] = ()
    """Documents that stand between two sides; they have no samples in this build."""

    @property
    def torn(self) -> frozenset[str]:
        """Ids of the refused documents."""
        return frozenset(refusal.subject for refusal in self.refusals)


def side_of(document_id: str, config: SplitConfig) -> Split:
    """The side that follows from the id alone."""
    point = _point(document_id, config)
    if point < config.test:
        return Split.TEST
    return Split.VALIDATION if point < config.test + config.validation else Split.TRAIN


def _point(document_id: str, config: SplitConfig) -> float:
    """Where the hash puts a document between 0 and 1."""
    return int(hashlib.sha256(f"{config.salt}\0{document_id}".encode()).hexdigest()[:13], 16) / 16**13


def assign(writings: Sequence[Writing], config: SplitConfig, *, previous: Mapping[str, Split] | None = None) -> Sides:
    """The side of every document. ``writings`` in the order in which they arrived, oldest first.

    ``previous`` are the sides of an earlier build under the same configuration: they are kept whatever else changes. Adding
    writings at the end changes no earlier one's side, even without ``previous`` where the hash leaves no side empty. No two
    documents that are alike stand on different sides, save those of ``refusals``. From :data:`FEWEST` documents on every
    side that has a share has a document, if there is a newcomer to give it.
    """
    kept = previous or {}
    known = _Known()
    sides: dict[str, Split] = {}
    like: dict[str, str] = {}
    refusals: list[Refusal] = []
    for writing in sorted(
        writings, key=lambda each: each.document_id not in kept
    ):  # stable: by arrival within each half
        own = _Sketch.of(writing.text)
        matches = known.alike(own)
        found = {sides[match] for match in matches}
        side = kept.get(writing.document_id) or (sides[matches[0]] if matches else side_of(writing.document_id, config))
        if found - {side}:
            refusals.append(_between(writing, matches, sides))
            if writing.document_id in kept:
                sides[writing.document_id] = side
            continue
        sides[writing.document_id] = side
        if matches:
            like[writing.document_id] = matches[0]
        known.add(writing.document_id, own)
    long = {each.document_id for each in writings if len(each.text.split()) >= LONG}
    _fill(sides, like, config, kept=kept, long=long)
    return Sides(sides, like, tuple(refusals))


def _fill(
    sides: dict[str, Split],
    like: Mapping[str, str],
    config: SplitConfig,
    *,
    kept: Collection[str],
    long: Collection[str],
) -> None:
    """Give a side that has too few documents newcomers, the nearest by hash first, with those that followed them.

    A side that is empty gets one, a long one if there is any. Then each gets long ones until it has as many of these as it is to
    have at least, while those of all held-out sides are less than a third of the documents.
    """
    alone = [document for document in sides if document not in like]
    if len(alone) < FEWEST:
        return

    def nearest(document: str) -> tuple[bool, float]:
        return document not in long, _point(document, config)

    shares = (
        (Split.TEST, config.test, config.fewest_test),
        (Split.VALIDATION, config.validation, config.fewest_validation),
    )
    wanted = [(side, min(1, fewest), alone) for side, share, fewest in shares if share]
    wanted += [(side, fewest, [each for each in alone if each in long]) for side, share, fewest in shares if share]
    for side, fewest, among in wanted:
        for chosen in sorted((each for each in among if sides[each] is Split.TRAIN and each not in kept), key=nearest):
            held_out = [each for each in alone if sides[each] is not Split.TRAIN]
            full = side in map(sides.get, held_out) and sum(each in long for each in held_out) >= len(alone) // 3
            if full or len(held_out) > len(alone) - 2 or sum(sides[each] is side for each in among) >= fewest:
                break
            group = {chosen}
            for document, older in like.items():  # in order of arrival, so that whoever is followed comes first
                if older in group:
                    group.add(document)
            if group.isdisjoint(kept):
                sides.update(dict.fromkeys(group, side))


def apart(samples: Sequence[Sample], sides: Mapping[str, Split]) -> tuple[list[Sample], list[Refusal]]:
    """The samples whose words do not stand on a side that is held out from them: train gives way to validation, both to test.

    Compared are runs of eight words of answers and of the author's own words in instructions.
    """
    by_side: dict[Split, list[Sample]] = {split: [] for split in Split}
    for sample in samples:
        by_side[sides[sample.provenance.document_id]].append(sample)
    held_out: set[tuple[str, ...]] = set()
    refused: dict[str, Refusal] = {}
    for split in (Split.TEST, Split.VALIDATION, Split.TRAIN):
        kept = []
        for sample in by_side[split]:
            shared = next((run for run in _runs(sample) if run in held_out), None) if held_out else None
            if shared is None:
                kept.append(sample)
            else:
                detail = f"{split} shares with the held-out side: {' '.join(shared)}"
                document = sample.provenance.document_id
                refused[sample.id] = Refusal(
                    reason=HELD_OUT_ELSEWHERE, subject=sample.id, document_id=document, detail=detail
                )
        for sample in kept:
            held_out.update(_runs(sample))
    left = [sample for sample in samples if sample.id not in refused]
    return left, [refused[sample.id] for sample in samples if sample.id in refused]


def pairs_apart(
    pairs: Iterable[Pair], samples: Iterable[Sample], sides: Mapping[str, Split]
) -> tuple[list[Pair], list[Refusal]]:
    """The pairs that stand on one side, and share neither words in a row nor an instruction with what is held out from it.

    Each of their documents has a side: what a dataset holds of a document, its card names. Of pairs that ask the same on two
    sides train gives way to validation, both to test.
    """
    given = list(pairs)
    held_out: dict[Split, set[tuple[str, ...]]] = {split: set() for split in Split}
    asked: dict[Split, set[str]] = {split: set() for split in Split}
    for sample in samples:
        side = sides[sample.provenance.document_id]
        asked[side].add(same_question(sample.instruction))
        if side is not Split.TRAIN:
            held_out[side].update(_runs(sample))
    refused: dict[str, Refusal] = {}
    for pair in sorted(given, key=lambda pair: _GIVES_WAY[side_of_pair(pair, sides)]):
        own = side_of_pair(pair, sides)
        others = [split for split in Split if split is not own]
        texts = [run for text in (pair.chosen, pair.rejected) for run in runs(parts_of_words(text), RUN)]
        question = same_question(pair.instruction)
        found = next((" ".join(run) for run in texts if any(run in held_out[split] for split in others)), "")
        if foreign := [identity for identity in pair.document_ids if identity not in sides]:
            refused[pair.id] = _refused_pair(NOT_IN_THE_BUILD, pair, ", ".join(foreign))
        elif own is None:
            refused[pair.id] = _refused_pair(BETWEEN_SIDES, pair, "its documents stand on different sides")
        elif found or any(question in asked[split] for split in others):
            refused[pair.id] = _refused_pair(HELD_OUT_ELSEWHERE, pair, found or pair.instruction[:120])
        else:
            asked[own].add(question)
    return [pair for pair in given if pair.id not in refused], [
        refused[pair.id] for pair in given if pair.id in refused
    ]


_GIVES_WAY = {Split.TEST: 0, Split.VALIDATION: 1, Split.TRAIN: 2, None: 3}
"""Which side is served first; the ones after it give way."""


def side_of_pair(pair: Pair, sides: Mapping[str, Split]) -> Split | None:
    """The side of a pair's documents, ``None`` if they stand on several; a pair of no document is trained on."""
    found = {sides[identity] for identity in pair.document_ids if identity in sides}
    return None if len(found) > 1 else next(iter(found), Split.TRAIN)


def _refused_pair(reason: str, pair: Pair, detail: str) -> Refusal:
    return Refusal(reason=reason, subject=pair.id, document_id=next(iter(pair.document_ids), None), detail=detail)


def _runs(sample: Sample) -> Iterator[tuple[str, ...]]:
    yield from runs(parts_of_words(sample.answer), RUN)
    if sample.style is InstructionStyle.CONTINUE:  # a lead line, if there is one, is shorter than a run
        yield from runs(parts_of_words(sample.instruction), RUN)
    else:
        yield from runs(parts_of_words(sample.instruction.partition("\n")[2]), RUN)


def _between(writing: Writing, matches: Iterable[str], sides: Mapping[str, Split]) -> Refusal:
    named = ", ".join(f"{match} ({sides[match]})" for match in matches)
    return Refusal(
        reason=BETWEEN_SIDES, subject=writing.document_id, document_id=writing.document_id, detail=f"like {named}"
    )


@dataclass(frozen=True, slots=True)
class _Sketch:
    """Runs of five words of a text as hashes; of a long one those alone that their hash picks, the same in every text."""

    runs: frozenset[int]
    whole: bool
    picked: int

    @classmethod
    def of(cls, text: str) -> "_Sketch":
        runs = [int(run) for run in shingles(text)]
        picked = [run for run in runs if run % _ONE_IN == 0]
        whole = len(runs) < _WHOLE_BELOW
        return cls(frozenset(runs if whole else picked), whole, len(picked))


class _Known:
    """Documents placed so far, found by the runs that they share."""

    def __init__(self) -> None:
        self._holders: dict[int, list[int]] = {}
        self._placed: list[tuple[str, _Sketch]] = []

    def alike(self, own: _Sketch) -> list[str]:
        """Documents that hold, or are held by, enough of this one; in the order in which they were placed."""
        shared: Counter[int] = Counter()
        picked: Counter[int] = Counter()
        for run in own.runs:
            holders = self._holders.get(run, ())
            shared.update(holders)
            if run % _ONE_IN == 0:
                picked.update(holders)
        found = []
        for number in sorted(shared):
            document_id, other = self._placed[number]
            if own.whole and other.whole:
                count, smaller = shared[number], min(len(own.runs), len(other.runs))
            else:
                count, smaller = picked[number], min(own.picked, other.picked)
            if count >= ALIKE * max(smaller, 1):
                found.append(document_id)
        return found

    def add(self, document_id: str, own: _Sketch) -> None:
        """Place a document."""
        for run in own.runs:
            self._holders.setdefault(run, []).append(len(self._placed))
        self._placed.append((document_id, own))
