"""Burrows's Delta (Burrows, 2002): how far the use of the most frequent words of a text is from an author's."""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from llm_engineering.evaluation.prose import StyleText, words


def delta_from(
    profile: Sequence[StyleText], reference: Sequence[StyleText], *, frequent_words: int
) -> Callable[[StyleText], float]:
    """What measures a text's Delta from the author of ``profile``.

    Frequencies are z-scores by the mean and deviation in ``reference`` (all writers' pieces, those of ``profile`` too); Delta
    is the mean absolute difference of z-scores over the most frequent words there. 0 is the author's own mean; a text of
    the author is not 0 far from it, but less far than another writer's.
    """
    total = Counter(word for each in reference for word in words(each.text))
    chosen = [word for word, _ in sorted(total.items(), key=lambda item: (-item[1], item[0]))[:frequent_words]]
    places = {word: place for place, word in enumerate(chosen)}

    def shares(text: StyleText) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        counts, found = np.zeros(len(places)), words(text.text)
        for word in found:
            if word in places:
                counts[places[word]] += 1
        return counts / max(1, len(found))

    known = np.array([shares(each) for each in reference])
    deviation = known.std(axis=0)
    varying = deviation > 0
    own = np.array([shares(each) for each in profile]).mean(axis=0)

    def delta(text: StyleText) -> float:
        difference = np.abs(shares(text) - own)[varying] / deviation[varying]
        return float(difference.mean()) if difference.size else 0.0

    return delta
