"""Chat models and rerankers that do as they are told: scripted, slow, failing."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from llm_engineering.domain.answers import Prompt, Reply
from llm_engineering.domain.config import Sampling
from llm_engineering.domain.errors import ModelReplyInvalid, ModelUnavailable, PromptTooLong

Shape = TypeVar("Shape", bound=BaseModel)


class ScriptedModel:
    """Says its replies in order, the last one for ever; keeps every prompt. ``meanwhile`` happens while it writes."""

    name = "scripted"

    def __init__(self, *replies: str, meanwhile: Callable[[], object] | None = None) -> None:
        self.replies = list(replies) or ["I say nothing."]
        self.prompts: list[Prompt] = []
        self.samplings: list[Sampling] = []
        self._meanwhile = meanwhile

    async def complete(self, prompt: Prompt, *, sampling: Sampling) -> Reply:
        text = self._next(prompt, sampling)
        return Reply(text=text, model=self.name, prompt_tokens=10, completion_tokens=5)

    async def stream(self, prompt: Prompt, *, sampling: Sampling) -> AsyncIterator[str | Reply]:
        text = self._next(prompt, sampling)
        for word in text.split(" "):
            yield f"{word} "
        yield Reply(text=text, model=self.name, prompt_tokens=10, completion_tokens=5)

    async def structured(self, prompt: Prompt, *, shape: type[Shape], sampling: Sampling) -> tuple[Shape, Reply]:
        reply = await ScriptedModel.complete(self, prompt, sampling=sampling)
        try:
            return shape.model_validate_json(reply.text), reply
        except ValidationError as error:
            spent = (reply.prompt_tokens, reply.completion_tokens)
            raise ModelReplyInvalid("no such structure", tokens=spent, said=reply.text) from error

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    async def check(self) -> None:
        return None

    async def close(self) -> None:
        return None

    def _next(self, prompt: Prompt, sampling: Sampling) -> str:
        self.prompts.append(prompt)
        self.samplings.append(sampling)
        if self._meanwhile is not None:
            self._meanwhile()
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]


class WaitingModel(ScriptedModel):
    """Writes only when it is let go; says whether it was stopped while it waited."""

    def __init__(self, *replies: str) -> None:
        super().__init__(*replies)
        self.started, self.let_go, self.cancelled = asyncio.Event(), asyncio.Event(), False

    async def complete(self, prompt: Prompt, *, sampling: Sampling) -> Reply:
        await self._wait()
        return await super().complete(prompt, sampling=sampling)

    async def stream(self, prompt: Prompt, *, sampling: Sampling) -> AsyncIterator[str | Reply]:
        yield "At once, "
        await self._wait()
        async for piece in super().stream(prompt, sampling=sampling):
            yield piece

    async def _wait(self) -> None:
        self.started.set()
        try:
            await self.let_go.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise


class NarrowModel(ScriptedModel):
    """Reads and writes so many words, and refuses a prompt that is longer."""

    def __init__(self, window: int, *replies: str) -> None:
        super().__init__(*replies)
        self.window = window

    def _next(self, prompt: Prompt, sampling: Sampling) -> str:
        if sum(self.count_tokens(message.content) for message in prompt.messages) >= self.window:
            raise PromptTooLong("The prompt is too long for narrow", hint="Ask something shorter.")
        return super()._next(prompt, sampling)


class FailingModel(ScriptedModel):
    """Is down."""

    async def complete(self, prompt: Prompt, *, sampling: Sampling) -> Reply:
        raise ModelUnavailable("The model is down", hint="Start it.")

    async def stream(self, prompt: Prompt, *, sampling: Sampling) -> AsyncIterator[str | Reply]:
        yield "half an "
        raise ModelUnavailable("The model went away", hint="Start it.")

    async def structured(self, prompt: Prompt, *, shape: type[Shape], sampling: Sampling) -> tuple[Shape, Reply]:
        raise ModelUnavailable("The model is down", hint="Start it.")


class LongestFirst:
    """A reranker that likes long passages."""

    name = "longest first"

    def scores(self, query: str, passages: Sequence[str]) -> list[float]:
        return [float(len(passage)) for passage in passages]


class StuckReranker:
    """A reranker that scores nothing until it is let go."""

    name = "stuck"

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.asked = 0

    def scores(self, query: str, passages: Sequence[str]) -> list[float]:
        self.asked += 1
        self.let_go.wait(30)
        return [0.0] * len(passages)
