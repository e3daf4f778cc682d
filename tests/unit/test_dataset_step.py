"""What the report of a build says of money: the line that it reached, and what was not asked for it."""

from pathlib import Path

from llm_engineering import bootstrap
from llm_engineering.domain.dataset_config import DatasetConfig, PreferenceConfig, TeacherConfig
from llm_engineering.domain.samples import PairSource
from llm_engineering.settings import Settings
from steps.dataset import built
from tests.doubles.writing import ANN, SMALL, article, draft


def test_pairs_that_the_budget_forbids_are_told_in_the_report(tmp_path: Path):
    settings = Settings(
        _env_file=None, twin_home=tmp_path / "home", llm_model="some", llm_base_url="http://127.0.0.1:9/v1"
    )
    bootstrap.prepare_home(settings)
    nothing = TeacherConfig(prompt_price=1, completion_price=1, budget=0)
    config = DatasetConfig(passages=SMALL, preference=PreferenceConfig(sources=(PairSource.OTHER,), calls=nothing))
    with bootstrap.open_warehouse(settings) as warehouse:
        warehouse.save_author(ANN)
        warehouse.record([draft(f"d{n}", article(f"alpha{n}")) for n in range(4)])
        report = built(config, settings, warehouse)
    assert report.stopped == {"pairs": "budget"}
    assert (report.spent_on_pairs["calls"], report.refusals["budget"]) == (0, sum(report.samples.values()))
    assert report.spent == {} and report.chosen_longer is None
