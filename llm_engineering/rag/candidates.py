"""Candidates for an answer: hits of one or several wordings as one ranking, varied by document and, if wished, by age."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from llm_engineering.domain.entities import Hit

_RRF_K = 60
"""Constant of Cormack, Clarke and Büttcher (2009)."""
_DAY = 86_400.0


def fused(rankings: Sequence[Sequence[Hit]]) -> list[Hit]:
    """Several rankings as one by reciprocal rank, ties by chunk id; a single one as it is. Each hit keeps its best scores."""
    if len(rankings) == 1:
        return list(rankings[0])
    scores: Counter[str] = Counter()
    hits: dict[str, Hit] = {}
    for ranking in rankings:
        for rank, hit in enumerate(ranking, start=1):
            scores[hit.chunk_id] += 1 / (_RRF_K + rank)  # type: ignore[assignment]  # a Counter adds floats as well
            known = hits.setdefault(hit.chunk_id, hit)
            hits[hit.chunk_id] = known.model_copy(
                update={
                    "dense_score": _higher(known.dense_score, hit.dense_score),
                    "sparse_score": _higher(known.sparse_score, hit.sparse_score),
                }
            )
    order = sorted(scores, key=lambda id_: (-scores[id_], id_))
    return [hits[id_].model_copy(update={"score": float(scores[id_])}) for id_ in order]


def recent_first(hits: Sequence[Hit], *, half_life_days: float | None, today: datetime) -> list[Hit]:
    """Scores halved per half-life of age, and ranked anew; a hit without a date counts as one half-life old."""
    if half_life_days is None:
        return list(hits)
    weighted = [hit.model_copy(update={"score": hit.score * _weight(hit, half_life_days, today)}) for hit in hits]
    return sorted(weighted, key=lambda hit: (-hit.score, hit.chunk_id))


def capped(hits: Sequence[Hit], *, per_document: int, limit: int) -> list[Hit]:
    """The best ``limit`` hits with at most ``per_document`` of each document."""
    taken: Counter[str] = Counter()
    kept: list[Hit] = []
    for hit in hits:
        if len(kept) == limit:
            break
        if taken[hit.document_id] < per_document:
            taken[hit.document_id] += 1
            kept.append(hit)
    return kept


def _weight(hit: Hit, half_life_days: float, today: datetime) -> float:
    if hit.published_at is None:
        return 0.5
    age = max(0.0, (today - hit.published_at).total_seconds() / _DAY)
    return float(0.5 ** (age / half_life_days))


def _higher(one: float | None, other: float | None) -> float | None:
    return max((score for score in (one, other) if score is not None), default=None)
