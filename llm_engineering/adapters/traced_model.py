"""A chat model whose every call is a span with the attributes of the GenAI conventions: model, sampling, tokens."""

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, aclosing
from typing import Any

from llm_engineering.domain.answers import Prompt, Reply
from llm_engineering.domain.config import Sampling
from llm_engineering.domain.ports import ChatModel, Structured
from llm_engineering.telemetry import Span, span


class TracedModel:
    """The port :class:`~llm_engineering.domain.ports.ChatModel`, passed through. Texts are never put into a span."""

    def __init__(self, model: ChatModel, *, provider: str) -> None:
        self._model, self._provider = model, provider

    @property
    def name(self) -> str:
        """See the port."""
        return self._model.name

    @property
    def window(self) -> int | None:
        """Tokens of prompt and reply together, where the model knows them."""
        return getattr(self._model, "window", None)

    async def complete(self, prompt: Prompt, *, sampling: Sampling) -> Reply:
        """See the port."""
        with self._span(sampling) as call:
            reply = await self._model.complete(prompt, sampling=sampling)
            _tell(call, reply)
            return reply

    async def stream(self, prompt: Prompt, *, sampling: Sampling) -> AsyncIterator[str | Reply]:
        """See the port."""
        pieces: Any = self._model.stream(prompt, sampling=sampling)
        with self._span(sampling, current=False) as call:
            async with aclosing(pieces):
                async for piece in pieces:
                    if isinstance(piece, Reply):
                        _tell(call, piece)
                    yield piece

    async def structured(
        self, prompt: Prompt, *, shape: type[Structured], sampling: Sampling
    ) -> tuple[Structured, Reply]:
        """See the port."""
        with self._span(sampling) as call:
            call.set(output_type="json")
            value, reply = await self._model.structured(prompt, shape=shape, sampling=sampling)
            _tell(call, reply)
            return value, reply

    def count_tokens(self, text: str) -> int:
        """See the port."""
        return self._model.count_tokens(text)

    async def check(self) -> None:
        """See the port."""
        await self._model.check()

    async def close(self) -> None:
        """See the port."""
        await self._model.close()

    def _span(self, sampling: Sampling, *, current: bool = True) -> AbstractContextManager[Span]:
        return span(
            f"chat {self.name}",
            current=current,
            operation="chat",
            provider=self._provider,
            model=self.name,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_tokens,
            seed=sampling.seed,
        )


def _tell(call: Span, reply: Reply) -> None:
    call.set(
        response_model=reply.model,
        input_tokens=reply.prompt_tokens,
        output_tokens=reply.completion_tokens,
        finish_reason=reply.finish_reason,
    )
