"""Planted duplicates are found, all of them and nothing else; what is kept does not depend on the order of what is refused."""

import random
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_engineering.dataset.near_duplicates import jaccard, near_duplicate_groups, near_duplicates, shingles

ESSAY = [f"word{number}" for number in range(200)]
"""Two hundred different words."""


def changed(words: list[str], *positions: int) -> str:
    return " ".join("other" if place in positions else word for place, word in enumerate(words))


@pytest.mark.parametrize("size", [100, 1000])
def test_the_planted_pairs_of_a_real_collection_are_found_and_no_others(data: Path, size: int):
    folder = data / "neardup_mccormick"
    lines = (folder / f"articles_{size}.train").read_text(encoding="utf-8").splitlines()
    names, texts = zip(*(line.split(" ", 1) for line in lines), strict=True)
    planted = {frozenset(line.split()) for line in (folder / f"articles_{size}.truth").read_text().splitlines() if line}

    groups = {frozenset(names[position] for position in group) for group in near_duplicate_groups(texts)}
    kept_of = {frozenset((names[alike.position], names[alike.like])) for alike in near_duplicates(texts)}

    assert groups == planted  # recall 1.0, no false pair
    assert kept_of == planted


def test_one_changed_word_in_a_long_text_is_a_near_duplicate():
    [alike] = near_duplicates([changed(ESSAY), changed(ESSAY, 100)])

    assert (alike.position, alike.like) == (1, 0)
    assert alike.similarity == pytest.approx(191 / 201)


def test_case_punctuation_and_markup_make_no_difference():
    assert [alike.similarity for alike in near_duplicates(["A cat, sat on **the** mat!", "a CAT sat on the mat"])] == [
        1.0
    ]


def test_a_pair_below_the_threshold_is_none_however_similar_its_sketch():
    texts = [changed(ESSAY), changed(ESSAY, *range(0, 200, 25))]  # 8 words changed: 156 of 236 runs shared, 0.66

    assert 0.6 < jaccard(shingles(texts[0]), shingles(texts[1])) < 0.7
    assert list(near_duplicates(texts, threshold=0.7)) == []
    assert len(list(near_duplicates(texts, threshold=0.6))) == 1


def test_texts_without_words_are_like_nothing():
    assert near_duplicate_groups(["", "!!!", "", "..."]) == []


def test_short_texts_are_compared_as_a_whole():
    assert near_duplicate_groups(["Yes, it is.", "No.", "yes it is"]) == [(0, 2)]


def test_a_chain_is_one_group_but_only_direct_likeness_refuses():
    chain = [changed(ESSAY, *range(0, 4 * step, 4)) for step in range(0, 40, 5)]

    assert near_duplicate_groups(chain) == [tuple(range(len(chain)))]
    assert 1 < len(chain) - len(list(near_duplicates(chain))) < len(chain)


def test_a_thousand_copies_cost_one_comparison_each():
    assert len(list(near_duplicates([changed(ESSAY)] * 1000))) == 999
    assert near_duplicate_groups([changed(ESSAY)] * 1000) == [tuple(range(1000))]


WORDS = st.lists(st.sampled_from("abcdefg"), max_size=12).map(" ".join)


@settings(deadline=None)
@given(st.lists(WORDS, max_size=12))
def test_what_is_kept_is_unlike_and_what_is_refused_is_like_something_kept(texts: list[str]):
    refused = {alike.position: alike for alike in near_duplicates(texts, threshold=0.6)}
    kept = [position for position in range(len(texts)) if position not in refused]

    assert all(alike.like in kept and alike.like < alike.position for alike in refused.values())
    assert all(
        alike.similarity == jaccard(shingles(texts[alike.position]), shingles(texts[alike.like])) >= 0.6
        for alike in refused.values()
    )
    assert list(near_duplicates([texts[position] for position in kept], threshold=0.6)) == []


@settings(deadline=None)
@given(st.lists(WORDS, max_size=12), st.randoms(use_true_random=False))
def test_groups_do_not_depend_on_the_order(texts: list[str], chance: random.Random):
    order = list(range(len(texts)))
    chance.shuffle(order)
    shuffled = near_duplicate_groups([texts[place] for place in order], threshold=0.6)

    assert {frozenset(order[place] for place in group) for group in shuffled} == {
        frozenset(group) for group in near_duplicate_groups(texts, threshold=0.6)
    }


@settings(deadline=None)
@given(st.lists(WORDS, max_size=12))
def test_no_group_without_a_true_pair(texts: list[str]):
    for group in near_duplicate_groups(texts, threshold=0.6):
        for member in group:
            others = [other for other in group if other != member]
            assert any(jaccard(shingles(texts[member]), shingles(texts[other])) >= 0.6 for other in others)


def test_pairs_well_above_the_threshold_are_all_proposed():
    chance = random.Random(5)
    essays = [[f"w{number}x{chance.randrange(10**6)}" for number in range(150)] for _ in range(100)]
    texts = [version for essay in essays for version in (changed(essay), changed(essay, 30, 90))]  # similarity 0.87
    groups = near_duplicate_groups(texts)

    assert groups == [(place, place + 1) for place in range(0, len(texts), 2)]
    assert all(jaccard(shingles(texts[one]), shingles(texts[two])) > 0.8 for one, two in groups)


@settings(deadline=None)
@given(WORDS, WORDS)
def test_similarity_is_symmetric_and_one_only_for_the_same_runs(one: str, two: str):
    first, second = shingles(one), shingles(two)

    assert jaccard(first, second) == jaccard(second, first)
    assert (jaccard(first, second) == 1.0) == (len(first) > 0 and first.tolist() == second.tolist())


def test_similarity_is_that_of_the_sets_of_runs():
    texts = [changed(ESSAY, *places) for places in ((), (5,), (5, 6), (50, 150))]
    for one, two in combinations(texts, 2):
        runs = [{tuple(text.split()[start : start + 5]) for start in range(196)} for text in (one, two)]
        assert jaccard(shingles(one), shingles(two)) == pytest.approx(len(runs[0] & runs[1]) / len(runs[0] | runs[1]))
