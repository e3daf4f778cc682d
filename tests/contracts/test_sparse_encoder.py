"""The promises of the port SparseEncoder, kept by BM25."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_engineering.adapters.bm25 import Bm25Encoder
from llm_engineering.domain.config import SparseConfig
from llm_engineering.domain.entities import SparseVector
from llm_engineering.domain.errors import UsageError
from llm_engineering.domain.ports import SparseEncoder

ENCODERS: dict[str, SparseEncoder] = {
    language: Bm25Encoder(SparseConfig(language=language)) for language in ("english", "german", "hindi", "none")
}


@pytest.fixture(params=ENCODERS)
def encoder(request: pytest.FixtureRequest) -> SparseEncoder:
    return ENCODERS[request.param]


def score(query: SparseVector, passage: SparseVector) -> float:
    weights = dict(zip(passage.indices, passage.values, strict=True))
    return sum(value * weights.get(index, 0.0) for index, value in zip(query.indices, query.values, strict=True))


@given(text=st.text(max_size=200))
@settings(max_examples=60)
def test_terms_are_unique_32_bit_ids_with_positive_weights(text):
    for encoder in ENCODERS.values():
        for vector in (encoder.encode_passage(text), encoder.encode_query(text)):
            assert len(vector.indices) == len(vector.values) == len(set(vector.indices))
            assert all(0 <= index < 2**32 for index in vector.indices)
            assert all(value > 0 for value in vector.values)


@given(text=st.text(max_size=200))
@settings(max_examples=30)
def test_two_encoders_of_one_configuration_agree(text):
    again = Bm25Encoder(SparseConfig())
    assert ENCODERS["english"].encode_passage(text) == again.encode_passage(text)


@given(text=st.text(max_size=200))
@settings(max_examples=30)
def test_a_query_has_the_terms_of_the_same_text_as_a_passage(text):
    encoder = ENCODERS["english"]
    assert encoder.encode_query(text).indices == encoder.encode_passage(text).indices


@pytest.mark.parametrize("text", ["", "   \n\t", "🙂🙂🙂", "--- *** ...", "\ud800"])
def test_a_text_without_words_has_no_terms(encoder, text):
    assert encoder.encode_passage(text) == encoder.encode_query(text) == SparseVector(indices=[], values=[])


def test_every_query_term_weighs_one(encoder):
    assert set(encoder.encode_query("index, indexing: indexes").values) == {1.0}


def test_a_passage_with_the_words_of_the_query_scores_higher(encoder):
    query = encoder.encode_query("moving the watermark")
    about = encoder.encode_passage("The watermark is moved last, moving it earlier loses changes.")
    assert score(query, about) > score(query, encoder.encode_passage("Bread is baked in the oven."))


def test_the_fingerprint_changes_with_every_number_and_the_language():
    configs = [SparseConfig(), SparseConfig(k1=1.3), SparseConfig(b=0.5), SparseConfig(average_length=99)]
    configs += [SparseConfig(language=name) for name in ("german", "none")]
    assert len({Bm25Encoder(config).fingerprint for config in configs}) == len(configs)


def test_an_unknown_language_is_refused_with_the_known_ones():
    with pytest.raises(UsageError, match=r"'klingon'.*danish.*turkish"):
        Bm25Encoder(SparseConfig(language="klingon"))


def test_the_language_is_read_in_any_case():
    assert Bm25Encoder(SparseConfig(language="English")).fingerprint == ENCODERS["english"].fingerprint
