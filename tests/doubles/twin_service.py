"""A twin that answers as told, and what it takes to serve it: for tests of the service alone."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager

import httpx
import uvicorn
from starlette.types import ASGIApp

from llm_engineering.domain.answers import Answer, Citation, Feedback, Passage, Question, Usage
from llm_engineering.domain.config import Sampling
from llm_engineering.domain.entities import Author, Kind, document_id
from llm_engineering.domain.errors import StoreUnavailable, TwinError, UnknownDocument
from llm_engineering.serving.service import Event, Service

ANN = Author.named("Ann Lee")
DOCUMENT = document_id(ANN.id, "https://example.org/log")
PASSAGE = Passage(
    marker=1, document_id=DOCUMENT, revision=2, title="On logs", url="https://example.org/log", kind=Kind.ARTICLE,
    author="Ann Lee", text="A log is a promise.", start=10, end=29, score=0.9,
)  # fmt: skip
CITATION = Citation(
    marker=1, document_id=DOCUMENT, revision=2, title="On logs", url="https://example.org/log",
    quote="A log is a promise.", start=10, end=29,
)  # fmt: skip
HIT: dict[str, object] = {
    "document_id": DOCUMENT, "revision": 2, "title": "On logs", "url": "https://example.org/log", "kind": "article",
    "author": "Ann Lee", "published_at": None, "heading_path": ["Logs"], "text": "A log is a promise.", "start": 10,
    "end": 29, "score": 0.9,
}  # fmt: skip


class FakeTwin:
    """Answers with ``pieces``; raises ``error`` instead, after ``fails_after`` pieces. Waits at ``gate`` where one is set."""

    def __init__(self, *pieces: str, error: Exception | None = None, fails_after: int = 0) -> None:
        self.pieces: Sequence[str] = pieces or ("A log is ", "a promise [1].")
        self.error, self.fails_after = error, fails_after
        self.gate: asyncio.Event | None = None
        self.questions: list[Question] = []
        self.samplings: list[Sampling | None] = []
        self.feedback: list[Feedback] = []
        self.cancelled = 0
        self.missing: set[str] = set()

    async def answer(self, question: Question, *, request_id: str, sampling: Sampling | None) -> Answer:
        async for event in self.stream(question, request_id=request_id, sampling=sampling):
            if isinstance(event, Answer):
                return event
        raise AssertionError("a stream ends with its answer")

    async def stream(self, question: Question, *, request_id: str, sampling: Sampling | None) -> AsyncIterator[Event]:
        self.questions.append(question)
        self.samplings.append(sampling)
        try:
            if self.error and not self.fails_after:
                raise self.error
            yield (PASSAGE,)
            for number, piece in enumerate(self.pieces, start=1):
                if self.gate:
                    await self.gate.wait()
                yield piece
                if self.error and number == self.fails_after:
                    raise self.error
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled += 1
            raise
        usage = Usage(retrieval_ms=1, generation_ms=2, prompt_tokens=30, completion_tokens=5, stages={"write": 2})
        yield Answer(
            answer="".join(self.pieces), citations=(CITATION,), grounded=True, model="fake", usage=usage,
            request_id=request_id,
        )  # fmt: skip

    async def search(self, question: Question) -> list[dict[str, object]]:
        self.questions.append(question)
        if self.error:
            raise self.error
        return [HIT][: question.k or 5]

    async def passage(self, document_id: str, revision: int, start: int, end: int) -> dict[str, object]:
        if document_id != DOCUMENT:
            raise UnknownDocument("That document is gone")
        return {"quote": "q", "before": "b", "after": "a", "title": "On logs", "url": "https://example.org/log"}

    async def save_feedback(self, feedback: Feedback) -> None:
        if self.error:
            raise self.error
        self.feedback.append(feedback)

    def service(self) -> Service:
        async def check(name: str) -> None:
            if name in self.missing:
                raise StoreUnavailable(f"{name} at secret://address is away")

        return Service(
            model="fake",
            answer=self.answer,
            stream=self.stream,
            search=self.search,
            passage=self.passage,
            save_feedback=self.save_feedback,
            checks={name: lambda name=name: check(name) for name in ("warehouse", "index", "model")},
        )


class Clients:
    """Clients of an application in this process, from an address of choice."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def client(
        self, *, host: str = "127.0.0.1", url: str = "http://localhost:8080", **more: object
    ) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self._app, client=(host, 5555), raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url=url, **more)  # type: ignore[arg-type]


@contextmanager
def served(app: ASGIApp, *, graceful: int = 10) -> Iterator[tuple[str, uvicorn.Server]]:
    """A real server on a free port of this machine, in a thread; stopped gracefully at the end."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    config = uvicorn.Config(app, log_config=None, proxy_headers=False, timeout_graceful_shutdown=graceful)
    server = uvicorn.Server(config)
    started = threading.Event()
    original = server.startup

    async def startup(sockets: list[socket.socket] | None = None) -> None:
        await original(sockets)
        started.set()

    server.startup = startup  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    assert started.wait(20)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", server
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()


def failing(error: TwinError) -> FakeTwin:
    """A twin that fails like that before it says anything."""
    return FakeTwin(error=error)
