"""Texts that are nearly the same: MinHash and locality-sensitive hashing propose, exact Jaccard similarity decides.

A text is the set of its runs of five words (case, punctuation and markup play no part). Broder (1997) for MinHash; Leskovec,
Rajaraman and Ullman, *Mining of Massive Datasets*, chapter 3, for the banding. A proposal costs one comparison and never a
false pair, so the banding is set to propose generously; what it may miss is a pair close to the threshold.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import NamedTuple

import mmh3
import numpy as np
from datasketch import MinHash, MinHashLSH
from numpy.typing import NDArray

from llm_engineering.dataset.words import words

Shingles = NDArray[np.uint64]
"""Sorted, distinct 64-bit hashes of a text's runs of words."""

_WIDTH = 5
_CANDIDATES_FROM = 0.75
"""Bands are chosen for this share of the threshold: a pair at the threshold is proposed almost surely."""
_KEPT_IN_MEMORY = 4096


class Alike(NamedTuple):
    """Text ``position`` is like the earlier text ``like``."""

    position: int
    like: int
    similarity: float


def near_duplicates(texts: Sequence[str], *, threshold: float = 0.7, permutations: int = 128) -> Iterator[Alike]:
    """Texts that are like an earlier one that is itself kept, by position. What is not named here is to be kept.

    No two kept texts are alike (as far as candidates were proposed), and every text that is named has a kept one that it is
    like. The order of ``texts`` is the order of preference.
    """
    index = _Candidates(texts, threshold, permutations)
    for position in range(len(texts)):
        match = max(index.similar(position), key=lambda found: (found.similarity, -found.like), default=None)
        if match:
            yield match
        else:
            index.add(position)


def near_duplicate_groups(
    texts: Sequence[str], *, threshold: float = 0.7, permutations: int = 128
) -> list[tuple[int, ...]]:
    """Positions of texts that belong together because a chain of near-duplicates joins them; groups of one are left out.

    Groups and their members are in ascending order. Which texts share a group does not depend on the order of ``texts``.
    """
    index = _Candidates(texts, threshold, permutations)
    parent = list(range(len(texts)))

    def root(position: int) -> int:
        while parent[position] != position:
            parent[position] = position = parent[parent[position]]
        return position

    def join(one: int, other: int) -> None:
        first, second = sorted((root(one), root(other)))
        parent[second] = first

    same: dict[bytes, int] = {}
    for position in range(len(texts)):
        own = index.shingles(position)
        copy_of = same.setdefault(hashlib.sha256(own.tobytes()).digest(), position)
        if copy_of != position and len(own):
            join(position, copy_of)
            continue
        for match in index.similar(position, unless=partial(_joined, root, position)):
            join(position, match.like)
        index.add(position)
    groups: dict[int, list[int]] = {}
    for position in range(len(texts)):
        groups.setdefault(root(position), []).append(position)
    return [tuple(members) for _, members in sorted(groups.items()) if len(members) > 1]


def _joined(root: Callable[[int], int], one: int, other: int) -> bool:
    return root(one) == root(other)


def shingles(text: str) -> Shingles:
    """The text's runs of five words as hashes; a shorter text is one run, a text without words has none."""
    tokens = words(text)
    if not tokens:
        return np.empty(0, dtype=np.uint64)
    runs = (" ".join(tokens[start : start + _WIDTH]) for start in range(max(1, len(tokens) - _WIDTH + 1)))
    hashes = (mmh3.hash64(run.encode("utf-8", "surrogatepass"), signed=False)[0] for run in runs)
    return np.unique(np.fromiter(hashes, dtype=np.uint64))


def jaccard(first: Shingles, second: Shingles) -> float:
    """Share of the shingles of both that both have; 0 where there are none."""
    union = len(first) + len(second)
    common = len(np.intersect1d(first, second, assume_unique=True))
    return common / (union - common) if union else 0.0


@cache
def _bands(threshold: float, permutations: int) -> tuple[int, int]:
    """Bands and rows of a band; working them out takes longer than comparing a hundred texts."""
    index = MinHashLSH(threshold=threshold * _CANDIDATES_FROM, num_perm=permutations, weights=(0.2, 0.8))
    return index.b, index.r


class _Candidates:
    """The texts added so far, and which of them a text is like."""

    def __init__(self, texts: Sequence[str], threshold: float, permutations: int) -> None:
        self._texts = texts
        self._threshold = threshold
        self._sketch = MinHash(num_perm=permutations, seed=1, hashfunc=int)
        self._index = MinHashLSH(num_perm=permutations, params=_bands(threshold, permutations))
        self._latest = (-1, self._sketch)
        self._recent: dict[int, Shingles] = {}

    def similar(self, position: int, *, unless: Callable[[int], bool] = lambda _: False) -> Iterator[Alike]:
        """Added texts that reach the threshold; those that ``unless`` names are passed over unread."""
        own = self.shingles(position)
        if not len(own):
            return
        for other in sorted(self._index.query(self._sketched(position, own))):
            if not unless(other):
                similarity = jaccard(own, self.shingles(other))
                if similarity >= self._threshold:
                    yield Alike(position, other, similarity)

    def add(self, position: int) -> None:
        """Make the text one that later ones are compared with."""
        own = self.shingles(position)
        if len(own):
            self._index.insert(position, self._sketched(position, own), check_duplication=False)

    def shingles(self, position: int) -> Shingles:
        """A text's shingles: the latest are kept, others are made again, so that memory does not follow the texts' length."""
        found = self._recent.pop(position, None)
        if found is None:
            found = shingles(self._texts[position])
            if len(self._recent) >= _KEPT_IN_MEMORY:
                del self._recent[next(iter(self._recent))]
        self._recent[position] = found
        return found

    def _sketched(self, position: int, own: Shingles) -> MinHash:
        if self._latest[0] != position:
            sketch = self._sketch.copy()
            sketch.update_batch((own & np.uint64(0xFFFFFFFF)).tolist())
            self._latest = (position, sketch)
        return self._latest[1]
