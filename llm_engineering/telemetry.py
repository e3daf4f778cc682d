"""What a run says about itself: log lines with the request they belong to, and OpenTelemetry spans per stage.

Nothing is recorded until an entry point asks for it. Spans go to an OTLP collector (Opik, Langfuse and Phoenix read it)
when ``OTEL_EXPORTER_OTLP_ENDPOINT`` is set; its relatives (``…_TRACES_ENDPOINT``, ``…_HEADERS``, ``OTEL_SERVICE_NAME``)
mean what OpenTelemetry says they mean.
"""

import json
import logging
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TextIO

from llm_engineering.domain.errors import MissingExtra

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span as EngineSpan
    from opentelemetry.trace import Tracer

Value = str | bool | int | float

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The request that is being answered in this task or thread; log lines and spans carry it."""

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
NAMES = {
    "operation": "gen_ai.operation.name",
    "provider": "gen_ai.provider.name",
    "model": "gen_ai.request.model",
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "max_tokens": "gen_ai.request.max_tokens",
    "seed": "gen_ai.request.seed",
    "response_model": "gen_ai.response.model",
    "finish_reason": "gen_ai.response.finish_reasons",
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "output_type": "gen_ai.output.type",
    "agent": "gen_ai.agent.name",
    "http_method": "http.request.method",
    "http_route": "http.route",
    "http_status": "http.response.status_code",
}
"""Our words and what the semantic conventions (generative AI, HTTP) call them; any other becomes ``twin.<word>``."""
LISTS = frozenset({"gen_ai.response.finish_reasons"})
CALLS = frozenset({"chat", "embeddings"})
"""Operations that ask a model somewhere else: their spans are of kind client. Spans of HTTP requests are of kind server."""

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_SECRET = "**********"
_tracer: "Tracer | None" = None


class Span:
    """One piece of work under way; without tracing it takes everything and keeps nothing."""

    def __init__(self, span: "EngineSpan | None" = None) -> None:
        self._span = span

    def set(self, **attributes: Value | None) -> None:
        """Add what is known by now; ``None`` says nothing."""
        if self._span is not None:
            self._span.set_attributes(_named(attributes))

    def rename(self, name: str) -> None:
        """Give it the name that is known by now."""
        if self._span is not None:
            self._span.update_name(name)

    def fail(self, kind: str) -> None:
        """Mark it as failed with an error of that kind."""
        if self._span is not None:
            from opentelemetry.trace import Status, StatusCode

            self._span.set_attribute("error.type", kind)
            self._span.set_status(Status(StatusCode.ERROR))


@contextmanager
def span(name: str, *, current: bool = True, **attributes: Value | None) -> Iterator[Span]:
    """A span around the block, inside the span that is open around it; an error that leaves the block marks it with its kind.

    Words of :data:`NAMES` become attributes of the GenAI conventions. An asynchronous generator that yields inside says
    ``current=False``: no span lies inside that one then, and whoever consumes it may do so from any context.
    """
    if _tracer is None:
        yield Span()
        return
    from opentelemetry.trace import SpanKind, Status, StatusCode, use_span

    known = _named({"request_id": request_id.get(), **attributes})
    kind = SpanKind.CLIENT if attributes.get("operation") in CALLS else SpanKind.INTERNAL
    kind = SpanKind.SERVER if "http_method" in attributes else kind
    started = _tracer.start_span(name, kind=kind, attributes=known)
    try:
        with use_span(started, record_exception=False, set_status_on_exception=False) if current else nullcontext():
            yield Span(started)
    except BaseException as error:
        started.set_attribute("error.type", type(error).__name__)
        if isinstance(error, Exception):  # whoever leaves or cancels makes no error
            started.set_status(Status(StatusCode.ERROR))  # its kind alone: an error may quote what a person wrote
        raise
    finally:
        started.end()


@contextmanager
def tracing(service: str = "llm-twin", *, exporter: "SpanExporter | None" = None) -> Iterator[bool]:
    """Record spans for the length of the context and send what is left at its end; yields whether anything is recorded.

    Without an ``exporter`` they go by OTLP over HTTP to the configured endpoint; without one of these, nowhere. Raises
    :class:`MissingExtra` if an endpoint is configured and the extra ``otel`` is not installed.
    """
    global _tracer
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        exporter = None
    elif exporter is None and any(os.environ.get(variable) for variable in ENDPOINTS):
        exporter = _otlp_exporter()
    if exporter is None:
        yield False
        return
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": service}
    provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    outer, _tracer = _tracer, provider.get_tracer("llm_engineering")
    try:
        yield True
    finally:
        _tracer = outer
        provider.shutdown()


_TALKATIVE = {
    "markdown_it": logging.WARNING,  # its debug level tells of every line of every text
    "matplotlib": logging.WARNING,  # its debug level tells of every font of the machine
    "bitsandbytes": logging.ERROR,  # warns at its import of kernels that a processor does not need
}


def set_up_logging(
    level: str, *, stream: TextIO | None = None, structured: bool | None = None, secrets: Iterable[str] = ()
) -> None:
    """Send log lines of this level and above to ``stream`` (standard error), in place of any earlier set-up.

    On a terminal they are lines for people, elsewhere one JSON object each; ``structured`` decides otherwise. None of
    the ``secrets`` is ever written out.
    """
    stream = stream or sys.stderr
    structured = not stream.isatty() if structured is None else structured
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Lines(secrets) if not structured else _JsonLines(secrets))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name, least in _TALKATIVE.items():
        logging.getLogger(name).setLevel(least)


class _Lines(logging.Formatter):
    """Lines for people."""

    def __init__(self, secrets: Iterable[str]) -> None:
        super().__init__("%(levelname)s %(name)s: %(message)s")
        spellings = {spelling for secret in secrets if secret for spelling in (secret, json.dumps(secret)[1:-1])}
        self._secrets = sorted(spellings, key=len, reverse=True)

    def format(self, record: logging.LogRecord) -> str:
        line = self._line(record)
        for secret in self._secrets:
            line = line.replace(secret, _SECRET)
        return line

    def _line(self, record: logging.LogRecord) -> str:
        line, request = super().format(record), request_id.get()
        return f"{line} [{request}]" if request else line


class _JsonLines(_Lines):
    """One JSON object per line: time, level, logger, message, request_id, trace_id, whatever ``extra`` holds, error."""

    def _line(self, record: logging.LogRecord) -> str:
        told: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": request_id.get(),
            "trace_id": _trace_id(),
            **{key: value for key, value in vars(record).items() if key not in _STANDARD},
            "error": self.formatException(record.exc_info) if record.exc_info else None,
        }
        known = {key: value for key, value in told.items() if value is not None}
        return json.dumps(known, ensure_ascii=False, default=str)


def _trace_id() -> str | None:
    """Id of the trace that is being recorded here, as exporters write it."""
    if _tracer is None:
        return None
    from opentelemetry.trace import format_trace_id, get_current_span

    context = get_current_span().get_span_context()
    return format_trace_id(context.trace_id) if context.is_valid else None


def _otlp_exporter() -> "SpanExporter":
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise MissingExtra("opentelemetry-exporter-otlp-proto-http", extra="otel") from error
    return OTLPSpanExporter()


def _named(attributes: dict[str, Value | None]) -> dict[str, Value | list[str]]:
    named: dict[str, Value | list[str]] = {}
    for word, value in attributes.items():
        if value is not None:
            name = NAMES.get(word, f"twin.{word}")
            named[name] = [str(value)] if name in LISTS else value
    return named
