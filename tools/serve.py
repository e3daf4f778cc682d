"""The twin behind HTTP: a web page at /, POST /rag, the dialect of the OpenAI API under /v1, a reference at /docs."""

import asyncio
import errno
import gc
import logging
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
import uvicorn

from llm_engineering import bootstrap, telemetry
from llm_engineering.domain.answers import Question
from llm_engineering.domain.config import AnswerConfig, ServiceConfig
from llm_engineering.domain.errors import TwinError, UsageError
from llm_engineering.hosting import open_service
from llm_engineering.serving.app import create_app
from llm_engineering.serving.beside import beside
from llm_engineering.serving.gate import is_loopback, key_hashes
from llm_engineering.serving.service import Service
from llm_engineering.settings import Settings, load_settings
from tools.entry import load_config, main, settings_secrets

_log = logging.getLogger(__name__)
app = typer.Typer(add_completion=False, help=__doc__, pretty_exceptions_enable=False)
_COMPUTING, _WAITING = 2, 16
"""Threads for the stages of answering. Over embedded stores they compute: their Python code runs one at a time in any case, and
the event loops come first. Over servers most of them wait for an answer."""
_TURN = 0.0005
"""Seconds that a thread computes before another, that of the event loop which answers everybody, may have its turn."""
_GARBAGE = (2_000, 10, 100)
"""Objects, and rounds of the younger generations, after which each generation is searched for garbage: less often than usual."""
CONFIG, LIMITS = Path("configs/inference.yaml"), Path("configs/serving.yaml")


@app.command()
def serve(
    host: Annotated[
        str, typer.Option("--host", help="address to listen at; a public one takes API_KEYS")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="port to listen at")] = 8080,
    config: Annotated[Path, typer.Option("--config", help="YAML with the numbers of answering")] = CONFIG,
    limits: Annotated[Path, typer.Option("--limits", help="YAML with the limits of the service")] = LIMITS,
) -> None:
    """Serve until stopped; requests under way are finished first."""
    settings = load_settings()
    hashes = key_hashes(settings.api_keys.get_secret_value())
    if not hashes and not is_loopback(host):
        raise UsageError(
            f"Without API keys the service listens only to this machine, not at {host}",
            hint="Set API_KEYS (.env.example says how to make one), or leave --host out.",
        )
    numbers, bounds = load_config(config, AnswerConfig), load_config(limits, ServiceConfig)
    bootstrap.require_local_twin(settings)
    telemetry.set_up_logging(settings.log_level, secrets=settings_secrets(settings))
    listener = listen(host, port)
    with telemetry.tracing(), asyncio.Runner(loop_factory=_new_loop) as runner:
        runner.run(_serve(settings, numbers, bounds, hashes, listener))


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; :class:`UsageError` if the address cannot be had."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host.strip("[]"), port), family=family, backlog=2048)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        reason = "another program listens there" if taken else (error.strerror or str(error))
        raise UsageError(
            f"The service cannot listen at {host}:{port}: {reason}", hint="Choose another --port or --host."
        ) from error
    # asyncio does it only for sockets of its own making; without, each reply on a kept connection waits 40 ms
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


class Server(uvicorn.Server):
    """A server that ends by returning when it is told to stop, so that what is open is closed after it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM stop gracefully; SIGINT once more stops at once."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)


async def warm(service: Service) -> None:
    """Open what answering needs, so that the first question need not wait; what is not there is said in the log."""
    for name, check in service.checks.items():
        try:
            await check()
        except TwinError as error:
            _log.warning("not there yet: %s: %s", name, error)
    _keep_what_is_loaded()
    first = Question(query="the first question takes longest")
    with suppress(TwinError):  # said above
        await service.search(first)
        if service.model == bootstrap.OFFLINE:  # another model costs time or money, or is somebody else's
            await service.answer(first, request_id="warm", sampling=None)
    _keep_what_is_loaded()


def ready_when(begun: asyncio.Event, service: Service) -> Service:
    """The service with one check more: it is not ready before it has begun, so that nobody is sent to it while it loads."""

    async def has_begun() -> None:
        if not begun.is_set():
            raise TwinError("What answering needs is still being opened")

    return replace(service, checks={**service.checks, "warm": has_begun})


def _keep_what_is_loaded() -> None:
    """It stays for good: looking through all of it for garbage would stop every thread for 0.2 s."""
    gc.freeze()
    gc.set_threshold(*_GARBAGE)


def _new_loop() -> asyncio.AbstractEventLoop:
    """The quicker loop where there is one: under many connections at once it waits a fraction of the time."""
    if sys.platform == "win32":
        return asyncio.new_event_loop()
    import uvloop

    return uvloop.new_event_loop()


def _threads(settings: Settings) -> int:
    return _WAITING if "://" in settings.warehouse_url or "://" in settings.index_url else _COMPUTING


async def _serve(
    settings: Settings, config: AnswerConfig, limits: ServiceConfig, hashes: frozenset[str], listener: socket.socket
) -> None:
    origins = [origin.strip() for origin in settings.cors_origins.split(",") if origin.strip()]
    sys.setswitchinterval(_TURN)
    async with beside(open_service(settings, config, limits), loops=_new_loop, threads=_threads(settings)) as service:
        begun = asyncio.Event()
        application = create_app(ready_when(begun, service), config=limits, key_hashes=hashes, origins=origins)
        # proxy_headers: an address that a client writes down itself must never pass for this machine's
        server = Server(
            uvicorn.Config(
                application,
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                ws="none",
                lifespan="off",
                timeout_graceful_shutdown=int(limits.shutdown) or 1,
            )
        )
        address = listener.getsockname()
        shown = f"[{address[0]}]" if ":" in address[0] else address[0]
        typer.echo(f"The twin listens at http://{shown}:{address[1]}/ (Ctrl+C stops it)", err=True)
        warming = asyncio.create_task(warm(service))
        warming.add_done_callback(lambda _: begun.set())
        await server.serve(sockets=[listener])
        warming.cancel()


if __name__ == "__main__":
    main(app)
