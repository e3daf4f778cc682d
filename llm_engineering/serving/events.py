"""Answers as server-sent events: ``citations`` (the passages it is written from), ``text``… (the model's words as they come),
``done`` (the whole, verified answer with its usage, which takes the place of those words). ``error`` ends a stream that failed
half-way, with a problem as its data. Comments keep it alive.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from llm_engineering.domain.answers import Answer
from llm_engineering.serving.problems import problem_of
from llm_engineering.serving.service import Event
from llm_engineering.serving.shapes import cited

ALIVE = ": alive\n\n"


class EventStream(StreamingResponse):
    """Server-sent events that no proxy holds back. However it ends, also before its first byte, ``ending`` is awaited."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[str], *, ending: Callable[[], Awaitable[None]]) -> None:
        super().__init__(events, headers={"X-Accel-Buffering": "no"})
        self._ending = ending

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it all, or what there is until the client leaves."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._ending()


def event(data: object, *, name: str = "") -> str:
    """One event; its data is JSON on one line."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data, separators=(',', ':'))}\n\n"


async def rag_events(pieces: AsyncIterator[Event | None], *, request_id: str, retry_after: int) -> AsyncIterator[str]:
    """The events of a streamed answer."""
    try:
        async for piece in pieces:
            match piece:
                case None:
                    yield ALIVE
                case str():
                    yield event({"text": piece}, name="text")
                case Answer():
                    yield event(piece.model_dump(mode="json"), name="done")
                case _:
                    sources = [cited(passage) for passage in piece]
                    yield event({"request_id": request_id, "citations": sources}, name="citations")
    except Exception as error:  # noqa: BLE001  # the answer has begun: what went wrong can only be said in it
        yield event(failure(error, request_id=request_id, retry_after=retry_after), name="error")


def failure(error: Exception, *, request_id: str, retry_after: int) -> dict[str, object]:
    """A problem as the data of an event, with what a header would have said."""
    response = problem_of(error, request_id=request_id, retry_after=retry_after)
    wait = response.headers.get("Retry-After")
    return response.problem | ({"retry_after": int(wait)} if wait else {})
