"""From a run back to the documents whose words it was trained on, and from documents to the runs."""

from collections.abc import Collection
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

    A DPO run began with the SFT run in ``start``, by default its neighbour: what that one saw, this one saw.
    Raises :class:`UsageError` if a record or a dataset is gone, or is not the one that was trained on.
    """
    provenance = finished_run(run)
    runs = [provenance]
    if provenance.started_from is not None:
        place = start or run.parent / "sft"
        first = read_provenance(place)
        if first is None or folder_digest(place / ADAPTER) != provenance.started_from:
            raise UsageError(
                f"The run in {run} began with an adapter that does not lie in {place}",
                hint="Name the SFT run that it began with: without it nobody knows which documents it saw.",
            )
        runs.insert(0, first)
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

    Nobody knows it of a run whose dataset is gone or has changed.
    """
    saw, unknown = [], []
    for folder in sorted({record.parent.parent for record in root.glob(f"*/*/{RECORD}")}):
        told = [_may_have_seen(record.parent, document_ids) for record in folder.glob(f"*/{RECORD}")]
        if True in told:
            saw.append(folder)
        elif None in told:
            unknown.append(folder)
    return saw, unknown


def _may_have_seen(run: Path, document_ids: Collection[str]) -> bool | None:
    provenance = read_provenance(run)
    if provenance is None:
        return None
    try:
        return not _documents(provenance).isdisjoint(document_ids)
    except UsageError:  # its dataset is gone or has changed: "unknown" is the answer
        return None


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
