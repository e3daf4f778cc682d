"""Bootstrap intervals: repeatable, inside the data, as wide as the data deserve."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_engineering.domain.evaluation_config import EvaluationConfig
from llm_engineering.evaluation.intervals import interval

CONFIG = EvaluationConfig(resamples=400)
SHARES = st.lists(st.floats(0, 1), min_size=1, max_size=60)


@given(SHARES)
def test_an_interval_lies_within_the_values_and_is_the_same_every_time(values):
    found = interval(values, config=CONFIG)
    assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9
    assert found.n == len(values) and found.mean == pytest.approx(sum(values) / len(values))
    assert interval(values, config=CONFIG) == found


def test_nothing_has_no_interval():
    assert interval([], config=CONFIG) is None


def test_values_that_never_vary_have_an_interval_without_width():
    found = interval([1.0] * 9, config=CONFIG)
    assert (found.low, found.mean, found.high) == (1.0, 1.0, 1.0)


def test_another_seed_draws_other_resamples_and_a_higher_level_is_wider():
    values = list(np.random.default_rng(1).random(40))
    wide, narrow = interval(values, config=CONFIG.model_copy(update={"level": 0.99})), interval(values, config=CONFIG)
    assert wide.low < narrow.low < narrow.mean < narrow.high < wide.high
    assert interval(values, config=CONFIG.model_copy(update={"seed": 8})) != narrow


def test_a_share_has_the_interval_that_its_binomial_deviation_predicts():
    found = interval([1.0] * 80 + [0.0] * 20, config=EvaluationConfig(resamples=4000))
    deviation = (0.8 * 0.2 / 100) ** 0.5
    assert found.low == pytest.approx(0.8 - 1.96 * deviation, abs=0.015)
    assert found.high == pytest.approx(0.8 + 1.96 * deviation, abs=0.015)


def test_of_a_hundred_samples_about_ninety_five_intervals_hold_the_truth():
    generator = np.random.default_rng(3)
    held = 0
    for _ in range(100):
        found = interval(list(generator.random(50)), config=CONFIG)
        held += found.low <= 0.5 <= found.high
    assert 88 <= held <= 99


def test_more_values_than_one_block_holds_are_drawn_in_several(monkeypatch):
    values = [0.0, 1.0] * 10
    at_once = interval(values, config=CONFIG)
    monkeypatch.setattr("llm_engineering.evaluation.intervals._BLOCK", 25)
    assert interval(values, config=CONFIG) == at_once
