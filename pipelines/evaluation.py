"""The evaluation pipelines: of search and answers by known passages, and of a trained model by held-out text."""

from zenml import pipeline

from llm_engineering.domain.config import AnswerConfig
from llm_engineering.domain.evaluation_config import EvaluationConfig
from steps.evaluation import evaluate_answers, write_evaluation
from steps.failure import remember
from steps.twin_evaluation import evaluate_twin


@pipeline(name="evaluation", on_failure=remember)
def evaluation_pipeline(config: EvaluationConfig, answering: AnswerConfig, questions: str, out: str) -> None:
    """Judge search and answers, then write down what was found."""
    answers = evaluate_answers(config, answering, questions)
    write_evaluation(config, out, answers)


@pipeline(name="model-evaluation", on_failure=remember)
def model_evaluation_pipeline(config: EvaluationConfig, model: str, dataset: str, author: str, out: str) -> None:
    """Judge a trained model on the held-out split of its dataset, then write down what was found."""
    found = evaluate_twin(config, model, dataset, author)
    write_evaluation(config, out, found)
