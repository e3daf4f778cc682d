"""From a dataset to a twin that is kept: SFT, pairs against what it writes then, DPO, judgement. What is finished is not
repeated.
"""

import logging
from pathlib import Path
from typing import Annotated

from pydantic import Field
from zenml import log_metadata, step

from llm_engineering import bootstrap
from llm_engineering.domain.dataset_config import DatasetConfig
from llm_engineering.domain.entities import Frozen, now
from llm_engineering.domain.evaluation_config import EvaluationConfig
from llm_engineering.domain.samples import Split, request_key
from llm_engineering.evaluation.folder import write
from llm_engineering.evaluation.report import combined
from llm_engineering.settings import load_settings
from llm_engineering.training.dpo import dpo
from llm_engineering.training.export import export
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


@step(enable_cache=False)
def train_sft(recipe: Recipe, dataset: DatasetReport) -> Annotated[TrainingReport, "sft_report"]:
    """Supervised fine-tuning on the dataset; a killed run goes on where it was."""
    settings = load_settings()
    run = bootstrap.training_folder(settings) / f"{dataset.name}-{_identity(recipe, dataset.version)}"
    return _logged(sft(recipe, dataset=Path(dataset.folder), out=run))


@step(enable_cache=False)
def pair_up(
    recipe: Recipe, config: DatasetConfig, dataset: DatasetReport, trained: TrainingReport
) -> Annotated[DatasetReport, "pairs_report"]:
    """The dataset's own pairs where it has some, else pairs of the author's answers and the SFT twin's.

    The twin's answers are journalled: they are asked for once.
    """
    if any(dataset.pairs.values()):
        return dataset
    settings = load_settings()
    provenance = read_provenance(Path(trained.folder))
    name = f"{dataset.name}-sft-{provenance.identity[:12] if provenance else ''}"
    with bootstrap.open_warehouse(settings) as warehouse:
        make = pairs_against(Path(trained.folder), config.preference, warehouse, name=name)
        paired = config.model_copy(update={"name": f"{config.name}-{PAIRS}", "hub_repository": None})
        report = built(paired, settings, warehouse, make_pairs=make, sides_of=config.name)
    log_metadata(metadata={"pairs": report.pairs, "refusals": report.refusals}, infer_artifact=True)
    return report


@step(enable_cache=False)
def train_dpo(recipe: Recipe, pairs: DatasetReport, trained: TrainingReport) -> Annotated[TrainingReport, "dpo_report"]:
    """Preference optimisation from the SFT adapter; a killed run goes on where it was.

    Without pairs to learn from and to measure by, the SFT stage is the result.
    """
    if not (pairs.pairs.get(Split.TRAIN) and pairs.pairs.get(Split.VALIDATION)):
        _log.warning("DPO is left out: there are no preference pairs (%s)", pairs.refusals or "none were made")
        return trained
    start = Path(trained.folder)
    return _logged(dpo(recipe, dataset=Path(pairs.folder), out=start.parent, start=start))


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
    if known is not None:
        return KeptReport(model=known.reference, stage=known.stage, known=True, measures=known.metrics)
    release = run.with_name(f"{RELEASE}-{run.name}")
    if not release.exists():
        export(run, release, name=name)
    judgement = judge_twin(config, str(release), author=author or None, name=name)
    version = registry.register(release, name=name, lineage=lineage, metrics=judgement.measured.metrics())
    out = settings.twin_home / "evaluation" / version.reference
    write(combined([judgement.found], out=out, at=now()), level=config.level)
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


def _logged(report: TrainingReport) -> TrainingReport:
    metadata = report.model_dump(mode="json", exclude={"folder"}, exclude_none=True)
    log_metadata(metadata=metadata, infer_artifact=True)
    return report


def _identity(recipe: Recipe, version: str) -> str:
    return request_key(recipe.digest(), version)[:12]
