"""nDCG, recall and MRR, by hand where a hand can calculate them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_engineering.domain.evaluation_config import EvaluationConfig
from llm_engineering.evaluation.retrieval import measures, ranked, retrieval
from tests.unit.evaluation.shelf import asked, hit, known

CONFIG = EvaluationConfig(k=3, resamples=100)


def means(part):
    return {figure.name: figure.interval and round(figure.interval.mean, 4) for figure in part.figures}


def test_measures_are_what_their_formulas_say():
    found = measures([(2, ["x", 0, 1]), (1, ["x", "y", "z", 0]), (1, [])], k=3)
    ideal = 1 + 1 / math.log2(3)
    assert found["nDCG@3"] == pytest.approx([(1 / math.log2(3) + 1 / math.log2(4)) / ideal, 0, 0])
    assert found["recall@3"] == [1, 0, 0]
    assert found["MRR@3"] == [0.5, 0, 0]


@given(st.lists(st.tuples(st.integers(1, 4), st.permutations(range(9))), min_size=1, max_size=5))
def test_measures_lie_between_zero_and_one_and_are_one_for_a_perfect_ranking(runs):
    for values in measures(runs, k=5).values():
        assert all(0 <= value <= 1 + 1e-9 for value in values)
    perfect = [(relevant, sorted(items)) for relevant, items in runs]
    assert all(value == pytest.approx(1) for values in measures(perfect, k=9).values() for value in values)


def test_a_document_ranks_by_its_best_chunk():
    part = retrieval([asked(known("b"))], [[hit("a", 0), hit("a", 20), hit("b", 5), hit("b", 30)]], config=CONFIG)
    assert means(part)["MRR@3, documents"] == 0.5


def test_copies_of_a_document_count_once():
    part = retrieval([asked(known("a", "copy"))], [[hit("copy"), hit("a")]], config=CONFIG)
    assert means(part)["nDCG@3, documents"] == means(part)["recall@3, documents"] == 1


def test_a_passage_is_found_by_a_chunk_that_touches_it_and_not_by_one_beside_it():
    passage = asked(known("a", start=15, end=25))
    part = retrieval([passage], [[hit("a", 0, 15), hit("b", 15, 25), hit("a", 24, 40)]], config=CONFIG)
    assert means(part)["MRR@3, passages"] == round(1 / 3, 4)
    assert means(part)["MRR@3, documents"] == 1


def test_one_chunk_may_hold_two_passages():
    one = asked(known("a", start=1, end=2), known("a", start=5, end=6))
    assert means(retrieval([one], [[hit("a", 0, 10)]], config=CONFIG))["recall@3, passages"] == 1


def test_passages_without_words_and_questions_without_passages_are_not_measured():
    part = retrieval([asked(known("a")), asked()], [[hit("a")], [hit("b")]], config=CONFIG)
    assert part.counts == {"questions with known documents": 1, "of these with known passages": 0}
    assert means(part)["MRR@3, passages"] is None and means(part)["MRR@3, documents"] == 1


def test_a_question_whose_document_stands_too_low_is_named():
    part = retrieval([asked(known("d"), query="why low?")], [[hit(name) for name in "abcd"]], config=CONFIG)
    assert part.findings == {"No known document among the best 3": ("why low?",)}
    assert part.rows == ({"query": "why low?", "rank": 4},)


def test_questions_are_searched_for_in_order_with_progress():
    told = []
    hits = ranked(
        [asked(query="a"), asked(query="b")],
        lambda one: [hit(one.query)],
        progress=lambda done, total: told.append((done, total)),
    )
    assert [its[0].document_id for its in hits] == ["a", "b"] and told == [(1, 2), (2, 2)]
