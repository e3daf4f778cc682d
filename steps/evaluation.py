"""From questions with known passages to a report on the twin."""

import asyncio
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from zenml import log_metadata, step

from llm_engineering import bootstrap
from llm_engineering.domain.answers import Answer, Question
from llm_engineering.domain.config import AnswerConfig
from llm_engineering.domain.entities import Filters, Hit, now
from llm_engineering.domain.errors import IndexMissing
from llm_engineering.domain.evaluation_config import EvaluationConfig
from llm_engineering.evaluation.evaluate import evaluate, nothing
from llm_engineering.evaluation.folder import write
from llm_engineering.evaluation.questions import Asked, read_lines
from llm_engineering.evaluation.report import Evaluated, EvaluationReport, combined
from llm_engineering.rag.answer import answer
from llm_engineering.rag.batch import state_of
from llm_engineering.rag.retrieve import author_filter, retrieve
from llm_engineering.rag.twin import Twin
from llm_engineering.settings import load_settings
from llm_engineering.telemetry import tracing
from steps.progress import bar


@step(enable_cache=False)
def evaluate_answers(
    config: EvaluationConfig, answering: AnswerConfig, questions: str
) -> Annotated[Evaluated, "evaluated_answers"]:
    """Search for and ask every question, exactly as the service does; without an index the finding is that there is none."""
    with tracing("llm-twin-evaluation"):
        found = asyncio.run(_evaluated(config, answering, Path(questions)))
    log_metadata(metadata={**found.facts, "left_out": len(found.left_out)}, infer_artifact=True)
    return found


@step(enable_cache=False)
def write_evaluation(
    config: EvaluationConfig, out: str, answers: Evaluated, model: Evaluated | None = None
) -> Annotated[EvaluationReport, "evaluation_report"]:
    """One report of everything that was found."""
    results = [found for found in (answers, model) if found is not None]
    report = combined(results, out=Path(out), at=now())
    write(report, level=config.level)
    figures = [(f"{part.name}, {figure.name}", figure.interval) for part in report.parts for figure in part.figures]
    means = {name.replace(":", ""): found.mean for name, found in figures if found}  # ZenML's keys hold no colon
    log_metadata(metadata={"out": out, **means}, infer_artifact=True)
    return report


async def _evaluated(config: EvaluationConfig, answering: AnswerConfig, questions: Path) -> Evaluated:
    lines = read_lines(questions)
    settings = load_settings()
    facts = {"questions": str(questions), "seed": str(config.seed)}
    try:
        async with bootstrap.open_twin(settings, answering) as twin:
            with bar("questions") as progress:
                return await evaluate(
                    lines,
                    warehouse=twin.warehouse,
                    search=lambda one: _search(one, twin, config.depth),
                    ask=lambda one: _ask(one, twin),
                    shown=answering.k,
                    config=config,
                    facts={**_facts(twin), **facts},
                    concurrency=answering.chat.concurrency,
                    progress=progress,
                )
    except IndexMissing as error:
        return nothing(str(error), facts=facts)


def _search(one: Asked, twin: Twin, depth: int) -> Sequence[Hit]:
    return retrieve(
        one.query,
        index=twin.index,
        embedder=twin.embedder,
        sparse=twin.sparse,
        filters=Filters(author_id=author_filter(twin.warehouse, one.author)),
        config=twin.config.search.model_copy(update={"k": depth}),
    )


async def _ask(one: Asked, twin: Twin) -> Answer:
    return await answer(Question(query=one.query, author=one.author), twin, request_id=uuid.uuid4().hex)


def _facts(twin: Twin) -> dict[str, str]:
    status = twin.index.status()
    return {
        "model": twin.model.name,
        "embedder": (status.recipe or {}).get("model", "unknown"),
        "index": f"{status.documents:,} documents, {status.chunks:,} chunks, {status.engine}",
        "answering": f"{twin.config.k} passages, threshold {twin.config.threshold}",
        "state": state_of(twin),
    }
