"""The outermost layer: an id for every request, one log line, one count, safe headers, and nothing internal leaves."""

import asyncio
import logging
import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llm_engineering import telemetry
from llm_engineering.serving.metrics import Metrics
from llm_engineering.serving.problems import CLIENT_LEFT, ProblemResponse, problem_of

_log = logging.getLogger("llm_engineering.serving.access")

_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
STRICT_POLICY = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
    "Content-Security-Policy": STRICT_POLICY,
}
"""Set where a response does not say otherwise."""


class Front:
    """ASGI middleware around everything else. ``X-Request-ID`` is taken over if it is sane, and always returned."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, retry_after: int, cross_origin: bool) -> None:
        self._app, self._metrics, self._retry_after = app, metrics, retry_after
        self._headers = _HEADERS | ({"Cross-Origin-Resource-Policy": "cross-origin"} if cross_origin else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        offered = Headers(scope=scope).get("x-request-id", "")
        request_id = offered if _SANE_ID.fullmatch(offered) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        token = telemetry.request_id.set(request_id)
        started, status, failed = time.perf_counter(), 0, ""

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
                headers["X-Request-ID"] = request_id
            await send(message)

        try:
            with telemetry.span(scope["method"], http_method=scope["method"]) as whole:
                try:
                    await self._app(scope, receive, answer)
                except Exception as error:  # noqa: BLE001  # the last line: nothing internal leaves, all of it is logged
                    failed = type(error).__name__
                    problem = problem_of(error, request_id=request_id, retry_after=self._retry_after)
                    if not status:
                        await problem(scope, receive, answer)
                except asyncio.CancelledError:  # the service stops, and the time for what is under way is over
                    failed = "stopped"
                    if status:
                        raise
                    await self._stopping(request_id)(scope, receive, answer)
                finally:
                    self._tell(scope, status or CLIENT_LEFT, time.perf_counter() - started, whole, failed)
        finally:
            telemetry.request_id.reset(token)

    def _stopping(self, request_id: str) -> ProblemResponse:
        detail = "The service is stopping. Come back in a moment."
        headers = {"Retry-After": str(self._retry_after)}
        return ProblemResponse(503, "stopping", detail, request_id=request_id, headers=headers)

    def _tell(self, scope: Scope, status: int, seconds: float, whole: telemetry.Span, failed: str) -> None:
        route = getattr(scope.get("route"), "path", "unknown")
        method = scope["method"]
        whole.rename(f"{method} {route}")
        whole.set(http_route=route, http_status=status)
        if failed or status >= 500:
            whole.fail(failed or str(status))
        self._metrics.request(route=route, method=method, status=status, seconds=seconds)
        particulars = {"route": route, "method": method, "status": status, "milliseconds": round(seconds * 1000, 1)}
        _log.info("%s %s %d", method, route, status, extra=particulars)
