"""Who may come in: keys, or this machine alone; at what pace; with how much; and whether there is room."""

import hashlib
import hmac
import ipaddress
import math
import re
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llm_engineering.domain.config import ServiceConfig
from llm_engineering.domain.errors import UsageError
from llm_engineering.serving.capacity import Capacity, OverCapacity, TokenBuckets
from llm_engineering.serving.problems import ProblemResponse, problem_of

OPEN = frozenset({"/", "/health", "/ready", "/review", "/review/", "/review/ab"})
"""Paths that need no key and count against no rate: the pages, which hold nobody's text, and what a supervisor asks."""
ASSETS = "/page/"
_HASH = re.compile(r"[0-9a-f]{64}")
_THIS_MACHINE = "this-machine"


def key_hashes(listed: str) -> frozenset[str]:
    """SHA-256 hashes of the accepted keys from a comma-separated list; :class:`UsageError` names the bad one's place."""
    hashes = [entry.strip().lower() for entry in listed.split(",") if entry.strip()]
    for place, entry in enumerate(hashes, start=1):
        if not _HASH.fullmatch(entry):
            raise UsageError(
                f"API_KEYS: entry {place} is no SHA-256 hash (64 hexadecimal digits)",
                hint="Put the hash of the key there, never the key; .env.example says how to make one.",
            )
    return frozenset(hashes)


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine alone."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


class Gate:
    """ASGI middleware that lets in whoever holds a key. Without keys only this machine may call, under its own name:
    the ``Host`` is checked against DNS rebinding, and a foreign page's ``Origin`` is turned away.
    """

    def __init__(self, app: ASGIApp, *, config: ServiceConfig, hashes: Iterable[str], origins: Iterable[str]) -> None:
        self._app, self._config = app, config
        self._hashes, self._origins = frozenset(hashes), frozenset(origins)
        self._buckets = TokenBuckets(per_minute=config.per_minute, burst=config.burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer with a problem."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers, path = Headers(scope=scope), scope["path"]
        refusal, caller = self._admission(scope, headers, path)
        if refusal is None and caller is not None:
            refusal = self._pace(scope, caller)
        if refusal is None:
            refusal = self._announced(scope, headers)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        scope["state"]["caller"] = caller
        await self._app(scope, _Metered(receive, self._config.max_body_bytes), send)

    def _admission(self, scope: Scope, headers: Headers, path: str) -> tuple[ProblemResponse | None, str | None]:
        """A refusal or none, and who is calling where that counts."""
        is_open = path in OPEN or path.startswith(ASSETS)
        if self._hashes:
            if is_open:
                return None, None
            caller = self._caller(headers)
            if caller is None:
                detail = "Give a key that this service knows: Authorization: Bearer …"
                return _refuse(scope, 401, "no-key", detail, {"WWW-Authenticate": "Bearer"}), None
            return None, caller
        client = scope.get("client")
        if client is None or not is_loopback(client[0]) or not is_loopback(_host(headers.get("host", ""))):
            detail = "This service has no API keys, so it answers only this machine, under the name localhost."
            return _refuse(scope, 403, "not-from-here", detail), None
        origin = headers.get("origin")
        if origin is not None and origin not in self._origins and _netloc(origin) != headers.get("host"):
            return _refuse(scope, 403, "foreign-origin", "Pages of that origin may not call this service."), None
        return None, None if is_open else _THIS_MACHINE

    def _caller(self, headers: Headers) -> str | None:
        """The hash of the key that was sent, if it is one of ours. Every hash is compared in full."""
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        key = bearer.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        if not key:
            return None
        sent = hashlib.sha256(key.encode("latin-1", "replace")).hexdigest()
        matches = [hmac.compare_digest(sent, known) for known in sorted(self._hashes)]
        return sent if any(matches) else None

    def _pace(self, scope: Scope, caller: str) -> ProblemResponse | None:
        wait = self._buckets.wait(caller)
        if not wait:
            return None
        headers = {"Retry-After": str(max(1, math.ceil(wait)))}
        return _refuse(scope, 429, "too-fast", "That was too many requests in a short time.", headers)

    def _announced(self, scope: Scope, headers: Headers) -> ProblemResponse | None:
        length = headers.get("content-length", "")
        if not length or (length.isdigit() and len(length) < 20 and int(length) <= self._config.max_body_bytes):
            return None
        return _refuse(scope, 413, "too-large", _too_large(self._config.max_body_bytes))


class Room:
    """ASGI middleware that turns questions away before anybody reads them while there is no room for one more.

    ``questions``: the routes whose work takes a slot of ``capacity``.
    """

    def __init__(self, app: ASGIApp, *, capacity: Capacity, questions: Mapping[str, BaseRoute]) -> None:
        self._app, self._capacity, self._questions = app, capacity, questions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 503."""
        route = self._questions.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if route is not None:
            try:
                self._capacity.require_room()
            except OverCapacity as full:
                scope["route"] = route
                refusal = problem_of(full, request_id=scope["state"]["request_id"], retry_after=full.retry_after)
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)


class _Metered:
    """Counts what is received; a body over the limit is refused however it arrives."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive, self._limit, self._seen = receive, limit, 0

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._seen += len(message.get("body", b""))
            if self._seen > self._limit:
                raise HTTPException(413, _too_large(self._limit))
        return message


def _too_large(limit: int) -> str:
    return f"A request may have {limit:,} bytes."


def _netloc(origin: str) -> str | None:
    """Host and port of an ``Origin``; ``None`` for what is none."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _host(header: str) -> str:
    """The name in a ``Host`` header, without the port."""
    if header.startswith("["):
        return header.partition("]")[0].strip("[")
    name, _, _ = header.partition(":")
    return name


def _refuse(
    scope: Scope, status: int, kind: str, detail: str, headers: dict[str, str] | None = None
) -> ProblemResponse:
    return ProblemResponse(status, kind, detail, request_id=scope["state"]["request_id"], headers=headers)
