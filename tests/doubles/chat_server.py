"""An OpenAI-compatible chat endpoint on 127.0.0.1 that behaves as scripted, for tests and for the service's benchmark.

Each chat request takes the next turn of the script; the last turn repeats::

    with ChatServer(fails(429, retry_after=0), says("Yes [1].")) as server:
        model = OpenAIChatModel(server.url, "any", None, ChatConfig())

One event loop in a thread of its own serves any number of requests at once. ``python -m tests.doubles.chat_server
--delay 1 --port 8001`` serves from a process of its own.
"""

import argparse
import asyncio
import json
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

from tests.doubles.chat_turns import MODEL, Turn, completion, events, fails, html, says, sends

__all__ = ["MODEL", "ChatServer", "Request", "Turn", "fails", "html", "says", "sends"]


@dataclass
class Request:
    """What the server got; ``left`` once the client closed the connection before it had the whole answer."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    left: bool = False
    answered: bool = False


class _Watched(asyncio.StreamReaderProtocol):
    """A connection that says when its client has closed, without anybody reading from it."""

    def __init__(
        self, accept: Callable[[asyncio.StreamReader, asyncio.StreamWriter], None], loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__(asyncio.StreamReader(loop=loop), accept, loop=loop)
        self.gone = asyncio.Event()

    def eof_received(self) -> bool | None:
        self.gone.set()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.set()
        super().connection_lost(exc)


def _watch(writer: asyncio.StreamWriter) -> _Watched:
    protocol = writer.transport.get_protocol()
    assert isinstance(protocol, _Watched)
    return protocol


class ChatServer:
    """The server; use as a context manager. ``url`` is the base URL that clients are given."""

    def __init__(
        self, *script: Turn, delay: float = 0.0, port: int = 0, models: tuple[str, ...] = (MODEL,),
        models_status: int = 200, api_key: str | None = None,
    ) -> None:  # fmt: skip
        self._script = list(script) or [Turn()]
        if delay:
            self._script = [replace(turn, delay=delay) for turn in self._script]
        self._port, self._models, self._models_status, self._api_key = port, models, models_status, api_key
        self.requests: list[Request] = []
        """Chat requests, in the order of their arrival."""
        self.checks: list[Request] = []
        """Requests for the list of models."""
        self.connections = 0
        self.under_way = 0
        self.most_at_once = 0
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    def wait_for(self, condition: Callable[[Self], bool], *, seconds: float = 60) -> None:
        """Return once the condition holds; it is asked after each event here."""
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self), seconds), "the server never saw that"

    def __enter__(self) -> Self:
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), name="chat-server", daemon=True)
        self._thread.start()
        started.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve(started))
        self._loop.close()

    async def _serve(self, started: threading.Event) -> None:
        self._stop = asyncio.Event()
        server = await self._loop.create_server(
            lambda: _Watched(self._accept, self._loop), "127.0.0.1", self._port, backlog=1024
        )
        self._port = server.sockets[0].getsockname()[1]
        started.set()
        await self._stop.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # transports close in the next turn of the loop

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = self._loop.create_task(self._connection(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while (request := await _read(reader)) is not None:
                    if not await self._answer_or_leave(request, writer):
                        writer.transport.abort()
                        return
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer_or_leave(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        """Answer while watching whether the client is still there; false if the connection is of no more use."""
        answer = asyncio.ensure_future(self._answer(request, writer))
        gone = asyncio.ensure_future(_watch(writer).gone.wait())
        try:
            await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                answer.cancel()
                self._note(lambda: setattr(request, "left", True))
                return False
            return answer.result()
        except ConnectionError:
            self._note(lambda: setattr(request, "left", True))
            return False
        finally:
            gone.cancel()
            await asyncio.gather(answer, gone, return_exceptions=True)

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        if request.path.endswith("/models"):
            self._note(lambda: self.checks.append(request))
            return await self._list_models(request, writer)
        if not request.path.endswith("/chat/completions"):
            return await _send(writer, 404, b'{"error": {"message": "no such path"}}')
        turn = self._next_turn(request)
        try:
            return await self._take(turn, request, writer)
        finally:
            self._note(lambda: setattr(self, "under_way", self.under_way - 1))

    def _next_turn(self, request: Request) -> Turn:
        with self._changed:
            turn = self._script[min(len(self.requests), len(self._script) - 1)]
            self.requests.append(request)
            self.under_way += 1
            self.most_at_once = max(self.most_at_once, self.under_way)
            self._changed.notify_all()
        return turn

    async def _take(self, turn: Turn, request: Request, writer: asyncio.StreamWriter) -> bool:
        await asyncio.sleep(turn.delay)
        if not self._admits(request):
            return await _send(writer, 401, b'{"error": {"message": "Incorrect API key", "code": "invalid_api_key"}}')
        if refused := sorted(turn.refuses & request.body.keys()):
            error = {"error": {"message": f"Unrecognized request argument supplied: {', '.join(refused)}"}}
            return await _send(writer, 400, json.dumps(error).encode())
        if turn.body is not None:
            body, headers = turn.body, {**turn.headers, "Content-Type": turn.content_type}
            return self._done(request, await _send(writer, turn.status, body, headers, cut_after=turn.cut_after))
        if request.body.get("stream"):
            return self._done(request, await _stream(writer, turn, request.body))
        body = json.dumps(completion(turn, request.body)).encode()
        return self._done(request, await _send(writer, 200, body, turn.headers, cut_after=turn.cut_after))

    def _admits(self, request: Request) -> bool:
        return self._api_key is None or request.headers.get("authorization") == f"Bearer {self._api_key}"

    def _done(self, request: Request, usable: bool) -> bool:
        self._note(lambda: setattr(request, "answered", True))
        return usable

    async def _list_models(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        if not self._admits(request):
            return await _send(writer, 401, b'{"error": {"message": "Incorrect API key"}}')
        listed = [{"id": name, "object": "model", "created": 0, "owned_by": "double"} for name in self._models]
        return await _send(writer, self._models_status, json.dumps({"object": "list", "data": listed}).encode())

    def _note(self, change: Callable[[], object]) -> None:
        with self._changed:
            change()
            self._changed.notify_all()


async def _stream(writer: asyncio.StreamWriter, turn: Turn, asked: dict[str, Any]) -> bool:
    head = {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked", **turn.headers}
    writer.write(_head(200, head))
    for count, event in enumerate(events(turn, asked)):
        if turn.cut_after is not None and count >= turn.cut_after:
            return False
        if turn.pause:
            if turn.keep_alive:
                _chunk(writer, b": still here\n\n")
            await asyncio.sleep(turn.pause)
        _chunk(writer, b"data: " + event.encode() + b"\n\n")
        await writer.drain()
    writer.write(b"0\r\n\r\n")
    await writer.drain()
    return True


async def _read(reader: asyncio.StreamReader) -> Request | None:
    """The next request of a connection; ``None`` at its end."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    except asyncio.IncompleteReadError:
        return None
    method, path, _ = head[0].split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Request(method, path.partition("?")[0], headers, json.loads(body) if body else {})


async def _send(
    writer: asyncio.StreamWriter, status: int, body: bytes, headers: Mapping[str, str] | None = None,
    *, cut_after: int | None = None,
) -> bool:  # fmt: skip
    head = {"Content-Type": "application/json", **(headers or {}), "Content-Length": str(len(body))}
    writer.write(_head(status, head) + body[:cut_after])
    await writer.drain()
    return cut_after is None


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} Scripted", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")


def main() -> None:
    """Serve until the standard input closes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--delay", type=float, default=1.0, help="seconds before each reply")
    parser.add_argument("--text", default=Turn.text, help="what every reply says")
    chosen = parser.parse_args()
    with ChatServer(says(chosen.text), delay=chosen.delay, port=chosen.port) as server:
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()
