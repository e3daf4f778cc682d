"""What is taken on at once, what waits, what is refused; who leaves and who is left; stopping with manners."""

import asyncio
import threading

import httpx
import pytest

from llm_engineering.domain.config import ServiceConfig
from llm_engineering.serving.app import create_app
from tests.doubles.twin_service import Clients, FakeTwin, served

pytestmark = pytest.mark.anyio
ASK = {"query": "Why?"}


def app(twin: FakeTwin, **config):
    return create_app(twin.service(), config=ServiceConfig(**config))


async def until(condition) -> None:
    """Let the loop run until the condition holds."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


async def test_what_is_over_the_queue_is_refused_at_once_and_the_others_are_answered():
    twin = FakeTwin()
    twin.gate = asyncio.Event()
    async with Clients(app(twin, in_flight=1, queue=1)).client() as client:
        taken = [asyncio.create_task(client.post("/rag", json=ASK | {"stream": stream})) for stream in (True, False)]
        await until(lambda: len(twin.questions) == 1)
        refused = [await client.post(path, json=ASK) for path in ("/rag", "/search")]
        assert [(r.status_code, r.headers["Retry-After"]) for r in refused] == [(503, "2")] * 2
        assert (await client.get("/health")).status_code == 200
        twin.gate.set()
        assert [(await task).status_code for task in taken] == [200, 200]
        assert (await client.post("/rag", json=ASK)).status_code == 200


@pytest.mark.parametrize("in_flight", [1, 2])
async def test_an_answer_that_takes_too_long_is_ended_its_wait_included(in_flight):
    twin = FakeTwin()
    twin.gate = asyncio.Event()
    async with Clients(app(twin, in_flight=in_flight, deadline=1.0)).client() as client:
        plain, streamed = await asyncio.gather(
            client.post("/rag", json=ASK), client.post("/rag", json=ASK | {"stream": True})
        )
    told = streamed.json()["status"] if streamed.status_code == 504 else streamed.text
    assert plain.status_code == 504
    assert told == 504 or '"status":504' in told
    assert in_flight <= twin.cancelled == len(twin.questions) <= 2


async def test_a_silent_stream_says_that_it_is_alive():
    twin = FakeTwin()
    twin.gate = asyncio.Event()
    with served(app(twin, heartbeat=0.01)) as (url, _):
        async with (
            httpx.AsyncClient(base_url=url, timeout=60) as client,
            client.stream("POST", "/rag", json=ASK | {"stream": True}) as r,
        ):
            lines = r.aiter_lines()
            async with asyncio.timeout(60):
                async for line in lines:
                    if line == ": alive":
                        break


@pytest.mark.parametrize("body", [ASK, ASK | {"stream": True}], ids=["plain", "streamed"])
async def test_a_client_that_leaves_ends_its_answer(body):
    twin = FakeTwin()
    twin.gate = asyncio.Event()
    with served(app(twin)) as (url, _):
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            asking = asyncio.create_task(client.post("/rag", json=body))
            await until(lambda: twin.questions)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        await until(lambda: twin.cancelled == 1)


async def test_a_client_that_leaves_the_queue_gives_its_place_back():
    twin = FakeTwin()
    twin.gate = asyncio.Event()
    application = app(twin, in_flight=1, queue=1)
    with served(application) as (url, _):
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            first = asyncio.create_task(client.post("/rag", json=ASK))
            await until(lambda: twin.questions)
            async with httpx.AsyncClient(base_url=url, timeout=60) as impatient:
                waiting = asyncio.create_task(impatient.post("/rag", json=ASK))
                while "twin_answers_waiting 1.0" not in (await client.get("/metrics")).text:
                    await asyncio.sleep(0.005)
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)
            while "twin_answers_waiting 0.0" not in (await client.get("/metrics")).text:
                await asyncio.sleep(0.005)
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)


async def test_stopping_finishes_what_is_under_way_and_takes_nothing_new():
    twin = FakeTwin()
    twin.gate = asyncio.Event()
    with served(app(twin)) as (url, server):
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            streaming = asyncio.create_task(client.post("/rag", json=ASK | {"stream": True}))
            await until(lambda: twin.questions)
            server.should_exit = True
            await until(lambda: all(not listener.is_serving() for listener in server.servers))
            async with httpx.AsyncClient(base_url=url) as late:
                with pytest.raises(httpx.TransportError):
                    await late.post("/rag", json=ASK)
            release(server, twin)
            assert "event: done" in (await streaming).text


def release(server, twin: FakeTwin) -> None:
    """Open the gate in the loop of the server."""
    [loop] = {listener.get_loop() for listener in server.servers}
    opened = threading.Event()
    loop.call_soon_threadsafe(lambda: (twin.gate.set(), opened.set()))
    assert opened.wait(60)
