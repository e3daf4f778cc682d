"""The feature pipeline: sources to warehouse to index, and its two halves as pipelines of their own."""

from zenml import pipeline

from llm_engineering.domain.config import FeatureConfig
from steps.crawl import crawl_sources, import_documents
from steps.failure import remember
from steps.features import store_features, sync_index


@pipeline(name="feature", on_failure=remember)
def feature_pipeline(config: FeatureConfig, rebuild: bool = False) -> None:
    """Crawl, then bring the index and the feature store level with the warehouse."""
    crawl_sources(config)
    sync_index(config, rebuild=rebuild, after="crawl_sources")
    store_features(config, after="sync_index")


@pipeline(name="sync", on_failure=remember)
def sync_pipeline(config: FeatureConfig, rebuild: bool = False) -> None:
    """The second half alone."""
    sync_index(config, rebuild=rebuild)
    store_features(config, after="sync_index")


@pipeline(name="import", on_failure=remember)
def import_pipeline(config: FeatureConfig, path: str) -> None:
    """Read an export into the warehouse, then sync."""
    import_documents(path)
    sync_index(config, after="import_documents")
    store_features(config, after="sync_index")
