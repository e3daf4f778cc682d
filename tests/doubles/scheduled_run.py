"""A run that a scheduler can find by name: it says that it began, and ends when it is told to."""

import threading


class Runs:
    """What was started so far. ``may_end`` is set unless a test holds a run back."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.may_end = threading.Event()
        self.may_end.set()
        self._changed = threading.Condition()

    def run(self, config: str) -> None:
        with self._changed:
            self.started.append(config)
            self._changed.notify_all()
        self.may_end.wait(30)

    def wait_for(self, count: int, *, patience: float = 60) -> bool:
        """Whether that many runs have started, at the latest after that many seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self.started) >= count, patience)


runs = Runs()


def run(config: str) -> None:
    """What the job store calls: ``tests.doubles.scheduled_run:run``."""
    runs.run(config)
