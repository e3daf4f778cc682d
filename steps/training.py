"""From a dataset to a trained twin: SFT, pairs against what it writes then, DPO. What is finished is not repeated."""

import json
import logging
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple

from zenml import log_metadata, step

from llm_engineering import bootstrap
from llm_engineering.domain.dataset_config import DatasetConfig
from llm_engineering.domain.samples import Split, request_key
from llm_engineering.settings import load_settings
from llm_engineering.training.apart import trained_by
from llm_engineering.training.dpo import dpo
from llm_engineering.training.provenance import read_provenance, run_name
from llm_engineering.training.recipe import Recipe
from llm_engineering.training.report import TrainingReport
from llm_engineering.training.sft import sft
from steps.dataset import DatasetReport, built
from steps.preferences import pairs_against

PAIRS = "pairs"
"""Ending of the name of the dataset that holds the pairs made for DPO."""
_log = logging.getLogger(__name__)


class _Made(NamedTuple):
    """The pairs that were made against an SFT stage, remembered beside it."""

    file: Path
    key: str
    report: DatasetReport | None

    @classmethod
    def of(cls, stage: Path, key: str) -> "_Made":
        """Those of this very stage, dataset and configuration, if their folder is there still."""
        file = stage.with_name(f"{stage.name}-{PAIRS}.json")
        if file.is_file():
            kept = json.loads(file.read_text(encoding="utf-8"))
            report = DatasetReport.model_validate(kept["report"])
            if kept["key"] == key and Path(report.folder).is_dir():
                return cls(file, key, report.model_copy(update={"written": False}))
        return cls(file, key, None)

    def keep(self, report: DatasetReport) -> None:
        """Remember them; a file that a kill leaves half-written is under another name."""
        part = self.file.with_suffix(".part")
        part.write_text(json.dumps({"key": self.key, "report": report.model_dump(mode="json")}), encoding="utf-8")
        part.replace(self.file)


@step(enable_cache=False)
def train_sft(recipe: Recipe, dataset: DatasetReport) -> Annotated[TrainingReport, "sft_report"]:
    """Supervised fine-tuning on the dataset; a killed run goes on where it was."""
    settings = load_settings()
    run = bootstrap.training_folder(settings) / run_name(recipe, dataset=dataset.name, version=dataset.version)
    return _logged(trained_by(sft, recipe, dataset=Path(dataset.folder), out=run))


@step(enable_cache=False)
def pair_up(
    recipe: Recipe, config: DatasetConfig, dataset: DatasetReport, trained: TrainingReport
) -> Annotated[DatasetReport, "pairs_report"]:
    """The dataset's own pairs where it has them to learn from and to measure by, else pairs against the SFT twin.

    They are made once for each SFT stage: what the twin writes is not quite the same again in other company. A run that is
    killed meanwhile finds the answers that it had in the warehouse's journal.
    """
    if _paired(dataset):
        return dataset
    settings = load_settings()
    provenance = read_provenance(Path(trained.folder))
    identity = provenance.identity if provenance else ""
    made = _Made.of(Path(trained.folder), request_key(identity, dataset.version, config.digest()))
    if made.report is not None:
        return made.report
    name = f"{dataset.name}-sft-{identity[:12]}"
    with bootstrap.open_warehouse(settings) as warehouse:
        make = pairs_against(Path(trained.folder), config.preference, warehouse, name=name)
        paired = config.model_copy(update={"name": f"{config.name}-{PAIRS}", "hub_repository": None})
        report = built(paired, settings, warehouse, make_pairs=make, sides_of=config.name)
    made.keep(report)
    log_metadata(metadata={"pairs": report.pairs, "refusals": report.refusals}, infer_artifact=True)
    return report


@step(enable_cache=False)
def train_dpo(recipe: Recipe, pairs: DatasetReport, trained: TrainingReport) -> Annotated[TrainingReport, "dpo_report"]:
    """Preference optimisation from the SFT adapter; a killed run goes on where it was.

    Without pairs to learn from and to measure by, the SFT stage is the result.
    """
    if not _paired(pairs):
        _log.warning("DPO is left out: there are no preference pairs (%s)", pairs.refusals or "none were made")
        return trained
    start = Path(trained.folder)
    stage = partial(dpo, start=start, replace=True)
    return _logged(trained_by(stage, recipe, dataset=Path(pairs.folder), out=start.parent))


def _paired(dataset: DatasetReport) -> bool:
    """Whether it has pairs to learn from and to measure by."""
    return bool(dataset.pairs.get(Split.TRAIN) and dataset.pairs.get(Split.VALIDATION))


def _logged(report: TrainingReport) -> TrainingReport:
    metadata = report.model_dump(mode="json", exclude={"folder"}, exclude_none=True)
    log_metadata(metadata=metadata, infer_artifact=True)
    return report
