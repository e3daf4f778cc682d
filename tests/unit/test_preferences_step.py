"""Votes become pairs of a build, balanced, and what they were before is told."""

from contextlib import closing
from pathlib import Path

from llm_engineering.domain.answers import Feedback
from llm_engineering.domain.dataset_config import PreferenceConfig
from llm_engineering.domain.samples import PairSource
from llm_engineering.settings import Settings
from steps.preferences import pair_maker
from tests.doubles.writing import warehouse_at


def test_votes_with_longer_better_answers_are_balanced_and_the_bias_that_they_had_is_told(tmp_path: Path):
    votes = [
        Feedback(
            request_id=f"r{n}",
            vote="down",
            query=f"What about number {n}?",
            answer="I say little about it.",
            better_answer=f"I say rather more about it, {n}.",
        )
        for n in range(20)
    ]
    config = PreferenceConfig(sources=(PairSource.FEEDBACK,))
    with closing(warehouse_at(tmp_path)) as warehouse:
        for vote in votes:
            warehouse.save_feedback(vote)
        make = pair_maker(config, Settings(_env_file=None, twin_home=tmp_path), warehouse, {})
        assert make is not None
        made = make([])
    assert made.bias_before is not None
    assert (made.bias_before.pairs, made.bias_before.chosen_longer) == (20, 1.0)
    assert {refusal.reason for refusal in made.refusals} == {"length-balance"}
    assert len(made.pairs) + len(made.refusals) == 20
