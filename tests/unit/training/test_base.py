"""The base of our own: built from the training split alone, the same again from the same data, usable by every library."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_engineering.domain.errors import UsageError
from llm_engineering.training.base import resolve_base, train_tokenizer
from llm_engineering.training.data import Example
from tests.doubles.training import rows, small_recipe

EXAMPLES = [Example(row["instruction"], row["answer"], row["author"]) for row in rows(12)]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([example.answer for example in EXAMPLES], vocabulary=400, context=64)


@given(text=st.text(st.characters(codec="utf-8"), max_size=60))
@settings(max_examples=60, deadline=None)
def test_every_text_can_be_written_in_it_and_read_back(tokenizer, text: str):
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text


def test_the_same_data_and_seed_give_the_same_weights(tmp_path: Path, trained):
    built = Path(resolve_base(small_recipe(), EXAMPLES, tmp_path / "base"))
    for name in ("model.safetensors", "tokenizer.json"):
        assert (built / name).read_bytes() == (trained[0] / "base" / name).read_bytes()


def test_a_base_is_built_once(trained):
    before = (trained[0] / "base" / "model.safetensors").stat().st_mtime_ns
    resolve_base(small_recipe(), EXAMPLES, trained[0] / "base")
    assert (trained[0] / "base" / "model.safetensors").stat().st_mtime_ns == before


def test_a_base_of_other_data_is_not_taken_for_this_one(trained):
    with pytest.raises(UsageError, match="built from other data"):
        resolve_base(small_recipe(), EXAMPLES[:5], trained[0] / "base")


def test_what_it_reads_is_part_of_what_it_is(trained):
    with pytest.raises(UsageError, match="built from other data"):
        resolve_base(small_recipe(model__reads="docstrings"), EXAMPLES, trained[0] / "base")


def test_another_patch_of_python_leaves_a_base_that_read_its_docstrings_as_it_is(tmp_path: Path, monkeypatch):
    recipe, read = small_recipe(model__steps=1, model__reads="docstrings"), set()
    for release in ("3.11.8", "3.11.9"):
        monkeypatch.setattr("llm_engineering.training.base.docstrings", lambda _, said=release: [f"In {said}. " * 20])
        read.add((Path(resolve_base(recipe, EXAMPLES, tmp_path / "base")) / "model.safetensors").read_bytes())
    assert len(read) == 1


def test_a_base_that_reads_docstrings_can_write_what_it_will_be_trained_on(tmp_path: Path):
    from transformers import AutoTokenizer

    recipe = small_recipe(model__steps=1, model__reads="docstrings", model__vocabulary=600)
    built = resolve_base(recipe, EXAMPLES, tmp_path / "base")
    answer = EXAMPLES[0].answer
    assert len(AutoTokenizer.from_pretrained(built)(answer)["input_ids"]) < len(answer) / 1.5


def test_what_a_killed_build_left_is_no_base(tmp_path: Path):
    (tmp_path / "base.partial").mkdir()
    (tmp_path / "base.partial" / "model.safetensors").write_bytes(b"half")
    built = Path(resolve_base(small_recipe(model__steps=1), EXAMPLES, tmp_path / "base"))
    assert (built / "model.safetensors").stat().st_size > 4
    assert not (tmp_path / "base.partial").exists()


def test_a_model_with_a_name_is_left_as_it_is(tmp_path: Path):
    assert resolve_base(small_recipe(model="some/model"), EXAMPLES, tmp_path / "base") == "some/model"
    assert not (tmp_path / "base").exists()


def test_it_saves_the_numbers_that_generation_needs(trained):
    from transformers import GenerationConfig

    config = GenerationConfig.from_pretrained(trained[0] / "base")
    assert (config.pad_token_id, config.bos_token_id, config.eos_token_id) == (0, 1, 3)
