"""The promises of the port ChatModel, kept by ``offline``, by a local model, and by the client of endpoints over two servers.

``TWIN_TEST_LLM_BASE_URL`` with ``TWIN_TEST_LLM_MODEL`` and ``TWIN_TEST_LLM_API_KEY`` runs the same against your endpoint.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from typing import TypeVar

import pytest
from pydantic import BaseModel

from llm_engineering.adapters.offline import OfflineModel
from llm_engineering.adapters.openai import OpenAIChatModel
from llm_engineering.adapters.traced_model import TracedModel
from llm_engineering.adapters.transformers import TransformersChatModel
from llm_engineering.domain.answers import Message, Passage, Prompt, Reply
from llm_engineering.domain.config import ChatConfig, Sampling
from llm_engineering.domain.entities import Kind
from llm_engineering.domain.errors import ModelReplyInvalid
from llm_engineering.domain.ports import ChatModel
from tests.doubles.chat_server import ChatServer, says
from tests.doubles.tiny_chat import CannotStart, make_tiny_model, tiny_chat_server

Result = TypeVar("Result")
Open = Callable[[], ChatModel]
SAMPLING = Sampling(max_tokens=16, temperature=0.7, top_k=20, repetition_penalty=1.1, seed=1)
TEXT = "Kafka keeps an ordered log of messages. Every consumer remembers how far it has read."
PASSAGE = Passage(
    marker=1, document_id="d", revision=1, title="Logs", url="https://example.org/logs", kind=Kind.ARTICLE, author="Ada",
    published_at=datetime(2026, 1, 1, tzinfo=UTC), text=TEXT, start=0, end=len(TEXT), score=1.0,
)  # fmt: skip
QUESTION = "What does Kafka keep?"
PROMPT = Prompt(
    messages=(
        Message(role="system", content=f"Answer from this passage.\n[1] {TEXT}"),
        Message(role="user", content=QUESTION),
    ),
    question=QUESTION,
    passages=(PASSAGE,),
)


class Verdict(BaseModel):
    standalone: str
    sure: bool


@pytest.fixture(scope="module")
def double() -> Iterator[Open]:
    def reply(asked: dict[str, object]) -> str:
        return '{"standalone": "yes", "sure": true}' if "response_format" in asked else "An ordered log [1]."

    with ChatServer(says(reply)) as server:
        yield lambda: OpenAIChatModel(server.url, "double", None, ChatConfig())


@pytest.fixture(scope="module")
def traced(double: Open) -> Open:
    """What the composition root hands out."""
    return lambda: TracedModel(double(), provider="openai")


@pytest.fixture(scope="module")
def offline() -> Open:
    return OfflineModel


@pytest.fixture(scope="module")
def transformers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    try:
        with tiny_chat_server(tmp_path_factory.mktemp("chat")) as (url, model):
            yield lambda: OpenAIChatModel(url, model, None, ChatConfig(timeout=120))
    except CannotStart as reason:
        pytest.skip(f"transformers serve cannot start here: {reason}")


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Open:
    """A model of random weights in this process."""
    folder = tmp_path_factory.mktemp("local") / "tiny"
    make_tiny_model(folder)
    return lambda: TransformersChatModel(folder, ChatConfig())


@pytest.fixture(scope="module")
def endpoint() -> Open:
    url = os.environ.get("TWIN_TEST_LLM_BASE_URL")
    if not url:
        pytest.skip("no endpoint of yours to test: TWIN_TEST_LLM_BASE_URL is not set")
    model, key = os.environ.get("TWIN_TEST_LLM_MODEL", ""), os.environ.get("TWIN_TEST_LLM_API_KEY")
    return lambda: OpenAIChatModel(url, model, key, ChatConfig(timeout=120))


@pytest.fixture(
    params=["double", "traced", "offline", "local", pytest.param("transformers", marks=pytest.mark.slow), "endpoint"]
)
def opened(request: pytest.FixtureRequest) -> Open:
    return request.getfixturevalue(request.param)


@asynccontextmanager
async def closing(model: ChatModel) -> AsyncIterator[ChatModel]:
    try:
        yield model
    finally:
        await model.close()


def use(opened: Open, work: Callable[[ChatModel], Coroutine[None, None, Result]]) -> Result:
    async def run() -> Result:
        async with closing(opened()) as model:
            return await work(model)

    return asyncio.run(run())


async def everything(model: ChatModel) -> list[str | Reply]:
    return [piece async for piece in model.stream(PROMPT, sampling=SAMPLING)]


def test_a_reply_has_text_and_says_who_wrote_it(opened: Open) -> None:
    reply = use(opened, lambda model: model.complete(PROMPT, sampling=SAMPLING))
    assert reply.text.strip()
    assert reply.model


def test_the_pieces_of_a_stream_are_the_text_of_its_last_item(opened: Open) -> None:
    *pieces, reply = use(opened, everything)
    assert isinstance(reply, Reply)
    assert all(isinstance(piece, str) and piece for piece in pieces)
    assert "".join(str(piece) for piece in pieces) == reply.text != ""


def test_counts_are_the_servers_own_or_named_as_lacking(opened: Open) -> None:
    reply = use(opened, lambda model: model.complete(PROMPT, sampling=SAMPLING))
    *_, streamed = use(opened, everything)
    for each in (reply, streamed):
        assert isinstance(each, Reply)
        assert (each.prompt_tokens > 0) == (each.completion_tokens > 0)
        assert each.prompt_tokens > 0 or "usage" in each.lacked or "offline" in each.model


def test_several_replies_are_written_at_once(opened: Open) -> None:
    async def five(model: ChatModel) -> list[Reply]:
        return await asyncio.gather(*(model.complete(PROMPT, sampling=SAMPLING) for _ in range(5)))

    assert all(reply.text for reply in use(opened, five))


def test_a_stream_that_is_left_early_does_no_harm(opened: Open) -> None:
    async def leave_then_ask(model: ChatModel) -> Reply:
        async with aclosing(model.stream(PROMPT, sampling=SAMPLING)) as pieces:  # type: ignore[type-var]
            async for _ in pieces:
                break
        return await model.complete(PROMPT, sampling=SAMPLING)

    assert use(opened, leave_then_ask).text


def test_a_structured_reply_is_of_the_shape_or_refused(opened: Open) -> None:
    async def verdict(model: ChatModel) -> tuple[Verdict, Reply] | ModelReplyInvalid:
        try:
            return await model.structured(PROMPT, shape=Verdict, sampling=SAMPLING)
        except ModelReplyInvalid as refusal:
            return refusal

    answer = use(opened, verdict)
    if isinstance(answer, ModelReplyInvalid):
        assert answer.hint
        return
    value, reply = answer
    assert isinstance(value, Verdict)
    assert reply.text.strip()
    assert reply.prompt_tokens > 0 or "usage" in reply.lacked


def test_a_model_that_answers_passes_its_check(opened: Open) -> None:
    use(opened, lambda model: model.check())


def test_a_model_works_in_one_event_loop_after_another(opened: Open) -> None:
    model = opened()
    for _ in range(2):
        assert use(lambda: model, lambda model: model.complete(PROMPT, sampling=SAMPLING)).text


def test_tokens_are_not_underestimated(opened: Open) -> None:
    async def counts(model: ChatModel) -> tuple[int, int, int]:
        return model.count_tokens(""), model.count_tokens(TEXT), model.count_tokens(TEXT * 2)

    none, once, twice = use(opened, counts)
    assert none == 0
    assert once >= len(TEXT.split())
    assert twice > once


def test_the_name_is_known_before_anything_is_asked(opened: Open) -> None:
    assert opened().name


@pytest.mark.slow
def test_transformers_serve_is_served_without_what_it_lacks(transformers: Open) -> None:
    async def babble(model: ChatModel) -> tuple[Reply, Reply, tuple[str, ...]]:
        reply = await model.complete(PROMPT, sampling=SAMPLING)
        *_, streamed = await everything(model)
        with pytest.raises(ModelReplyInvalid, match="in two tries"):
            await model.structured(PROMPT, shape=Verdict, sampling=SAMPLING)
        assert isinstance(model, OpenAIChatModel)
        assert isinstance(streamed, Reply)
        return reply, streamed, model.lacks

    reply, streamed, lacks = use(transformers, babble)
    for each in (reply, streamed):
        assert (each.finish_reason, each.completion_tokens) == ("length", SAMPLING.max_tokens)
    # A reply that was cut short is no sign that the schema was ignored: it is not among these.
    assert reply.lacked == streamed.lacked == lacks == ("repetition_penalty", "top_k")
