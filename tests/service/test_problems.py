"""Every failure is a problem with a request id: what went wrong, what to do, nothing internal, nothing that was sent."""

import json

import pytest

from llm_engineering.domain.config import ServiceConfig
from llm_engineering.domain.errors import (
    EmbeddingError,
    IndexMismatch,
    IndexMissing,
    ModelReplyInvalid,
    ModelUnavailable,
    PromptTooLong,
    StoreUnavailable,
    TwinError,
    UnknownAuthor,
    UnknownDocument,
    UsageError,
)
from llm_engineering.serving.app import create_app
from tests.doubles.twin_service import Clients, FakeTwin, failing

pytestmark = pytest.mark.anyio
SECRET = "mongodb://user:secret@host"


def client_of(twin: FakeTwin, **config):
    return Clients(create_app(twin.service(), config=ServiceConfig(**config))).client()


@pytest.fixture
async def client():
    async with client_of(FakeTwin()) as opened:
        yield opened


@pytest.mark.parametrize(
    ("error", "status", "kind", "waits"),
    [
        (UsageError("The query has no word", hint="Use one."), 422, "bad-request", None),
        (UnknownAuthor("No author named 'X'", hint="Known authors: Ann."), 422, "unknown-author", None),
        (IndexMissing(f"{SECRET} has no index"), 503, "no-index", "2"),
        (IndexMismatch(f"{SECRET} was built with other weights"), 503, "index-mismatch", "2"),
        (StoreUnavailable(f"{SECRET} is down"), 503, "store-unavailable", "2"),
        (EmbeddingError(f"{SECRET} failed"), 503, "embedding-failed", "2"),
        (ModelUnavailable(f"{SECRET} is down"), 503, "model-unavailable", "2"),
        (ModelUnavailable(f"{SECRET} is busy", retry_after=6.2), 503, "model-unavailable", "7"),
        (PromptTooLong(f"{SECRET} reads 4096 tokens"), 422, "prompt-too-long", None),
        (ModelReplyInvalid(f"{SECRET} sent HTML"), 502, "model-reply-invalid", None),
        (TwinError(f"{SECRET} broke"), 500, "failed", None),
        (RuntimeError(f"{SECRET} is a defect"), 500, "unexpected", None),
    ],
)
@pytest.mark.parametrize("path", ["/rag", "/rag streamed", "/v1/chat/completions", "/search"])
async def test_each_error_has_its_status_and_tells_nothing_internal(path, error, status, kind, waits):
    path, _, streamed = path.partition(" ")
    body = {"messages": [{"role": "user", "content": "Why?"}]} if "chat" in path else {"query": "Why?"}
    async with client_of(failing(error)) as client:
        response = await client.post(path, json=body | ({"stream": True} if streamed else {}))
    problem = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert (response.status_code, problem["status"], problem["type"]) == (status, status, f"/problems/{kind}")
    assert problem["request_id"] == response.headers["X-Request-ID"]
    assert response.headers.get("Retry-After") == waits
    assert "secret" not in response.text


@pytest.mark.parametrize("error", [StoreUnavailable(SECRET), ModelUnavailable(SECRET), RuntimeError(SECRET)])
async def test_a_stream_that_fails_half_way_ends_with_a_problem(error):
    async with client_of(FakeTwin(error=error, fails_after=1)) as client:
        rag = await client.post("/rag", json={"query": "Why?", "stream": True})
        chat = {"messages": [{"role": "user", "content": "Why?"}], "stream": True}
        dialect = await client.post("/v1/chat/completions", json=chat)
    last = rag.text.strip().split("\n\n")[-1]
    assert last.startswith("event: error\n")
    assert json.loads(last.split("data: ")[1])["request_id"] == rag.headers["X-Request-ID"]
    assert '"error":{"message"' in dialect.text
    assert "[DONE]" not in dialect.text
    assert "secret" not in rag.text + dialect.text


QUERY = {"query": "Why?"}


@pytest.mark.parametrize(
    "body",
    [
        {}, {"query": ""}, {"query": " \n"}, {"query": "?!"}, {"query": "x" * 10_001}, {"query": 7}, {"query": None},
        QUERY | {"k": 0}, QUERY | {"k": 10**9}, QUERY | {"k": -1}, QUERY | {"k": "5"}, QUERY | {"k": 2.5},
        QUERY | {"k": True}, QUERY | {"unknown": 1}, QUERY | {"filters": {"unknown": 1}}, QUERY | {"author": ""},
        QUERY | {"filters": {"kind": "song"}}, QUERY | {"filters": {"since": "yesterday"}},
        QUERY | {"filters": {"since": "0001-01-01T00:00:00+23:59"}}, QUERY | {"filters": {"since": 12}},
        QUERY | {"filters": {"document_ids": ["x"] * 1001}}, QUERY | {"stream": "yes"}, [QUERY], "Why?", None,
    ],
)  # fmt: skip
async def test_bad_input_is_422_with_the_place_and_not_a_word_of_it(client, body):
    response = await client.post("/rag", json=body)
    assert response.status_code == 422, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert "input" not in response.json()
    assert all(error["at"].startswith("body") for error in response.json()["errors"])


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 422), (b"{", 422), (b"\xff\xfe", 422), (b'{"query": "\\ud800 \xed\xa0\x80"}', 422), (b"9" * 5000, 400),
        (b"[" * 100_000, 400), (b'{"query": "why", "\\ud800": 1}', 422), (b'{"query": "why", "k": NaN}', 422),
    ],
)  # fmt: skip
async def test_what_is_no_json_or_abuses_it_is_a_problem_too(client, content, status):
    response = await client.post("/rag", content=content, headers={"Content-Type": "application/json"})
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"


async def test_unknown_paths_and_methods_are_problems(client):
    for response, status in ((await client.get("/nope"), 404), (await client.delete("/rag"), 405)):
        assert (response.status_code, response.json()["status"]) == (status, status)
        assert response.headers["content-type"] == "application/problem+json"


async def test_a_request_id_that_is_not_sane_is_replaced():
    async with client_of(FakeTwin()) as client:
        for offered in ("", "a b", "<script>", "x" * 65, "é"):
            given = (await client.get("/health", headers=[(b"X-Request-ID", offered.encode())])).headers["X-Request-ID"]
            assert given != offered
            assert len(given) == 32


async def test_feedback_on_what_was_forgotten_meanwhile_is_refused():
    twin = FakeTwin()
    async with client_of(twin) as client:
        await client.post("/rag", json=QUERY, headers={"X-Request-ID": "r"})
        twin.error = UnknownDocument("its author has withdrawn it")
        assert (await client.post("/feedback", json={"request_id": "r", "vote": "up"})).status_code == 422
