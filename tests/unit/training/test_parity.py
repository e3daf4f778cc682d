"""What the parity gate lets pass and what it does not."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llm_engineering.domain.errors import ParityFailed
from llm_engineering.training.parity import Comparison, Parity, Reading, Text, Tolerances, compare, continued, read

LIMITS = Tolerances(mean=0.02, largest=0.3, tie=0.1)
GREEDY, GIVEN = Text([1], [2, 3, 4], greedy=True), Text([1], [5, 6, 7], greedy=False)


def reading(*log_probabilities: float, leads: tuple[float, ...] = (0, 0, 0)) -> Reading:
    return Reading(torch.tensor(log_probabilities), torch.tensor([float(lead) for lead in leads]))


EXPECTED = reading(-1.0, -2.0, -3.0)


def passes(found: Reading, text: Text = GREEDY, limits: Tolerances = LIMITS) -> bool:
    return compare("merged", [text], [EXPECTED], [found], limits).passed


def test_what_says_the_same_passes():
    found = compare("merged", [GREEDY, GIVEN], [EXPECTED, EXPECTED], [EXPECTED, EXPECTED], LIMITS)
    assert (found.tokens, found.mean, found.largest, found.other_choices, found.ties) == (6, 0, 0, 0, 0)
    assert found.passed


@pytest.mark.parametrize(
    ("found", "passed"),
    [
        (reading(-1.01, -2.01, -3.01), True),
        (reading(-1.03, -2.03, -3.03), False),
        (reading(-1.0, -2.0, -3.05), True),
        (reading(-1.0, -2.0, -3.5), False),
    ],
)
def test_log_probabilities_may_be_off_a_little_in_the_mean_and_nowhere_much(found: Reading, passed: bool):
    assert passes(found) is passed


@pytest.mark.parametrize(("lead", "passed"), [(0.05, True), (0.2, False)])
def test_another_greedy_choice_passes_only_as_a_tie(lead: float, passed: bool):
    assert passes(reading(-1.0, -2.0, -3.0, leads=(0, lead, 0))) is passed
    assert passes(reading(-1.0, -2.0, -3.0, leads=(0, lead, 0)), text=GIVEN), "the author's words are nobody's choice"


def test_no_number_never_passes():
    assert not passes(reading(-1.0, float("nan"), -3.0))


@given(st.lists(st.floats(-0.5, 0.5), min_size=3, max_size=3))
def test_whatever_passes_is_within_the_stated_tolerances(gaps: list[float]):
    found = reading(*(float(e) + gap for e, gap in zip(EXPECTED.log_probabilities, gaps, strict=True)))
    if passes(found):
        assert max(map(abs, gaps)) <= LIMITS.largest + 1e-6
        assert sum(map(abs, gaps)) / 3 <= LIMITS.mean + 1e-6


def compared(*gaps: float) -> Comparison:
    found = reading(*(float(e) + gap for e, gap in zip(EXPECTED.log_probabilities, gaps, strict=True)))
    return compare("base", [GREEDY], [EXPECTED], [found], LIMITS)


@given(st.lists(st.floats(1e-3, 5), min_size=3, max_size=3), st.floats(0.25, 1))
def test_a_form_that_lost_most_of_the_adapter_never_passes_however_little_that_does(gaps: list[float], lost: float):
    limits = LIMITS.beside(compared(*gaps))
    found = reading(*(float(e) + lost * gap for e, gap in zip(EXPECTED.log_probabilities, gaps, strict=True)))
    assert not passes(found, limits=limits)


def test_a_strong_adapter_leaves_the_limits_as_they_are():
    assert LIMITS.beside(compared(0.5, 2, 1)) == LIMITS


def test_the_gate_names_the_form_and_says_what_was_allowed():
    bad = compare("reloaded", [GREEDY], [EXPECTED], [reading(-4.0, -4.0, -4.0, leads=(1, 0, 0))], LIMITS)
    with pytest.raises(
        ParityFailed, match=r"The reloaded model .*by 2 in the mean and 3 at most .*1 of 3 tokens are others"
    ):
        Parity(tolerances=LIMITS, texts=1, effect=1.0, comparisons=(bad,)).require()


def test_a_models_own_words_are_its_likeliest_and_another_prompt_has_others(trained):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(trained[0] / "base")
    model = AutoModelForCausalLM.from_pretrained(trained[0] / "base", dtype=torch.float32)
    prompts = [tokenizer(words, add_special_tokens=False)["input_ids"] for words in ("My index", "It stays red, and")]
    texts = continued(model, prompts, tokens=8, end=tokenizer.eos_token_id)
    readings = read(model, texts)
    assert [len(each.log_probabilities) for each in readings] == [len(text.following) for text in texts]
    assert all(float(each.leads.max()) == 0 and float(each.log_probabilities.max()) <= 0 for each in readings)
    other = [Text(texts[0].prompt, texts[1].following[::-1], greedy=False)]
    assert float(read(model, other)[0].leads.max()) > 0
