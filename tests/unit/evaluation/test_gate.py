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

CURRENT = "me@1"
GOOD = Measured(
    usable=1.0,
    bits=2.0,
    current_bits=2.0,
    style=0.7,
    current_style=0.7,
    memorised=0.1,
    author_memorised=0.05,
    longest_run=20,
    author_longest_run=12,
    parity=0.01,
)
CONFIG = GateConfig()


def failed(candidate: Measured, *, current: str | None = CURRENT, config: GateConfig = CONFIG) -> list[str]:
    return [check.name for check in promotion(candidate, current=current, config=config).checks if not check.passed]


def like_current(**changes: Any) -> Measured:
    return GOOD.model_copy(update=changes)


def test_a_candidate_as_good_as_the_current_twin_is_promoted() -> None:
    assert promotion(GOOD, current=CURRENT, config=CONFIG).passed
    assert failed(GOOD) == []


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"usable": 0.8}, "usable answers"),
        ({"bits": 2.1}, "held-out perplexity"),
        ({"bits": float("inf")}, "held-out perplexity"),
        ({"bits": 2000.0}, "held-out perplexity"),
        ({"style": 0.8}, "style"),
        ({"style": float("nan")}, "style"),
        ({"memorised": 0.3}, "memorised share"),
        ({"longest_run": 101}, "longest verbatim run"),
        ({"parity": 0.5}, "parity"),
        ({"parity": float("nan")}, "parity"),
        ({"bits": float("nan")}, "held-out perplexity"),
    ],
)
def test_each_way_of_being_worse_stops_it_and_says_which(changes: dict[str, float], check: str) -> None:
    assert failed(like_current(**changes)) == [check]


@pytest.mark.parametrize(
    "missing", ["usable", "bits", "current_bits", "style", "current_style", "memorised", "longest_run", "parity"]
)
def test_what_was_not_measured_does_not_pass(missing: str) -> None:
    assert len(failed(like_current(**{missing: None}))) == 1


def test_without_a_current_twin_it_must_be_no_worse_than_its_base() -> None:
    first = like_current(base_bits=2.5)
    assert failed(first, current=None) == []
    assert failed(first.model_copy(update={"bits": 2.6}), current=None) == ["held-out perplexity"]
    assert failed(GOOD, current=None) == ["held-out perplexity"]


@pytest.mark.parametrize("current", [None, CURRENT])
def test_style_may_be_unknown_only_where_the_authors_own_text_is_too_short(current: str | None) -> None:
    silent = like_current(style=None, current_style=None, base_bits=2.5)
    assert failed(silent, current=current) == ["style"]
    assert failed(silent.model_copy(update={"style_possible": False}), current=current) == []


@pytest.mark.parametrize(
    ("candidate", "current", "passes"),
    [
        (0.17, 0.70, True),  # chance tells nobody apart, whichever way it falls
        (0.87, 0.17, False),
        (0.55, 0.17, True),
        (0.45, 0.40, True),
    ],
)
def test_an_auc_below_one_half_is_chance_and_no_distance(candidate: float, current: float, passes: bool) -> None:
    assert (failed(like_current(style=candidate, current_style=current)) == []) is passes


def test_a_run_as_long_as_the_authors_own_is_allowed() -> None:
    assert failed(like_current(longest_run=140, author_longest_run=147)) == []


def test_a_check_without_threshold_is_left_out() -> None:
    open_gate = GateConfig(**dict.fromkeys(GateConfig.model_fields))
    assert promotion(Measured(), current=None, config=open_gate).checks == ()


@given(st.floats(0.5, 8), st.floats(0.5, 8))
def test_a_candidate_with_fewer_bits_than_a_promoted_one_is_promoted_too(bits: float, fewer: float) -> None:
    if failed(like_current(bits=max(bits, fewer))) == []:
        assert failed(like_current(bits=min(bits, fewer))) == []


def test_the_words_for_people_name_figures_and_thresholds() -> None:
    lines = promotion(like_current(bits=2.1), current=CURRENT, config=CONFIG).lines()
    assert lines[:3] == [
        "passed: usable answers: 1.000 of the instructions, at least 0.9",
        "FAILED: held-out perplexity: 1.072 times that of me@1 per character, at most 1.02",
        "passed: style: AUC 0.700, that of me@1 0.700; at most 0.05 further above 0.5",
    ]


def test_a_registry_keeps_the_figures_that_were_measured() -> None:
    found = Measured(bits=2.0, parity=0.0, base_bits=float("inf"), style=float("nan"), style_possible=False)
    assert found.metrics() == {"bits": 2.0, "parity": 0.0}


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
