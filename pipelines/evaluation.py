"""The evaluation pipeline: questions with known passages to a report with intervals and a chart."""

from zenml import pipeline

from llm_engineering.domain.config import AnswerConfig
from llm_engineering.domain.evaluation_config import EvaluationConfig
from steps.evaluation import evaluate_answers, write_evaluation
from steps.failure import remember


@pipeline(name="evaluation", on_failure=remember)
def evaluation_pipeline(config: EvaluationConfig, answering: AnswerConfig, questions: str, out: str) -> None:
    """Judge search and answers, then write down what was found."""
    answers = evaluate_answers(config, answering, questions)
    write_evaluation(config, out, answers)
