"""Judge a twin by questions with known passages: find the passages, search, ask, compare."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from llm_engineering.domain.evaluation_config import EvaluationConfig
from llm_engineering.domain.ports import Warehouse
from llm_engineering.evaluation.groundedness import NAME as GROUNDEDNESS
from llm_engineering.evaluation.groundedness import Ask, ask_all, groundedness
from llm_engineering.evaluation.questions import QuestionLine, resolve, to_other_authors
from llm_engineering.evaluation.report import Evaluated, Part
from llm_engineering.evaluation.retrieval import NAME as RETRIEVAL
from llm_engineering.evaluation.retrieval import Search, ranked, retrieval

Progress = Callable[[int, int], None]


async def evaluate(
    lines: Sequence[QuestionLine],
    *,
    warehouse: Warehouse,
    search: Search,
    ask: Ask,
    shown: int,
    config: EvaluationConfig,
    facts: Mapping[str, str],
    concurrency: int = 4,
    progress: Progress = lambda done, total: None,
) -> Evaluated:
    """Retrieval and grounded answers over these questions, and over each of them put to the authors who do not answer it.

    ``shown`` is how many hits answering starts from: a document among so many counts as retrieved. Nothing is written.
    Raises what ``search`` and ``ask`` raise, save errors of one question (see :data:`Ask`).
    """
    asked, left_out = resolve(lines, warehouse)
    asked += to_other_authors(asked, warehouse, limit=config.negatives, seed=config.seed)
    if not asked:
        why = f"none of the {len(lines)} questions has its passages in the warehouse"
        return nothing(why, facts=facts).model_copy(update={"left_out": tuple(left_out)})
    known = [one for one in asked if one.known]
    hits = await asyncio.to_thread(ranked, known, search)
    found = {
        one: any(hit.document_id in one.document_ids for hit in its[:shown])
        for one, its in zip(known, hits, strict=True)
    }
    judged = await ask_all(
        asked,
        ask,
        warehouse=warehouse,
        retrieved=[found.get(one) for one in asked],
        concurrency=concurrency,
        progress=progress,
    )
    parts = (retrieval(known, hits, config=config), groundedness(judged, config=config))
    return Evaluated(parts=parts, facts=dict(facts), left_out=tuple(left_out))


def nothing(why: str, *, facts: Mapping[str, str]) -> Evaluated:
    """Both parts without a figure, and why."""
    parts = tuple(Part(name=name, missing=f"{why.rstrip('.')}.") for name in (RETRIEVAL, GROUNDEDNESS))
    return Evaluated(parts=parts, facts=dict(facts))
