"""Which models write rejected answers follows from configuration and settings; one that is lacking is named before a call."""

import asyncio

import pytest

from llm_engineering import bootstrap
from llm_engineering.domain.dataset_config import PreferenceConfig
from llm_engineering.domain.errors import UsageError
from llm_engineering.domain.samples import PairSource
from llm_engineering.settings import load_settings

BASE, TWIN, OTHER, JUDGE = PairSource.BASE, PairSource.TWIN, PairSource.OTHER, PairSource.JUDGE


def opened(config: PreferenceConfig, model: str) -> tuple[list[tuple[PairSource, str, bool]], str | None, int]:
    """Rivals by source, model and prompt; the judge; how many models were opened."""

    async def run() -> tuple[list[tuple[PairSource, str, bool]], str | None, int]:
        settings = load_settings(llm_model=model, llm_base_url="http://127.0.0.1:9/v1")
        async with bootstrap.open_rivals(settings, config) as (rivals, judge):
            models = {id(rival.model) for rival in rivals} | ({id(judge)} if judge else set())
            return [(r.source, r.model.name, r.weaker) for r in rivals], judge.name if judge else None, len(models)

    return asyncio.run(run())


def test_each_source_has_its_named_model_and_the_others_the_one_of_the_settings():
    config = PreferenceConfig(sources=(TWIN, BASE, OTHER, JUDGE), models={BASE: "base", JUDGE: "big"})
    rivals, judge, models = opened(config, "twin")
    assert rivals == [(BASE, "base", False), (TWIN, "twin", False), (OTHER, "twin", True)]
    assert (judge, models) == ("big", 3)


def test_a_judge_alone_compares_the_twin_with_a_weaker_prompt():
    rivals, judge, models = opened(PreferenceConfig(sources=(JUDGE,)), "twin")
    assert rivals == [(TWIN, "twin", False), (OTHER, "twin", True)]
    assert (judge, models) == ("twin", 1)


def test_another_model_may_be_asked_in_the_same_words():
    config = PreferenceConfig(sources=(OTHER,), models={OTHER: "another"}, weaker_prompt=False)
    assert opened(config, "twin")[0] == [(OTHER, "another", False)]


def test_a_source_without_a_model_is_said_to_lack_one():
    config = PreferenceConfig(sources=(BASE, TWIN), models={BASE: "base"})
    with pytest.raises(UsageError, match=r"twin: LLM_MODEL is offline.*preference\.models"):
        opened(config, "offline")
