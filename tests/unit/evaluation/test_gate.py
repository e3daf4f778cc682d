from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_engineering.domain.evaluation_config import EvaluationConfig
from llm_engineering.domain.twin_evaluation_config import GateConfig, MemorisationConfig
from llm_engineering.evaluation.gate import Measured, measured, promotion
from llm_engineering.evaluation.memorisation import memorisation
from llm_engineering.evaluation.perplexity import ANSWERS, Told, perplexity
from llm_engineering.evaluation.prose import StyleText

CURRENT = Measured(
    bits=2.0,
    current_bits=2.0,
    style=0.7,
    memorised=0.1,
    author_memorised=0.05,
    longest_run=20,
    author_longest_run=12,
    parity=0.01,
)
CONFIG = GateConfig()


def failed(candidate: Measured, *, current: Measured | None = CURRENT, config: GateConfig = CONFIG) -> list[str]:
    return [check.name for check in promotion(candidate, current=current, config=config).checks if not check.passed]


def like_current(**changes: Any) -> Measured:
    return CURRENT.model_copy(update=changes)


def test_a_candidate_as_good_as_the_current_twin_is_promoted() -> None:
    assert promotion(CURRENT, current=CURRENT, config=CONFIG).passed
    assert failed(CURRENT) == []


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"bits": 2.1}, "held-out perplexity"),
        ({"style": 0.8}, "style"),
        ({"style": 0.2}, "style"),
        ({"memorised": 0.3}, "memorised share"),
        ({"longest_run": 101}, "longest verbatim run"),
        ({"parity": 0.5}, "parity"),
        ({"parity": float("nan")}, "parity"),
        ({"bits": float("nan")}, "held-out perplexity"),
    ],
)
def test_each_way_of_being_worse_stops_it_and_says_which(changes: dict[str, float], check: str) -> None:
    assert failed(like_current(**changes)) == [check]


@pytest.mark.parametrize("missing", ["bits", "style", "memorised", "longest_run", "parity"])
def test_what_was_not_measured_does_not_pass(missing: str) -> None:
    assert len(failed(like_current(**{missing: None}))) == 1


def test_without_a_current_twin_it_must_be_no_worse_than_its_base() -> None:
    first = like_current(base_bits=2.5)
    assert failed(first, current=None) == []
    assert failed(first.model_copy(update={"bits": 2.6}), current=None) == ["held-out perplexity"]
    assert failed(CURRENT, current=None) == ["held-out perplexity"]


def test_style_without_text_enough_passes_only_where_there_is_nothing_to_be_worse_than() -> None:
    unknown = like_current(style=None)
    assert failed(unknown, current=unknown) == []
    assert failed(unknown, current=CURRENT) == ["style"]


def test_a_run_as_long_as_the_authors_own_is_allowed() -> None:
    assert failed(like_current(longest_run=140, author_longest_run=147)) == []


def test_a_check_without_threshold_is_left_out() -> None:
    open_gate = GateConfig(
        perplexity_ratio=None, style_difference=None, memorised_share=None, longest_run=None, parity=None
    )
    assert promotion(Measured(), current=None, config=open_gate).checks == ()


@given(st.floats(0.5, 8), st.floats(0.5, 8))
def test_a_candidate_with_fewer_bits_than_a_promoted_one_is_promoted_too(bits: float, fewer: float) -> None:
    if failed(like_current(bits=max(bits, fewer))) == []:
        assert failed(like_current(bits=min(bits, fewer))) == []


def test_the_words_for_people_name_figures_and_thresholds() -> None:
    lines = promotion(like_current(bits=2.1), current=CURRENT, config=CONFIG).lines()
    assert lines[0] == "FAILED: held-out perplexity: 1.072 times the current twin's per character, at most 1.02"
    assert lines[1] == "passed: style: AUC 0.700, the current twin's 0.700; at most 0.05 further from 0.5"


def test_metrics_of_a_registry_come_back_as_they_went() -> None:
    assert Measured.of_metrics({**CURRENT.metrics(), "other": 1.0}) == CURRENT


def test_the_figures_are_those_of_the_reports_parts() -> None:
    evaluation = EvaluationConfig(resamples=100)
    told = Told(id="s", document_id="d", nats=6.931471805599453, tokens=5, characters=5)
    base = told.model_copy(update={"nats": 2 * told.nats})
    parts = [
        *perplexity({ANSWERS: [told], f"{ANSWERS} (base)": [base]}, evaluation=evaluation),
        *memorisation(
            twin=[StyleText(document_id="d", text="a b c d")],
            held_out=[StyleText(document_id="d", text="a b x y")],
            training=[StyleText(document_id="t", text="a b c")],
            config=MemorisationConfig(gram=2),
            evaluation=evaluation,
        ),
    ]
    found = measured(parts, parity=0.1)
    assert (found.bits, found.base_bits) == (pytest.approx(2), pytest.approx(4))
    assert (found.memorised, found.author_memorised) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert (found.longest_run, found.author_longest_run, found.parity, found.style) == (3, 2, 0.1, None)
