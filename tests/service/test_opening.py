"""The twin is opened once, however little patience its first callers have; and one that is let go of is gone."""

import asyncio
import threading
import weakref

import pytest

from llm_engineering import bootstrap, hosting
from llm_engineering.rag.twin import Twin
from tests.doubles.encoders import WordEmbedder
from tests.service.test_hosting import ANSWERING, KAFKA, LIMITS, settings_of, written
from tests.unit.rag.library import Library

pytestmark = pytest.mark.anyio


async def test_a_caller_who_gives_up_waiting_leaves_the_opening_at_work(tmp_path, monkeypatch):
    opened, release = [], threading.Event()

    def slowly(*_):
        opened.append(WordEmbedder(dimensions=256))
        assert release.wait(60)
        return opened[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrap.encoders, "open_embedder", lambda *_: WordEmbedder(dimensions=256))
        await written(tmp_path, KAFKA)
    monkeypatch.setattr(bootstrap.encoders, "open_embedder", slowly)
    settings = settings_of(tmp_path)
    with bootstrap.open_warehouse(settings) as warehouse, bootstrap.open_index(settings) as index:
        twins = hosting._Twins(settings, ANSWERING, LIMITS, warehouse, index)
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2), twins.use():
                    raise AssertionError("not reached")
        release.set()
        async with asyncio.timeout(60), twins.use() as twin:
            assert twin.embedder is opened[0]
        await twins.close()
    assert len(opened) == 1


async def test_a_twin_that_nobody_uses_is_gone_at_once(tmp_path):
    """Nothing in it holds the twin itself: the service keeps its garbage collector away from what it was loaded with."""
    library = Library(tmp_path)
    twin = Twin(
        warehouse=library.warehouse, index=library.index, embedder=library.embedder, sparse=library.sparse,
        model=library.twin().model,
    )  # fmt: skip
    assert twin.terms("a log")
    gone = weakref.ref(twin)
    del twin
    assert gone() is None
