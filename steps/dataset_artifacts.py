"""Datasets as versioned artifacts: what is kept, and what is erased together with the text in it."""

from pathlib import Path

from zenml import save_artifact
from zenml.client import Client
from zenml.io import fileio
from zenml.metadata.metadata_types import MetadataType
from zenml.models import ArtifactVersionResponse
from zenml.utils.pagination_utils import depaginate

from llm_engineering.dataset.card import Card

_PREFIX = "dataset_"
_KEPT_VERSIONS = 5
_PAGE = 100
_FOLDER = "custom_artifacts"
"""Where ZenML puts what a step saves by itself."""
_VERSION = "dataset"
"""Under which an artifact says which version of the dataset it holds."""


def keep(card: Card, root: Path, *, withdrawn: int) -> tuple[str, bool]:
    """Keep the version as an artifact, unless the newest is the same; returns its name, and whether it is new.

    The newest few stay, without those that are older than the last withdrawal of a document.
    """
    name = f"{_PREFIX}{card.name}"
    versions = sorted(_versions(f"{_VERSION}:contains:", name), key=lambda version: version.created, reverse=True)
    newest = versions[0] if versions else None
    if newest and newest.run_metadata.get(_VERSION) == card.version and fileio.exists(newest.uri):
        return f"{name}:{newest.version}", False
    facts: dict[str, MetadataType] = {_VERSION: card.version, "recipe": card.recipe, "withdrawn": withdrawn}
    saved = save_artifact(root / card.name / card.version, name=name, user_metadata=facts)
    leaky = [old for old in versions if old.run_metadata.get("withdrawn") != withdrawn]
    for old in leaky or versions[_KEPT_VERSIONS - 1 :]:
        _erase(old)
    return f"{name}:{saved.version}", True


def erase_dropped(root: Path) -> None:
    """Erase the artifacts of versions, of any dataset, whose folder is gone, and what a killed run left of one.

    The reports of dry runs go with them: they quote prompts.
    """
    kept = [each for each in _versions(f"{_VERSION}:contains:") if each.artifact.name.startswith(_PREFIX)]
    for each in kept:
        folder = root / each.artifact.name.removeprefix(_PREFIX) / str(each.run_metadata[_VERSION])
        if not folder.exists():
            _erase(each)
    known = {each.uri for each in kept}
    for uri in _files(f"{Client().active_stack.artifact_store.path}/{_FOLDER}"):
        if uri not in known:
            fileio.rmtree(uri)
    for report in _versions("dry_run:true"):
        _erase(report)


def _files(folder: str) -> list[str]:
    """Where artifacts of datasets lie, also those that nothing was recorded of yet."""
    names = fileio.listdir(folder) if fileio.exists(folder) else []
    homes = [f"{folder}/{name}" for name in names if str(name).startswith(_PREFIX)]
    return [f"{home}/{name}" for home in homes for name in fileio.listdir(home)]


def _versions(metadata: str, name: str | None = None) -> list[ArtifactVersionResponse]:
    """Artifacts whose metadata are such, of that name or of any."""
    return depaginate(Client().list_artifact_versions, artifact=name, run_metadata=metadata, size=_PAGE, hydrate=True)


def _erase(artifact: ArtifactVersionResponse) -> None:
    """Remove an artifact's files; the record that there was such a version belongs to its run."""
    if fileio.exists(artifact.uri):
        Client().delete_artifact_version(artifact.id, delete_metadata=False, delete_from_artifact_store=True)
