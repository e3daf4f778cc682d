"""Progress of long work: a bar on a terminal, a plain line now and then elsewhere. Always on standard error."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column

SECONDS_BETWEEN_LINES = 10.0


class Bar:
    """Shows how far one piece of work has come."""

    def __init__(self, title: str, progress: Progress | None) -> None:
        self._title, self._progress = title, progress
        self._task = progress.add_task(title, total=None, count="", label="") if progress else None
        self._next_line = time.monotonic() + SECONDS_BETWEEN_LINES
        self._done = 0

    def __call__(self, done: int, total: int, label: str = "") -> None:
        """``done`` of ``total`` units are finished; a total of 0 is not known."""
        self._done = done
        count = f"{done:,}{f' of {total:,}' if total else ''}"
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done, total=total or None, count=count, label=label)
        elif done and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + SECONDS_BETWEEN_LINES
            sys.stderr.write(f"{self._title}: {count}{f' ({label})' if label else ''}\n")

    def advance(self, label: str = "") -> None:
        """One more unit is finished; how many there will be is not known."""
        self(self._done + 1, 0, label)


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
        BarColumn(bar_width=20),
        TextColumn("{task.fields[count]}"),
        TimeElapsedColumn(),
        # last, so that a long address is what a narrow terminal cuts
        TextColumn(
            "{task.fields[label]}", markup=False, table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")
        ),
    )
    with Progress(*columns, console=console, transient=True, expand=True) as progress:
        yield Bar(title, progress)
