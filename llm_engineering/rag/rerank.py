"""The order in which candidates are shown: by a reranker within its time, else by relevance and novelty."""

import asyncio
import math
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from llm_engineering.domain.config import AnswerConfig
from llm_engineering.domain.entities import Hit, SparseVector
from llm_engineering.domain.ports import Reranker

OUT_OF_TIME = "rerank: out of time, the fused order stands"
SKIPPED = "rerank: skipped while an earlier one is out of time and still running, the fused order stands"


class Reranking:
    """A reranker in a thread of its own: however slow it is, no other stage waits for it."""

    def __init__(self, reranker: Reranker) -> None:
        self._reranker = reranker
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="reranking")
        self._abandoned: Future[list[float]] | None = None

    @property
    def stalled(self) -> bool:
        """Whether the thread still works on scores that nobody waits for."""
        return self._abandoned is not None and not self._abandoned.done()

    async def scores(self, query: str, texts: Sequence[str], *, seconds: float) -> list[float]:
        """The reranker's scores; raises ``TimeoutError`` after ``seconds``, the wait for earlier ones included."""
        work = self._thread.submit(self._reranker.scores, query, texts)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(work), seconds)
        finally:
            if work.running():
                self._abandoned = work


async def reranked(
    query: str, hits: Sequence[Hit], *, by: Reranking, seconds: float
) -> tuple[list[Hit], tuple[str, ...]]:
    """Hits by the reranker's scores; after ``seconds`` the order given, and a note that says so.

    One that is out of time ends in its thread by itself, its scores unread; until then the next ones are skipped.
    """
    if by.stalled:
        return list(hits), (SKIPPED,)
    try:
        scores = await by.scores(query, [shown_text(hit) for hit in hits], seconds=seconds)
    except TimeoutError:
        return list(hits), (OUT_OF_TIME,)
    ranked = sorted(zip(scores, hits, strict=True), key=lambda item: (-item[0], item[1].chunk_id))
    return [hit.model_copy(update={"score": score}) for score, hit in ranked], ()


def diversified(
    hits: Sequence[Hit], *, encode: Callable[[str], SparseVector], config: AnswerConfig, limit: int
) -> list[Hit]:
    """The best ``limit`` hits by maximal marginal relevance (Carbonell and Goldstein, 1998).

    Next is always the hit with the highest (1 - diversity) · relevance - diversity · similarity to what was taken:
    relevance is the score brought to [0, 1], similarity the cosine of BM25 weights, because the index hands out no vectors.
    """
    remaining = list(hits)
    if not remaining or config.diversity == 0:
        return remaining[:limit]
    highest, lowest = max(hit.score for hit in hits), min(hit.score for hit in hits)
    spread = (highest - lowest) or 1.0
    vectors = {hit.chunk_id: _unit(encode(hit.text)) for hit in hits}
    nearest = dict.fromkeys(vectors, 0.0)
    taken: list[Hit] = []
    while remaining and len(taken) < limit:
        best = max(
            remaining,
            key=lambda hit: (
                (1 - config.diversity) * (hit.score - lowest) / spread - config.diversity * nearest[hit.chunk_id]
            ),
        )
        remaining.remove(best)
        taken.append(best)
        for hit in remaining:
            likeness = _cosine(vectors[hit.chunk_id], vectors[best.chunk_id])
            nearest[hit.chunk_id] = max(nearest[hit.chunk_id], likeness)
    return taken


def shown_text(hit: Hit) -> str:
    """A hit with what it stands under, as scorers read it."""
    return "\n".join(dict.fromkeys((hit.title, *hit.heading_path, hit.text)))


def _unit(vector: SparseVector) -> dict[int, float]:
    norm = math.sqrt(sum(value * value for value in vector.values)) or 1.0
    return {index: value / norm for index, value in zip(vector.indices, vector.values, strict=True)}


def _cosine(one: dict[int, float], other: dict[int, float]) -> float:
    if len(other) < len(one):
        one, other = other, one
    return sum(value * other.get(index, 0.0) for index, value in one.items())
