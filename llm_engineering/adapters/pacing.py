"""Pauses between requests to one host, while other hosts go on in parallel."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from llm_engineering.domain.errors import FetchRefused


@dataclass
class _Host:
    lock: threading.Lock = field(default_factory=threading.Lock)
    next_at: float = 0.0
    waiting: int = 0


class Pacer:
    """Turns at hosts: one request at a time each, ``delay`` seconds after the last one ended. Thread-safe.

    Remembers at most about ``capacity`` hosts; a host whose pause is not over is never forgotten.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        capacity: int = 10_000,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._capacity = capacity
        self._hosts: OrderedDict[str, _Host] = OrderedDict()
        self._guard = threading.Lock()

    def __len__(self) -> int:
        return len(self._hosts)

    @contextmanager
    def turn(self, name: str, delay: float, *, longest: float = float("inf")) -> Iterator[None]:
        """Wait until the host may be asked, hold it, and leave a pause of ``delay`` behind.

        Raises :class:`FetchRefused` (``retry-after``) if the wait would be longer than ``longest``.
        """
        host = self._enter(name)
        try:
            with host.lock:
                pause = host.next_at - self._clock()
                if pause > longest:
                    raise FetchRefused(
                        f"{name} asks not to be contacted for {pause:.0f} s",
                        reason="retry-after",
                        hint="Try again later, or raise crawl.max_delay to wait so long.",
                    )
                if pause > 0:
                    self._sleep(pause)
                try:
                    yield
                finally:
                    host.next_at = max(host.next_at, self._clock() + delay)
        finally:
            with self._guard:
                host.waiting -= 1

    def postpone(self, name: str, seconds: float) -> None:
        """Nobody asks that host for so long (it said that it is busy, or it failed). Call outside a turn."""
        host = self._enter(name)
        try:
            with host.lock:
                host.next_at = max(host.next_at, self._clock() + seconds)
        finally:
            with self._guard:
                host.waiting -= 1

    def _enter(self, name: str) -> _Host:
        with self._guard:
            host = self._hosts.setdefault(name, _Host())
            host.waiting += 1
            self._hosts.move_to_end(name)
            if len(self._hosts) > self._capacity:
                moment = self._clock()
                for old in [key for key, one in self._hosts.items() if not one.waiting and one.next_at <= moment]:
                    del self._hosts[old]
            return host
