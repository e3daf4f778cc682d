import asyncio

import pytest

from llm_engineering.evaluation.at_once import for_each


def done(items, work, *, concurrency=3, told=None):
    return asyncio.run(
        for_each(
            items, work, concurrency=concurrency, progress=lambda *line: told.append(line) if told is not None else None
        )
    )


def test_results_come_in_the_order_of_the_items_however_long_each_takes():
    async def work(item):
        for _ in range(10 - item):
            await asyncio.sleep(0)
        return -item

    told = []
    assert done(range(10), work, told=told) == [-item for item in range(10)]
    assert told == [(count, 10) for count in range(1, 11)]


def test_as_many_as_allowed_are_under_way_and_never_more():
    under_way, most = set(), []

    async def work(item):
        under_way.add(item)
        most.append(len(under_way))
        await asyncio.sleep(0)
        under_way.remove(item)

    done(range(20), work, concurrency=4)
    assert max(most) == 4


def test_whoever_is_done_takes_the_next_while_another_still_works():
    last = asyncio.Event()

    async def work(item):
        if item == 0:
            await last.wait()
        elif item == 9:
            last.set()

    assert len(done(range(10), work, concurrency=2)) == 10


def test_the_first_error_ends_all_and_leaves_nothing_running():
    left = []

    async def work(item):
        if item == 2:
            raise ValueError("of the third")
        try:
            await asyncio.Event().wait()
        finally:
            left.append(item)

    async def fails():
        with pytest.raises(ValueError, match="of the third"):
            await for_each(range(9), work, concurrency=3, progress=lambda *_: None)
        assert sorted(left) == [0, 1]

    asyncio.run(fails())


def test_nothing_to_do_is_done():
    assert done([], None) == []
