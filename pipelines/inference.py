"""The inference pipeline: a file of questions to answers with citations and what they cost."""

from zenml import pipeline

from llm_engineering.domain.config import AnswerConfig
from steps.failure import remember
from steps.inference import answer_questions


@pipeline(name="inference", on_failure=remember)
def inference_pipeline(config: AnswerConfig, questions: str, out: str) -> None:
    """Answer what is not answered yet."""
    answer_questions(config, questions, out)
