"""What is left out for servers that refuse fields of a request, and what is remembered of it."""

import json
import logging

import pytest

from llm_engineering.adapters.openai import OpenAIChatModel
from llm_engineering.domain.answers import Message, Prompt, Reply
from llm_engineering.domain.config import Sampling
from llm_engineering.domain.errors import ModelUnavailable
from tests.doubles.chat_server import ChatServer, Turn, fails, says, sends
from tests.unit.adapters.openai_calls import PROMPT, stream, use

MANY = Sampling(temperature=0.5, top_k=7, repetition_penalty=1.1, stop=("#",), seed=3)


async def complete(model: OpenAIChatModel) -> Reply:
    return await model.complete(PROMPT, sampling=MANY)


async def twice(model: OpenAIChatModel) -> Reply:
    await complete(model)
    return await complete(model)


def test_unknown_fields_are_left_out_named_and_never_sent_again(caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.WARNING),
        ChatServer(Turn(refuses=frozenset({"top_k", "repetition_penalty"}))) as server,
    ):
        assert use(server, twice).lacked == ("repetition_penalty", "top_k")
    assert ["top_k" in request.body for request in server.requests] == [True, False, False]
    assert all(request.body["seed"] == 3 for request in server.requests)
    assert sum("top_k" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize("field", ["temperature", "stop", "seed", "top_k"])
def test_a_field_is_found_in_the_words_of_a_refusal(field: str) -> None:
    refusal = fails(400, f"Unsupported value: '{field}' is not supported with this model.")
    with ChatServer(refusal, says("ok")) as server:
        assert use(server, complete).lacked == (field,)
    assert server.requests[0].body.keys() - server.requests[1].body.keys() == {field}


def test_a_field_is_found_in_the_list_of_faults_that_validating_servers_send() -> None:
    fault = {
        "type": "extra_forbidden",
        "loc": ["body", "top_k"],
        "msg": "Extra inputs",
        "input": {"seed": 3, "stop": 1},
    }
    with ChatServer(sends(json.dumps({"detail": [fault]}).encode(), status=422), says("ok")) as server:
        assert use(server, complete).lacked == ("top_k",)


def test_a_refusal_without_a_reason_costs_what_only_some_servers_know() -> None:
    with ChatServer(sends(b"", status=400), says("ok")) as server:
        assert use(server, complete).lacked == ("repetition_penalty", "top_k")


def test_newer_models_get_the_limit_under_its_longer_name() -> None:
    said = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    with ChatServer(fails(400, said), says("ok")) as server:
        assert use(server, complete).lacked == ()
    assert "max_tokens" not in server.requests[1].body
    assert server.requests[1].body["max_completion_tokens"] == MANY.max_tokens


def test_ordinary_words_of_a_refusal_are_no_fields() -> None:
    with (
        ChatServer(fails(400, "Please stop: a seed of doubt.")) as server,
        pytest.raises(ModelUnavailable, match="doubt"),
    ):
        use(server, lambda model: model.complete(PROMPT, sampling=Sampling(stop=("#",), seed=3)))
    assert len(server.requests) == 1


def test_a_field_that_was_not_to_blame_is_not_given_up() -> None:
    async def fail_then_ask(model: OpenAIChatModel) -> Reply:
        with pytest.raises(ModelUnavailable, match="roles must alternate"):
            await complete(model)
        return await complete(model)

    refusal = fails(400, "Conversation roles must alternate")
    with ChatServer(refusal, refusal, says("ok")) as server:
        assert use(server, fail_then_ask).lacked == ()
    assert server.requests[2].body["top_k"] == 7


def test_a_server_that_refuses_everything_is_asked_a_bounded_number_of_times() -> None:
    every = "top_k repetition_penalty temperature 'stop' 'seed' max_tokens max_completion_tokens"
    with ChatServer(fails(422, every)) as server, pytest.raises(ModelUnavailable, match="refused the request"):
        use(server, complete)
    assert len(server.requests) == 3


def test_a_server_without_counts_streams_all_the_same() -> None:
    with ChatServer(Turn(refuses=frozenset({"stream_options"}))) as server:
        *_, reply = use(server, stream)
    assert isinstance(reply, Reply)
    assert (reply.prompt_tokens, reply.completion_tokens, reply.lacked) == (0, 0, ("usage",))


def test_a_reply_without_counts_names_them() -> None:
    with ChatServer(Turn(usage=False)) as server:
        assert "usage" in use(server, complete).lacked


def test_a_reply_names_only_what_it_had_asked_for() -> None:
    async def ask_plainly(model: OpenAIChatModel) -> Reply:
        await complete(model)
        plain = Prompt(messages=(Message(role="user", content="And now?"),), question="And now?")
        return await model.complete(plain, sampling=Sampling())

    with ChatServer(Turn(refuses=frozenset({"top_k"}))) as server:
        assert use(server, ask_plainly).lacked == ()
