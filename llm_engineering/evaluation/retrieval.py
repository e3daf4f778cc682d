"""Whether search finds the passages that answer: nDCG, recall and MRR over documents and over the passages themselves."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import ir_measures
from ir_measures import RR, Qrel, R, ScoredDoc, nDCG

from llm_engineering.domain.entities import Hit
from llm_engineering.domain.evaluation_config import EvaluationConfig
from llm_engineering.evaluation.intervals import interval
from llm_engineering.evaluation.questions import Asked
from llm_engineering.evaluation.report import Figure, Part

Search = Callable[[Asked], Sequence[Hit]]
"""Hits for a question, best first, at least as many as are looked at."""
Ranked = Sequence[Sequence[Hit]]

NAME = "Retrieval"


def ranked(
    asked: Sequence[Asked], search: Search, *, progress: Callable[[int, int], None] = lambda d, t: None
) -> Ranked:
    """The hits of every question, in order."""
    found = []
    for number, one in enumerate(asked, start=1):
        found.append(search(one))
        progress(number, len(asked))
    return found


def retrieval(asked: Sequence[Asked], hits: Ranked, *, config: EvaluationConfig) -> Part:
    """How high the answering documents, and the answering passages, stand. Questions without a known passage do not count.

    A document ranks by its best chunk. A passage ranks by the first chunk that shares a character with it; chunks beside every
    known passage count as wrong, although some may answer too.
    """
    pairs = [(one, its) for one, its in zip(asked, hits, strict=True) if one.known]
    quoted = [(one, its) for one, its in pairs if all(known.quoted for known in one.known)]
    documents = _figures("documents", [(len(one.documents), list(_documents(one, its))) for one, its in pairs], config)
    passages = _figures("passages", [(len(one.known), list(_passages(one, its))) for one, its in quoted], config)
    unfound = [
        one.query for one, its in pairs if not set(_documents(one, its)[: config.k]) & set(range(len(one.documents)))
    ]
    return Part(
        name=NAME,
        figures=(*documents, *passages),
        counts={"questions with known documents": len(pairs), "of these with known passages": len(quoted)},
        notes=(
            "Known passages are seldom all that answer: a chunk beside them counts as wrong even where it answers too.",
        ),
        findings={f"No known document among the best {config.k}": tuple(unfound)} if unfound else {},
        rows=tuple(
            {
                "query": one.query,
                "rank": next((n for n, item in enumerate(_documents(one, its), 1) if isinstance(item, int)), None),
            }
            for one, its in pairs
        ),
    )


def measures(runs: Sequence[tuple[int, Sequence[int | str]]], *, k: int) -> dict[str, list[float]]:
    """nDCG@k, recall@k and RR@k of every run. A run is how many items are relevant, numbered from 0, and the ranked items.

    Items that are no number, or a number beyond, are not relevant. An item that comes again counts where it came first.
    """
    wanted = {f"nDCG@{k}": nDCG @ k, f"recall@{k}": R @ k, f"MRR@{k}": RR @ k}
    qrels = [Qrel(str(query), str(item), 1) for query, (relevant, _) in enumerate(runs) for item in range(relevant)]
    scored = [
        ScoredDoc(str(query), str(item), -float(rank))
        for query, (_, items) in enumerate(runs)
        for rank, item in enumerate(dict.fromkeys(items))
    ]
    values: dict[str, dict[str, float]] = defaultdict(dict)
    for metric in ir_measures.iter_calc(list(wanted.values()), qrels, scored):
        values[str(metric.measure)][metric.query_id] = float(metric.value)
    return {
        name: [values[str(measure)].get(str(query), 0.0) for query in range(len(runs))]
        for name, measure in wanted.items()
    }


def _figures(what: str, runs: Sequence[tuple[int, Sequence[int | str]]], config: EvaluationConfig) -> Iterable[Figure]:
    found = measures(runs, k=config.k) if runs else {f"{name}@{config.k}": [] for name in ("nDCG", "recall", "MRR")}
    for name, values in found.items():
        yield Figure(name=f"{name}, {what}", over="questions", interval=interval(values, config=config))


def _documents(one: Asked, hits: Sequence[Hit]) -> list[int | str]:
    """Ranked documents: known ones by their number, copies of one as the same."""
    numbers = {id_: number for number, copies in enumerate(one.documents) for id_ in copies}
    return list(dict.fromkeys(numbers.get(hit.document_id, hit.document_id) for hit in hits))


def _passages(one: Asked, hits: Sequence[Hit]) -> list[int | str]:
    """Ranked passages: known ones by their number, other chunks by id."""
    items: list[int | str] = []
    for hit in hits:
        touched = [
            number
            for number, known in enumerate(one.known)
            if any(place.overlaps(hit.document_id, hit.start, hit.end) for place in known.places)
        ]
        items += touched or [hit.chunk_id]
    return list(dict.fromkeys(items))
