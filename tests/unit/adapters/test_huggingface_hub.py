"""Pushing to the Hub: nothing without a token, and every failure says what to do."""

import json

import pytest

from llm_engineering.adapters.huggingface_hub import push_folder
from llm_engineering.domain.errors import DatasetError, UsageError
from tests.doubles.web import Answer, LocalSite

TOKEN = "hf_" + "x" * 8


@pytest.mark.parametrize("token", [None, ""])
def test_without_a_token_nothing_is_contacted_and_the_setting_is_named(tmp_path, token):
    with pytest.raises(UsageError, match="HF_TOKEN"):
        push_folder(tmp_path, "someone/something", token=token)


@pytest.fixture
def hub(monkeypatch):
    """A Hub that makes any repository, empty; elsewhere nothing is asked."""
    routes = {
        "/api/repos/create": json_answer({"url": "http://127.0.0.1/datasets/someone/something"}),
        "/api/datasets/someone/something/tree/main?recursive=true&expand=false": json_answer([]),
    }
    with LocalSite(routes) as site:
        at(site.at(""), monkeypatch)
        yield site


def at(address, monkeypatch):
    """Take what is there for the Hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address.rstrip("/"))


def json_answer(content, status=200):
    return Answer(json.dumps(content), status=status, content_type="application/json")


def test_without_network_the_dataset_stays_and_the_error_says_where_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DatasetError, match=str(tmp_path)):
        push_folder(tmp_path, "someone/something", token=TOKEN)


def test_a_hub_that_cannot_be_reached_leaves_the_dataset_and_says_where_it_is(tmp_path, monkeypatch):
    with LocalSite({}) as site:
        at(site.at(""), monkeypatch)  # whose port is then closed
    with pytest.raises(DatasetError, match=rf"could not be pushed.*refused.*{tmp_path}"):
        push_folder(tmp_path, "someone/something", token=TOKEN)


def test_a_card_that_the_hub_refuses_is_an_error_with_its_words(tmp_path, hub):
    (tmp_path / "README.md").write_text("---\nlicense: mine\n---\n")
    wrong = {"errors": [{"message": '"license" must be one of [mit]'}], "warnings": []}
    hub.routes["/api/validate-yaml"] = json_answer(wrong, status=400)
    with pytest.raises(DatasetError, match=r'"license" must be one of \[mit\].*terms'):
        push_folder(tmp_path, "someone/something", token=TOKEN)


def test_a_name_that_no_repository_can_have_is_said(tmp_path, hub):
    with pytest.raises(UsageError, match="owner/name"):
        push_folder(tmp_path, "someone/some/thing", token=TOKEN)
