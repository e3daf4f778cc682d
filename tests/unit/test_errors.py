"""How faults of what was read are told."""

import pytest
from pydantic import ValidationError

from llm_engineering.domain.answers import Question
from llm_engineering.domain.errors import in_one_line


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"query": 3, "k": 0}, "query: Input should be a valid string; k: Input should be greater than or equal to 1"),
        ([], "line: Input should be a valid dictionary or instance of Question"),
    ],
)
def test_each_fault_is_told_with_its_place(content: object, told: str):
    with pytest.raises(ValidationError) as caught:
        Question.model_validate(content)
    assert in_one_line(caught.value) == told


def test_another_error_is_told_in_its_own_words():
    assert in_one_line(ValueError("unknown entry 'x'")) == "unknown entry 'x'"
