"""What one request leaves behind for operators: one trace with its stages, one log line, counts; none of its words."""

import asyncio
import io
import json
import logging

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from llm_engineering.telemetry import set_up_logging, tracing
from tests.doubles.chat_server import ChatServer, fails, says
from tests.service.test_hosting import KAFKA, AnswerConfig, ChatConfig, ask, serving, settings_of, words, written

__all__ = ["words"]
pytestmark = pytest.mark.anyio
STAGES = {"understand", "expand", "retrieve", "rerank", "assemble", "write", "verify"}
TOLD = ("gen_ai.operation.name", "twin.route", "twin.grounded")
CONFIG = AnswerConfig(threshold=0, understand="rules", chat=ChatConfig(retries=0))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("traced")
    asyncio.run(written(folder, KAFKA))
    return folder


@pytest.fixture
def log():
    root = logging.getLogger()
    handlers, level, stream = root.handlers[:], root.level, io.StringIO()
    root.handlers = []
    set_up_logging("info", stream=stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers, root.level = handlers, level


async def traced(home, turn, **more):
    """The spans of one request by name, and its response."""
    recorded = InMemorySpanExporter()
    with ChatServer(turn) as model, tracing(exporter=recorded):
        async with serving(settings_of(home, llm_base_url=model.url, llm_model="double"), CONFIG) as client:
            response = await client.post("/rag", json=ask(**more), headers={"X-Request-ID": "seven"})
            counted = (await client.get("/metrics")).text
    spans = {span.name: span for span in recorded.get_finished_spans() if "seven" in span.attributes.values()}
    return spans, response, counted


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_request_is_one_trace_whose_stages_lie_inside_it(home, log, streamed):
    spans, _, counted = await traced(home, says("A log is the simplest database [1]."), stream=streamed)
    root = spans["POST /rag"]
    assert (root.parent, root.kind) == (None, SpanKind.SERVER)
    assert (root.attributes["http.route"], root.attributes["http.response.status_code"]) == ("/rag", 200)
    assert spans.keys() >= STAGES | {"embed", "chat double"}
    assert {span.context.trace_id for span in spans.values()} == {root.context.trace_id}
    whole = spans["answer"]
    assert {spans[stage].parent.span_id for stage in STAGES} == {whole.context.span_id}
    told = {name: whole.attributes[name] for name in TOLD}
    assert told == {"gen_ai.operation.name": "invoke_agent", "twin.route": "answer", "twin.grounded": True}
    assert whole.attributes["gen_ai.usage.output_tokens"] > 0
    assert spans["chat double"].parent.span_id == spans["write"].context.span_id
    assert spans["retrieve"].attributes["gen_ai.operation.name"] == "retrieval"
    assert spans["verify"].attributes["twin.citations"] == 1
    assert not any("Kafka" in span.to_json() or "simplest" in span.to_json() for span in spans.values())
    assert [f'twin_stage_seconds_count{{stage="{stage}"}} 1.0' in counted for stage in STAGES] == [True] * len(STAGES)
    (line,) = [line for line in log() if line["logger"].endswith("access") and line["route"] == "/rag"]
    assert (line["request_id"], line["status"]) == ("seven", 200)
    assert line["trace_id"] == f"{root.context.trace_id:032x}"


async def test_a_request_that_fails_marks_its_trace_and_the_stage_in_which_it_failed(home):
    spans, response, _ = await traced(home, fails(500))
    assert response.status_code == 503
    for name in ("POST /rag", "answer", "write", "chat double"):
        assert spans[name].status.status_code is StatusCode.ERROR
    assert spans["retrieve"].status.status_code is StatusCode.UNSET
    assert spans["write"].attributes["error.type"] == "ModelUnavailable"


@pytest.mark.parametrize("turn", [fails(400, "no Kafka here"), fails(500, "no Kafka here")])
async def test_an_error_that_quotes_the_question_leaves_its_kind_in_the_trace_and_none_of_its_words(home, turn):
    spans, _, _ = await traced(home, turn)
    failed = [span for span in spans.values() if span.status.status_code is StatusCode.ERROR]
    assert len(failed) >= 4
    words = {word.strip("?").lower() for word in ask()["query"].split()}
    assert not any(words & set((span.status.description or "").lower().split()) for span in failed)
    assert not any("Kafka" in span.to_json() for span in spans.values())
