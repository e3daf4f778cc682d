"""Pages that are made by their scripts: rendered in the system's Chromium, which itself has no way to the network.

Every request of a page is answered out of the guarded fetcher, so addresses, robots.txt and limits hold for its parts
too. What a browser could do past such an interception finds no name and no proxy that exists.
"""

import asyncio
import importlib.util
import os
import shutil
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from llm_engineering.adapters.http_content import sniffed
from llm_engineering.adapters.httpx import HttpxFetcher
from llm_engineering.adapters.network_guard import parse_target
from llm_engineering.domain.config import CrawlConfig
from llm_engineering.domain.errors import FetchFailed, FetchRefused, MissingExtra, SourceError, UsageError
from llm_engineering.domain.ports import Fetched

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext, Page, Route

T = TypeVar("T")

_HTML = frozenset({"text/html", "application/xhtml+xml"})
_PARTS = frozenset({"script", "xhr", "fetch", "stylesheet"})
"""What the text of a page may depend on; images, fonts and frames are left out."""
_MOST_PARTS = 200
_START_SECONDS = 60.0
_ARGUMENTS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--proxy-server=http://nowhere.invalid:1",
    "--proxy-bypass-list=<-loopback>",
    "--webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
)
_NO_OTHER_WAY_OUT = (
    "for (const name of ['RTCPeerConnection', 'webkitRTCPeerConnection', 'WebTransport']) delete window[name];"
)


def find_chromium() -> str:
    """Path of the installed browser: ``CHROMIUM_PATH``, or the first on PATH. Raises :class:`UsageError`."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    chosen = os.environ.get("CHROMIUM_PATH")
    for name in (chosen,) if chosen else names:
        if found := shutil.which(name):
            return found
    raise UsageError(
        f"CHROMIUM_PATH={chosen} is no program" if chosen else "No Chromium or Chrome is installed",
        hint="Install chromium, or set CHROMIUM_PATH to the browser.",
    )


class PlaywrightFetcher:
    """The port :class:`~llm_engineering.domain.ports.Fetcher`, with HTML as it stands after its scripts have run.

    Everything else (other types, 4xx) is passed on as the fetcher below gives it. Never conditional, because the text
    of such a page may change while its own answer does not. Adds the reason ``browser`` to both. Thread-safe; starts the browser
    with the first page; close it after use (the fetcher below stays open). Raises :class:`MissingExtra` or
    :class:`UsageError` if there is nothing to render with.
    """

    def __init__(self, fetcher: HttpxFetcher, config: CrawlConfig) -> None:
        if importlib.util.find_spec("playwright") is None:
            raise MissingExtra("playwright", extra="browser")
        self._fetcher = fetcher
        self._config = config
        self._program = find_chromium()
        self._lock = threading.Lock()
        self._chromium: _Chromium | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the browser."""
        with self._lock:
            if self._chromium is not None:
                self._chromium.close()
                self._chromium = None

    def fetch(
        self,
        url: str,
        *,
        etag: str | None = None,
        last_modified: str | None = None,
        accept: Sequence[str] = (),
    ) -> Fetched:
        """See the port; ``etag`` and ``last_modified`` are passed over."""
        page = self._fetcher.fetch(url, accept=accept)
        if page.status >= 300 or (page.content_type or sniffed(page.content)) not in _HTML:
            return page
        chromium = self._started()
        return chromium.run(_render(chromium.browser, page, self._fetcher, self._config), page.final_url)

    def addresses(self, url: str) -> list[str]:
        """See the port."""
        return self._fetcher.addresses(url)

    def _started(self) -> "_Chromium":
        with self._lock:
            if self._chromium is not None and not self._chromium.browser.is_connected():
                self._chromium.close()
                self._chromium = None
            if self._chromium is None:
                self._chromium = _Chromium(self._program)
            return self._chromium


class _Chromium:
    """A browser on an event loop in a thread of its own, so that any thread can use it."""

    browser: "Browser"

    def __init__(self, program: str) -> None:
        ready: Future[None] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live(program, ready)), name="chromium")
        self._thread.daemon = True
        self._thread.start()
        try:
            ready.result(timeout=_START_SECONDS)
        except TimeoutError as error:
            raise FetchFailed(f"{program} did not start within {_START_SECONDS:g} s", reason="browser") from error

    async def _live(self, program: str, ready: "Future[None]") -> None:
        from playwright.async_api import Error, async_playwright

        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        try:
            async with async_playwright() as engine:
                self.browser = await engine.chromium.launch(
                    executable_path=program,
                    headless=True,
                    args=_ARGUMENTS,
                    chromium_sandbox=os.geteuid() != 0,  # Chromium has no sandbox for root
                    handle_sigint=False,
                    handle_sigterm=False,
                    handle_sighup=False,
                )
                ready.set_result(None)
                await self._over.wait()
                await self.browser.close()
        except (Error, OSError) as error:
            if not ready.done():
                ready.set_exception(_failure(program, "could not be started", error))

    def run(self, work: Coroutine[None, None, T], url: str) -> T:
        """Do some work on the browser's loop. What the browser cannot do is a :class:`FetchFailed`."""
        from playwright.async_api import Error

        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        except TimeoutError as error:
            raise FetchFailed(f"{url} was not rendered in time", reason="timeout") from error
        except Error as error:
            raise _failure(url, "could not be rendered", error) from error

    def close(self) -> None:
        """End the browser and its thread."""
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()


def _failure(what: str, happened: str, error: Exception) -> FetchFailed:
    told = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return FetchFailed(f"{what} {happened}: {told}", reason="browser")


async def _render(browser: "Browser", page: Fetched, fetcher: HttpxFetcher, config: CrawlConfig) -> Fetched:
    from playwright.async_api import Error

    context = await browser.new_context(
        user_agent=config.user_agent, service_workers="block", accept_downloads=False, permissions=[]
    )
    parts = _Parts(page, fetcher)
    try:
        async with asyncio.timeout(config.timeout):
            address, html = await _visit(context, page, parts, config.timeout)
    except (Error, TimeoutError, FetchFailed):
        if not parts.astray:
            raise
    finally:
        await context.close()
    if parts.refused is not None:
        raise parts.refused
    if parts.shown is not None and parts.astray:
        return parts.shown.model_copy(update={"url": page.url})
    content = html.encode("utf-8", "replace")
    if len(content) > config.max_bytes:
        raise FetchRefused(f"{page.final_url} grows beyond {config.max_bytes} bytes", reason="too-large")
    moved = address != page.final_url
    return page.model_copy(
        update={
            "final_url": address,
            "moved_permanently": page.moved_permanently and not moved,
            "content": content,
            "content_type": "text/html",
            "charset": "utf-8",
            "etag": None,
            "last_modified": None,
        }
    )


async def _visit(context: "BrowserContext", page: Fetched, parts: "_Parts", seconds: float) -> tuple[str, str]:
    """Address and HTML of the page once its scripts have come to rest, or half the time is over."""
    from playwright.async_api import TimeoutError as EngineTimeout

    await context.add_init_script(_NO_OTHER_WAY_OUT)
    await context.route_web_socket("**/*", lambda socket: socket.close())
    tab: Page = await context.new_page()
    await context.route("**/*", parts.answer(tab))
    try:
        await tab.goto(page.final_url, wait_until="domcontentloaded", timeout=seconds * 1000)
    except EngineTimeout as error:
        raise TimeoutError from error
    with suppress(EngineTimeout):  # some pages never fall silent; what stands there by then is taken
        await tab.wait_for_load_state("networkidle", timeout=seconds * 500)
    if not tab.url.startswith(("http:", "https:")):  # an error page of the browser's own
        raise FetchFailed(f"{page.final_url} leads its reader to {tab.url}", reason="browser")
    return parse_target(tab.url).url, await tab.content()


class _Parts:
    """Answers what one page asks for."""

    def __init__(self, page: Fetched, fetcher: HttpxFetcher) -> None:
        self._page = page
        self._fetcher = fetcher
        self._asked = 0
        self.shown: Fetched | None = None
        """The document that the tab went to last."""
        self.refused: SourceError | None = None
        """Why the tab could not go where the page sent it."""

    @property
    def astray(self) -> bool:
        """Whether the page sent its tab to where there is nothing to show."""
        return self.refused is not None or (self.shown is not None and self.shown.status >= 300)

    def answer(self, tab: "Page") -> "Callable[[Route], Coroutine[None, None, None]]":
        """The handler of a tab's requests."""

        async def handle(route: "Route") -> None:
            from playwright.async_api import Error

            with suppress(Error):  # the page is gone meanwhile, and its question with it
                found = await self._found(route, tab)
                if found is None:
                    await route.abort("blockedbyclient")
                    return
                kind = found.content_type + (f"; charset={found.charset}" if found.charset else "")
                headers = {"content-type": kind} if kind else {}
                # Nothing here carries a credential, so every page may read what it was given.
                await route.fulfill(
                    status=found.status, body=found.content, headers={**headers, "access-control-allow-origin": "*"}
                )

        return handle

    async def _found(self, route: "Route", tab: "Page") -> Fetched | None:
        from playwright.async_api import Error

        request = route.request
        self._asked += 1
        if self._asked > _MOST_PARTS:
            return None
        if request.is_navigation_request():
            try:
                frame = request.frame
            except Error:  # a window that is being opened has none yet
                return None
            if frame != tab.main_frame:
                return None
            return await self._navigated(request.url, request.method)
        if request.method != "GET" or request.resource_type not in _PARTS:
            return None
        try:
            return await self._part(request.url)
        except SourceError:
            return None  # a page misses a part: its reader would see the same

    async def _navigated(self, url: str, method: str) -> Fetched | None:
        if method != "GET":
            self.refused = FetchRefused(f"{self._page.final_url} sends a form to {url}", reason="browser")
            return None
        try:
            first = self.shown is None and url == self._page.final_url
            self.shown = self._page if first else await self._part(url)
        except SourceError as error:
            self.refused = error
            return None
        return self.shown

    async def _part(self, url: str) -> Fetched:
        return await asyncio.to_thread(self._fetcher.fetch_part, url, page=self._page.final_url)
