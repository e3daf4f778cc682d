import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_engineering.domain.words import first_words, length_in_words, spaced, words

TEXTS = st.text(st.sampled_from("ab é'’ .,_1\n我書かกัहि"), max_size=40)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Don’t STOP, snake_case 10.", ["don't", "stop", "snake", "case", "10"]),
        ("Ещё этих булок", ["ещё", "этих", "булок"]),
        ("हिन्दी में है।", ["हिन्दी", "में", "है"]),
        ("我喜欢C，好。", ["我", "喜", "欢", "c", "好"]),
        ("กินที่นี่", ["กิ", "น", "ที่", "นี่"]),
        ("ｆｕｌｌ", ["full"]),
    ],
)
def test_words_are_those_of_the_script(text: str, found: list[str]) -> None:
    assert words(text) == found


@given(TEXTS)
def test_blanks_between_characters_part_no_words_and_join_none(text: str) -> None:
    assert words(spaced(text)) == words(text)
    assert re.sub(r"\s", "", spaced(text)) == re.sub(r"\s", "", text)


@given(TEXTS, st.integers(0, 12))
def test_the_first_words_are_the_beginning_of_the_text_as_it_stands(text: str, count: int) -> None:
    found = first_words(text, count)
    assert text.lstrip().startswith(found)
    assert length_in_words(found) == min(count, length_in_words(text))


@given(st.text(max_size=40))
def test_words_are_the_same_whatever_script_stands_beside_them(text: str) -> None:
    assert words(f"{text} 我") == [*words(text), "我"]
