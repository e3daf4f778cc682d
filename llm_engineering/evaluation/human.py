"""People as judges: blind pairs for them, and what their choices say, with Wilson's interval."""

import random
from collections.abc import Sequence
from statistics import NormalDist

from llm_engineering.domain.blind import BlindChoice, BlindPair
from llm_engineering.domain.evaluation_config import EvaluationConfig
from llm_engineering.domain.words import first_words, length_in_words
from llm_engineering.evaluation.intervals import Interval
from llm_engineering.evaluation.overlap import Answered
from llm_engineering.evaluation.report import Figure, Part

NAME = "People, blind"
FEWEST_WORDS = 15
"""A pair with a shorter text is not shown: nobody could tell."""


def blind_pairs(
    answered: Sequence[Answered],
    *,
    model: str,
    author: str,
    weights: str = "",
    limit: int | None = None,
    evaluation: EvaluationConfig,
) -> list[BlindPair]:
    """Pairs of the twin's and the author's text, both broken off before the shorter one's last word: neither length nor the
    end of a text tells anything.

    In an order by the seed, at most ``limit``. Texts that are too short or equal give no pair.
    """
    found = []
    for one in answered:
        words = min(length_in_words(one.twin), length_in_words(one.author)) - 1
        twin, written = _cut(one.twin, words), _cut(one.author, words)
        if words >= FEWEST_WORDS and twin.split() != written.split():
            found.append(
                BlindPair.of(
                    model=model,
                    weights=weights,
                    author=author,
                    task=one.instruction,
                    twin=twin,
                    written=written,
                    seed=evaluation.seed,
                    document_ids=(one.document_id,),
                )
            )
    return random.Random(evaluation.seed).sample(found, len(found))[:limit]


def wilson(successes: int, n: int, *, level: float) -> tuple[float, float]:
    """The interval of a share that is ``successes / n`` in a sample (Wilson, 1927); everything from 0 to 1 for no sample."""
    if not n:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + level) / 2)
    share, spread = successes / n, z * z / n
    middle = (share + spread / 2) / (1 + spread)
    half = z * ((share * (1 - share) + spread / 4) / n) ** 0.5 / (1 + spread)
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


def human(choices: Sequence[BlindChoice], *, pairs: Sequence[BlindPair], evaluation: EvaluationConfig) -> Part:
    """How often people took the twin's text for the author's in one of these pairs. Who could not tell is counted apart."""
    ids = {pair.id for pair in pairs}
    of_pairs = [choice for choice in choices if choice.pair_id in ids]
    decided = [choice for choice in of_pairs if choice.taken != "neither"]
    taken = sum(choice.taken == "twin" for choice in decided)
    low, high = wilson(taken, len(decided), level=evaluation.level)
    share = Interval(mean=taken / len(decided), low=low, high=high, n=len(decided)) if decided else None
    return Part(
        name=NAME,
        figures=(Figure(name="twin's text taken for the author's", over="choices", interval=share),),
        counts={
            "choices": len(of_pairs),
            "could not tell": len(of_pairs) - len(decided),
            "judges": len({choice.judge for choice in of_pairs}),
        },
        notes=("0.5 is indistinguishable to people. The interval is Wilson's, of a binomial share.",),
        missing="" if of_pairs else "nobody has compared its texts yet (the service's page /review/ab)",
    )


def _cut(text: str, words: int) -> str:
    """The first so many words as they stand, and an ellipsis."""
    return f"{first_words(text, words)} …".lstrip()
