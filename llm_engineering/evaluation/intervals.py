"""How sure a mean is: percentile bootstrap over questions (Efron, 1979)."""

from collections.abc import Sequence

import numpy as np

from llm_engineering.domain.entities import Frozen
from llm_engineering.domain.evaluation_config import EvaluationConfig

_BLOCK = 2_000_000
"""Values drawn at a time: bounds memory."""


class Interval(Frozen):
    """A mean over ``n`` questions with its bootstrap interval; both ends equal the mean where nothing varies."""

    mean: float
    low: float
    high: float
    n: int
    documents: int | None = None
    """How many documents were drawn from, where whole documents were; of one alone nothing can be said of others."""


def interval(values: Sequence[float], *, config: EvaluationConfig) -> Interval | None:
    """The mean of the values and the percentile interval of the means of resamples; ``None`` of nothing.

    The same values in the same order and the same configuration give the same interval. An interval around a share of 0 or 1
    has no width: the bootstrap cannot see what never happened.
    """
    if not values:
        return None
    sample = np.asarray(values, dtype=np.float64)
    generator = np.random.default_rng(config.seed)
    rows = max(1, _BLOCK // len(sample))
    means = np.concatenate(
        [
            sample[generator.integers(0, len(sample), size=(min(rows, config.resamples - first), len(sample)))].mean(1)
            for first in range(0, config.resamples, rows)
        ]
    )
    tail = (1 - config.level) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(mean=float(sample.mean()), low=float(low), high=float(high), n=len(sample))
