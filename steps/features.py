"""From the warehouse to the index, and to one Parquet file of the cleaned corpus."""

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

from zenml import log_metadata, save_artifact, step
from zenml.client import Client
from zenml.io import fileio

from llm_engineering import bootstrap
from llm_engineering.domain.config import FeatureConfig
from llm_engineering.domain.entities import Frozen
from llm_engineering.features.store import corpus_version, write_cleaned
from llm_engineering.features.sync import SyncReport, sync
from llm_engineering.settings import load_settings
from steps.progress import bar

CLEANED = "cleaned_documents"
KEPT_VERSIONS = 5


class StoreReport(Frozen):
    """Which version of the cleaned documents is current, and whether this run wrote it."""

    corpus: str
    documents: int
    artifact: str
    written: bool


@step(enable_cache=False)
def sync_index(config: FeatureConfig, rebuild: bool = False) -> Annotated[SyncReport, "sync_report"]:
    """Make the index equal the warehouse; cost follows the number of changes."""
    settings = load_settings()
    bootstrap.prepare_home(settings)
    with ExitStack() as open_until_done:
        warehouse = open_until_done.enter_context(bootstrap.open_warehouse(settings))
        index = open_until_done.enter_context(bootstrap.open_index(settings))
        progress = open_until_done.enter_context(bar("sync"))
        started = time.perf_counter()
        embedder = bootstrap.open_embedder(settings, config.embedding)
        sparse = bootstrap.open_sparse_encoder(config.sparse)
        loaded = round(time.perf_counter() - started, 3)
        report = sync(
            warehouse,
            index,
            recipe=bootstrap.recipe_for(settings, config, embedder, sparse),
            chunker=bootstrap.chunker_for(config, embedder),
            embedder=embedder,
            sparse=sparse,
            config=config.sync,
            language_of=bootstrap.language_of,
            rebuild=rebuild,
            progress=progress,
        )
    report = report.model_copy(update={"seconds": {"load": loaded, **report.seconds}})
    log_metadata(metadata=report.model_dump(mode="json"), infer_artifact=True)
    return report


@step(enable_cache=False)
def store_features(config: FeatureConfig) -> Annotated[StoreReport, "store_report"]:
    """Keep the cleaned documents as one versioned Parquet artifact; an unchanged corpus makes no new version.

    The newest versions are kept. Once a document is withdrawn, every version that may still hold it goes.
    """
    settings = load_settings()
    with bootstrap.open_warehouse(settings) as warehouse:
        withdrawn = warehouse.status().tombstones.get("withdrawn", 0)
        corpus = f"{corpus_version(warehouse)}-{config.clean.digest()}"
        versions = list(Client().list_artifact_versions(artifact=CLEANED, sort_by="desc:created", size=100).items)
        current = versions[0] if versions else None
        if current is not None and current.run_metadata.get("corpus") == corpus:
            rows = int(str(current.run_metadata["documents"]))
            return StoreReport(corpus=corpus, documents=rows, artifact=f"{CLEANED}:{current.version}", written=False)
        with tempfile.TemporaryDirectory(dir=settings.twin_home) as folder:
            path = Path(folder) / f"{CLEANED}.parquet"
            rows = write_cleaned(warehouse.states(), path, read=bootstrap.reader_for(config))
            saved = save_artifact(path, name=CLEANED)
        log_metadata(
            metadata={"corpus": corpus, "documents": rows, "withdrawn": withdrawn}, artifact_version_id=saved.id
        )
    leaky = [old for old in versions if old.run_metadata.get("withdrawn") != withdrawn]
    for old in leaky or versions[KEPT_VERSIONS - 1 :]:
        if fileio.exists(old.uri):  # the files go; the record that there was such a version belongs to its run
            Client().delete_artifact_version(old.id, delete_metadata=False, delete_from_artifact_store=True)
    return StoreReport(corpus=corpus, documents=rows, artifact=f"{CLEANED}:{saved.version}", written=True)
