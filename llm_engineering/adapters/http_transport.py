"""The way from httpx to the socket: guarded addresses, one deadline for a whole answer, our errors.

httpcore asks its network backend for every connection, so the guard stands where no redirect, no spelling of a host and
no second DNS answer gets around it: the address that was checked is the address that is connected to, while the Host
header and the TLS certificate keep to the name.
"""

import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import httpcore
import httpx

from llm_engineering.adapters.network_guard import NetworkGuard
from llm_engineering.domain.errors import FetchFailed, FetchRefused

_REASONS: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
    ((httpx.TimeoutException, httpcore.TimeoutException, TimeoutError), "timeout"),
    ((ssl.SSLError,), "tls"),
    ((httpx.NetworkError, httpcore.NetworkError, httpcore.ConnectionNotAvailable, OSError), "connection"),
    ((httpx.ProtocolError, httpcore.ProtocolError), "protocol"),
    ((httpx.ProxyError, httpcore.ProxyError), "proxy"),
    ((httpx.UnsupportedProtocol, httpcore.UnsupportedProtocol), "scheme"),
    ((httpx.InvalidURL, UnicodeError), "bad-url"),
    ((httpx.DecodingError,), "content-encoding"),
    ((httpx.TooManyRedirects,), "redirects"),
    ((httpx.CookieConflict, httpx.HTTPStatusError), "protocol"),
    ((httpx.HTTPError, httpx.StreamError), "connection"),
)
ENGINE_ERRORS = tuple(kind for kinds, _ in _REASONS for kind in kinds)
"""Everything that httpx, httpcore, ssl and sockets raise."""
_REFUSED = frozenset({"scheme", "bad-url"})
RETRIED = frozenset({"timeout", "connection", "protocol"})
"""Reasons that may be gone a moment later."""


def as_fetch_error(error: BaseException, url: str) -> FetchFailed | FetchRefused:
    """Our error for one of the engine's, with the most telling reason in its chain of causes."""
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    reason = next(
        reason
        for kinds, reason in _REASONS
        if isinstance(error, kinds) or (reason == "tls" and any(isinstance(one, kinds) for one in chain))
    )
    detail = str(chain[-1] if reason == "tls" else error) or type(error).__name__
    message = f"{url} could not be fetched ({reason}): {detail}"
    return FetchRefused(message, reason=reason) if reason in _REFUSED else FetchFailed(message, reason=reason)


class Deadline:
    """The moment by which the answer that this thread is waiting for must be complete."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._local = threading.local()

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Let every read and write of this thread fail once so many seconds have passed."""
        self._local.at = self._clock() + seconds
        try:
            yield
        finally:
            del self._local.at

    def cut(self, timeout: float | None) -> float | None:
        """The shorter of a timeout and the time left. Raises :class:`httpcore.ReadTimeout` if there is none."""
        at: float | None = getattr(self._local, "at", None)
        if at is None:
            return timeout
        left = at - self._clock()
        if left <= 0:
            raise httpcore.ReadTimeout("the answer was not complete in time")
        return left if timeout is None else min(timeout, left)


class _TimedStream(httpcore.NetworkStream):
    """A server that sends a byte now and then never runs into a timeout of its own: each read gets the time left."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._deadline.cut(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._deadline.cut(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        inner = self._stream.start_tls(ssl_context, server_hostname, self._deadline.cut(timeout))
        return _TimedStream(inner, self._deadline)

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)


class _GuardedBackend(httpcore.NetworkBackend):
    def __init__(self, guard: NetworkGuard, deadline: Deadline) -> None:
        self._guard = guard
        self._deadline = deadline
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        failure: httpcore.NetworkError | httpcore.TimeoutException | None = None
        for address in self._guard.addresses(host, port):
            try:
                stream = self._sockets.connect_tcp(
                    address, port, self._deadline.cut(timeout), local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error  # the next address may answer, as over IPv4 where IPv6 does not work
            else:
                return _TimedStream(stream, self._deadline)
        raise failure or httpcore.ConnectError(f"{host} has no address")

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None
    ) -> httpcore.NetworkStream:
        raise FetchRefused(f"{path} is a local socket", reason="private-address")


class _Stream(httpx.SyncByteStream):
    def __init__(self, stream: Iterable[bytes]) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        yield from self._stream

    def close(self) -> None:
        close = getattr(self._stream, "close", None)
        if close is not None:
            close()


class GuardedTransport(httpx.BaseTransport):
    """An httpx transport that connects to what the guard lets through and to nothing else, proxies included.

    Lets errors of httpcore and of the guard pass; :func:`as_fetch_error` maps the former.
    """

    def __init__(self, guard: NetworkGuard, *, deadline: Deadline, tls: ssl.SSLContext | None = None) -> None:
        self._pool = httpcore.ConnectionPool(
            ssl_context=tls or httpx.create_ssl_context(),
            max_connections=100,
            max_keepalive_connections=20,
            keepalive_expiry=15.0,
            network_backend=_GuardedBackend(guard, deadline),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; redirects are the caller's."""
        answer = self._pool.handle_request(
            httpcore.Request(
                request.method,
                httpcore.URL(
                    scheme=request.url.raw_scheme,
                    host=request.url.raw_host,
                    port=request.url.port,
                    target=request.url.raw_path,
                ),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        if not isinstance(answer.stream, Iterable):
            raise httpcore.ProtocolError("the answer has no body to iterate over")
        return httpx.Response(answer.status, headers=answer.headers, stream=_Stream(answer.stream))

    def close(self) -> None:
        """Close every connection."""
        self._pool.close()
