"""From a trained twin to one that is kept, and promoted where it may be. What was judged is judged again only if it would replace
another twin now.
"""

import shutil
from pathlib import Path
from typing import Annotated

from pydantic import Field
from zenml import log_metadata, step

from llm_engineering import bootstrap
from llm_engineering.domain.entities import Frozen
from llm_engineering.domain.evaluation_config import EvaluationConfig
from llm_engineering.domain.registry import ModelStage, ModelVersion
from llm_engineering.settings import load_settings
from llm_engineering.training.export import describe, export
from llm_engineering.training.keep import find_kept
from llm_engineering.training.lineage import lineage_of
from llm_engineering.training.report import TrainingReport
from steps.candidate import next_reference
from steps.registry import mirror
from steps.twin_evaluation import judge_and_write, known_figures

RELEASE = "release"
"""Beginning of the name of the folder that holds what is registered of a stage."""


class KeptReport(Frozen):
    """What became of a trained twin."""

    model: str
    """``NAME@VERSION`` in the registry."""
    stage: str
    known: bool = False
    """Whether these weights were kept before."""
    gate: tuple[str, ...] = ()
    """What each check of the promotion gate found."""
    measures: dict[str, float] = Field(default_factory=dict)
    report: str = ""
    """Folder of the evaluation's report, if it was judged now."""


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
        report = _kept_before(known, config, author=author or None)
        mirror(registry.versions(name))
        return report
    release = run.with_name(f"{RELEASE}-{run.name}")
    shutil.rmtree(release, ignore_errors=True)  # of a run that was killed: perhaps of other weights
    export(run, release, name=name)
    out = _report_of(next_reference(registry, name))
    figures, verdict = judge_and_write(config, str(release), author=author or None, name=name, out=out)
    describe(release, name=name, run=run, evaluation=figures.metrics())
    version = registry.register(release, name=name, lineage=lineage, metrics=figures.metrics())
    shutil.rmtree(release)  # the registry has its own copy
    if verdict.passed:
        version = registry.promote(version.reference)
    mirror(registry.versions(name))
    log_metadata(
        metadata={"model": version.reference, "stage": version.stage.value, **version.metrics}, infer_artifact=True
    )
    return KeptReport(
        model=version.reference,
        stage=version.stage,
        gate=tuple(verdict.lines()),
        measures=version.metrics,
        report=str(out),
    )


def _kept_before(known: ModelVersion, config: EvaluationConfig, *, author: str | None) -> KeptReport:
    """Promote a candidate that was killed before it could be; judge one that would replace another twin now, or never was."""
    if known.stage is not ModelStage.CANDIDATE:
        return KeptReport(model=known.reference, stage=known.stage, known=True, measures=known.metrics)
    out = _report_of(known.reference)
    found = known_figures(config, known.reference, author=author, out=out)
    judged = found or judge_and_write(config, known.reference, author=author, out=out)
    figures, verdict = judged
    if verdict.passed:
        known = bootstrap.open_registry(load_settings()).promote(known.reference)
    return KeptReport(
        model=known.reference,
        stage=known.stage,
        known=True,
        gate=tuple(verdict.lines()),
        measures=figures.metrics(),
        report="" if found else str(out),
    )


def _report_of(reference: str) -> Path:
    return load_settings().twin_home / "evaluation" / reference
