"""Several sequences of work at once, their results in one stream."""

import queue
import threading
from collections.abc import Generator, Iterator, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
_SECONDS_TO_STOP = 5.0


def in_parallel(groups: Sequence[Iterator[T]], *, workers: int, ahead: int = 32) -> Generator[T, None, None]:
    """Drain every group in a thread of its own, at most ``workers`` at a time, and yield the items as they come.

    The items of one group keep their order. At most ``ahead`` items wait for the consumer, which bounds memory. An
    error in a group is raised here. Whoever stops early stops the threads too: they are told, given a few seconds
    to finish what they are at, and as daemons never keep the process alive.
    """
    pool = _Pool(groups, ahead)
    threads = [
        threading.Thread(target=pool.work, name=f"crawl-{number}", daemon=True)
        for number in range(min(workers, len(groups)))
    ]
    for thread in threads:
        thread.start()
    try:
        yield from pool.results(len(threads))
    finally:
        pool.stop.set()
        for thread in threads:
            thread.join(_SECONDS_TO_STOP)


class _Failed:
    def __init__(self, error: BaseException) -> None:
        self.error = error


class _Done:
    pass


class _Pool(Generic[T]):
    def __init__(self, groups: Sequence[Iterator[T]], ahead: int) -> None:
        self.stop = threading.Event()
        self._todo: queue.SimpleQueue[Iterator[T]] = queue.SimpleQueue()
        for group in groups:
            self._todo.put(group)
        self._results: queue.Queue[T | _Failed | _Done] = queue.Queue(maxsize=ahead)

    def work(self) -> None:
        try:
            while not self.stop.is_set():
                try:
                    group = self._todo.get_nowait()
                except queue.Empty:
                    return
                self._drain(group)
        except BaseException as error:  # noqa: BLE001  # carried to the consumer's thread and raised there
            self._offer(_Failed(error))
        finally:
            self._offer(_Done())

    def _drain(self, group: Iterator[T]) -> None:
        for item in group:
            if not self._offer(item):
                if close := getattr(group, "close", None):  # lets a generator leave its context managers
                    close()
                return

    def _offer(self, item: T | _Failed | _Done) -> bool:
        while not self.stop.is_set():
            try:
                self._results.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def results(self, threads: int) -> Iterator[T]:
        while threads:
            item = self._results.get()
            if isinstance(item, _Done):
                threads -= 1
            elif isinstance(item, _Failed):
                raise item.error
            else:
                yield item
