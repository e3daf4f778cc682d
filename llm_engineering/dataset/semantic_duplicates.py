"""Texts that mean nearly the same, by the cosine of their embeddings. Block by block, so that no full matrix ever stands."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from llm_engineering.dataset.near_duplicates import Alike

_BLOCK = 1024


def semantic_duplicates(
    vectors: Sequence[Sequence[float]] | NDArray[np.float32], *, threshold: float
) -> Iterator[Alike]:
    """Vectors whose cosine to an earlier kept one reaches the threshold, by position. What is not named is to be kept.

    ``vectors``: unit vectors [n, dimensions] in the order of preference; a zero vector is like none. Memory beyond the vectors:
    a block of 1024 × 1024 cosines.
    """
    matrix = np.asarray(vectors, dtype=np.float32)
    kept: list[int] = []
    for start in range(0, len(matrix), _BLOCK):
        block = matrix[start : start + _BLOCK]
        best = np.full(len(block), -1.0, dtype=np.float32)
        like = np.zeros(len(block), dtype=np.int64)
        for first in range(0, len(kept), _BLOCK):
            earlier = np.asarray(kept[first : first + _BLOCK])
            cosines = block @ matrix[earlier].T
            value = cosines.max(axis=1)
            better = np.flatnonzero((value >= threshold) & (value > best))
            best[better], like[better] = value[better], earlier[cosines[better].argmax(axis=1)]
        within = block @ block.T
        own = np.zeros(len(block), dtype=bool)
        for row in range(len(block)):
            nearest = int(np.where(own, within[row], -1.0).argmax())
            if own[nearest] and within[row, nearest] > best[row]:
                best[row], like[row] = within[row, nearest], start + nearest
            if best[row] >= threshold:
                yield Alike(start + row, int(like[row]), float(best[row]))
            else:
                own[row] = True
        kept += (start + np.flatnonzero(own)).tolist()
