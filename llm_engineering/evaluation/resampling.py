"""How sure a figure is whose values hang together by document: bootstrap over documents (Efron, 1979)."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from llm_engineering.domain.evaluation_config import EvaluationConfig
from llm_engineering.evaluation.intervals import Interval

Numbers = NDArray[np.float64]
_BLOCK = 4_000_000
"""Values held at a time: bounds memory."""


def multiplicities(groups: int, config: EvaluationConfig) -> Numbers:
    """How often each group is drawn in each resample, ``[resamples, groups]``; the same for the same configuration."""
    generator = np.random.default_rng(config.seed)
    return generator.multinomial(groups, np.full(groups, 1 / groups), size=config.resamples).astype(np.float64)


def bounds(values: Numbers, *, of: float, n: int, documents: int, config: EvaluationConfig) -> Interval:
    """The percentile interval of resampled values around the figure itself, ``of``, which it always holds.

    Of one document it has no width, and of few it is too narrow: ``documents`` says of how many.
    """
    tail = (1 - config.level) / 2
    finite = values[np.isfinite(values)]
    low, high = np.quantile(finite, [tail, 1 - tail]) if finite.size else (of, of)
    return Interval(mean=of, low=min(float(low), of), high=max(float(high), of), n=n, documents=documents)


def ratio(
    sums: Sequence[float],
    counts: Sequence[float],
    groups: Sequence[str],
    *,
    config: EvaluationConfig,
    then: Callable[[Numbers], Numbers] = lambda values: values,
) -> Interval | None:
    """``then(sum of sums / sum of counts)`` with its interval; whole groups are drawn. ``None`` where there is nothing to count.

    A mean over items is ``counts`` of 1; a mean per token has the tokens there. ``n`` is the number of items.
    """
    if not sums or not sum(counts):
        return None
    names = {name: number for number, name in enumerate(dict.fromkeys(groups))}
    above, below = np.zeros(len(names)), np.zeros(len(names))
    for value, count, group in zip(sums, counts, groups, strict=True):
        above[names[group]] += value
        below[names[group]] += count
    drawn = multiplicities(len(names), config)
    under = drawn @ below
    means = (drawn @ above)[under > 0] / under[under > 0]
    whole = float(then(np.array([above.sum() / below.sum()]))[0])
    return bounds(then(means), of=whole, n=len(sums), documents=len(names), config=config)


class Block:
    """Scores that one judge gave to two sides: only scores of one judge are compared with each other."""

    def __init__(
        self, positive: Sequence[float], positive_groups: Sequence[str], negative: Sequence[float], negative_groups: Sequence[str]
    ) -> None:  # fmt: skip
        self.positive, self.negative = np.asarray(positive, np.float64), np.asarray(negative, np.float64)
        self.positive_groups, self.negative_groups = positive_groups, negative_groups

    @property
    def wins(self) -> Numbers:
        """1 where the row's positive scores higher than the column's negative, 0.5 where they tie."""
        above = self.positive[:, None] > self.negative[None, :]
        wins: Numbers = above + 0.5 * (self.positive[:, None] == self.negative[None, :])
        return wins


def auc(blocks: Sequence[Block], *, n: int, config: EvaluationConfig) -> Interval | None:
    """Chance that a positive scores higher than a negative of the same block, ties half (Mann and Whitney, 1947).

    Whole groups are drawn, a group of both sides on both at once. ``n`` texts are what the interval says it is over. ``None``
    where no block has both sides.
    """
    whole = [block for block in blocks if block.positive.size and block.negative.size]
    if not whole:
        return None
    names: dict[str, int] = {}
    for block in whole:
        for group in (*block.positive_groups, *block.negative_groups):
            names.setdefault(group, len(names))
    drawn = multiplicities(len(names), config)
    won, pairs, right = np.zeros(config.resamples), np.zeros(config.resamples), [0.0, 0.0]
    for block in whole:
        rows = [names[group] for group in block.positive_groups]
        columns = [names[group] for group in block.negative_groups]
        wins = block.wins
        step = max(1, _BLOCK // (len(rows) + len(columns)))
        for first in range(0, config.resamples, step):
            part = slice(first, first + step)
            left, top = drawn[part][:, rows], drawn[part][:, columns]
            won[part] += ((left @ wins) * top).sum(1)
            pairs[part] += left.sum(1) * top.sum(1)
        right = [right[0] + float(wins.sum()), right[1] + wins.size]
    kept = pairs > 0
    return bounds(won[kept] / pairs[kept], of=right[0] / right[1], n=n, documents=len(names), config=config)
