"""Preference pairs in a build: the models and the judge opened for one step, and what people said of answers."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from llm_engineering import bootstrap
from llm_engineering.dataset.budget import Cost
from llm_engineering.dataset.build import MadePairs, MakePairs
from llm_engineering.dataset.estimate import Estimate
from llm_engineering.dataset.preferences import Preferred, Rival, estimate_pairs, prefer
from llm_engineering.dataset.votes import from_feedback
from llm_engineering.domain.config import ChatConfig
from llm_engineering.domain.dataset_config import PreferenceConfig
from llm_engineering.domain.ports import Warehouse
from llm_engineering.domain.samples import PairSource, Sample
from llm_engineering.settings import Settings
from steps.progress import bar

PAIRS = "pairs"
"""Who the cost of the pairs is named after."""


def pair_maker(
    config: PreferenceConfig, settings: Settings, warehouse: Warehouse, costs: dict[str, Cost]
) -> MakePairs | None:
    """What makes the pairs of the configured sources; ``None`` where there is none. What it cost is put into ``costs``."""
    if not config.sources:
        return None

    def make(samples: Sequence[Sample]) -> MadePairs:
        judged = from_feedback(warehouse.feedback() if PairSource.FEEDBACK in config.sources else (), config)
        if not _needs_models(config):
            return MadePairs(judged.pairs, judged.refusals, judged.bias_before)
        made = asyncio.run(_preferred(samples, config, settings, warehouse))
        costs[PAIRS] = made.cost
        before = made.bias_before if made.pairs else judged.bias_before
        return MadePairs(judged.pairs + made.pairs, judged.refusals + made.refusals, before)

    return make


def pairs_against(folder: Path, config: PreferenceConfig, warehouse: Warehouse, *, name: str) -> MakePairs:
    """What sets the author's answers against those of the model in ``folder``, the twin as it is so far (on-policy).

    ``name`` says which weights: their answers are journalled under it, and asked for once.
    """
    config = config.model_copy(update={"sources": (PairSource.TWIN,)})

    def make(samples: Sequence[Sample]) -> MadePairs:
        made = asyncio.run(_against(folder, samples, config, warehouse, name))
        return MadePairs(made.pairs, made.refusals, made.bias_before)

    return make


def estimated_pairs(
    samples: Sequence[Sample], config: PreferenceConfig, settings: Settings, warehouse: Warehouse
) -> Estimate:
    """Prompts, tokens and money of the pairs of the configured sources, before the first call."""
    return asyncio.run(_estimated(samples, config, settings, warehouse)) if _needs_models(config) else Estimate()


def _needs_models(config: PreferenceConfig) -> bool:
    return any(source is not PairSource.FEEDBACK for source in config.sources)


_LOCAL_SECONDS = 600.0
"""Least time for a batch of the model in this process, which on a CPU is no endpoint."""


async def _against(
    folder: Path, samples: Sequence[Sample], config: PreferenceConfig, warehouse: Warehouse, name: str
) -> Preferred:
    manners = ChatConfig(timeout=max(config.calls.timeout, _LOCAL_SECONDS), concurrency=config.calls.concurrency)
    model = bootstrap.open_local_model(folder, manners, name=name)
    try:
        with bar("preference pairs") as progress:
            rivals = [Rival(PairSource.TWIN, model)]
            return await prefer(samples, rivals=rivals, warehouse=warehouse, config=config, progress=progress)
    finally:
        await model.close()


async def _preferred(
    samples: Sequence[Sample], config: PreferenceConfig, settings: Settings, warehouse: Warehouse
) -> Preferred:
    with bar("preference pairs") as progress:
        async with bootstrap.open_rivals(settings, config) as (rivals, judge):
            return await prefer(
                samples, rivals=rivals, judge=judge, warehouse=warehouse, config=config, progress=progress
            )


async def _estimated(
    samples: Sequence[Sample], config: PreferenceConfig, settings: Settings, warehouse: Warehouse
) -> Estimate:
    async with bootstrap.open_rivals(settings, config) as (rivals, judge):
        return estimate_pairs(samples, rivals=rivals, judge=judge, warehouse=warehouse, config=config)
