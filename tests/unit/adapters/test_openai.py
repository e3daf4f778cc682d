"""How the client of chat endpoints asks, tries again, waits and leaves."""

import asyncio
from contextlib import aclosing

import pytest

from llm_engineering.adapters.openai import OpenAIChatModel
from llm_engineering.domain.answers import Reply
from llm_engineering.domain.config import ChatConfig, Sampling
from llm_engineering.domain.errors import ModelUnavailable
from tests.doubles.chat_server import ChatServer, Turn, fails, says
from tests.unit.adapters.openai_calls import KEY, PLAIN, PROMPT, complete, failure, stream, use

# What is asked


def test_sampling_arrives_as_it_was_chosen_and_nothing_else() -> None:
    sampling = Sampling(temperature=0.5, top_p=0.9, top_k=7, repetition_penalty=1.1, max_tokens=9, stop=("#",), seed=3)
    with ChatServer() as server:
        use(server, lambda model: model.complete(PROMPT, sampling=sampling))
    assert server.requests[0].body == {
        "model": "tiny",
        "messages": [{"role": "user", "content": "What is a log?"}],
        **{"temperature": 0.5, "top_p": 0.9, "top_k": 7, "repetition_penalty": 1.1},
        **{"max_tokens": 9, "stop": ["#"], "seed": 3},
    }


def test_the_key_is_sent_to_the_endpoint() -> None:
    with ChatServer(api_key=KEY) as server:
        assert use(server, complete, key=KEY).text


def test_a_key_of_the_vendor_in_the_environment_goes_to_no_other_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_ORG_ID", "org-secret")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-secret")
    with ChatServer() as server:
        use(server, complete)
        use(server, lambda model: model.check())
    for request in (*server.requests, *server.checks):
        assert "authorization" not in request.headers
        assert not {KEY, "org-secret", "proj-secret"} & set(request.headers.values())


def test_no_more_requests_are_under_way_than_allowed() -> None:
    async def ten(model: OpenAIChatModel) -> list[Reply]:
        return await asyncio.gather(*(complete(model) for _ in range(10)))

    with ChatServer(delay=0.25) as server:
        assert len(use(server, ten, config=ChatConfig(concurrency=3))) == 10
    assert server.most_at_once == 3


# Trying again


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 529])
def test_a_busy_or_failing_server_is_asked_again(status: int) -> None:
    with ChatServer(fails(status), fails(status), says("At last.")) as server:
        assert use(server, complete).text == "At last."
    assert len(server.requests) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 501])
def test_a_refusal_is_not_asked_again(status: int) -> None:
    with ChatServer(fails(status)) as server, pytest.raises(ModelUnavailable, match=str(status)):
        use(server, complete)
    assert len(server.requests) == 1


def test_pauses_grow_and_never_undercut_what_the_server_asks_for() -> None:
    pauses: list[float] = []
    with ChatServer(fails(500), fails(500), fails(429, retry_after=7), says("ok")) as server:
        use(server, complete, pauses=pauses)
    assert 0.25 <= pauses[0] <= 0.5 <= pauses[1] <= 1.0
    assert pauses[2] == 7


def test_a_date_as_retry_after_is_understood() -> None:
    late = Turn(status=503, body=b"{}", headers={"Retry-After": "Wed, 21 Oct 2099 07:28:00 GMT"})
    error = failure(late)
    assert isinstance(error, ModelUnavailable)
    assert error.retry_after is not None
    assert error.retry_after > 1e6


def test_out_of_retries_says_when_to_come_back() -> None:
    error = failure(fails(429, retry_after=2), config=ChatConfig(retries=1))
    assert isinstance(error, ModelUnavailable)
    assert error.retry_after == 2


def test_nobody_waits_longer_for_a_server_than_for_its_reply() -> None:
    with ChatServer(fails(429, retry_after=3600)) as server, pytest.raises(ModelUnavailable) as caught:
        use(server, complete)
    assert len(server.requests) == 1
    assert caught.value.retry_after == 3600


def test_a_used_up_quota_is_not_asked_again() -> None:
    with ChatServer(fails(429, code="insufficient_quota")) as server, pytest.raises(ModelUnavailable, match="quota"):
        use(server, complete)
    assert len(server.requests) == 1


def test_a_stream_is_opened_again_when_the_server_is_busy() -> None:
    with ChatServer(fails(503), says("At last.")) as server:
        assert use(server, stream)[:-1] == ["At", " last."]


def test_a_reply_cut_in_the_middle_is_asked_for_again() -> None:
    with ChatServer(Turn(cut_after=40), says("Whole.")) as server:
        assert use(server, complete).text == "Whole."


def test_no_server_at_all_is_said_after_the_last_try() -> None:
    with ChatServer() as server:
        url = server.url
    pauses: list[float] = []
    with pytest.raises(ModelUnavailable, match=f"{url} cannot be reached.*LLM_BASE_URL"):
        use(url, complete, pauses=pauses, config=ChatConfig(retries=2))
    assert len(pauses) == 2


# Time


def test_a_reply_that_takes_too_long_is_given_up_at_once() -> None:
    with ChatServer(Turn(delay=60)) as server:
        with pytest.raises(ModelUnavailable, match=r"did not answer for 2(\.0)? s") as late:
            use(server, complete, config=ChatConfig(timeout=2))
        server.wait_for(lambda server: server.requests and server.requests[0].left)
    assert len(server.requests) == 1
    assert late.value.reason == "timed-out"


def test_a_stream_that_falls_silent_is_given_up_although_the_connection_is_kept_alive() -> None:
    error = failure(Turn(pause=60, keep_alive=True), ask=stream, config=ChatConfig(timeout=2))
    assert "fell silent after 0 characters" in str(error)


def test_a_stream_may_take_longer_than_the_timeout_as_long_as_pieces_come() -> None:
    with ChatServer(says("a b c d e f", pause=0.4)) as server:
        *_, reply = use(server, stream, config=ChatConfig(timeout=2))
    assert isinstance(reply, Reply)
    assert reply.text == "a b c d e f"


def test_cancelling_a_reply_closes_its_connection() -> None:
    async def leave(model: OpenAIChatModel) -> None:
        asking = asyncio.create_task(complete(model))
        await asyncio.to_thread(server.wait_for, lambda server: server.under_way == 1)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await asyncio.to_thread(server.wait_for, lambda server: server.requests[0].left)

    with ChatServer(Turn(delay=60)) as server:
        use(server, leave)


def test_closing_a_stream_closes_its_connection_and_frees_its_turn() -> None:
    async def leave(model: OpenAIChatModel) -> Reply:
        async with aclosing(model.stream(PROMPT, sampling=PLAIN)) as pieces:  # type: ignore[type-var]
            assert await anext(pieces) == "I"
        await asyncio.to_thread(server.wait_for, lambda server: server.requests[0].left)
        return await complete(model)

    with ChatServer(Turn(pause=0.05, text="I " * 500), says("Next.")) as server:
        assert use(server, leave, config=ChatConfig(concurrency=1)).text == "Next."


def test_cancelling_a_wait_for_the_next_piece_closes_the_connection() -> None:
    async def leave(model: OpenAIChatModel) -> None:
        reading = asyncio.create_task(stream(model))
        await asyncio.to_thread(server.wait_for, lambda server: server.under_way == 1)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await asyncio.to_thread(server.wait_for, lambda server: server.requests[0].left)

    with ChatServer(Turn(pause=60)) as server:
        use(server, leave)


# Checks


def test_a_server_that_fails_only_at_its_list_of_models_is_up() -> None:
    with ChatServer(models_status=500) as server:
        use(server, lambda model: model.check())
    assert len(server.checks) == 1


def test_a_refused_key_is_down() -> None:
    with ChatServer(api_key=KEY) as server, pytest.raises(ModelUnavailable, match="wants an API key"):
        use(server, lambda model: model.check())


def test_a_server_that_is_not_there_is_down_after_one_try() -> None:
    with ChatServer() as server:
        url = server.url
    pauses: list[float] = []
    with pytest.raises(ModelUnavailable, match="cannot be reached"):
        use(url, lambda model: model.check(), pauses=pauses)
    assert pauses == []
