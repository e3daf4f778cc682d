"""A model to be judged: where it lies, what it came from, what it has seen, and which twin it would replace."""

import hashlib
from pathlib import Path
from typing import NamedTuple

from llm_engineering import bootstrap
from llm_engineering.domain.errors import UsageError
from llm_engineering.domain.ports import Registry
from llm_engineering.domain.registry import ModelStage
from llm_engineering.evaluation.twin import REFERENCE
from llm_engineering.settings import Settings
from llm_engineering.training.export import PARITY, read_parity
from llm_engineering.training.lineage import documents_in
from llm_engineering.training.provenance import Provenance, folder_digest, read_provenance, revision_in
from llm_engineering.training.run import ADAPTER


class Replaced(NamedTuple):
    """The current twin of the name that a candidate is, or will be, registered under."""

    reference: str
    folder: Path
    weights: str
    seen: frozenset[str]


class Candidate(NamedTuple):
    """A model to be judged, where it came from, and what it would replace."""

    name: str
    folder: Path
    weights: str
    """Digest: the same weights have the same one in a run, an export and the registry."""
    base: str
    revision: str | None
    """Of a base that has a name."""
    start: Path | None
    """The SFT run that it began with, if it began with one that is there still."""
    lost: bool
    """Whether it began with an SFT adapter that is nowhere to be found."""
    dataset: Path
    trained_on: tuple[Path, ...]
    """Datasets of every stage, as far as the stages are there."""
    seen: frozenset[str]
    """Ids of the documents that decided its weights."""
    current: Replaced | None
    parity: float | None


def find_candidate(model: str, settings: Settings, *, name: str | None = None) -> Candidate:
    """The model of that reference or folder, and the current version of its name (for a folder: of ``name``).

    Raises :class:`UsageError` for a model that is not there, or of which nobody can say what it has seen.
    """
    registry = bootstrap.open_registry(settings)
    place = Path(model)
    if place.is_dir():
        record = read_provenance(place)
        if record is None:
            raise UsageError(
                f"There is no finished run or export in {place}",
                hint="Name the folder of a stage, or a registered model: poe models list",
            )
        start = _start(record, settings, beside=place.parent)
        stages = _stages(record, start)
        return Candidate(
            name=next_reference(registry, name) if name else f"{place.parent.name}-{place.name}",
            folder=place,
            weights=weights_of(place),
            base=record.base,
            revision=record.base_commit or revision_in(record.base_digest, record.base),
            start=start,
            lost=record.started_from is not None and start is None,
            dataset=Path(record.dataset),
            trained_on=tuple(Path(each.dataset) for each in stages),
            seen=_seen(stages),
            current=_current(registry, name) if name else None,
            parity=_parity(place),
        )
    version = registry.find(model)
    folder, lineage = registry.folder(version), version.lineage
    record = read_provenance(folder)
    start = _start(record, settings) if record else None
    return Candidate(
        name=version.reference,
        folder=folder,
        weights=weights_of(folder),
        base=lineage.base,
        revision=(record.base_commit if record else None) or revision_in(lineage.base_digest, lineage.base),
        start=start,
        lost=REFERENCE in lineage.trained[:-1] and start is None,
        dataset=Path(lineage.dataset),
        trained_on=tuple(Path(each.dataset) for each in _stages(record, start)) or (Path(lineage.dataset),),
        seen=frozenset(lineage.document_ids),
        current=None if version.stage is ModelStage.CURRENT else _current(registry, version.name),
        parity=_parity(folder),
    )


def weights_of(folder: Path) -> str:
    """Digest of the adapter in a folder, or of the weights that lie there without one, whatever records lie beside them."""
    adapter = folder / ADAPTER
    if adapter.is_dir():
        return folder_digest(adapter)
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}".encode())
    return digest.hexdigest()[:16]


def _start(record: Provenance, settings: Settings, *, beside: Path | None = None) -> Path | None:
    """The SFT run that this one began with, told by its adapter: ``beside`` it, or among the runs of ``TWIN_HOME``."""
    if record.started_from is None:
        return None
    runs = [beside, *sorted(bootstrap.training_folder(settings).glob("*/"))]
    for folder in (run / REFERENCE for run in runs if run is not None):
        if read_provenance(folder) is not None and folder_digest(folder / ADAPTER) == record.started_from:
            return folder
    return None


def _stages(record: Provenance | None, start: Path | None) -> list[Provenance]:
    """The records of the stages whose weights are in a model, the last one first."""
    found = (record, read_provenance(start) if start else None)
    return [each for each in found if each is not None]


def _seen(stages: list[Provenance]) -> frozenset[str]:
    """Documents in the datasets of these stages."""
    seen: set[str] = set()
    for stage in stages:
        folder = Path(stage.dataset)
        if not folder.is_dir():
            raise UsageError(
                f"The dataset {folder} of the {stage.stage} run is gone: nobody can say which documents are held out from it",
                hint="Bring the dataset back, or judge a registered version: it keeps the list of its documents.",
            )
        seen |= documents_in(folder)
    return frozenset(seen)


def _current(registry: Registry, name: str) -> Replaced | None:
    for version in registry.versions(name):
        if version.stage is ModelStage.CURRENT:
            folder = registry.folder(version)
            return Replaced(version.reference, folder, weights_of(folder), frozenset(version.lineage.document_ids))
    return None


def next_reference(registry: Registry, name: str) -> str:
    """The reference of the version that is registered next."""
    return f"{name}@{max((each.version for each in registry.versions(name)), default=0) + 1}"


def _parity(folder: Path) -> float | None:
    """The greatest difference that the export found; ``None`` where nothing was exported."""
    if not (folder / PARITY).is_file():
        return None
    return max((each.largest for each in read_parity(folder).comparisons), default=None)
