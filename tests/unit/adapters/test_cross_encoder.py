"""Reranking with a real cross-encoder: a tiny one with random weights, made here."""

import asyncio
import shutil
from pathlib import Path

import pytest

from llm_engineering import bootstrap
from llm_engineering.adapters.cross_encoder import CrossEncoderReranker
from llm_engineering.domain.config import ChatConfig
from llm_engineering.domain.errors import ModelUnavailable
from llm_engineering.settings import Settings


def make(folder: Path, *, labels: int) -> Path:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "tea", "is", "hot", "cold"]
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
        num_labels=labels,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def test_each_passage_gets_a_score_and_the_same_one_in_any_company(tmp_path: Path):
    reranker = CrossEncoderReranker(str(make(tmp_path / "one", labels=1)))
    together = reranker.scores("tea", ["tea is hot", "cold", "tea is cold " * 9])
    alone = [reranker.scores("tea", [text])[0] for text in ("tea is hot", "cold", "tea is cold " * 9)]
    assert together == pytest.approx(alone, abs=1e-4)
    assert len(set(together)) == 3
    assert reranker.scores("tea", []) == []


def test_a_model_with_several_labels_is_no_reranker(tmp_path: Path):
    with pytest.raises(ModelUnavailable, match="one label"):
        CrossEncoderReranker(str(make(tmp_path / "three", labels=3))).scores("tea", ["tea is hot"])


def test_a_model_that_is_not_there_is_named(tmp_path: Path):
    reranker = CrossEncoderReranker(str(tmp_path / "nothing"))
    with pytest.raises(ModelUnavailable, match="RERANKER_MODEL"):
        reranker.scores("tea", ["tea is hot"])


def test_it_is_loaded_when_it_is_opened_not_in_the_time_of_the_first_question(tmp_path: Path):
    model = make(tmp_path / "one", labels=1)
    opened = bootstrap.open_reranker(Settings(twin_home=tmp_path, reranker_model=str(model), _env_file=None))  # type: ignore[call-arg]
    shutil.rmtree(model)
    assert opened is not None
    assert len(opened.scores("tea", ["tea is hot"])) == 1


def test_which_models_answer_follows_from_the_settings(tmp_path: Path):
    settings = Settings(twin_home=tmp_path, reranker_model=str(tmp_path / "nothing"), _env_file=None)  # type: ignore[call-arg]
    with pytest.raises(ModelUnavailable, match="RERANKER_MODEL"):
        bootstrap.open_reranker(settings)
    assert bootstrap.open_reranker(Settings(twin_home=tmp_path, reranker_model="", _env_file=None)) is None  # type: ignore[call-arg]
    offline = bootstrap.open_chat_model(settings, ChatConfig())
    assert offline.name == "offline (quotes only)"
    asyncio.run(offline.close())
