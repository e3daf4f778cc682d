"""Whether a model prefers what people prefer, on held-out pairs: accuracy and margin of DPO's implicit reward."""

from collections.abc import Callable, Sequence

from llm_engineering.domain.entities import Frozen
from llm_engineering.domain.evaluation_config import EvaluationConfig
from llm_engineering.domain.samples import Pair
from llm_engineering.evaluation.report import Figure, Part
from llm_engineering.evaluation.resampling import ratio

NAME = "Preference on held-out pairs"

AnswerLogProbability = Callable[[Pair, str], float]
"""The log-probability of an answer (``chosen`` or ``rejected``) to a pair's instruction: the sum over its tokens, in nats."""


class Rewarded(Frozen):
    """The rewards of one pair's two answers."""

    id: str
    document_id: str
    chosen: float
    rejected: float

    @property
    def margin(self) -> float:
        """By how much the preferred answer is rewarded more."""
        return self.chosen - self.rejected


def rewards(
    pairs: Sequence[Pair], *, policy: AnswerLogProbability, reference: AnswerLogProbability, beta: float
) -> list[Rewarded]:
    """``beta * (log policy(answer | instruction) - log reference(answer | instruction))`` of each answer (Rafailov et al., 2023).

    The reward holds up to a constant of the instruction, which no difference between two answers to it sees.
    """

    def reward(pair: Pair, answer: str) -> float:
        return beta * (policy(pair, answer) - reference(pair, answer))

    return [
        Rewarded(
            id=pair.id,
            document_id=pair.document_ids[0] if pair.document_ids else pair.id,
            chosen=reward(pair, pair.chosen),
            rejected=reward(pair, pair.rejected),
        )
        for pair in pairs
    ]


def preference(rewarded: Sequence[Rewarded], *, evaluation: EvaluationConfig) -> Part:
    """Share of pairs whose preferred answer is rewarded more, a tie counting half, and the mean margin."""
    right = [1.0 if each.margin > 0 else 0.5 if each.margin == 0 else 0.0 for each in rewarded]
    margins = [each.margin for each in rewarded]
    groups, ones = [each.document_id for each in rewarded], [1.0] * len(rewarded)
    return Part(
        name=NAME,
        figures=(
            Figure(name="reward accuracy", over="pairs", interval=ratio(right, ones, groups, config=evaluation)),
            Figure(name="reward margin", over="pairs", interval=ratio(margins, ones, groups, config=evaluation)),
        ),
        notes=("A model that equals its reference has accuracy 0.5 and margin 0.",),
        missing="" if rewarded else "there is no held-out pair",
        rows=tuple(
            {
                "id": each.id,
                "group": each.document_id,
                "weight": 1.0,
                "reward accuracy": hit,
                "reward margin": each.margin,
            }
            for each, hit in zip(rewarded, right, strict=True)
        ),
    )
