"""From the warehouse to training data: a folder of the dataset's version, and the same as one artifact."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

from pydantic import Field
from zenml import log_metadata, step

from llm_engineering import bootstrap
from llm_engineering.dataset import store
from llm_engineering.dataset.audit import Audit
from llm_engineering.dataset.bias import Bias
from llm_engineering.dataset.budget import Cost
from llm_engineering.dataset.build import Build, MakePairs, Teach, build, draw, write_instructions
from llm_engineering.dataset.estimate import Estimate
from llm_engineering.dataset.instruct import RULES
from llm_engineering.dataset.mixture import taken_over
from llm_engineering.dataset.teach import Lesson, Taught, estimate, lessons_for, teach
from llm_engineering.domain.config import ChatConfig
from llm_engineering.domain.dataset_config import DatasetConfig
from llm_engineering.domain.entities import Frozen, TombstoneReason
from llm_engineering.domain.errors import UsageError
from llm_engineering.domain.ports import Warehouse
from llm_engineering.domain.samples import AuthorPassage, Refusal, Sample, Split
from llm_engineering.settings import Settings, load_settings
from steps import dataset_artifacts
from steps.preferences import PAIRS, estimated_pairs, pair_maker
from steps.progress import Bar, bar

EXAMPLES = 5
TEACHER = "teacher"


class DatasetReport(Frozen):
    """What a build made, or with ``dry_run`` would make."""

    name: str
    version: str = ""
    folder: str = ""
    written: bool = False
    """False where this version was there already."""
    dry_run: bool = False
    documents: int = 0
    passages: int = 0
    samples: dict[str, int] = Field(default_factory=dict)
    pairs: dict[str, int] = Field(default_factory=dict)
    chosen_longer: float | None = None
    """Share of pairs whose chosen answer is the longer one."""
    formats: dict[str, tuple[float, float]] = Field(default_factory=dict)
    """By kind of markup the share of chosen and of rejected answers that have it."""
    bias_before: Bias | None = None
    """The same of the models' answers before formats and lengths were matched."""
    styles: dict[str, int] = Field(default_factory=dict)
    refusals: dict[str, int] = Field(default_factory=dict)
    masked: dict[str, int] = Field(default_factory=dict)
    audit: Audit | None = None
    estimate: Estimate | None = None
    """Of a dry run with a teacher: prompts, tokens and money before the first call."""
    spent: dict[str, float] = Field(default_factory=dict)
    """What the teacher cost."""
    spent_on_pairs: dict[str, float] = Field(default_factory=dict)
    """What rivals and judge of the preference pairs cost."""
    stopped: dict[str, str] = Field(default_factory=dict)
    """Why the teacher or the models of the pairs were not asked to the end, such as ``budget``."""
    examples: tuple[str, ...] = ()
    """Some instructions, of a dry run."""
    dropped: tuple[str, ...] = ()
    """Versions, of this or another dataset, that held a withdrawn document: ``NAME VERSION``."""
    pushed: str = ""
    seconds: float = 0.0


class DatasetArtifact(Frozen):
    """Which artifact holds the current version."""

    artifact: str = ""
    written: bool = False


@step(enable_cache=False)
def build_dataset(config: DatasetConfig, dry_run: bool = False) -> Annotated[DatasetReport, "dataset_report"]:
    """Build, audit and write the dataset; a dry run says what it would be and what a teacher would cost."""
    settings = load_settings()
    bootstrap.prepare_home(settings)
    started = time.perf_counter()
    with bootstrap.open_warehouse(settings) as warehouse:
        dropped = [] if dry_run else forget(settings, warehouse)  # they go even if nothing can be built
        report = _dry(config, settings, warehouse) if dry_run else built(config, settings, warehouse)
    seconds = round(time.perf_counter() - started, 3)
    report = report.model_copy(update={"dropped": tuple(dropped), "seconds": seconds})
    facts = report.model_dump(
        mode="json", exclude={"examples": True, "estimate": {"examples"}}, exclude_none=True
    )  # metadata cannot be erased: it quotes nothing
    log_metadata(metadata=facts, infer_artifact=True)
    return report


def forget(settings: Settings, warehouse: Warehouse) -> list[str]:
    """Remove whatever holds text of withdrawn documents: versions of every dataset, which are returned, and their artifacts."""
    dropped = store.drop(_root(settings), _withdrawn(warehouse))
    dataset_artifacts.erase_dropped(_root(settings))
    return dropped


@step(enable_cache=False)
def store_dataset(config: DatasetConfig, dry_run: bool = False) -> Annotated[DatasetArtifact, "dataset_artifact"]:
    """Keep the current version as one versioned artifact. Once a document is withdrawn, versions that may hold it go."""
    settings = load_settings()
    card = None if dry_run else store.current(_root(settings), config.name)
    if card is None:
        return DatasetArtifact()
    with bootstrap.open_warehouse(settings) as warehouse:
        withdrawn = warehouse.status().tombstones.get("withdrawn", 0)
    artifact, written = dataset_artifacts.keep(card, _root(settings), withdrawn=withdrawn)
    return DatasetArtifact(artifact=artifact, written=written)


def built(
    config: DatasetConfig,
    settings: Settings,
    warehouse: Warehouse,
    *,
    make_pairs: MakePairs | None = None,
    sides_of: str | None = None,
) -> DatasetReport:
    """Build and write the dataset. ``sides_of``: name of another one whose documents' sides it keeps."""
    root = _root(settings)
    previous = store.sides(root, sides_of or config.name, config.split)
    costs: dict[str, Cost] = {}
    with ExitStack() as open_until_done:
        progress = open_until_done.enter_context(bar("documents"))
        teacher = _teacher(config, settings, warehouse, costs) if config.teacher.enabled else None
        embed = bootstrap.open_embedder(settings, config.embedding).embed_passages if teacher else None
        made: Build = build(
            warehouse,
            config,
            read=bootstrap.pieces_for(config.clean),
            teach=teacher,
            make_pairs=make_pairs or pair_maker(config.preference, settings, warehouse, costs),
            writer=settings.llm_model if teacher else RULES,
            embed=embed,
            previous=previous,
            progress=progress,
        )
    card = made.dataset.card
    written = store.write(made.dataset, root)
    folder = root / card.name / card.version
    return DatasetReport(
        name=card.name,
        version=card.version,
        folder=str(folder),
        written=written,
        documents=len(card.documents),
        passages=card.passages,
        samples=card.samples,
        pairs=card.pairs,
        styles=card.styles,
        refusals=card.refusals,
        masked=card.masked,
        audit=card.audit,
        chosen_longer=card.chosen_longer,
        formats=card.formats,
        bias_before=card.bias_before,
        spent=_spent(costs.get(TEACHER)),
        spent_on_pairs=_spent(costs.get(PAIRS)),
        stopped={who: cost.stopped for who, cost in costs.items() if cost.stopped},
        pushed=bootstrap.push_dataset(settings, folder, config.hub_repository) if config.hub_repository else "",
    )


def _spent(cost: Cost | None) -> dict[str, float]:
    return cost.model_dump(exclude={"stopped"}) if cost is not None else {}


def _withdrawn(warehouse: Warehouse) -> list[str]:
    states = warehouse.states(include_deleted=True)
    return [
        state.document.id
        for state in states
        if state.tombstone is not None and state.tombstone.reason is TombstoneReason.WITHDRAWN
    ]


def _dry(config: DatasetConfig, settings: Settings, warehouse: Warehouse) -> DatasetReport:
    with bar("documents") as progress:
        drawn = draw(warehouse, config, read=bootstrap.pieces_for(config.clean), progress=progress)
    samples, refusals = write_instructions(drawn, config)
    asked = None
    if config.teacher.enabled:
        lessons = lessons_for(drawn.passages, samples, config.instruct, sides=drawn.sides.of)
        asked = asyncio.run(_estimated(lessons, config, settings, warehouse))
    if config.preference.sources:
        asked = (asked or Estimate()) + estimated_pairs(samples, config.preference, settings, warehouse)
    reasons: dict[str, int] = {}
    for refusal in [*drawn.refusals, *refusals]:
        reasons[refusal.reason] = reasons.get(refusal.reason, 0) + 1
    step_between = max(1, len(samples) // EXAMPLES)
    return DatasetReport(
        name=config.name,
        dry_run=True,
        documents=len(drawn.states),
        passages=drawn.candidates,
        samples={"before the gates": len(samples)},
        refusals=reasons,
        estimate=asked,
        examples=tuple(sample.instruction for sample in samples[::step_between][:EXAMPLES]),
    )


def _teacher(config: DatasetConfig, settings: Settings, warehouse: Warehouse, costs: dict[str, Cost]) -> Teach:
    """The teacher at ``LLM_MODEL``, as the build calls it; what it cost is put into ``costs``."""
    _require_teacher(settings)

    def teaching(
        passages: Sequence[AuthorPassage], by_rules: Sequence[Sample], sides: Mapping[str, Split]
    ) -> tuple[list[Sample], list[Refusal]]:
        lessons = lessons_for(passages, by_rules, config.instruct, sides=sides)
        with bar("teacher") as progress:
            taught = asyncio.run(_taught(lessons, config, settings, warehouse, progress))
        costs[TEACHER] = taught.cost
        return taken_over(by_rules, taught.samples), list(taught.refusals)

    return teaching


async def _taught(
    lessons: Sequence[Lesson], config: DatasetConfig, settings: Settings, warehouse: Warehouse, progress: Bar
) -> Taught:
    model = bootstrap.open_chat_model(settings, _manners(config))
    try:
        return await teach(lessons, model=model, warehouse=warehouse, config=config.teacher, progress=progress)
    finally:
        await model.close()


async def _estimated(
    lessons: Sequence[Lesson], config: DatasetConfig, settings: Settings, warehouse: Warehouse
) -> Estimate:
    _require_teacher(settings)
    model = bootstrap.open_chat_model(settings, _manners(config))
    try:
        return estimate(lessons, model=model, warehouse=warehouse, config=config.teacher)
    finally:
        await model.close()


def _manners(config: DatasetConfig) -> ChatConfig:
    return ChatConfig(timeout=config.teacher.timeout, concurrency=config.teacher.concurrency)


def _require_teacher(settings: Settings) -> None:
    if settings.llm_model == bootstrap.OFFLINE:
        raise UsageError(
            "teacher.enabled is true, and LLM_MODEL is offline: there is no model that could teach",
            hint="Set LLM_BASE_URL and LLM_MODEL, or teacher.enabled to false.",
        )


def _root(settings: Settings) -> Path:
    return bootstrap.datasets_folder(settings)
