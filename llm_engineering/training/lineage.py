"""From a run back to the documents whose words it was trained on, and from documents to the runs."""

from collections.abc import Collection, Mapping
from pathlib import Path

from llm_engineering.domain.errors import UsageError
from llm_engineering.domain.registry import Lineage
from llm_engineering.domain.samples import Split
from llm_engineering.training.data import dataset_version
from llm_engineering.training.provenance import RECORD, Provenance, folder_digest, read_provenance
from llm_engineering.training.run import ADAPTER

SEEN = (Split.TRAIN, Split.VALIDATION)
"""Splits that decide weights: the one that is learnt, and the one that chooses which step is kept."""


def lineage_of(run: Path, *, start: Path | None = None) -> Lineage:
    """The lineage of the run in this folder (``out/sft`` or ``out/dpo``), from its record and its datasets.

    A DPO run began with the run in ``start``, by default the SFT run beside it: what that one saw, this one saw.
    Raises :class:`UsageError` if a record or a dataset is gone, or is not the one that was trained on.
    """
    provenance = finished_run(run)
    runs = _stages(run, provenance, start)
    return Lineage(
        base=provenance.base,
        base_digest=provenance.base_digest,
        dataset=provenance.dataset,
        dataset_version=provenance.dataset_version,
        document_ids=tuple(sorted(set().union(*map(_documents, runs)))),
        trained=tuple(each.stage for each in runs),
        prompt_version=provenance.prompt_version,
    )


def runs_that_saw(root: Path, document_ids: Collection[str]) -> tuple[list[Path], list[Path]]:
    """The folders of runs under ``root`` that learnt from any of these documents, finished or not; and those that may have.

    What a run saw, one saw that began with its adapter, wherever it lies under ``root``. Nobody knows it of a run whose
    dataset is gone or has changed, or that began with an adapter that is nowhere there.
    """
    records = {file.parent: read_provenance(file.parent) for file in root.glob(f"*/*/{RECORD}")}
    begun_with = {folder_digest(place / ADAPTER): record for place, record in records.items() if record}
    told: dict[Path, list[bool | None]] = {}
    for place, record in records.items():
        told.setdefault(place.parent, []).append(_may_have_seen(record, document_ids, begun_with))
    saw = [folder for folder in sorted(told) if True in told[folder]]
    return saw, [folder for folder in sorted(told) if None in told[folder] and folder not in saw]


def _may_have_seen(
    run: Provenance | None, document_ids: Collection[str], begun_with: Mapping[str, Provenance]
) -> bool | None:
    """``begun_with``: the runs by the digests of their adapters. ``None`` where nobody knows."""
    if run is None:
        return None
    try:
        own = not _documents(run).isdisjoint(document_ids)
    except UsageError:  # its dataset is gone or has changed: "unknown" is the answer
        own = None
    if own or run.started_from is None:
        return own
    others = {digest: each for digest, each in begun_with.items() if digest != run.started_from}
    earlier = _may_have_seen(begun_with.get(run.started_from), document_ids, others)
    return None if own is None and not earlier else earlier


def _stages(run: Path, provenance: Provenance, start: Path | None) -> list[Provenance]:
    """The records of every stage whose weights are in this run's, the first one first."""
    if provenance.started_from is None:
        return [provenance]
    place = start or run.parent / "sft"
    first = read_provenance(place)
    if first is None or folder_digest(place / ADAPTER) != provenance.started_from:
        raise UsageError(
            f"The run in {run} began with an adapter that does not lie in {place}",
            hint="Name the SFT run that it began with: without it nobody knows which documents it saw.",
        )
    return [*_stages(place, first, None), provenance]


def finished_run(run: Path) -> Provenance:
    """The record of a finished run; :class:`UsageError` where there is none."""
    provenance = read_provenance(run)
    if provenance is None or not (run / ADAPTER / "adapter_config.json").is_file():
        raise UsageError(
            f"There is no finished run in {run}", hint="Name the folder of a stage, such as .twin/runs/me/dpo."
        )
    return provenance


def _documents(run: Provenance) -> set[str]:
    folder = Path(run.dataset)
    if not folder.is_dir():
        raise UsageError(
            f"The dataset {folder} of the {run.stage} run is gone: nobody can say which documents it saw",
            hint="Bring the dataset back, or train again.",
        )
    if dataset_version(folder) != run.dataset_version:
        raise UsageError(
            f"The dataset {folder} has changed since the {run.stage} run saw it", hint="Train again on what is there."
        )
    return documents_in(folder)


def documents_in(dataset: Path) -> set[str]:
    """Ids of the documents in those splits of a dataset that decide weights; :class:`UsageError` if it names none."""
    import pyarrow.parquet as parquet

    found: set[str] = set()
    for path in (dataset / part / f"{split}.parquet" for part in ("instruct", "preference") for split in SEEN):
        if not path.is_file():
            continue
        names = set(parquet.read_schema(path).names) & {"document_id", "document_ids", "provenance"}
        for row in parquet.read_table(path, columns=sorted(names)).to_pylist():
            told = [row.get("document_id"), (row.get("provenance") or {}).get("document_id")]
            found.update(each for each in (*told, *(row.get("document_ids") or ())) if each)
    if not found:
        raise UsageError(
            f"The dataset {dataset} names no documents: what was trained on it could never be forgotten",
            hint="Train on a dataset of poe run-dataset-pipeline, or add a column document_id.",
        )
    return found
