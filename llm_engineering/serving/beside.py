"""The twin in an event loop of its own, beside the one that talks to clients: however busy it is, others are refused, told to
wait and asked after their health at once.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import replace
from typing import Any, ParamSpec, Self, TypeVar

from llm_engineering.domain.answers import Question
from llm_engineering.domain.config import Sampling
from llm_engineering.serving.relay import Relay
from llm_engineering.serving.service import Check, Event, Service

Given = ParamSpec("Given")
Result = TypeVar("Result")


@asynccontextmanager
async def beside(
    service: AbstractAsyncContextManager[Service],
    *,
    loops: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
    threads: int = 4,
) -> AsyncIterator[Service]:
    """Enter ``service`` in a loop of its own, made by ``loops``, in a thread of its own; what is handed out works from here.

    ``threads``: how many the twin's loop has for blocking work. Context variables go along with every call. A call that is
    cancelled here is cancelled there, and has ended there when it ends here.
    """
    with _Aside(loops, threads) as aside:
        opened = await aside.call(service.__aenter__())
        try:
            yield _from_here(opened, aside)
        finally:
            await aside.call(_closing(service))


async def _closing(service: AbstractAsyncContextManager[Service]) -> None:
    await service.__aexit__(None, None, None)


class _Aside:
    """An event loop that runs in a thread for the length of the context."""

    def __init__(self, loops: Callable[[], asyncio.AbstractEventLoop], threads: int) -> None:
        self._loops, self._threads = loops, threads
        self._running: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    def __enter__(self) -> Self:
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), name="twin", daemon=True)
        self._thread.start()
        started.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        if self._running is None:
            raise RuntimeError("the twin's event loop could not be started")
        return self._running

    def _run(self, started: threading.Event) -> None:
        async def until_over() -> None:
            self._over = asyncio.Event()
            loop = asyncio.get_running_loop()
            loop.set_default_executor(ThreadPoolExecutor(self._threads, thread_name_prefix="stage"))
            self._running = loop
            started.set()
            await self._over.wait()

        try:
            with asyncio.Runner(loop_factory=self._loops) as runner:
                runner.run(until_over())
        finally:
            started.set()

    async def call(self, work: Coroutine[Any, Any, Result]) -> Result:
        """The result of the work, which is done over there; cancelled with this call, and waited for."""
        here = asyncio.get_running_loop()
        ended: asyncio.Future[Result] = here.create_future()
        begun: list[asyncio.Task[Result]] = []

        def begin() -> None:
            task = self._loop.create_task(work)
            begun.append(task)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(lambda done: here.call_soon_threadsafe(_settle, ended, done))

        self._loop.call_soon_threadsafe(begin)
        try:
            return await asyncio.shield(ended)
        except asyncio.CancelledError:
            if not ended.done():
                self._loop.call_soon_threadsafe(lambda: begun[0].cancel())
                await asyncio.wait({ended})
            if not ended.cancelled():
                ended.exception()  # nobody waits for it any more
            raise


def _settle(ended: "asyncio.Future[Result]", done: "asyncio.Task[Result]") -> None:
    if ended.done():
        return
    if done.cancelled():
        ended.cancel()
    elif (error := done.exception()) is not None:
        ended.set_exception(error)
    else:
        ended.set_result(done.result())


def _from_here(service: Service, aside: _Aside) -> Service:
    """The same service, whose work is done over there."""

    def over_there(work: Callable[Given, Awaitable[Result]]) -> Callable[Given, Coroutine[Any, Any, Result]]:
        async def done(*given: Given.args, **named: Given.kwargs) -> Result:
            return await work(*given, **named)

        async def from_here(*given: Given.args, **named: Given.kwargs) -> Result:
            return await aside.call(done(*given, **named))

        return from_here

    async def stream(question: Question, *, request_id: str, sampling: Sampling | None) -> AsyncIterator[Event]:
        relays: list[Relay[Event]] = []  # known here as soon as it is there: whoever leaves that early ends it, too

        async def begin() -> None:
            events = service.stream(question, request_id=request_id, sampling=sampling)
            relays.append(Relay(events, within=nullcontext()))

        try:
            await aside.call(begin())
            while True:
                try:
                    event = await aside.call(relays[0].next())
                except StopAsyncIteration:
                    return
                assert event is not None  # only a heartbeat brings that
                yield event
        finally:
            for relay in relays:
                await aside.call(relay.close())

    checks: Mapping[str, Check] = {name: over_there(check) for name, check in service.checks.items()}
    return replace(
        service,
        answer=over_there(service.answer),
        stream=stream,
        search=over_there(service.search),
        passage=over_there(service.passage),
        save_feedback=over_there(service.save_feedback),
        checks=checks,
    )
