"""Many pieces of work at once, and never more than so many: how questions are asked of a model."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


async def for_each(
    items: Sequence[Item],
    work: Callable[[Item], Awaitable[Result]],
    *,
    concurrency: int,
    progress: Callable[[int, int], None],
) -> list[Result]:
    """The results in the order of the items. The first error ends all of them, and nothing is left running behind it.

    Whoever is done with one item takes the next: nobody waits for a batch to end. ``progress`` is told how many are done,
    and of how many.
    """
    results: dict[int, Result] = {}
    rest = iter(enumerate(items))

    async def worker() -> None:
        for number, item in rest:
            results[number] = await work(item)
            progress(len(results), len(items))

    workers = [asyncio.ensure_future(worker()) for _ in range(min(concurrency, len(items)))]
    try:
        await asyncio.gather(*workers)
    finally:
        for one in workers:
            one.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    return [results[number] for number in range(len(items))]
