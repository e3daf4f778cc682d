"""The dataset pipeline: warehouse to training data."""

from zenml import pipeline

from llm_engineering.domain.dataset_config import DatasetConfig
from steps.dataset import build_dataset, store_dataset
from steps.failure import remember


@pipeline(name="dataset", on_failure=remember)
def dataset_pipeline(config: DatasetConfig, dry_run: bool = False) -> None:
    """Build and audit the dataset, then keep it as an artifact."""
    build_dataset(config, dry_run=dry_run)
    store_dataset(config, dry_run=dry_run, after="build_dataset")
