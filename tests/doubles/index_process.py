"""Another process on an index, for tests that kill it or run beside it.

    python -m tests.doubles.index_process write ADDRESS WATERMARKS POINT   sync LATER, dying by SIGKILL at the point
    python -m tests.doubles.index_process hold ADDRESS                     be the writer until killed
    python -m tests.doubles.index_process read ADDRESS TEXT                search until that text is found

It says one line when it is ready or done.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llm_engineering.adapters import replicas
from llm_engineering.adapters.edge_shard import EdgePoints
from llm_engineering.adapters.qdrant_edge import EdgeIndex, EdgeWriter
from llm_engineering.adapters.replicas import ReplicaFolder
from llm_engineering.domain.entities import IndexQuery
from llm_engineering.domain.ports import Index
from tests.doubles.indexed import RECIPE, Follower, towards

EARLIER = [("kept", ("kept",)), ("edited", ("old text", "common text")), ("removed", ("gone",))]
LATER = [("edited", ("new text", "common text")), ("removed", ()), ("added", ("fresh",))]


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before(owner: Any, name: str) -> None:
    """Die where that method would begin."""
    setattr(owner, name, die)


def after(owner: Any, name: str, *, calls: int = 1) -> None:
    """Die where that method has just returned for the given time."""
    original: Callable[..., Any] = getattr(owner, name)
    left = [calls]

    def dying(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        left[0] -= 1
        if not left[0]:
            die()
        return result

    setattr(owner, name, dying)


POINTS: dict[str, Callable[[], None]] = {
    "before the first publish": lambda: before(EdgePoints, "upsert"),
    "after the first publish": lambda: after(EdgePoints, "upsert"),
    "before the first retire": lambda: before(EdgePoints, "delete"),
    "after the first retire": lambda: after(EdgePoints, "delete"),
    "after the last retire": lambda: after(EdgePoints, "delete", calls=2),
    "before the commit": lambda: before(EdgeWriter, "commit"),
    "while settling": lambda: before(EdgePoints, "settle"),
    "before the pointer moves": lambda: before(ReplicaFolder, "point_to"),
    "after the pointer moved": lambda: after(ReplicaFolder, "point_to"),
    "in the middle of a copy": lambda: after(replicas, "copy_folder"),
    "while sweeping": lambda: before(ReplicaFolder, "sweep"),
}
VISIBLE_AT = {"after the pointer moved", "while sweeping"}


def open_index(address: str) -> Index:
    if address.startswith("http"):
        from llm_engineering.adapters.qdrant import QdrantServerIndex

        return QdrantServerIndex(address, None, "twin")
    return EdgeIndex(Path(address), patience=0.2)


def main(task: str, address: str, *rest: str) -> None:
    index = open_index(address)
    if task == "write":
        follower = Follower(Path(rest[0]))
        follower.log = [*EARLIER, *LATER]
        POINTS[rest[1]]()
        follower.sync(index)
        say("done")
    elif task == "hold":
        with index.writer(RECIPE):
            say("holding")
            signal.pause()
    else:
        searches, deadline = 0, time.monotonic() + 60
        while rest[0] not in {hit.text for hit in index.search(IndexQuery(dense=towards(1), limit=100))}:
            searches += 1
            if searches == 1:
                say("reading")
            if time.monotonic() > deadline:
                raise SystemExit(f"{rest[0]} was not seen in {searches} searches")
        say("seen")


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
