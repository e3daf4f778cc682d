"""Chat models behind an OpenAI-compatible endpoint: OpenAI itself, vLLM, Ollama, llama.cpp, ``transformers serve``."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from llm_engineering.adapters.token_estimate import estimated_tokens
from llm_engineering.domain.answers import Message, Prompt, Reply
from llm_engineering.domain.config import ChatConfig, Sampling
from llm_engineering.domain.errors import ModelError, ModelReplyInvalid, ModelUnavailable
from llm_engineering.domain.ports import Structured

if TYPE_CHECKING:
    import openai

    from llm_engineering.adapters.openai_replies import Heard

_FIRST_BACKOFF = 0.5
_LONGEST_BACKOFF = 8.0
_COUNTS_PATIENCE = 5.0
"""Seconds that a finished stream may take to send its token counts."""

_log = logging.getLogger(__name__)
_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class _Line:
    """What belongs to one event loop: its connections, and the turns of those who wait for one."""

    client: "openai.AsyncOpenAI"
    turns: asyncio.Semaphore


class OpenAIChatModel:
    """The port :class:`~llm_engineering.domain.ports.ChatModel` on the official client, for any server that speaks it.

    An empty ``base_url`` is OpenAI's own. Connections open at the first request of an event loop; close it in that loop.

    Tried again, up to ``config.retries`` times with growing, jittered pauses and never before ``Retry-After``: requests
    that met no connection, 408, 409, 425, 429 or 5xx. Not tried again: what ran out of time, what asks for a pause longer
    than ``config.timeout``, and a stream that broke after its beginning. Fields that a server refuses (400, 422) are left
    out from then on; replies name them in ``lacked``, and a warning says so once.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key: str | None,
        config: ChatConfig,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        # The client's modules take a second or two to load: better here than inside the event loop.
        import_module("openai.resources.chat")

        from llm_engineering.adapters.openai_errors import Endpoint
        from llm_engineering.adapters.openai_request import Dialect

        self._endpoint = Endpoint.parse(base_url, model, api_key)
        self._config = config
        self._sleep = sleep
        self._dialect = Dialect(self._endpoint.url)
        self._lines: WeakKeyDictionary[asyncio.AbstractEventLoop, _Line] = WeakKeyDictionary()

    @property
    def name(self) -> str:
        """The model's name at the endpoint."""
        return self._endpoint.model

    @property
    def lacks(self) -> tuple[str, ...]:
        """What was asked for so far and this server does not do."""
        return self._dialect.lacks

    async def complete(self, prompt: Prompt, *, sampling: Sampling) -> Reply:
        """The whole reply, within ``config.timeout`` for each try."""
        return await self._complete(prompt.messages, sampling)

    async def stream(self, prompt: Prompt, *, sampling: Sampling) -> AsyncIterator[str | Reply]:
        """Pieces as they come, then the :class:`Reply`. Closing the generator closes the connection.

        A server that does not stream is asked again for its reply in one piece. A stream that breaks, falls silent for
        ``config.timeout`` or ends without a finish raises :class:`ModelUnavailable`, which says how much had arrived.
        """
        from llm_engineering.adapters.openai_replies import Heard, read_piece
        from llm_engineering.adapters.openai_request import asked

        fields = asked(prompt.messages, sampling) | {"stream": True, "stream_options": {"include_usage": True}}
        heard = Heard(self._endpoint)
        line = self._line()
        async with line.turns:
            stream = await self._send(fields, line.client.chat.completions.create)
            try:
                if plain := self._is_plain(stream):
                    self._dialect.note("stream")
                while not plain and (piece := await self._next_piece(stream, heard)) is not None:
                    if text := heard.add(read_piece(piece, self._endpoint)):
                        yield text
            finally:
                await stream.close()
        if not plain:
            yield self._reply(heard, fields)
            return
        reply = await self.complete(prompt, sampling=sampling)
        yield reply.text
        yield reply.model_copy(update={"lacked": tuple(sorted({*reply.lacked, "stream"}))})

    async def structured(
        self, prompt: Prompt, *, shape: type[Structured], sampling: Sampling
    ) -> tuple[Structured, Reply]:
        """A reply validated as ``shape``, with the tokens of both rounds where it took two.

        The server is bound to the schema where it can be; the model is told the schema in any case, and shown what is
        wrong with its reply once. A server that does not keep to the schema is named in :attr:`lacks`.
        """
        from llm_engineering.adapters.openai_structured import asking_for, faults, is_json_alone, read_json, repairing

        messages = asking_for(shape, prompt.messages)
        reply = await self._complete(messages, sampling, shape=shape)
        if reply.finish_reason != "length" and not is_json_alone(reply.text):
            self._dialect.note("json_schema")
        try:
            return read_json(reply.text, shape), reply
        except ValueError as fault:
            messages = repairing(messages, reply.text, fault)
        first = (reply.prompt_tokens, reply.completion_tokens)
        try:
            reply = _added(first, await self._complete(messages, sampling, shape=shape))
        except ModelError as error:
            error.tokens = (first[0] + error.tokens[0], first[1] + error.tokens[1])
            error.rounds += 1
            raise
        try:
            return read_json(reply.text, shape), reply
        except ValueError as fault:
            raise ModelReplyInvalid(
                f"{self.name!r} at {self._endpoint.url} gave no valid {shape.__name__} in two tries: "
                f"{faults(fault).removeprefix('- ').splitlines()[0]}",
                hint="Raise sampling.max_tokens." if reply.finish_reason == "length" else "Take a more capable model.",
                tokens=(reply.prompt_tokens, reply.completion_tokens),
                said=reply.text,
            ) from fault

    def count_tokens(self, text: str) -> int:
        """An over-estimate: endpoints do not tell their tokenizer. See :func:`estimated_tokens`."""
        return estimated_tokens(text)

    async def check(self) -> None:
        """Ask for the list of models once: no connection, no answer in time or a refused key is down.

        Any other answer counts as up, since some servers chat well and fail at that list.
        """
        import openai

        try:
            async with asyncio.timeout(min(self._config.connect_timeout, self._config.timeout)):
                await self._line().client.models.with_raw_response.list(**self._headers())
        except openai.APIStatusError as error:
            if error.status_code in (401, 403):
                raise self._endpoint.failure(error) from self._endpoint.cause(error)
        except openai.OpenAIError as error:
            raise self._endpoint.failure(error) from self._endpoint.cause(error)
        except TimeoutError as error:
            raise self._too_slow("did not answer", self._config.connect_timeout) from error

    async def close(self) -> None:
        """Close the connections of this event loop; a later request opens new ones."""
        if line := self._lines.pop(asyncio.get_running_loop(), None):
            await line.client.close()

    def _line(self) -> _Line:
        """The connections of the running event loop."""
        import openai

        loop = asyncio.get_running_loop()
        if (line := self._lines.get(loop)) is None:
            endpoint = self._endpoint
            # Without a word for a key the client takes OPENAI_API_KEY: a secret for the vendor, not for any other address.
            client = openai.AsyncOpenAI(
                base_url=endpoint.url,
                api_key=endpoint.api_key or "none",
                timeout=openai.Timeout(None, connect=self._config.connect_timeout),
                max_retries=0,
            )
            if not endpoint.is_openai:
                client.organization = client.project = None
            line = self._lines[loop] = _Line(client, asyncio.Semaphore(self._config.concurrency))
        return line

    def _headers(self) -> dict[str, Any]:
        """Arguments that keep the client from sending a key where there is none."""
        import openai

        return {} if self._endpoint.api_key else {"extra_headers": {"Authorization": openai.Omit()}}

    async def _complete(
        self, messages: Sequence[Message], sampling: Sampling, *, shape: type[Structured] | None = None
    ) -> Reply:
        from llm_engineering.adapters.openai_replies import Heard, read_reply
        from llm_engineering.adapters.openai_request import asked
        from llm_engineering.adapters.openai_structured import response_format

        fields = asked(messages, sampling) | ({"response_format": response_format(shape)} if shape else {})
        line = self._line()
        async with line.turns:
            raw = await self._send(fields, line.client.chat.completions.with_raw_response.create)
        heard = Heard(self._endpoint)
        heard.add(read_reply(raw.text, raw.headers.get("content-type", ""), self._endpoint))
        return self._reply(heard, fields)

    def _is_plain(self, stream: "openai.AsyncStream[Any]") -> bool:
        """The server answers with one JSON reply where a stream was asked for."""
        content_type = stream.response.headers.get("content-type", "")
        if content_type.startswith("text/html"):
            raise ModelReplyInvalid(
                f"{self._endpoint.url} answered with a web page", hint="Check LLM_BASE_URL, which usually ends in /v1."
            )
        return bool(content_type.startswith("application/json"))

    def _reply(self, heard: "Heard", fields: dict[str, Any]) -> Reply:
        reply = heard.reply(self._dialect.lacked(fields))
        for lack in reply.lacked:
            self._dialect.note(lack)
        return reply

    async def _send(self, fields: dict[str, Any], create: Callable[..., Awaitable[Any]]) -> Any:  # noqa: ANN401
        """Ask; ask again without the fields that the server refuses, and remember them once that went well."""
        import openai

        from llm_engineering.adapters.openai_request import call, refused_fields

        left_out: set[str] = set()
        while True:
            body = self._dialect.body(fields, without=left_out)
            try:
                answer = await self._persistent(create, {"model": self.name, **call(body), **self._headers()})
            except openai.OpenAIError as error:
                refused = refused_fields(error, body) if isinstance(error, openai.APIStatusError) else set()
                if not refused:
                    raise self._endpoint.failure(error) from self._endpoint.cause(error)
                left_out |= refused
            else:
                self._dialect.learn(left_out)
                return answer

    async def _persistent(self, create: Callable[..., Awaitable[_Answer]], arguments: dict[str, Any]) -> _Answer:
        """Ask, and again after a pause while that may help."""
        import openai

        from llm_engineering.adapters.openai_errors import is_passing, retry_after

        attempt = 0
        while True:
            try:
                return await self._in_time(create(**arguments))
            except openai.OpenAIError as error:
                wish = retry_after(error) or 0.0
                if attempt == self._config.retries or not is_passing(error) or wish > self._config.timeout:
                    raise
                backoff = min(_FIRST_BACKOFF * 2**attempt, _LONGEST_BACKOFF) * random.uniform(0.5, 1)
                _log.info("%s: %s; trying again", self._endpoint.url, type(error).__name__)
            await self._sleep(max(wish, backoff))
            attempt += 1

    async def _in_time(self, answer: Awaitable[_Answer]) -> _Answer:
        try:
            async with asyncio.timeout(self._config.timeout):
                return await answer
        except TimeoutError as error:
            raise self._too_slow("did not answer", self._config.timeout) from error

    async def _next_piece(self, stream: "openai.AsyncStream[Any]", heard: "Heard") -> object | None:
        """The next event, or ``None`` at the end of a reply that is whole."""
        import openai

        whole = heard.finish_reason is not None
        patience = min(self._config.timeout, _COUNTS_PATIENCE) if whole else self._config.timeout
        arrived = f"after {len(heard.text)} characters"
        try:
            async with asyncio.timeout(patience):
                if (piece := await anext(stream, None)) is not None or whole:
                    return piece
            cut: Exception | None = None
        except (TimeoutError, openai.APIConnectionError) as error:
            if whole:
                return None
            if isinstance(error, TimeoutError):
                raise self._too_slow(f"fell silent {arrived}", patience) from error
            cut = error
        except openai.APIError as error:
            failure = self._endpoint.failure(error)
            kind = ModelReplyInvalid if isinstance(failure, ModelReplyInvalid) else ModelUnavailable
            raise kind(f"{failure.message} {arrived}", hint=failure.hint) from self._endpoint.cause(error)
        except ValueError as error:
            raise ModelReplyInvalid(
                f"{self._endpoint.url} sent an event that is no JSON {arrived}", hint="Look at its log."
            ) from error
        raise ModelUnavailable(
            f"{self._endpoint.url} cut its reply {arrived}", hint="Ask again; if it happens again, look at its log."
        ) from cut

    def _too_slow(self, what: str, seconds: float) -> ModelUnavailable:
        return ModelUnavailable(
            f"{self.name!r} at {self._endpoint.url} {what} for {seconds:g} s",
            hint="Raise chat.timeout, or take a faster model.",
            reason="timed-out",
        )


def _added(spent: tuple[int, int], reply: Reply) -> Reply:
    """The reply with what an earlier round spent added to its tokens."""
    return reply.model_copy(
        update={
            "prompt_tokens": spent[0] + reply.prompt_tokens,
            "completion_tokens": spent[1] + reply.completion_tokens,
            "rounds": reply.rounds + 1,
        }
    )
