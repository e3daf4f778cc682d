"""How much is taken on at once, and how fast one caller may come: what is over is refused at once, never piled up."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class OverCapacity(Exception):
    """Too many questions wait already. ``retry_after`` in whole seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__("over capacity")
        self.retry_after = retry_after


class OutOfTime(Exception):
    """The deadline of the request has passed."""


class Capacity:
    """At most ``in_flight`` pieces of work at once and ``queue`` more waiting, first come first served."""

    def __init__(self, *, in_flight: int, queue: int, deadline: float, retry_after: int) -> None:
        self._slots = asyncio.Semaphore(in_flight)
        self._in_flight, self._queue, self._deadline, self._retry_after = in_flight, queue, deadline, retry_after
        self.working = 0
        self.waiting = 0

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait for a turn and hold it. The deadline counts from here, the wait included.

        Raises :class:`OverCapacity` at once where the queue is full, :class:`OutOfTime` when the time is up.
        """
        self.require_room()
        try:
            async with asyncio.timeout(self._deadline) as limit:
                await self._turn()
                try:
                    yield
                finally:
                    self.working -= 1
                    self._slots.release()
        except TimeoutError as error:
            if limit.expired():
                raise OutOfTime from error
            raise

    def require_room(self) -> None:
        """Raises :class:`OverCapacity` if :meth:`slot` would."""
        if self.working + self.waiting >= self._in_flight + self._queue:
            raise OverCapacity(self._retry_after)

    async def _turn(self) -> None:
        self.waiting += 1
        try:
            await self._slots.acquire()
            self.working += 1
        finally:
            self.waiting -= 1


class TokenBuckets:
    """A rate limit for each caller: ``burst`` requests at a stroke, ``per_minute`` in the long run."""

    def __init__(self, *, per_minute: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = per_minute / 60, burst, clock
        self._levels: dict[str, tuple[float, float]] = {}

    def wait(self, caller: str) -> float:
        """Take one token: 0 if there was one, else the seconds until there is one again."""
        now = self._clock()
        level, since = self._levels.get(caller, (float(self._burst), now))
        level = min(self._burst, level + (now - since) * self._rate)
        if level < 1:
            self._levels[caller] = (level, now)
            return (1 - level) / self._rate
        self._levels[caller] = (level - 1, now)
        return 0.0
