import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_engineering.domain.evaluation_config import EvaluationConfig
from llm_engineering.domain.samples import Pair, PairSource
from llm_engineering.evaluation.preference import AnswerLogProbability, preference, rewards

EVALUATION = EvaluationConfig(resamples=200)


def pair(number: int, *documents: str) -> Pair:
    return Pair(
        id=str(number),
        instruction=f"task {number}",
        chosen="good",
        rejected="bad",
        source=PairSource.BASE,
        rejected_by="base",
        document_ids=documents,
    )


def says(good: float, bad: float) -> AnswerLogProbability:
    return lambda of, answer: good if answer == "good" else bad


def means(policy: AnswerLogProbability, *, beta: float = 0.5) -> list[float]:
    found = rewards([pair(1, "a"), pair(2, "b")], policy=policy, reference=says(-4, -2), beta=beta)
    return [figure.interval.mean for figure in preference(found, evaluation=EVALUATION).figures if figure.interval]


def test_what_counts_is_how_much_more_likely_an_answer_became_not_how_likely_it_is() -> None:
    assert means(says(-3, -2)) == [1.0, 0.5]
    assert means(says(-4, -1)) == [0.0, -0.5]


def test_a_model_that_equals_its_reference_has_accuracy_one_half_and_no_margin() -> None:
    assert means(says(-4, -2)) == [0.5, 0.0]


@given(st.floats(-50, 0), st.floats(-50, 0), st.floats(0.01, 5))
def test_margins_grow_with_beta_and_accuracy_does_not_change(good: float, bad: float, beta: float) -> None:
    accuracy, margin = means(says(good, bad), beta=1)
    scaled_accuracy, scaled_margin = means(says(good, bad), beta=beta)
    assert scaled_margin == pytest.approx(beta * margin)
    assert scaled_accuracy == accuracy


def test_pairs_of_one_document_are_drawn_together() -> None:
    found = rewards([pair(1, "a"), pair(2, "a")], policy=says(-3, -2), reference=says(-4, -2), beta=1)
    assert {each.document_id for each in found} == {"a"}


def test_a_pair_without_document_stands_for_itself() -> None:
    assert rewards([pair(3)], policy=says(0, 0), reference=says(0, 0), beta=1)[0].document_id == "3"


def test_without_pairs_that_is_said() -> None:
    assert preference([], evaluation=EVALUATION).missing == "there is no held-out pair"
