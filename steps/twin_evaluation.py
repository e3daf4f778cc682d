"""From a trained model to everything that can be said of it on held-out text, and whether it may be promoted."""

import asyncio
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple

from zenml import log_metadata, step

from llm_engineering import bootstrap
from llm_engineering.domain.config import ChatConfig
from llm_engineering.domain.errors import UsageError
from llm_engineering.domain.evaluation_config import EvaluationConfig
from llm_engineering.domain.ports import Registry
from llm_engineering.domain.registry import ModelStage, ModelVersion
from llm_engineering.evaluation.gate import BASE, CURRENT, Measured, Promotion, measured, promotion
from llm_engineering.evaluation.held_out import HeldOut, read_held_out
from llm_engineering.evaluation.human import blind_pairs
from llm_engineering.evaluation.report import Evaluated, Part
from llm_engineering.evaluation.twin import REFERENCE, evaluate_model
from llm_engineering.settings import Settings, load_settings
from llm_engineering.telemetry import tracing
from llm_engineering.training.export import PARITY, read_parity
from llm_engineering.training.provenance import Provenance, folder_digest, read_provenance, revision_in
from llm_engineering.training.run import ADAPTER
from steps.progress import bar

GATE = "Promotion"
_LOST = "the run that it began with is gone: it is not read, and preference is rewarded against the base"


class Judgement(NamedTuple):
    """What was found, the figures that promotion depends on, and whether they suffice."""

    found: Evaluated
    measured: Measured
    promotion: Promotion


class Candidate(NamedTuple):
    """A model to be judged, where it came from, and what it would replace."""

    name: str
    folder: Path
    base: str
    revision: str | None
    """Of a base that has a name."""
    earlier: dict[str, Path]
    """Folders of what else reads the held-out texts: earlier stages as far as they are there, and the current twin."""
    dataset: Path
    current: Measured | None
    parity: float | None
    lost: bool = False
    """Whether it began with an SFT adapter that is nowhere to be found."""


@step(enable_cache=False)
def evaluate_twin(
    config: EvaluationConfig, model: str, dataset: str, author: str
) -> Annotated[Evaluated, "evaluated_model"]:
    """Judge a registered model (``NAME@VERSION``, ``NAME``, ``current``) or the folder of a finished stage or export.

    ``dataset`` is by default the one that it was trained on, ``author`` who wrote most of its test split.
    """
    with tracing("llm-twin-evaluation"):
        judgement = judge_twin(config, model, dataset=Path(dataset) if dataset else None, author=author or None)
    log_metadata(
        metadata={**judgement.measured.metrics(), "promotable": judgement.promotion.passed}, infer_artifact=True
    )
    return judgement.found


def judge_twin(
    config: EvaluationConfig,
    model: str,
    *,
    dataset: Path | None = None,
    author: str | None = None,
    name: str | None = None,
) -> Judgement:
    """The same outside a pipeline, with the figures of the gate. Pairs for people to compare are kept for the service.

    ``name`` is the one under which a folder is to be registered: it is judged against that name's current version, and under
    the reference that it will have, so that pairs and choices of people are found again when that version is judged.
    Raises :class:`UsageError` for a model, base or dataset that is not there.
    """
    settings = load_settings()
    candidate = find_candidate(model, settings, name=name)
    if candidate.revision is None and not Path(candidate.base).is_dir():
        raise UsageError(
            f"The base {candidate.base}, on which {candidate.name} was trained, is not there: nothing can be compared with it",
            hint="Bring the folder back, or train again.",
        )
    held_out = read_held_out(
        dataset or candidate.dataset,
        author=author,
        distractors=config.twin.distractors,
        limit=config.twin.limit,
        seed=config.seed,
    )
    found = asyncio.run(_judged(candidate, held_out, settings, config))
    figures = measured(found.parts, parity=candidate.parity)
    verdict = promotion(figures, current=candidate.current, config=config.twin.gate)
    part = Part(
        name=GATE,
        counts={"checks": len(verdict.checks), "passed": sum(check.passed for check in verdict.checks)},
        findings={"May be promoted" if verdict.passed else "May not be promoted": tuple(verdict.lines())},
    )
    facts = found.facts | ({REFERENCE: _LOST} if candidate.lost else {})
    return Judgement(found.model_copy(update={"parts": (*found.parts, part), "facts": facts}), figures, verdict)


def find_candidate(model: str, settings: Settings, *, name: str | None = None) -> Candidate:
    """The model of that reference or folder, and the current version of its name (for a folder: of ``name``)."""
    registry = bootstrap.open_registry(settings)
    place = Path(model)
    if place.is_dir():
        record = read_provenance(place)
        if record is None:
            raise UsageError(
                f"There is no finished run or export in {place}",
                hint="Name the folder of a stage, or a registered model: poe models list",
            )
        earlier = _start(record, settings, beside=place.parent)
        lost = bool(record.started_from) and not earlier
        replaced = _current(registry, name) if name else None
        if replaced is not None:
            earlier[CURRENT] = registry.folder(replaced)
        return Candidate(
            name=_next(registry, name) if name else f"{place.parent.name}-{place.name}",
            folder=place,
            base=record.base,
            revision=revision_in(record.base_digest, record.base),
            earlier=earlier,
            dataset=Path(record.dataset),
            current=Measured.of_metrics(replaced.metrics) if replaced else None,
            parity=_parity(place),
            lost=lost,
        )
    version = registry.find(model)
    replaced = _current(registry, version.name)
    if replaced is not None and replaced.version == version.version:
        replaced = None
    folder = registry.folder(version)
    record = read_provenance(folder)
    earlier = _start(record, settings) if record else {}
    lost = REFERENCE in version.lineage.trained[:-1] and not earlier
    if replaced is not None:
        earlier[CURRENT] = registry.folder(replaced)
    return Candidate(
        name=version.reference,
        folder=folder,
        base=version.lineage.base,
        revision=revision_in(version.lineage.base_digest, version.lineage.base),
        earlier=earlier,
        dataset=Path(version.lineage.dataset),
        current=Measured.of_metrics(replaced.metrics) if replaced else None,
        parity=_parity(folder),
        lost=lost,
    )


def _start(record: Provenance, settings: Settings, *, beside: Path | None = None) -> dict[str, Path]:
    """The SFT run that this one began with, told by its adapter: ``beside`` it, or among the runs of ``TWIN_HOME``."""
    if record.started_from is None:
        return {}
    runs = [beside, *sorted(bootstrap.training_folder(settings).glob("*/"))]
    for folder in (run / REFERENCE for run in runs if run is not None):
        if read_provenance(folder) is not None and folder_digest(folder / ADAPTER) == record.started_from:
            return {REFERENCE: folder}
    return {}


def _current(registry: Registry, name: str) -> ModelVersion | None:
    return next((each for each in registry.versions(name) if each.stage is ModelStage.CURRENT), None)


def _next(registry: Registry, name: str) -> str:
    """The reference of the version that is registered next."""
    return f"{name}@{max((each.version for each in registry.versions(name)), default=0) + 1}"


def _parity(folder: Path) -> float | None:
    """The greatest difference that the export found; ``None`` where nothing was exported."""
    if not (folder / PARITY).is_file():
        return None
    return max((each.largest for each in read_parity(folder).comparisons), default=None)


async def _judged(candidate: Candidate, held_out: HeldOut, settings: Settings, config: EvaluationConfig) -> Evaluated:
    manners = ChatConfig(concurrency=config.twin.concurrency, timeout=600)
    scorers = {BASE: partial(bootstrap.open_scorer, candidate.base, revision=candidate.revision)}
    for name, folder in {**candidate.earlier, "twin": candidate.folder}.items():
        scorers[name] = partial(bootstrap.open_scorer, str(folder))
    blind = bootstrap.open_blind_pairs(settings)
    model = bootstrap.open_local_model(candidate.folder, manners, name=candidate.name)
    judging = bootstrap.open_chat_model(settings, ChatConfig()) if bootstrap.plans(settings) else None
    try:
        with bootstrap.open_warehouse(settings) as warehouse, bar("held-out instructions") as progress:
            found, answered = await evaluate_model(
                candidate.name,
                held_out,
                model=model,
                scorers=scorers,
                judging=judging,
                journal=warehouse,
                choices=blind.choices(),
                config=config.twin,
                evaluation=config,
                progress=progress,
            )
    finally:
        await model.close()
        if judging is not None:
            await judging.close()
    pairs = blind_pairs(
        answered, model=candidate.name, author=held_out.author, limit=config.twin.blind_pairs, evaluation=config
    )
    blind.replace(candidate.name, pairs)
    return found
