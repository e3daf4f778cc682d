"""Queries that come at the same time are embedded together."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

Vector = list[float]


class QueryBatcher:
    """Gathers queries for at most ``delay`` seconds or until there are ``size``, and embeds them in one call.

    One batch is embedded at a time, in a thread; what comes meanwhile makes the next one. An error of a batch of several
    is looked for query by query, so that one bad query costs its neighbours nothing. Belongs to one event loop.
    """

    def __init__(self, embed: Callable[[Sequence[str]], list[Vector]], *, size: int, delay: float) -> None:
        self._embed, self._size, self._delay = embed, size, delay
        self._waiting: list[tuple[str, asyncio.Future[Vector]]] = []
        self._full = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="query-embedding")

    async def __call__(self, query: str) -> Vector:
        """The vector of the query."""
        result: asyncio.Future[Vector] = asyncio.get_running_loop().create_future()
        self._waiting.append((query, result))
        if len(self._waiting) >= self._size:
            self._full.set()
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await result

    async def close(self) -> None:
        """End what is under way."""
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        for _, result in self._waiting:
            result.cancel()
        self._thread.shutdown(wait=False)

    async def _work(self) -> None:
        while self._waiting:
            with suppress(TimeoutError):  # nobody else came: embed those who are here
                await asyncio.wait_for(self._full.wait(), self._delay)
            batch, self._waiting = self._waiting[: self._size], self._waiting[self._size :]
            if len(self._waiting) < self._size:
                self._full.clear()
            await self._embed_all([(query, result) for query, result in batch if not result.done()])

    async def _embed_all(self, batch: list[tuple[str, asyncio.Future[Vector]]]) -> None:
        if not batch:
            return
        run = asyncio.get_running_loop().run_in_executor
        try:
            vectors = await run(self._thread, self._embed, [query for query, _ in batch])
        except asyncio.CancelledError:
            for _, result in batch:
                result.cancel()
            raise
        except Exception as error:  # noqa: BLE001  # whatever it is goes to the one who asked
            if len(batch) > 1:
                for one in batch:
                    await self._embed_all([one])
            elif not batch[0][1].done():
                batch[0][1].set_exception(error)
            return
        for (_, result), vector in zip(batch, vectors, strict=True):
            if not result.done():
                result.set_result(vector)
