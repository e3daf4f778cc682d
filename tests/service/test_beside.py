"""The twin in an event loop of its own: it may be stuck, and the service still answers whoever does not ask it."""

import asyncio
import logging
import threading
from contextlib import asynccontextmanager

import httpx
import pytest

from llm_engineering import telemetry
from llm_engineering.domain.answers import Answer, Question
from llm_engineering.domain.config import ServiceConfig
from llm_engineering.domain.errors import UnknownAuthor
from llm_engineering.serving.app import create_app
from llm_engineering.serving.beside import beside
from tests.doubles.twin_service import PASSAGE, Clients, FakeTwin, served

pytestmark = pytest.mark.anyio
WHY = Question(query="Why?")


@asynccontextmanager
async def opened(twin: FakeTwin):
    """The twin's service, which notes in which thread it is opened and closed."""
    twin.threads = [threading.current_thread().name]
    yield twin.service()
    twin.threads.append(threading.current_thread().name)


async def test_it_is_opened_asked_and_closed_in_a_thread_of_its_own_and_answers_the_same():
    twin = FakeTwin()
    async with beside(opened(twin)) as service:
        whole = await service.answer(WHY, request_id="r", sampling=None)
        events = [event async for event in service.stream(WHY, request_id="r", sampling=None)]
        hits = await service.search(WHY)
        await asyncio.gather(*(check() for check in service.checks.values()))
    assert twin.threads == ["twin", "twin"]
    assert "twin" not in {thread.name for thread in threading.enumerate()}
    assert [events[0], "".join(events[1:-1]), events[-1]] == [(PASSAGE,), whole.answer, whole]
    assert isinstance(whole, Answer) and hits == await twin.search(WHY)


async def test_a_twin_that_computes_keeps_nobody_else_waiting():
    stuck, release = threading.Event(), threading.Event()

    class Busy(FakeTwin):
        async def search(self, question):
            stuck.set()
            assert release.wait(60)
            return await super().search(question)

    async with beside(opened(Busy())) as service:
        app = create_app(service, config=ServiceConfig(in_flight=1, queue=0))
        async with Clients(app).client() as client:
            asking = asyncio.create_task(client.post("/search", json={"query": "Why?"}))
            assert await asyncio.to_thread(stuck.wait, 60)
            assert (await client.get("/health")).json() == {"status": "ok"}
            assert (await client.post("/rag", json={"query": "Why?"})).status_code == 503
            release.set()
            assert (await asking).status_code == 200


async def test_errors_come_back_as_they_are_and_the_request_goes_along():
    seen = []

    class Failing(FakeTwin):
        async def search(self, question):
            seen.append(telemetry.request_id.get())
            raise UnknownAuthor("There is no author Eve")

    token = telemetry.request_id.set("r-7")
    async with beside(opened(Failing(error=UnknownAuthor("There is no author Eve")))) as service:
        for failing in (service.search(WHY), service.answer(WHY, request_id="r", sampling=None)):
            with pytest.raises(UnknownAuthor, match="Eve"):
                await failing
        with pytest.raises(UnknownAuthor, match="Eve"):
            _ = [event async for event in service.stream(WHY, request_id="r", sampling=None)]
    telemetry.request_id.reset(token)
    assert seen == ["r-7"]


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_call_that_is_cancelled_has_ended_over_there(streamed):
    twin = FakeTwin()
    async with beside(opened(twin)) as service:
        twin.gate = asyncio.Event()

        async def ask():
            if not streamed:
                return await service.answer(WHY, request_id="r", sampling=None)
            return [event async for event in service.stream(WHY, request_id="r", sampling=None)]

        asking = asyncio.create_task(ask())
        while not twin.questions:
            await asyncio.sleep(0.001)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert twin.cancelled == 1


async def test_streams_that_are_left_at_any_moment_are_all_ended():
    """Also between the beginning over there and the news of it here."""
    twin = FakeTwin()
    async with beside(opened(twin)) as service:
        twin.gate = asyncio.Event()

        async def ask():
            async for _ in service.stream(WHY, request_id="r", sampling=None):
                pass

        for round_ in range(300):
            asking = asyncio.create_task(ask())
            await asyncio.sleep(round_ % 30 * 2e-5)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        assert len(twin.questions) > 50
        assert twin.cancelled == len(twin.questions)


async def test_what_is_under_way_when_the_time_for_stopping_is_over_is_told_to_come_back(caplog):
    twin = FakeTwin()
    twin.gate = asyncio.Event()
    with served(create_app(twin.service(), config=ServiceConfig()), graceful=1) as (url, server):
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            asking = asyncio.create_task(client.post("/rag", json={"query": "Why?"}))
            while not twin.questions:
                await asyncio.sleep(0.001)
            server.should_exit = True
            refused = await asking
    assert (refused.status_code, refused.json()["type"]) == (503, "/problems/stopping")
    assert refused.headers["Retry-After"] == "2"
    assert "Traceback" not in caplog.text


async def test_a_twin_that_cannot_be_opened_says_why_and_leaves_no_thread():
    @asynccontextmanager
    async def broken():
        raise UnknownAuthor("There is no author Eve")
        yield

    with pytest.raises(UnknownAuthor, match="Eve"):
        async with beside(broken()):
            raise AssertionError("not reached")
    assert "twin" not in {thread.name for thread in threading.enumerate()}


async def test_what_is_over_capacity_is_refused_unread(caplog):
    """Neither its words nor its shape matter then; the count and the log still name the route."""
    twin = FakeTwin()
    twin.gate = asyncio.Event()
    app = create_app(twin.service(), config=ServiceConfig(in_flight=1, queue=0))
    async with Clients(app).client() as client:
        taken = asyncio.create_task(client.post("/rag", json={"query": "Why?"}))
        while not twin.questions:
            await asyncio.sleep(0.001)
        with caplog.at_level(logging.INFO, "llm_engineering.serving.access"):
            for path in ("/rag", "/search", "/v1/chat/completions"):
                refused = await client.post(path, content=b"no JSON")
                assert (refused.status_code, refused.json()["type"]) == (503, "/problems/over-capacity")
                assert refused.headers["Retry-After"] == "2" and refused.headers["X-Content-Type-Options"] == "nosniff"
        lines = [record.getMessage() for record in caplog.records if record.name == "llm_engineering.serving.access"]
        assert lines == ["POST /rag 503", "POST /search 503", "POST /v1/chat/completions 503"]
        assert (await client.post("/feedback", content=b"no JSON")).status_code == 422
        assert 'route="/search",status="503"' in (await client.get("/metrics")).text
        twin.gate.set()
        assert (await taken).status_code == 200
        assert (await client.post("/rag", content=b"no JSON")).status_code == 422
