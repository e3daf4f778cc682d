"""Vectors that point the same way are found block by block; no block boundary changes what is found."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_strategies

from llm_engineering.dataset import semantic_duplicates as module
from llm_engineering.dataset.semantic_duplicates import semantic_duplicates
from tests.doubles.encoders import WordEmbedder


def unit(vectors: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)


def test_the_same_question_in_other_order_is_found():
    vectors = WordEmbedder(dimensions=64).embed_passages(
        ["how do I bake bread at home", "what is a tombstone", "how do I at home bake bread"]
    )

    [alike] = semantic_duplicates(vectors, threshold=0.95)

    assert (alike.position, alike.like) == (2, 0)
    assert alike.similarity == pytest.approx(1.0, abs=1e-5)


def test_nothing_and_one_are_no_duplicates():
    assert list(semantic_duplicates([], threshold=0.9)) == []
    assert list(semantic_duplicates([[1.0, 0.0]], threshold=0.9)) == []


def test_a_zero_vector_is_like_none():
    assert list(semantic_duplicates([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]], threshold=0.5)) == []


def test_a_duplicate_in_a_later_block_is_found(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_BLOCK", 4)
    vectors = np.eye(12, dtype=np.float32)[[*range(12), 1, 11]]

    assert [(alike.position, alike.like) for alike in semantic_duplicates(vectors, threshold=0.9)] == [
        (12, 1),
        (13, 11),
    ]


VECTORS = numpy_strategies.arrays(
    np.float32, st.tuples(st.integers(1, 20), st.just(3)), elements=st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0])
).map(unit)


@settings(deadline=None)
@given(VECTORS, st.integers(1, 7))
def test_it_agrees_with_comparing_each_with_each(vectors: np.ndarray, block: int):
    kept: list[int] = []
    for position, vector in enumerate(vectors):
        if all(float(vector @ vectors[earlier]) < 0.9 for earlier in kept):
            kept.append(position)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK", block)
        refused = list(semantic_duplicates(vectors, threshold=0.9))

    assert sorted({*range(len(vectors))} - {alike.position for alike in refused}) == kept
    assert all(alike.like in kept and alike.like < alike.position for alike in refused)
    assert all(
        float(vectors[alike.position] @ vectors[alike.like]) == pytest.approx(alike.similarity) for alike in refused
    )
