"""How likely it is that the passages answer the question, before any model is asked."""

import math
from collections.abc import Sequence

from llm_engineering.domain.entities import Hit
from llm_engineering.rag.assemble import Terms
from llm_engineering.rag.rerank import shown_text

READ = 3
"""Best hits among which the question's terms are looked for."""
INTERCEPT, COSINE, COVERAGE = -11.7, 20.8, 4.7
"""Weights of the logistic regression of ``benchmarks/confidence.py``, for the packaged embedder and chunks of 128 tokens."""
FITTED_FOR = "all-MiniLM-L6-v2"
"""The embedding model whose cosines the weights belong to: those of another have another spread."""


def confidence(query: str, hits: Sequence[Hit], *, terms: Terms) -> float:
    """Probability in [0, 1] that the hits (best first) answer the query; 0 without hits."""
    if not hits:
        return 0.0
    return probability(*features(query, hits, terms=terms))


def holds_for(model: str) -> bool:
    """Whether the weights were fitted for the embedding model of that name or folder."""
    return model.rstrip("/").rpartition("/")[2] == FITTED_FOR


def probability(cosine: float, coverage: float) -> float:
    """1 / (1 + exp(-(intercept + a · cosine + b · coverage)))."""
    return 1 / (1 + math.exp(-(INTERCEPT + COSINE * cosine + COVERAGE * coverage)))


def features(query: str, hits: Sequence[Hit], *, terms: Terms) -> tuple[float, float]:
    """The best hit's cosine with the query, and the weighted share of the query's terms that the best hits hold.

    A term weighs by how rare it is among all hits: log(1 + n / (1 + hits that hold it)).
    """
    cosine = max((hit.dense_score for hit in hits if hit.dense_score is not None), default=0.0)
    wanted = terms(query)
    held = [terms(shown_text(hit)) for hit in hits]
    weights = {term: math.log(1 + len(hits) / (1 + sum(term in words for words in held))) for term in wanted}
    found = frozenset().union(*held[:READ]) & wanted
    total = sum(weights.values())
    return cosine, (sum(weights[term] for term in found) / total if total else 0.0)
