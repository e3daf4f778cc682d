"""From a dataset to a twin that is kept: SFT, pairs against what it writes then, DPO, judgement. What is finished is not
repeated.
"""

import json
import logging
import shutil
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import Field
from zenml import log_metadata, step

from llm_engineering import bootstrap
from llm_engineering.domain.dataset_config import DatasetConfig
from llm_engineering.domain.entities import Frozen, now
from llm_engineering.domain.evaluation_config import EvaluationConfig
from llm_engineering.domain.ports import Registry
from llm_engineering.domain.registry import ModelStage, ModelVersion
from llm_engineering.domain.samples import Split, request_key
from llm_engineering.evaluation.folder import write
from llm_engineering.evaluation.gate import Measured, Promotion, promotion
from llm_engineering.evaluation.report import combined
from llm_engineering.settings import load_settings
from llm_engineering.training.dpo import dpo
from llm_engineering.training.export import describe, export
from llm_engineering.training.keep import find_kept
from llm_engineering.training.lineage import lineage_of
from llm_engineering.training.provenance import read_provenance
from llm_engineering.training.recipe import Recipe
from llm_engineering.training.report import TrainingReport
from llm_engineering.training.sft import sft
from steps.dataset import DatasetReport, built
from steps.preferences import pairs_against
from steps.registry import mirror
from steps.twin_evaluation import judge_twin

PAIRS = "pairs"
"""Ending of the name of the dataset that holds the pairs made for DPO."""
RELEASE = "release"
"""Beginning of the name of the folder that holds what is registered of a stage."""
_log = logging.getLogger(__name__)


class KeptReport(Frozen):
    """What became of a trained twin."""

    model: str
    """``NAME@VERSION`` in the registry."""
    stage: str
    known: bool = False
    """Whether these weights were kept before: nothing was judged again."""
    gate: tuple[str, ...] = ()
    """What each check of the promotion gate found."""
    measures: dict[str, float] = Field(default_factory=dict)
    report: str = ""
    """Folder of the evaluation's report."""


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
    numbers = recipe.model_dump(mode="json", exclude={"dpo"})  # those of DPO make no other SFT
    run = bootstrap.training_folder(settings) / f"{dataset.name}-{request_key(numbers, dataset.version)[:12]}"
    return _logged(sft(recipe, dataset=Path(dataset.folder), out=run))


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
    return _logged(dpo(recipe, dataset=Path(pairs.folder), out=start.parent, start=start, replace=True))


@step(enable_cache=False)
def keep_twin(
    config: EvaluationConfig, name: str, author: str, trained: TrainingReport
) -> Annotated[KeptReport, "kept_report"]:
    """Export behind the parity gate, judge on the held-out writing, register; promote what passes the promotion gate."""
    settings = load_settings()
    registry = bootstrap.open_registry(settings)
    run = Path(trained.folder)
    lineage = lineage_of(run)
    known = find_kept(run, name=name, registry=registry, lineage=lineage)
    if known is not None:  # kept, and perhaps killed before it could be promoted
        verdict = _verdict(known, registry, config)
        if known.stage is ModelStage.CANDIDATE and verdict.passed:
            known = registry.promote(known.reference)
        mirror(registry.versions(name))
        gate = tuple(verdict.lines()) if known.stage is ModelStage.CANDIDATE else ()
        return KeptReport(model=known.reference, stage=known.stage, known=True, gate=gate, measures=known.metrics)
    release = run.with_name(f"{RELEASE}-{run.name}")
    shutil.rmtree(release, ignore_errors=True)  # of a run that was killed: perhaps of other weights
    export(run, release, name=name)
    judgement = judge_twin(config, str(release), author=author or None, name=name)
    metrics = judgement.measured.metrics()
    describe(release, name=name, run=run, evaluation=metrics)
    number = max((version.version for version in registry.versions(name)), default=0) + 1
    out = settings.twin_home / "evaluation" / f"{name}@{number}"
    write(combined([judgement.found], out=out, at=now()), level=config.level)
    version = registry.register(release, name=name, lineage=lineage, metrics=metrics)
    shutil.rmtree(release)  # the registry has its own copy
    if judgement.promotion.passed:
        version = registry.promote(version.reference)
    mirror(registry.versions(name))
    log_metadata(
        metadata={"model": version.reference, "stage": version.stage.value, **version.metrics}, infer_artifact=True
    )
    return KeptReport(
        model=version.reference,
        stage=version.stage,
        gate=tuple(judgement.promotion.lines()),
        measures=version.metrics,
        report=str(out),
    )


def _verdict(kept: ModelVersion, registry: Registry, config: EvaluationConfig) -> Promotion:
    """The promotion gate for a version that was judged when it was registered."""
    current = [each for each in registry.versions(kept.name) if each.stage is ModelStage.CURRENT]
    return promotion(
        Measured.of_metrics(kept.metrics),
        current=Measured.of_metrics(current[0].metrics) if current else None,
        config=config.twin.gate,
    )


def _paired(dataset: DatasetReport) -> bool:
    """Whether it has pairs to learn from and to measure by."""
    return bool(dataset.pairs.get(Split.TRAIN) and dataset.pairs.get(Split.VALIDATION))


def _logged(report: TrainingReport) -> TrainingReport:
    metadata = report.model_dump(mode="json", exclude={"folder"}, exclude_none=True)
    log_metadata(metadata=metadata, infer_artifact=True)
    return report
