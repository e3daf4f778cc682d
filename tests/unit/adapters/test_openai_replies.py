"""What the client of chat endpoints says about streams that break, replies of no use, and refusals."""

import logging
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from llm_engineering.adapters.openai import OpenAIChatModel
from llm_engineering.domain.answers import Reply
from llm_engineering.domain.config import ChatConfig, Sampling
from llm_engineering.domain.errors import ModelReplyInvalid, ModelUnavailable, PromptTooLong, UsageError
from tests.doubles.chat_server import ChatServer, Turn, fails, html, says, sends
from tests.unit.adapters.openai_calls import KEY, LONG, PROMPT, complete, failure, stream, use

# Cut and broken streams


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_dropped_stream_says_how_much_had_arrived(count: int) -> None:
    error = failure(says("aaa bb c dd", cut_after=count), ask=stream)
    assert f"cut its reply after {[0, 3, 6, 8][count]} characters" in str(error)


def test_a_stream_without_a_finish_is_cut_even_if_it_ends_politely() -> None:
    assert "cut its reply after 5 characters" in str(failure(says("a b c", finish_reason=None), ask=stream))


def test_a_stream_dropped_after_its_finish_is_whole() -> None:
    with ChatServer(says("a b", cut_after=3)) as server:
        *_, reply = use(server, stream)
    assert isinstance(reply, Reply)
    assert (reply.text, reply.lacked) == ("a b", ("usage",))


def test_a_stream_without_its_last_word_is_whole() -> None:
    with ChatServer(says("a b", done=False)) as server:
        *_, reply = use(server, stream)
    assert isinstance(reply, Reply)
    assert (reply.text, reply.lacked) == ("a b", ())


def test_an_error_inside_a_stream_is_told() -> None:
    event = b'data: {"error": {"message": "CUDA out of memory"}}\n\n'
    assert "CUDA out of memory" in str(failure(sends(event, content_type="text/event-stream"), ask=stream))


@pytest.mark.parametrize("event", [b"data: {oops\n\n", b"data: 5\n\n", b'data: {"choices": 5}\n\n', b"data: null\n\n"])
def test_a_broken_event_is_an_invalid_reply(event: bytes) -> None:
    error = failure(sends(event, content_type="text/event-stream"), ask=stream)
    assert isinstance(error, ModelReplyInvalid | ModelUnavailable)


def test_a_server_that_does_not_stream_gives_its_reply_in_one_piece() -> None:
    body = b'{"choices": [{"message": {"content": "All at once."}, "finish_reason": "stop"}]}'
    with ChatServer(sends(body)) as server:
        text, reply = use(server, stream)
    assert isinstance(reply, Reply)
    assert text == reply.text == "All at once."
    assert reply.lacked == ("stream", "usage")


# Replies of no use


@pytest.mark.parametrize("ask", [complete, stream])
def test_a_web_page_is_told_without_being_repeated(ask: Callable[[OpenAIChatModel], Coroutine[Any, Any, Any]]) -> None:
    error = failure(html(), ask=ask)
    assert isinstance(error, ModelReplyInvalid)
    assert "It works" not in str(error)
    assert "LLM_BASE_URL" in error.hint


def test_a_page_of_a_failing_proxy_is_not_repeated() -> None:
    error = failure(html(502))
    assert isinstance(error, ModelUnavailable)
    assert "It works" not in str(error)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'{"choices": []}', b'{"choices": null}', b'{"choices": 3}', b'{"choices": [{}]}', b"\xff"],
)  # fmt: skip
def test_anything_but_a_chat_reply_is_invalid(body: bytes) -> None:
    assert isinstance(failure(sends(body)), ModelReplyInvalid)


@pytest.mark.parametrize(
    ("message", "finish", "said"),
    [
        ('{"content": null}', "stop", "without any text"),
        ('{"content": "  "}', "stop", "without any text"),
        ('{"content": null, "tool_calls": [{"id": "1"}]}', "tool_calls", "calls a tool"),
        ('{"content": null, "refusal": "I will not."}', "stop", "declines to answer: I will not"),
        ('{"content": ""}', "length", "used up max_tokens"),
        ('{"content": ""}', "content_filter", "content filter"),
    ],
)
def test_a_reply_without_text_says_why(message: str, finish: str, said: str) -> None:
    body = f'{{"choices": [{{"message": {message}, "finish_reason": "{finish}"}}]}}'.encode()
    error = failure(sends(body))
    assert isinstance(error, ModelReplyInvalid)
    assert said in str(error)


def test_text_in_parts_is_joined() -> None:
    body = b'{"choices": [{"message": {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}}]}'
    with ChatServer(sends(body)) as server:
        assert use(server, complete).text == "ab"


def test_an_error_told_with_status_200_is_an_error() -> None:
    assert "out of credit" in str(failure(sends(b'{"error": {"message": "out of credit"}}')))


# Refusals


def test_a_wrong_model_name_is_told() -> None:
    error = failure(fails(404, "The model `tiny` does not exist"))
    assert "'tiny'" in str(error)
    assert "LLM_MODEL" in error.hint


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_and_an_absent_key_are_told_apart(status: int) -> None:
    assert "refuses the API key" in str(failure(fails(status), key=KEY))
    assert "wants an API key" in str(failure(fails(status)))


@pytest.mark.parametrize(
    "said",
    [
        "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens. Reduce max_tokens.",
        "the request exceeds the available context size. try increasing the context size",
    ],
)
def test_a_prompt_that_is_too_long_is_told_and_not_asked_again(said: str) -> None:
    sampling = Sampling(top_k=5)
    with ChatServer(fails(400, said)) as server, pytest.raises(PromptTooLong, match="too long for 'tiny'"):
        use(server, lambda model: model.complete(PROMPT, sampling=sampling))
    assert len(server.requests) == 1


@pytest.mark.parametrize("code", ["content_filter", "content_policy_violation"])
@pytest.mark.parametrize("status", [400, 403, 422])
@pytest.mark.parametrize("ask", [complete, stream])
def test_what_a_content_filter_refuses_is_that_questions_failure(
    ask: Callable[[OpenAIChatModel], Coroutine[Any, Any, Any]], status: int, code: str
) -> None:
    with (
        ChatServer(fails(status, "The prompt triggered a policy.", code=code)) as server,
        pytest.raises(ModelReplyInvalid, match="content filter refuses what 'tiny' is asked: The prompt triggered"),
    ):
        use(server, ask)
    assert len(server.requests) == 1, "no field is to blame"


def test_a_content_filter_is_known_by_the_type_of_the_error_too() -> None:
    body = b'{"error": {"message": "no", "type": "content_filter", "code": null}}'
    assert isinstance(failure(Turn(status=400, body=body)), ModelReplyInvalid)


def test_a_content_filter_in_the_midst_of_a_stream_is_that_questions_failure() -> None:
    event = b'data: {"error": {"message": "withheld", "code": "content_filter"}}\n\n'
    error = failure(sends(event, content_type="text/event-stream"), ask=stream)
    assert isinstance(error, ModelReplyInvalid)
    assert "after 0 characters" in str(error)


def test_a_failing_server_is_down_whatever_its_error_is_called() -> None:
    error = failure(fails(500, code="content_filter"), config=ChatConfig(retries=0))
    assert isinstance(error, ModelUnavailable)


def test_a_key_never_shows(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    error = failure(fails(401, f"Incorrect API key provided: {KEY}"), key=KEY)
    model = OpenAIChatModel("http://127.0.0.1:1/v1", "tiny", KEY, LONG)
    assert "***" in str(error)
    shown = [str(error), repr(error), repr(error.__cause__), repr(model), repr(vars(model)), caplog.text]
    assert not any(KEY in text for text in shown)


@pytest.mark.parametrize(
    ("url", "model", "key", "said"),
    [
        ("localhost:8000", "m", None, "LLM_BASE_URL"),
        ("ftp://host/v1", "m", None, "LLM_BASE_URL"),
        (f"http://user:{KEY}@host/v1", "m", None, "holds a login"),
        ("http://host/v1", " ", None, "No chat model is named"),
        ("http://host/v1", "m", f"{KEY}\nx", "LLM_API_KEY"),
        ("http://host/v1", "m", f"{KEY}é", "LLM_API_KEY"),
    ],
)
def test_bad_settings_are_told_before_anything_is_sent(url: str, model: str, key: str | None, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        OpenAIChatModel(url, model, key, LONG)
    assert KEY not in str(caught.value)
