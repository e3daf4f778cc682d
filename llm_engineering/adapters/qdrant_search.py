"""Hybrid search over either Qdrant engine: the same candidates, the same fusion, the same order."""

import uuid
from collections.abc import Mapping

from llm_engineering.adapters.qdrant_points import Points, Ranked, Ranking, hit_of, selection_of
from llm_engineering.domain.entities import Fusion, Hit, IndexQuery

_CANDIDATES = 100
"""Least length of each ranking that goes into a fusion; deeper lists changed nDCG@10 by less than 0.005."""
_RRF_K = 60
"""Constant of Cormack, Clarke and Büttcher (2009)."""

Scores = Mapping[int, float]


class _Candidates:
    """The head of one ranking. ``complete``: nothing that matches was left out."""

    def __init__(self, ranked: Ranked, *, complete: bool) -> None:
        self.scores: dict[int, float] = dict(sorted(ranked, key=lambda item: (-item[1], item[0])))
        self.complete = complete


def search(points: Points, query: IndexQuery) -> list[Hit]:
    """Best hits first, at most ``limit``; ties broken by chunk id. With one vector the score is the engine's own."""
    if query.filters.document_ids == ():
        return []
    dense, sparse = _candidates(points, query)
    if query.dense is None or not _has_terms(query):
        fused: Scores = {**dense.scores, **sparse.scores}
    elif query.fusion is Fusion.RRF:
        fused = _reciprocal_ranks(dense.scores, sparse.scores)
    else:
        fused = _weighted(dense, sparse, alpha=query.alpha)
    best = sorted(fused, key=lambda id_: (-fused[id_], id_))[: query.limit]
    names = {id_: str(uuid.UUID(int=id_)) for id_ in best}
    payloads = points.payloads(list(names.values()))
    return [
        hit_of(name, payloads[name], score=fused[id_], dense=dense.scores.get(id_), sparse=sparse.scores.get(id_))
        for id_, name in names.items()
        if name in payloads  # on a server, a chunk may be retired between the two calls
    ]


def _has_terms(query: IndexQuery) -> bool:
    return query.sparse is not None and bool(query.sparse.indices)


def _candidates(points: Points, query: IndexQuery) -> tuple[_Candidates, _Candidates]:
    """The heads of the dense and the sparse ranking (empty where the query has no such vector).

    The engine cuts a group of equal scores anywhere. A cut group at the end is left out, so that the candidates do
    not depend on the engine; where that would leave too few, more are asked for.
    """
    vectors = [query.dense, query.sparse if _has_terms(query) else None]
    asked = [vector for vector in vectors if vector is not None]
    selection = selection_of(query.filters)
    depth = max(_CANDIDATES, 3 * query.limit)
    while asked:
        found = points.rank([Ranking(vector, selection, depth + 1) for vector in asked])
        heads = [_whole_ties(ranked, depth) for ranked in found]
        if all(head.complete or len(head.scores) >= query.limit for head in heads):
            answers = iter(heads)
            dense, sparse = (_Candidates([], complete=True) if vector is None else next(answers) for vector in vectors)
            return dense, sparse
        depth *= 4
    return _Candidates([], complete=True), _Candidates([], complete=True)


def _whole_ties(ranked: Ranked, depth: int) -> _Candidates:
    if len(ranked) <= depth:
        return _Candidates(ranked, complete=True)
    cut = ranked[-1][1]
    return _Candidates([(id_, score) for id_, score in ranked if score > cut], complete=False)


def _weighted(dense: _Candidates, sparse: _Candidates, *, alpha: float) -> Scores:
    """alpha · cosine + (1 - alpha) · BM25 / best BM25; what is not among a ranking's candidates counts as its lowest.

    Where every chunk that shares a term with the query is among the sparse candidates, all others count 0. Cosines are
    taken as they are: spreading them over [0, 1] for each query would make much of differences that mean nothing.
    """
    best = max(sparse.scores.values(), default=0.0)
    share = {id_: score / best for id_, score in sparse.scores.items()} if best > 0 else {}
    no_dense = min(dense.scores.values(), default=0.0)
    no_share = 0.0 if sparse.complete else min(share.values(), default=0.0)
    return {
        id_: alpha * dense.scores.get(id_, no_dense) + (1 - alpha) * share.get(id_, no_share)
        for id_ in dense.scores.keys() | share.keys()
    }


def _reciprocal_ranks(*rankings: Scores) -> Scores:
    """Sum of 1 / (k + rank) over the rankings, ranks counted from 1."""
    fused: dict[int, float] = {}
    for ranking in rankings:
        for rank, id_ in enumerate(ranking, start=1):
            fused[id_] = fused.get(id_, 0.0) + 1 / (_RRF_K + rank)
    return fused
