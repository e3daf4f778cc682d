"""The training pipeline: dataset, SFT, pairs, DPO, judgement, registry."""

from zenml import pipeline

from llm_engineering.domain.dataset_config import DatasetConfig
from llm_engineering.domain.evaluation_config import EvaluationConfig
from llm_engineering.training.recipe import Recipe
from steps.dataset import build_dataset, store_dataset
from steps.failure import remember
from steps.keeping import keep_twin
from steps.training import pair_up, train_dpo, train_sft


@pipeline(name="training", on_failure=remember)
def training_pipeline(
    config: Recipe, dataset: DatasetConfig, evaluation: EvaluationConfig, keep_as: str, author: str
) -> None:
    """Train a twin on what its author wrote."""
    made = build_dataset(dataset)
    store_dataset(dataset, after="build_dataset")
    trained = train_sft(config, made)
    pairs = pair_up(config, dataset, made, trained)
    finished = train_dpo(config, pairs, trained)
    keep_twin(evaluation, keep_as, author, finished)
