"""From a file of questions to a file of answers."""

import asyncio
from pathlib import Path
from typing import Annotated

from zenml import log_metadata, step

from llm_engineering import bootstrap
from llm_engineering.domain.config import AnswerConfig
from llm_engineering.rag.batch import InferenceReport, answer_all, read_questions, state_of
from llm_engineering.settings import Settings, load_settings
from llm_engineering.telemetry import tracing
from steps.progress import bar


@step(enable_cache=False)
def answer_questions(config: AnswerConfig, questions: str, out: str) -> Annotated[InferenceReport, "inference_report"]:
    """Ask the twin every question that ``out`` does not answer yet, exactly as the service does."""
    settings = load_settings()
    with tracing("llm-twin-inference"):
        report = asyncio.run(_answered(config, Path(questions), Path(out), settings))
    log_metadata(metadata=report.model_dump(mode="json", exclude={"failed"}), infer_artifact=True)
    return report


async def _answered(config: AnswerConfig, questions: Path, out: Path, settings: Settings) -> InferenceReport:
    asked = read_questions(questions)
    async with bootstrap.open_twin(settings, config) as twin:
        with bar("answers") as progress:
            return await answer_all(
                asked, twin, out, state=state_of(twin), concurrency=config.chat.concurrency, progress=progress
            )
