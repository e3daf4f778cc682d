"""One call of a chat model against a scripted server, without real pauses."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

from llm_engineering.adapters.openai import OpenAIChatModel
from llm_engineering.domain.answers import Message, Prompt, Reply
from llm_engineering.domain.config import ChatConfig, Sampling
from llm_engineering.domain.errors import ModelError
from tests.doubles.chat_server import ChatServer, Turn

Result = TypeVar("Result")
KEY = "sk-very-secret-0123456789"
PROMPT = Prompt(messages=(Message(role="user", content="What is a log?"),), question="What is a log?")
PLAIN = Sampling(temperature=None)
LONG = ChatConfig(timeout=30)


def use(
    server: ChatServer | str,
    work: Callable[[OpenAIChatModel], Coroutine[Any, Any, Result]],
    *,
    config: ChatConfig = LONG,
    key: str | None = None,
    pauses: list[float] | None = None,
) -> Result:
    async def no_wait(seconds: float) -> None:
        if pauses is not None:
            pauses.append(seconds)

    async def run() -> Result:
        url = server if isinstance(server, str) else server.url
        model = OpenAIChatModel(url, "tiny", key, config, sleep=no_wait)
        try:
            return await work(model)
        finally:
            await model.close()

    return asyncio.run(run())


async def complete(model: OpenAIChatModel) -> Reply:
    return await model.complete(PROMPT, sampling=PLAIN)


async def stream(model: OpenAIChatModel) -> list[str | Reply]:
    return [piece async for piece in model.stream(PROMPT, sampling=PLAIN)]


def failure(
    *script: Turn, ask: Callable[[OpenAIChatModel], Coroutine[Any, Any, Any]] = complete, **how: Any
) -> ModelError:
    """The error that this script ends in."""
    with ChatServer(*script) as server, pytest.raises(ModelError) as caught:
        use(server, ask, **how)
    assert server.url in str(caught.value), "an error says where"
    assert caught.value.hint, "an error says what to do"
    return caught.value
