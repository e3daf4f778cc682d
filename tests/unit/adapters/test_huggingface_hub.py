"""Pushing to the Hub: nothing without a token, and every failure says what to do."""

import pytest

from llm_engineering.adapters.huggingface_hub import push_folder
from llm_engineering.domain.errors import DatasetError, UsageError


@pytest.mark.parametrize("token", [None, ""])
def test_without_a_token_nothing_is_contacted_and_the_setting_is_named(tmp_path, token):
    with pytest.raises(UsageError, match="HF_TOKEN"):
        push_folder(tmp_path, "someone/something", token=token)


def test_a_hub_that_cannot_be_reached_leaves_the_dataset_and_says_where_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DatasetError, match=str(tmp_path)):
        push_folder(tmp_path, "someone/something", token="hf_" + "x" * 8)
