"""Where things are kept: warehouse, index, registry, folders. A path is embedded, a URL is a server."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from llm_engineering.domain.blind import BlindPairs
from llm_engineering.domain.errors import StoreUnavailable, UsageError
from llm_engineering.domain.ports import Index, Registry, Warehouse
from llm_engineering.domain.registry import ModelStage
from llm_engineering.domain.review import ReviewSamples

if TYPE_CHECKING:
    from llm_engineering.settings import Settings


@contextmanager
def open_warehouse(settings: "Settings") -> Iterator[Warehouse]:
    """The warehouse at ``WAREHOUSE_URL``: SQLite for a path, MongoDB for ``mongodb://`` or ``mongodb+srv://``."""
    url = settings.warehouse_url
    if url.startswith(("mongodb://", "mongodb+srv://")):
        from llm_engineering.adapters.mongodb import MongoWarehouse

        warehouse: Warehouse = MongoWarehouse(url, settings.warehouse_database)
    else:
        from llm_engineering.adapters.sqlite import SQLiteWarehouse

        warehouse = SQLiteWarehouse(_local(url, "WAREHOUSE_URL", "mongodb://"))
    try:
        yield warehouse
    finally:
        warehouse.close()


@contextmanager
def open_index(settings: "Settings", *, url: str | None = None) -> Iterator[Index]:
    """The index at ``INDEX_URL`` (or at ``url``): Qdrant Edge for a path, a Qdrant server for ``http(s)://``."""
    address = url or settings.index_url
    if address.startswith(("http://", "https://")):
        from llm_engineering.adapters.qdrant import QdrantServerIndex

        key = settings.index_api_key.get_secret_value() if settings.index_api_key else None
        index: Index = QdrantServerIndex(address, key, settings.index_collection)
    else:
        from llm_engineering.adapters.qdrant_edge import EdgeIndex

        index = EdgeIndex(_local(address, "INDEX_URL", "http://"))
    try:
        yield index
    finally:
        index.close()


def copy_index(source: Index, target: Index) -> int:
    """Fill ``target`` anew with everything visible in ``source``, vectors included; returns the number of chunks."""
    from llm_engineering.adapters.index_copy import copy_index as copy

    return copy(source, target)


def open_registry(settings: "Settings") -> Registry:
    """The trained models in ``TWIN_HOME``."""
    from llm_engineering.adapters.registry_folder import FolderRegistry

    return FolderRegistry(settings.twin_home / "models-registry")


def open_blind_pairs(settings: "Settings") -> BlindPairs:
    """The pairs that people compare blind, in ``TWIN_HOME/blind``; nothing is opened or made yet.

    Those of a version that the registry says is retired or erased are not shown.
    """
    from llm_engineering.adapters.blind_folder import BlindFolder

    registry = open_registry(settings)

    def hidden() -> set[str]:
        return {each.reference for each in registry.versions() if each.erased or each.stage is ModelStage.RETIRED}

    return BlindFolder(settings.twin_home / "blind", hidden=hidden)


def open_review_samples(settings: "Settings") -> ReviewSamples:
    """The samples that people review, in ``TWIN_HOME/datasets``; nothing is opened yet."""
    from llm_engineering.adapters.dataset_folder import DatasetFolder

    return DatasetFolder(datasets_folder(settings))


def datasets_folder(settings: "Settings") -> Path:
    """Where datasets are kept: one folder for each name, in it one for each version."""
    return settings.twin_home / "datasets"


def training_folder(settings: "Settings") -> Path:
    """Where training runs are kept: one folder for each recipe and dataset."""
    return settings.twin_home / "training"


def push_dataset(settings: "Settings", folder: Path, repository: str) -> str:
    """Upload a dataset's folder to ``repository`` on the Hugging Face Hub, and return its address there."""
    from llm_engineering.adapters.huggingface_hub import push_folder

    token = settings.hf_token.get_secret_value() if settings.hf_token else None
    return push_folder(folder, repository, token=token)


def prepare_home(settings: "Settings") -> Path:
    """Create ``TWIN_HOME`` and see that it can be written to; :class:`StoreUnavailable` if it cannot."""
    home = settings.twin_home
    try:
        home.mkdir(parents=True, exist_ok=True)
        probe = home / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise StoreUnavailable(
            f"TWIN_HOME {home} cannot be written to: {error.strerror or error}",
            hint="Make the folder writable, free space on its disk, or set TWIN_HOME to another folder.",
        ) from error
    free = shutil.disk_usage(home).free
    if free < 10_000_000:
        raise StoreUnavailable(
            f"The disk of TWIN_HOME {home} is full ({free / 1e6:.1f} MB left)",
            hint="Free space, or set TWIN_HOME to another disk.",
        )
    return home


def _local(address: str, variable: str, server: str) -> Path:
    """A path from an address, refusing URLs of engines that we do not have."""
    if "://" in address and not address.startswith("file://"):
        raise UsageError(
            f"{variable} is neither a path nor a {server}… address: {address.split('://')[0]}://…",
            hint="See .env.example.",
        )
    return Path(address.removeprefix("file://")).expanduser()
