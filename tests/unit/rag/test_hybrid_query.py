"""How much meaning and terms weigh in a search."""

import pytest

from llm_engineering.domain.config import SearchConfig
from llm_engineering.domain.entities import Filters, SparseVector
from llm_engineering.rag.retrieve import hybrid_query


@pytest.mark.parametrize(
    ("terms", "config", "alpha"),
    [
        (0, SearchConfig(), 0.5),
        (12, SearchConfig(), 0.5),
        (24, SearchConfig(), 0.25),
        (30, SearchConfig(alpha=0.8, long_query=10), 0.8 / 3),
        (1000, SearchConfig(alpha=1.0, long_query=None), 1.0),
    ],
)
def test_the_words_of_a_long_query_count_for_more(terms: int, config: SearchConfig, alpha: float):
    words = SparseVector(indices=list(range(terms)), values=[1.0] * terms)
    asked = hybrid_query([1.0], words, filters=Filters(language="en"), limit=7, config=config)
    assert asked.alpha == pytest.approx(alpha)
    assert (asked.limit, asked.filters.language, asked.fusion) == (7, "en", config.fusion)
