"""A clock that stands still until somebody sleeps."""

import threading


class Clock:
    """Call it for the time; ``sleep`` moves it on at once and remembers for how long."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.slept: list[float] = []
        self._lock = threading.Lock()

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.now += seconds
            self.slept.append(seconds)
