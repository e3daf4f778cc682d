"""What BM25 takes for words, and its numbers against the formula."""

import pytest

from llm_engineering.adapters.bm25 import Bm25Encoder, words
from llm_engineering.domain.config import SparseConfig


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("getUserName", ["get", "user", "name", "getusername"]),
        ("foo_bar __init__", ["foo", "bar", "foobar", "init"]),
        ("e-mail", ["e", "mail", "email"]),
        ("C++ and C#", ["c", "c++", "and", "c", "c#"]),
        ("v1.2.3", ["v1", "2", "3", "v1.2.3"]),
        ("GPT-4 gpt4", ["gpt", "4", "gpt4", "gpt4"]),
        ("HTTPServerError", ["http", "server", "error", "httpservererror"]),
        ("std::vector<int>", ["std", "vector", "int"]),
        ("A sentence.", ["a", "sentence"]),
    ],
)
def test_identifiers_are_found_whole_and_in_parts(text, expected):
    assert list(words(text)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("𝗯𝗼𝗹𝗱 ｆｕｌｌ", ["bold", "full"]),
        ("Straße GRÖSSE", ["strasse", "grösse"]),
        ("John’s don't", ["john", "don"]),
        ("l'arbre qu'il", ["arbre", "il"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("我喜欢Python", ["我喜", "喜欢", "python"]),
        ("字", ["字"]),
        ("한국어 텍스트", ["한국어", "텍스트"]),
    ],
)
def test_words_of_many_scripts(text, expected):
    assert list(words(text)) == expected


def test_a_chinese_query_finds_its_place_inside_a_sentence():
    encoder = Bm25Encoder(SparseConfig(language="none"))
    assert set(encoder.encode_query("编程").indices) <= set(encoder.encode_passage("我喜欢编程和音乐").indices)


def test_inflected_words_meet_in_their_stem():
    encoder = Bm25Encoder(SparseConfig(language="english"))
    assert encoder.encode_query("chunks embedding").indices == encoder.encode_query("chunk embedded").indices


def test_english_words_of_asking_are_no_terms():
    encoder = Bm25Encoder(SparseConfig(language="english"))
    assert encoder.encode_query("What is the watermark of an index?") == encoder.encode_query("watermark index")
    assert encoder.encode_query("to be or not to be").indices == []
    assert len(Bm25Encoder(SparseConfig(language="none")).encode_query("to be or not to be").indices) == 4


def test_without_a_stemmer_words_stay_as_they_are():
    encoder = Bm25Encoder(SparseConfig(language="none"))
    assert encoder.encode_query("chunks").indices != encoder.encode_query("chunk").indices


def test_scores_are_those_of_the_formula_on_a_corpus_counted_by_hand():
    corpus = ["cat cat dog", "dog bird", "bird bird bird fish"]
    config = SparseConfig(language="none", k1=1.2, b=0.75, average_length=3)
    encoder = Bm25Encoder(config)
    (cat,) = encoder.encode_query("cat").indices
    passage = encoder.encode_passage(corpus[0])
    weight = dict(zip(passage.indices, passage.values, strict=True))[cat]
    # tf 2, length 3 = average: 2 · 2.2 / (2 + 1.2)
    assert weight == pytest.approx(4.4 / 3.2)
    long = encoder.encode_passage(corpus[2])
    # tf 3, length 4: 3 · 2.2 / (3 + 1.2 · (0.25 + 0.75 · 4 / 3))
    assert max(long.values) == pytest.approx(6.6 / (3 + 1.2 * 1.25))


def test_more_occurrences_help_less_and_less():
    encoder = Bm25Encoder(SparseConfig(language="none", b=0))
    once, twice, thrice = (encoder.encode_passage(" ".join(["cat"] * times)).values[0] for times in (1, 2, 3))
    assert 0 < thrice - twice < twice - once
    assert encoder.encode_passage("cat " * 10_000).values[0] < 2.2


def test_two_terms_with_one_id_count_as_one():
    # "fdgp" and "ggex" have the same absolute 32-bit murmur hash.
    vector = Bm25Encoder(SparseConfig(language="none", b=0)).encode_passage("fdgp ggex")
    assert vector.indices == [1283353594]
    assert vector.values == pytest.approx([2 * 2.2 / 3.2])
