"""Progress of long work: a bar on a terminal, a plain line now and then elsewhere. Always on standard error."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

SECONDS_BETWEEN_LINES = 10.0


class Bar:
    """Shows how far one piece of work has come."""

    def __init__(self, title: str, progress: Progress | None) -> None:
        self._title, self._progress = title, progress
        self._task = progress.add_task(title, total=None) if progress else None
        self._next_line = time.monotonic() + SECONDS_BETWEEN_LINES
        self._done = 0

    def __call__(self, done: int, total: int) -> None:
        """``done`` of ``total`` units are finished."""
        self._done = done
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done, total=total)
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + SECONDS_BETWEEN_LINES
            sys.stderr.write(f"{self._title}: {done}{f' of {total}' if total else ''}\n")

    def advance(self, label: str = "") -> None:
        """One more unit is finished; how many there will be is not known."""
        self._done += 1
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=self._done, description=f"{self._title} {label[-60:]}")
        else:
            self(self._done, 0)


@contextmanager
def bar(title: str) -> Iterator[Bar]:
    """A progress bar for the length of the context."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Bar(title, None)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield Bar(title, progress)
