"""Encoders without a model: words decide the vectors, so that tests are quick and their rankings obvious."""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Sequence

from llm_engineering.domain.entities import SparseVector

WORD = re.compile(r"\w+")


def _bucket(word: str, size: int) -> int:
    return int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "big") % size


class WordEmbedder:
    """A bag of hashed words as a unit vector. Counts the texts it embedded."""

    window = 64

    def __init__(self, *, dimensions: int = 32, name: str = "words") -> None:
        self.dimensions = dimensions
        self.fingerprint = f"{name}-{dimensions}"
        self.embedded: list[str] = []

    def count_tokens(self, text: str) -> int:
        return len(WORD.findall(text))

    def embed_passages(self, texts: Sequence[str]) -> list[list[float]]:
        self.embedded.extend(texts)
        return [self._vector(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return self._vector(text)

    def embed_queries(self, texts: Sequence[str]) -> list[list[float]]:
        return [self._vector(text) for text in texts]

    def _vector(self, text: str) -> list[float]:
        counts = Counter(_bucket(word, self.dimensions) for word in WORD.findall(text.lower()))
        values = [float(counts.get(position, 0)) + 1e-3 for position in range(self.dimensions)]
        norm = math.sqrt(sum(value * value for value in values))
        return [value / norm for value in values]


class WordSparseEncoder:
    """Term counts as weights."""

    fingerprint = "words"

    def encode_passage(self, text: str) -> SparseVector:
        counts = Counter(_bucket(word, 2**31) for word in WORD.findall(text.lower()))
        return SparseVector(indices=list(counts), values=[float(count) for count in counts.values()])

    def encode_query(self, text: str) -> SparseVector:
        terms = sorted({_bucket(word, 2**31) for word in WORD.findall(text.lower())})
        return SparseVector(indices=terms, values=[1.0] * len(terms))
