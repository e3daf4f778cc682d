import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_engineering.domain.answers import Prompt
from llm_engineering.domain.chat import voice_prompt
from llm_engineering.domain.entities import now
from llm_engineering.domain.errors import TrainingError
from llm_engineering.domain.evaluation_config import EvaluationConfig
from llm_engineering.domain.twin_evaluation_config import PerplexityConfig
from llm_engineering.evaluation.compare import read_report
from llm_engineering.evaluation.folder import write
from llm_engineering.evaluation.perplexity import Told, of_answer, of_text, perplexity, surprise, windows
from llm_engineering.evaluation.report import Evaluated, combined

EVALUATION = EvaluationConfig(resamples=200)
CONFIG = PerplexityConfig(context=6, stride=3)


def even(ids: Sequence[int]) -> list[float]:
    """A model for which each of ten tokens is as likely as any other."""
    return [-math.log(10)] * (len(ids) - 1)


def by_token(ids: Sequence[int]) -> list[float]:
    return [-float(one) for one in ids[1:]]


def render(prompt: Prompt, answer: str) -> tuple[list[int], list[int]]:
    return [0] * len(prompt.messages), [int(digit) for digit in answer]


def told(nats: float, tokens: int, document: str = "d") -> Told:
    return Told(id="x", document_id=document, nats=nats, tokens=tokens, characters=10)


@given(st.integers(0, 60), st.integers(2, 12), st.integers(1, 12), st.integers(0, 30))
def test_every_token_but_the_first_is_counted_exactly_once(length: int, context: int, stride: int, first: int) -> None:
    found = list(windows(length, context=context, stride=stride, first=first))
    counted = [token for window in found for token in range(window.first, window.end)]
    assert counted == list(range(max(1, first), length))


@given(st.integers(2, 60), st.integers(2, 12), st.integers(1, 12))
def test_no_window_is_longer_than_the_context_and_later_ones_read_enough_before_they_count(
    length: int, context: int, stride: int
) -> None:
    for window in windows(length, context=context, stride=stride):
        assert window.end - window.start <= context
        assert window.first - window.start >= (1 if not window.start else context - min(stride, context - 1))


def test_a_model_that_guesses_among_ten_has_perplexity_ten_however_the_text_is_cut() -> None:
    texts = [
        of_text(
            "x" * length,
            id_="x",
            document_id=str(length),
            encode=lambda text: [1] * len(text),
            log_probabilities=even,
            config=CONFIG,
        )
        for length in (2, 6, 7, 40)
    ]
    part, _ = perplexity({"plain": texts}, evaluation=EVALUATION)
    assert part.figures[0].interval and part.figures[0].interval.mean == pytest.approx(10)
    assert sum(each.tokens for each in texts) == 1 + 5 + 6 + 39


def test_of_an_answer_its_own_tokens_count_and_the_prompts_do_not() -> None:
    prompt = voice_prompt("Write.", author="Ada")
    answer = of_answer(
        prompt, "123", id_="s", document_id="d", render=render, log_probabilities=by_token, config=CONFIG
    )
    assert (answer.nats, answer.tokens) == (6, 3)


def test_a_prompt_longer_than_the_context_still_leaves_every_answer_token_counted() -> None:
    assert surprise([0] * 20 + [1, 2, 3, 4], by_token, config=CONFIG, first=20) == (10, 4)


def test_a_long_text_weighs_more_than_a_short_one() -> None:
    part, _ = perplexity(
        {"plain": [told(nats=0.0, tokens=3), told(nats=4.0, tokens=1, document="e")]}, evaluation=EVALUATION
    )
    assert part.figures[0].interval and part.figures[0].interval.mean == pytest.approx(math.e)


def test_bits_per_character_need_no_tokens() -> None:
    _, part = perplexity({"plain": [told(nats=10 * math.log(2), tokens=4)]}, evaluation=EVALUATION)
    assert part.figures[1].interval and part.figures[1].interval.mean == pytest.approx(1)


@pytest.mark.parametrize("values", ([float("nan")] * 3, [-math.inf] * 3, [-1.0]))
def test_a_log_probability_that_is_none_ends_it(values: list[float]) -> None:
    with pytest.raises(TrainingError, match="no log-probability for every token"):
        surprise([1, 2, 3, 4], lambda ids: values, config=CONFIG)


def test_without_text_that_is_said() -> None:
    assert {part.missing for part in perplexity({"plain": []}, evaluation=EVALUATION)} == {"there is no held-out text"}


def test_weights_that_have_diverged_have_a_report_like_others(tmp_path: Path) -> None:
    parts = perplexity({"x": [told(1e6, 10, "a"), told(2e6, 10, "b")]}, evaluation=EVALUATION)
    assert parts[0].figures[0].interval and parts[0].figures[0].interval.mean == 1e12
    assert "stands for any that is larger" in parts[0].notes[-1]
    report = combined([Evaluated(parts=tuple(parts))], out=tmp_path, at=now())
    write(report, level=0.95)
    assert read_report(tmp_path) == report
