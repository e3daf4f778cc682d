"""The official client of the OpenAI API talks to the twin over a real connection."""

import hashlib

import openai
import pytest

from llm_engineering.domain.config import ServiceConfig
from llm_engineering.domain.errors import ModelUnavailable
from llm_engineering.serving.app import create_app
from tests.doubles.twin_service import DOCUMENT, FakeTwin, failing, served

KEY = "a-key"
MESSAGES = [{"role": "user", "content": "What is a log?"}]


@pytest.fixture(scope="module")
def url():
    hashes = [hashlib.sha256(KEY.encode()).hexdigest()]
    with served(create_app(FakeTwin().service(), config=ServiceConfig(), key_hashes=hashes)) as (url, _):
        yield f"{url}/v1"


@pytest.fixture
def client(url):
    with openai.OpenAI(base_url=url, api_key=KEY, max_retries=0) as opened:
        yield opened


def test_it_lists_the_twin(client):
    assert [model.id for model in client.models.list()] == ["fake"]


def test_it_finds_the_twin_by_name_and_no_other_model(client):
    assert client.models.retrieve("fake").id == "fake"
    with pytest.raises(openai.NotFoundError) as unknown:
        client.models.retrieve("gpt/other")
    assert "no such model" in unknown.value.body["message"]


def test_it_reads_a_completion_with_usage_and_citations(client):
    reply = client.chat.completions.create(model="fake", messages=MESSAGES, max_tokens=50, user="me")
    assert reply.choices[0].message.content.startswith("A log is a promise [1].")
    assert (reply.choices[0].finish_reason, reply.usage.total_tokens) == ("stop", 35)
    assert reply.citations[0]["document_id"] == DOCUMENT


def test_it_reads_a_stream_with_usage_and_citations(client):
    stream = client.chat.completions.create(
        model="fake", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said == "A log is a promise [1].\n\n[1] On logs: https://example.org/log"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].usage.total_tokens == 35
    assert next(chunk.citations for chunk in chunks if hasattr(chunk, "citations"))[0]["marker"] == 1


def test_it_knows_a_wrong_key_when_it_has_one(url):
    with (
        openai.OpenAI(base_url=url, api_key="wrong", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.models.list()


def test_it_sees_a_model_that_is_down_as_a_server_error():
    twin = failing(ModelUnavailable("down", retry_after=1))
    with (
        served(create_app(twin.service(), config=ServiceConfig())) as (url, _),
        openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client,
        pytest.raises(openai.InternalServerError),
    ):
        client.chat.completions.create(model="fake", messages=MESSAGES)


def test_it_sees_a_stream_that_fails_half_way():
    twin = FakeTwin(error=ModelUnavailable("down"), fails_after=1)
    with (
        served(create_app(twin.service(), config=ServiceConfig())) as (url, _),
        openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client,
        pytest.raises(openai.APIError, match="chat model"),
    ):
        list(client.chat.completions.create(model="fake", messages=MESSAGES, stream=True))
