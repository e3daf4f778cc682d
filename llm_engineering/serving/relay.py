"""Carrying a stream to a client: alive while it is silent, ended when the client leaves."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing, suppress
from typing import Any, Generic, TypeVar

from starlette.requests import Request

Item = TypeVar("Item")
_AHEAD = 64
"""Items that may be ready before the client took them; then the source waits."""


class ClientLeft(Exception):
    """Nobody waits for the answer any more."""


class Relay(Generic[Item]):
    """Runs a stream in one task of its own, inside ``within`` (its turn and its deadline), and hands on what comes."""

    def __init__(self, source: AsyncIterator[Item], *, within: AbstractAsyncContextManager[Any]) -> None:
        self._items: asyncio.Queue[Item | BaseException | None] = asyncio.Queue(_AHEAD)
        self._task = asyncio.create_task(self._run(source, within))

    async def next(self, *, heartbeat: float | None = None) -> Item | None:
        """The next item, or ``None`` if none came within ``heartbeat`` seconds. Raises ``StopAsyncIteration`` at the
        end, and what the stream raised."""
        try:
            item = await asyncio.wait_for(self._items.get(), heartbeat)
        except TimeoutError:
            return None
        if item is None:
            raise StopAsyncIteration
        if isinstance(item, BaseException):
            raise item
        return item

    async def close(self) -> None:
        """End the stream and wait until its work has ended."""
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _run(self, source: AsyncIterator[Item], within: AbstractAsyncContextManager[Any]) -> None:
        last: BaseException | None = None
        try:
            async with within, _closing(source):
                async for item in source:
                    await self._items.put(item)
        except Exception as error:  # noqa: BLE001  # raised again where the stream is read
            last = error
        await self._items.put(last)


def _closing(source: AsyncIterator[Item]) -> AbstractAsyncContextManager[Any]:
    return aclosing(source)


async def unless_left(request: Request, work: Callable[[], Awaitable[Item]]) -> Item:
    """The result of the work, which is cancelled if the client leaves: :class:`ClientLeft`."""
    working = asyncio.ensure_future(_awaited(work))
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientLeft
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.wait({working, leaving})


async def _awaited(work: Callable[[], Awaitable[Item]]) -> Item:
    return await work()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
