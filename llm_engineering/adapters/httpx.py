"""The fetcher: gets pages over HTTP with manners and without being tricked."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import TYPE_CHECKING, Self

from llm_engineering.adapters.http_content import ACCEPT_ENCODING, accepted, media_type, read_body, sniffed
from llm_engineering.adapters.network_guard import NetworkGuard, Resolver, Target, parse_target, system_resolver
from llm_engineering.adapters.pacing import Pacer
from llm_engineering.adapters.robots import MAX_BYTES, Robots
from llm_engineering.domain.config import CrawlConfig
from llm_engineering.domain.errors import FetchFailed, FetchRefused
from llm_engineering.domain.ports import Fetched

if TYPE_CHECKING:
    import ssl

    import httpx

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PERMANENT = frozenset({301, 308})
_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
_FIRST_BACKOFF = 0.5
_LONGEST_WAIT = 24 * 3600.0


@dataclass(frozen=True)
class _Wanted:
    """What one fetch asks for, besides the address."""

    etag: str | None = None
    last_modified: str | None = None
    accept: Sequence[str] = ()
    limit: int = 0
    cut: bool = False


@dataclass(frozen=True)
class _Answer:
    status: int
    location: str | None
    page: Fetched


class HttpxFetcher:
    """The port :class:`~llm_engineering.domain.ports.Fetcher` on httpx. Thread-safe; close it after use.

    Proxy variables of the environment are ignored, because behind a proxy nobody can check which address is contacted;
    ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` are honoured. Cookies are neither kept nor sent. ``github_token`` goes to
    ``https://github.com`` alone. Reasons of refusals: ``bad-url``, ``scheme``, ``userinfo``, ``private-address``,
    ``robots``, ``robots-unreachable``, ``crawl-delay``, ``retry-after``, ``too-large``, ``content-type``, ``redirects``.
    Reasons of failures: ``dns``, ``connection``, ``tls``, ``timeout``, ``protocol``, ``content-encoding``,
    ``redirect-loop``, ``http-<status>``.
    """

    def __init__(
        self,
        config: CrawlConfig,
        *,
        allow_private: tuple[str, ...] = (),
        github_token: str | None = None,
        resolver: Resolver = system_resolver,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        tls: "ssl.SSLContext | None" = None,
    ) -> None:
        import http.cookiejar

        import httpx

        from llm_engineering.adapters.http_transport import Deadline, GuardedTransport

        self._config = config
        self._token = github_token
        self._guard = NetworkGuard(allow_private, resolver=resolver)
        self._public_guard = NetworkGuard(resolver=resolver)
        self._pacer = Pacer(clock=clock, sleep=sleep)
        self._robots = Robots(self._robots_text, user_agent=config.user_agent, clock=clock)
        self._deadline = Deadline(clock)
        tls = tls or httpx.create_ssl_context()

        def client(guard: NetworkGuard) -> httpx.Client:
            opened = httpx.Client(
                transport=GuardedTransport(guard, deadline=self._deadline, tls=tls),
                timeout=config.timeout,
                trust_env=False,
                headers={"User-Agent": config.user_agent, "Accept-Encoding": ACCEPT_ENCODING},
            )
            opened.cookies.jar.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
            return opened

        self._client = client(self._guard)
        self._public_client = client(self._public_guard)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self._client.close()
        self._public_client.close()

    def fetch(
        self,
        url: str,
        *,
        etag: str | None = None,
        last_modified: str | None = None,
        accept: Sequence[str] = (),
    ) -> Fetched:
        """See the port. ``content`` is empty unless the status is 2xx."""
        return self._follow(url, _Wanted(etag, last_modified, accept, self._config.max_bytes), self._polite)

    def fetch_part(self, url: str, *, page: str) -> Fetched:
        """A script or style of a page that is being rendered: the same rules, but a page and its parts are one turn.

        ``allow_private`` counts for the site of ``page`` alone: scripts of strangers must not read the intranet.
        """
        home = parse_target(page).origin

        def ask(target: Target, wanted: _Wanted) -> _Answer:
            client = self._client
            if target.origin != home:
                self._public_guard.addresses(target.host, target.port)
                client = self._public_client
            self._robots.delay(target)
            try:
                return self._ask(target, wanted, client)
            except _Busy as busy:
                raise busy.failure from None

        return self._follow(url, _Wanted(limit=self._config.max_bytes), ask)

    def addresses(self, url: str) -> list[str]:
        """The permitted addresses of a URL's host, for engines that connect themselves. See the port."""
        target = parse_target(url)
        return self._guard.addresses(target.host, target.port)

    def _follow(self, url: str, wanted: _Wanted, ask: Callable[[Target, _Wanted], _Answer]) -> Fetched:
        target = parse_target(url)
        seen, permanent = {target.url}, True
        while True:
            answer = ask(target, wanted)
            if answer.status not in _REDIRECTS:
                page = answer.page
                moved = permanent and len(seen) > 1
                return page.model_copy(update={"url": url, "final_url": target.url, "moved_permanently": moved})
            permanent = permanent and answer.status in _PERMANENT
            target = self._next(target, answer.location, seen)

    def _next(self, target: Target, location: str | None, seen: set[str]) -> Target:
        if not location:
            raise FetchFailed(f"{target.url} redirects without saying where to", reason="protocol")
        following = parse_target(location, base=target.url)
        if following.url in seen:
            raise FetchFailed(f"{target.url} redirects in a circle", reason="redirect-loop")
        if len(seen) > self._config.max_redirects:
            raise FetchRefused(
                f"{target.url} redirects once more after {self._config.max_redirects} redirects", reason="redirects"
            )
        seen.add(following.url)
        return following

    def _polite(self, target: Target, wanted: _Wanted) -> _Answer:
        pause = self._robots.delay(target)
        if pause > self._config.max_delay:
            raise FetchRefused(
                f"{target.origin}/robots.txt asks for {pause:g} s between requests", reason="crawl-delay",
                hint="Raise crawl.max_delay to wait so long.",
            )  # fmt: skip
        return self._persistent(target, wanted, max(pause, self._config.delay))

    def _robots_text(self, url: str) -> str:
        page = self._follow(
            url,
            _Wanted(limit=MAX_BYTES, cut=True),
            lambda target, wanted: self._persistent(target, wanted, self._config.delay),
        )
        return page.content.decode("utf-8-sig", "replace") if page.status == 200 else ""

    def _persistent(self, target: Target, wanted: _Wanted, pause: float) -> _Answer:
        """Ask in turn, and again after a pause when the server is busy or out of reach."""
        from llm_engineering.adapters.http_transport import RETRIED

        for attempt in range(self._config.retries + 1):
            try:
                with self._pacer.turn(target.host, pause, longest=self._config.max_delay):
                    return self._ask(target, wanted, self._client)
            except _Busy as busy:
                failure, wait = busy.failure, busy.retry_after
            except FetchFailed as error:
                if error.reason not in RETRIED:
                    raise
                failure, wait = error, 0.0
            if attempt < self._config.retries:
                wait = max(wait, min(_FIRST_BACKOFF * 2**attempt, self._config.max_delay))
            self._pacer.postpone(target.host, wait)
        raise failure

    def _ask(self, target: Target, wanted: _Wanted, client: "httpx.Client") -> _Answer:
        """One request, one answer, within the time for both."""
        from llm_engineering.adapters.http_transport import ENGINE_ERRORS, as_fetch_error

        try:
            request = client.build_request("GET", target.url, headers=self._headers(target, wanted))
            with self._deadline.within(self._config.timeout):
                response = client.send(request, stream=True)
                try:
                    return self._read(target, wanted, response)
                finally:
                    response.close()
        except ENGINE_ERRORS as error:
            raise as_fetch_error(error, target.url) from error

    def _headers(self, target: Target, wanted: _Wanted) -> dict[str, str]:
        headers = {"Accept": ", ".join([*wanted.accept, "*/*;q=0.1"]) if wanted.accept else "*/*"}
        if wanted.etag:
            headers["If-None-Match"] = wanted.etag
        if wanted.last_modified:
            headers["If-Modified-Since"] = wanted.last_modified
        if self._token and target.origin == "https://github.com":
            headers["Authorization"] = f"Bearer {self._token}"
        return headers

    def _read(self, target: Target, wanted: _Wanted, response: "httpx.Response") -> _Answer:
        status = response.status_code
        expected = status in _REDIRECTS or (status == 304 and (wanted.etag or wanted.last_modified))
        if status >= 500 or status in _BUSY:
            failure = FetchFailed(f"{target.url} answers {status}", reason=f"http-{status}")
            raise _Busy(failure, _retry_after(response)) if status in _BUSY else failure
        if status == 206 or status < 200 or (300 <= status < 400 and not expected):
            raise FetchFailed(f"{target.url} answers {status}, which was not asked for", reason=f"http-{status}")
        kind, charset = media_type(response.headers.get("content-type", ""))
        content = self._body(target, wanted, response, kind) if status < 300 else b""
        page = Fetched(
            url=target.url,
            final_url=target.url,
            status=status,
            content=content,
            content_type=kind,
            charset=charset,
            etag=response.headers.get("etag"),
            last_modified=response.headers.get("last-modified"),
        )
        return _Answer(status, response.headers.get("location"), page)

    def _body(self, target: Target, wanted: _Wanted, response: "httpx.Response", kind: str) -> bytes:
        if kind and not accepted(kind, wanted.accept):
            raise _unwanted(target, kind, wanted)
        length = response.headers.get("content-length", "")
        if length.isdecimal() and int(length) > wanted.limit and not wanted.cut:
            raise FetchRefused(
                f"{target.url} is larger than {wanted.limit} bytes", reason="too-large", hint="See crawl.max_bytes."
            )
        encoding = response.headers.get("content-encoding", "")
        content = read_body(response.iter_raw(), encoding=encoding, limit=wanted.limit, url=target.url, cut=wanted.cut)
        if content and not kind and not accepted(guess := sniffed(content), wanted.accept):
            raise _unwanted(target, guess, wanted)
        return content


class _Busy(Exception):
    """The server asks for patience; never leaves this module."""

    def __init__(self, failure: FetchFailed, retry_after: float) -> None:
        super().__init__(str(failure))
        self.failure = failure
        self.retry_after = retry_after


def _unwanted(target: Target, kind: str, wanted: _Wanted) -> FetchRefused:
    return FetchRefused(f"{target.url} is of type {kind}, not one of {', '.join(wanted.accept)}", reason="content-type")


def _retry_after(response: "httpx.Response") -> float:
    """Seconds that the server asks to wait (RFC 9110 section 10.2.3: a number, or a date), 0 if it does not say."""
    value = response.headers.get("retry-after", "").strip()
    try:
        until = parsedate_to_datetime(value) if not value.isdecimal() else None
    except (ValueError, OverflowError):
        return 0.0
    if until is None:
        return min(float(value), _LONGEST_WAIT)
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return min(max(0.0, (until - datetime.now(UTC)).total_seconds()), _LONGEST_WAIT)
