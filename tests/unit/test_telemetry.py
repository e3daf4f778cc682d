"""Telemetry: spans per stage with the attributes of the GenAI conventions, log lines with their request, no secret in any."""

import asyncio
import io
import json
import logging
import subprocess
import sys

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from llm_engineering.adapters.traced_model import TracedModel
from llm_engineering.domain.answers import Prompt
from llm_engineering.domain.config import Sampling
from llm_engineering.domain.errors import MissingExtra, ModelUnavailable
from llm_engineering.telemetry import ENDPOINTS, request_id, set_up_logging, span, tracing
from tests.doubles.models import FailingModel, ScriptedModel
from tests.doubles.web import Answer, LocalSite

log = logging.getLogger("twin.test")
PROMPT = Prompt(messages=(), question="why?")


@pytest.fixture(autouse=True)
def nothing_configured(monkeypatch):
    for variable in (*ENDPOINTS, "OTEL_SDK_DISABLED", "OTEL_SERVICE_NAME", "OTEL_EXPORTER_OTLP_HEADERS"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture(autouse=True)
def logging_as_before():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers = []  # what is set up here must not close what the test runner set up
    yield
    root.handlers, root.level = handlers, level


@pytest.fixture
def request_seven():
    token = request_id.set("request-7")
    yield
    request_id.reset(token)


@pytest.fixture
def recorded():
    return InMemorySpanExporter()


def spans(exporter):
    return {one.name: one for one in exporter.get_finished_spans()}


def test_spans_of_stages_lie_inside_the_span_of_their_request(recorded, request_seven):
    with tracing(exporter=recorded), span("answer"), span("retrieve", hits=3):
        pass
    inner, outer = spans(recorded)["retrieve"], spans(recorded)["answer"]
    assert inner.parent.span_id == outer.context.span_id
    assert dict(inner.attributes) == {"twin.request_id": "request-7", "twin.hits": 3}


def test_a_model_call_carries_the_attributes_of_the_genai_conventions(recorded):
    with (
        tracing(exporter=recorded),
        span("chat tiny", operation="chat", model="tiny", temperature=0.2, seed=None) as one,
    ):
        one.set(response_model="tiny-1", input_tokens=12, output_tokens=3, finish_reason="stop")
    (call,) = recorded.get_finished_spans()
    assert call.kind is SpanKind.CLIENT
    assert dict(call.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "tiny",
        "gen_ai.request.temperature": 0.2,
        "gen_ai.response.model": "tiny-1",
        "gen_ai.usage.input_tokens": 12,
        "gen_ai.usage.output_tokens": 3,
        "gen_ai.response.finish_reasons": ("stop",),
    }


def test_our_names_are_those_that_the_conventions_publish():
    from opentelemetry.semconv._incubating.attributes import gen_ai_attributes, http_attributes

    from llm_engineering.telemetry import NAMES

    known = {**vars(gen_ai_attributes), **vars(http_attributes)}
    published = {value for name, value in known.items() if name.startswith(("GEN_AI_", "HTTP_"))}
    assert set(NAMES.values()) <= published


def ask(model, *, streamed=False):
    async def work():
        if streamed:
            return [piece async for piece in model.stream(PROMPT, sampling=Sampling(seed=3))]
        return await model.complete(PROMPT, sampling=Sampling(seed=3))

    return asyncio.run(work())


@pytest.mark.parametrize("streamed", [False, True])
def test_every_call_of_a_chat_model_is_a_span_with_its_tokens_and_without_its_words(recorded, streamed):
    with tracing(exporter=recorded):
        ask(TracedModel(ScriptedModel("a secret reply"), provider="openai"), streamed=streamed)
    (call,) = recorded.get_finished_spans()
    assert (call.name, call.kind) == ("chat scripted", SpanKind.CLIENT)
    assert (call.attributes["gen_ai.usage.input_tokens"], call.attributes["gen_ai.usage.output_tokens"]) == (10, 5)
    assert (call.attributes["gen_ai.request.seed"], call.attributes["gen_ai.provider.name"]) == (3, "openai")
    assert "secret" not in call.to_json()


def test_a_stream_that_its_reader_leaves_ends_its_span_from_any_context(recorded, caplog):
    async def leave():
        pieces = TracedModel(ScriptedModel("a b c"), provider="openai").stream(PROMPT, sampling=Sampling())
        await asyncio.create_task(anext(pieces))
        await asyncio.create_task(pieces.aclose())

    with tracing(exporter=recorded):
        asyncio.run(leave())
    assert recorded.get_finished_spans()[0].attributes["error.type"] == "GeneratorExit"
    assert caplog.records == []


def test_a_call_that_fails_marks_its_span(recorded):
    with tracing(exporter=recorded), pytest.raises(ModelUnavailable):
        ask(TracedModel(FailingModel(), provider="openai"), streamed=True)
    assert recorded.get_finished_spans()[0].status.status_code is StatusCode.ERROR


def test_an_error_that_leaves_a_stage_marks_its_span(recorded):
    with tracing(exporter=recorded), pytest.raises(ModelUnavailable), span("write"):
        raise ModelUnavailable("the model declines 'my secret question'")
    (failed,) = recorded.get_finished_spans()
    assert (failed.status.status_code, failed.attributes["error.type"]) == (StatusCode.ERROR, "ModelUnavailable")
    assert "secret" not in failed.to_json()


def test_a_request_that_is_cancelled_ends_its_span(recorded):
    async def answer():
        with span("answer"):
            await asyncio.Event().wait()

    async def leave():
        task = asyncio.create_task(answer())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    with tracing(exporter=recorded):
        asyncio.run(leave())
    assert recorded.get_finished_spans()[0].attributes["error.type"] == "CancelledError"


def test_without_an_endpoint_nothing_is_recorded_and_no_engine_is_loaded():
    code = (
        "import sys; from llm_engineering.telemetry import span, tracing\n"
        "with tracing() as on, span('answer', hits=1) as one: one.set(hits=2)\n"
        "print(on, 'opentelemetry' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_spans_reach_the_configured_collector_by_otlp(monkeypatch):
    with LocalSite({"/v1/traces": Answer(b"", content_type="application/x-protobuf")}) as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20abc")
        with tracing() as on, span("retrieve", hits=3):
            pass
    (request,) = collector.requests
    (resource,) = ExportTraceServiceRequest.FromString(request.body).resource_spans
    assert on and request.headers["authorization"] == "Bearer abc"
    assert [one.name for scope in resource.scope_spans for one in scope.spans] == ["retrieve"]
    assert "llm-twin" in {entry.value.string_value for entry in resource.resource.attributes}


def test_after_tracing_has_ended_spans_go_nowhere(recorded):
    with tracing(exporter=recorded):
        pass
    with span("late"):
        pass
    assert recorded.get_finished_spans() == ()


def test_an_endpoint_without_the_extra_names_the_extra(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(MissingExtra, match=r"\[otel\]"), tracing():
        pass


def lines(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_log_line_is_one_json_object_that_names_its_request(recorded, request_seven):
    stream = io.StringIO()
    set_up_logging("info", stream=stream)
    with tracing(exporter=recorded), span("answer"):
        log.info("answered\nin %d ms", 12, extra={"route": "/rag"})
    (line,) = lines(stream)
    assert line.pop("time").endswith("+00:00")
    assert line.pop("trace_id") == f"{spans(recorded)['answer'].context.trace_id:032x}"
    assert line == {
        "level": "info",
        "logger": "twin.test",
        "message": "answered\nin 12 ms",
        "request_id": "request-7",
        "route": "/rag",
    }


def test_two_requests_at_once_keep_their_own_ids():
    stream = io.StringIO()
    set_up_logging("info", stream=stream)

    async def request(name):
        request_id.set(name)
        await asyncio.sleep(0)
        log.info(name)

    async def both():
        await asyncio.gather(request("a"), request("b"))

    asyncio.run(both())
    assert {(line["message"], line["request_id"]) for line in lines(stream)} == {("a", "a"), ("b", "b")}


def test_a_terminal_gets_lines_for_people(request_seven):
    stream = io.StringIO()
    stream.isatty = lambda: True
    set_up_logging("warning", stream=stream)
    log.info("left out")
    log.warning("look")
    assert stream.getvalue() == "WARNING twin.test: look [request-7]\n"


@pytest.mark.parametrize("structured", [True, False])
def test_no_secret_is_logged_even_from_a_foreign_error(structured):
    stream = io.StringIO()
    set_up_logging("info", stream=stream, structured=structured, secrets=["", 's3"cr3t'])
    try:
        raise OSError('connect to mongodb://u:s3"cr3t@db failed')
    except OSError:
        log.exception("with %s", 's3"cr3t')
    assert "cr3t" not in stream.getvalue()
    assert "mongodb://u:**********@db failed" in stream.getvalue()
    assert "with **********" in stream.getvalue()


def test_a_library_that_warns_of_nothing_a_person_can_act_on_is_not_heard():
    stream = io.StringIO()
    set_up_logging("warning", stream=stream)
    logging.getLogger("bitsandbytes.backends.cpu.ops").warning("kernels are missing")
    logging.getLogger("bitsandbytes.backends.cpu.ops").error("the weights are damaged")
    assert "missing" not in stream.getvalue()
    assert "damaged" in stream.getvalue()
