"""Turns, paces and batches, by the clock of the test where there is one."""

import asyncio
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_engineering.domain.errors import EmbeddingError
from llm_engineering.serving.batching import QueryBatcher
from llm_engineering.serving.capacity import Capacity, OutOfTime, OverCapacity, TokenBuckets
from tests.doubles.clock import Clock


def test_a_bucket_fills_again_at_its_pace_and_never_above_its_size():
    clock = Clock()
    buckets = TokenBuckets(per_minute=60, burst=2, clock=clock)
    assert [buckets.wait("a") for _ in range(3)] == [0, 0, 1]
    clock.sleep(0.5)
    assert buckets.wait("a") == 0.5
    clock.sleep(100)
    assert [buckets.wait("a") for _ in range(3)] == [0, 0, 1]


@settings(max_examples=50)
@given(st.lists(st.floats(0, 5), max_size=60))
def test_no_pattern_of_calls_gets_more_than_the_burst_and_the_rate(pauses):
    clock = Clock()
    buckets = TokenBuckets(per_minute=60, burst=5, clock=clock)
    passed = 0
    for pause in pauses:
        clock.sleep(pause)
        passed += not buckets.wait("a")
    assert passed <= 5 + sum(pauses) + 1e-6


def test_a_place_is_given_back_however_the_work_ends():
    async def story():
        capacity = Capacity(in_flight=1, queue=0, deadline=0.05, retry_after=3)
        with pytest.raises(ZeroDivisionError):
            async with capacity.slot():
                with pytest.raises(OverCapacity) as refused:
                    async with capacity.slot():
                        pass
                assert refused.value.retry_after == 3
                raise ZeroDivisionError
        with pytest.raises(OutOfTime):
            async with capacity.slot():
                await asyncio.Event().wait()
        with pytest.raises(TimeoutError):  # the work's own, within the deadline
            async with capacity.slot():
                raise TimeoutError
        assert (capacity.working, capacity.waiting) == (0, 0)

    asyncio.run(story())


def embedding(batches: list[list[str]], *, hold: threading.Event | None = None):
    def embed(queries):
        batches.append(list(queries))
        if hold:
            assert hold.wait(10)
        if "bad" in queries:
            raise EmbeddingError("bad")
        return [[float(len(query))] for query in queries]

    return embed


def test_queries_that_come_together_are_embedded_together_and_each_gets_its_own():
    batches: list[list[str]] = []

    async def story():
        batcher = QueryBatcher(embedding(batches), size=3, delay=10)  # a full batch does not wait for the delay
        found = await asyncio.gather(*(batcher("x" * length) for length in range(1, 7)))
        await batcher.close()
        return found

    assert asyncio.run(story()) == [[1], [2], [3], [4], [5], [6]]
    assert batches == [["x", "xx", "xxx"], ["xxxx", "xxxxx", "xxxxxx"]]


def test_a_query_alone_waits_no_longer_than_the_delay():
    async def story():
        batcher = QueryBatcher(embedding([]), size=100, delay=0.001)
        async with asyncio.timeout(10):
            assert await batcher("one") == [3]
            assert await batcher("another") == [7]
        await batcher.close()

    asyncio.run(story())


def test_a_bad_query_costs_its_neighbours_nothing():
    async def story():
        batcher = QueryBatcher(embedding([]), size=3, delay=10)
        return await asyncio.gather(batcher("good"), batcher("bad"), batcher("fine"), return_exceptions=True)

    good, bad, fine = asyncio.run(story())
    assert (good, fine) == ([4], [4])
    assert isinstance(bad, EmbeddingError)


def test_one_who_leaves_takes_nobody_along():
    batches: list[list[str]] = []
    hold = threading.Event()

    async def story():
        batcher = QueryBatcher(embedding(batches, hold=hold), size=2, delay=10)
        staying, leaving = (asyncio.create_task(batcher(name)) for name in ("stay", "leave"))
        while not batches:
            await asyncio.sleep(0.001)
        leaving.cancel()
        hold.set()
        return await staying

    assert asyncio.run(story()) == [4]
