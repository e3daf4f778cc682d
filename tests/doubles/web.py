"""A small web site on 127.0.0.1 whose answers are scripted, and that remembers what it was asked.

::

    with LocalSite({"/": "<p>hello</p>", "/old": redirect("/", 301), "/busy": [Answer(status=503), "ok"]}) as site:
        httpx.get(site.at("/"))
        site.routes["/new"] = Answer(b"...", content_type="text/plain", etag='"1"')
        assert site.paths == ["/"]

    with serve_folder(folder) as site:       # content types by suffix, index.html, ETag and conditional GET
        ...
"""

import gzip
import hashlib
import mimetypes
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate, parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import unquote, urlsplit

CONTENT_TYPES = {
    ".md": "text/markdown; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".htm": "text/html; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".xml": "application/xml",
    ".atom": "application/atom+xml",
    ".rss": "application/rss+xml",
    ".json": "application/json",
    ".gz": "application/gzip",
}


@dataclass(frozen=True)
class Request:
    """One request as it arrived; header names in lower case."""

    method: str
    path: str
    """With the query string."""
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True)
class Answer:
    """What a route answers. With ``etag`` or ``last_modified`` a matching conditional request gets 304 and no body.

    ``parts`` streams the body instead, without a Content-Length: one chunk per item, as slow as the iterable is.
    """

    body: bytes | str = b""
    status: int = 200
    content_type: str | None = "text/html; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)
    etag: str | None = None
    last_modified: str | None = None
    parts: Callable[[], Iterable[bytes]] | None = None


Route = str | bytes | Answer | list["str | bytes | Answer"] | Callable[[Request], "str | bytes | Answer"]
"""A list answers its items in turn, the last one for ever; a plain text is a 200 HTML page."""


def redirect(to: str, status: int = 302) -> Answer:
    """A redirect to a path or URL."""
    return Answer(status=status, headers={"Location": to})


def gzipped(body: bytes, content_type: str = "text/html; charset=utf-8") -> Answer:
    """A page sent with ``Content-Encoding: gzip``; a long run of one byte makes a bomb."""
    return Answer(gzip.compress(body), content_type=content_type, headers={"Content-Encoding": "gzip"})


def dripping(count: int, *, every: float = 0.05) -> Answer:
    """A page that arrives a byte at a time and would take ``count * every`` seconds."""

    def parts() -> Iterator[bytes]:
        for _ in range(count):
            time.sleep(every)
            yield b"."

    return Answer(parts=parts)


class LocalSite:
    """Serves ``routes`` (by path; a key with a query string goes first) and, below them, a folder.

    Anything else is 404. ``routes`` and the folder's files may change while it runs. With ``tls`` it speaks https.
    """

    def __init__(
        self,
        routes: Mapping[str, Route] | None = None,
        *,
        folder: Path | None = None,
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.routes: dict[str, Route] = dict(routes or {})
        self.folder = folder
        self.requests: list[Request] = []
        self._served: dict[str, int] = {}
        self._lock = threading.Lock()
        self._tls = tls
        self._host = host

    def __enter__(self) -> Self:
        self._server = _Server((self._host, 0), _Handler)
        self._server.site = self
        if self._tls:
            self._server.socket = self._tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, name="local-site", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def host(self) -> str:
        """``host:port``, as ``CRAWL_ALLOW_PRIVATE`` takes it."""
        return f"{self._host}:{self.port}"

    @property
    def url(self) -> str:
        """Address without a slash at the end."""
        return f"{'https' if self._tls else 'http'}://{self.host}"

    def at(self, path: str) -> str:
        """The URL of a path."""
        return self.url + path

    @property
    def paths(self) -> list[str]:
        """Paths asked for so far, in order, robots.txt left out."""
        return [request.path for request in self.requests if request.path != "/robots.txt"]

    def times(self, path: str) -> int:
        """How often a path was asked for."""
        return sum(request.path == path for request in self.requests)

    def answer(self, request: Request) -> Answer:
        """The scripted answer to a request, before conditional headers are looked at."""
        bare = urlsplit(request.path).path
        with self._lock:
            self.requests.append(request)
            key = request.path if request.path in self.routes else bare
            turn = self._served.get(key, 0)
            self._served[key] = turn + 1
        route = self.routes.get(key)
        if isinstance(route, list):
            route = route[min(turn, len(route) - 1)]
        if callable(route):
            route = route(request)
        if route is None:
            return self._file(unquote(bare))
        return route if isinstance(route, Answer) else Answer(route)

    def _file(self, path: str) -> Answer:
        if self.folder is not None:
            root = self.folder.resolve()
            file = (root / path.lstrip("/")).resolve()
            if file.is_relative_to(root):
                if file.is_dir() and not path.endswith("/"):
                    return redirect(f"{path}/", 301)
                if file.is_dir():
                    file = file / "index.html"
                if file.is_file():
                    return _answer_of(file)
        return Answer("<title>Not found</title>not found", status=404)


def serve_folder(path: Path) -> LocalSite:
    """A site with the files of a folder, to be used in a ``with``; ``routes`` can be added on top."""
    return LocalSite(folder=path)


def _answer_of(file: Path) -> Answer:
    body = file.read_bytes()
    kind = CONTENT_TYPES.get(file.suffix.lower()) or mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    return Answer(
        body,
        content_type=kind,
        etag=f'"{hashlib.sha256(body).hexdigest()[:16]}"',
        last_modified=formatdate(file.stat().st_mtime, usegmt=True),
    )


def _still_valid(answer: Answer, headers: Mapping[str, str]) -> bool:
    """RFC 9110 section 13.2.2: If-None-Match goes before If-Modified-Since."""
    if answer.status != 200:
        return False
    if "if-none-match" in headers:
        tags = [tag.strip().removeprefix("W/") for tag in headers["if-none-match"].split(",")]
        return answer.etag is not None and answer.etag.removeprefix("W/") in tags
    if "if-modified-since" in headers and answer.last_modified:
        since = parsedate_to_datetime(headers["if-modified-since"])
        return parsedate_to_datetime(answer.last_modified) <= since
    return False


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    site: LocalSite

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away in the middle is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    server: _Server

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.server.site.answer(Request(self.command, self.path, headers, self._body()))
        if _still_valid(answer, headers):
            self._send(answer, 304, b"")
        elif answer.parts is not None:
            self._stream(answer, answer.parts())
        else:
            self._send(answer, answer.status, answer.body.encode() if isinstance(answer.body, str) else answer.body)

    do_HEAD = do_POST = do_GET

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = bytearray()
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return bytes(body)

    def _head(self, answer: Answer, status: int) -> None:
        self.send_response(status)
        named = {name.lower() for name in answer.headers}
        if answer.content_type and status != 304 and "content-type" not in named:
            self.send_header("Content-Type", answer.content_type)
        if answer.etag:
            self.send_header("ETag", answer.etag)
        if answer.last_modified:
            self.send_header("Last-Modified", answer.last_modified)
        for name, value in answer.headers.items():
            self.send_header(name, value)

    def _send(self, answer: Answer, status: int, body: bytes) -> None:
        self._head(answer, status)
        if "content-length" not in {name.lower() for name in answer.headers}:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _stream(self, answer: Answer, parts: Iterable[bytes]) -> None:
        self.close_connection = True
        self._head(answer, answer.status)
        self.send_header("Connection", "close")
        self.end_headers()
        for part in parts:
            self.wfile.write(part)
            self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        """The requests are in ``LocalSite.requests``."""
