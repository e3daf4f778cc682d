"""Who may come in, at what pace and with how much."""

import hashlib

import pytest

from llm_engineering.domain.config import ServiceConfig
from llm_engineering.domain.errors import UsageError
from llm_engineering.serving.app import create_app
from llm_engineering.serving.gate import is_loopback, key_hashes
from tests.doubles.twin_service import Clients, FakeTwin

pytestmark = pytest.mark.anyio
KEY, OTHER = "key-of-ann", "key-of-bob"
HASHES = [hashlib.sha256(key.encode()).hexdigest() for key in (KEY, OTHER)]
ANN, BOB = {"Authorization": f"Bearer {KEY}"}, {"X-API-Key": OTHER}
ASK = {"query": "Why?"}


def app(*, hashes=(), origins=(), **config):
    return create_app(FakeTwin().service(), config=ServiceConfig(**config), key_hashes=hashes, origins=origins)


async def test_with_keys_only_their_holders_ask_from_wherever_they_are():
    async with Clients(app(hashes=HASHES)).client(host="203.0.113.9", url="https://twin.example") as client:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": KEY}, {"X-API-Key": HASHES[0]}):
            refused = await client.post("/rag", json=ASK, headers=headers)
            assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
        for headers in (ANN, BOB):
            assert (await client.post("/rag", json=ASK, headers=headers)).status_code == 200


async def test_with_keys_metrics_reference_and_description_take_one_and_health_does_not():
    async with Clients(app(hashes=HASHES)).client(host="203.0.113.9") as client:
        for path in ("/metrics", "/docs", "/openapi.json", "/v1/models", "/passage"):
            assert (await client.get(path)).status_code == 401
            assert (await client.get(path, headers=ANN)).status_code != 401
        for path in ("/health", "/ready", "/"):
            assert (await client.get(path)).status_code == 200


@pytest.mark.parametrize(
    ("host", "url", "allowed"),
    [
        ("127.0.0.1", "http://localhost:8080", True),
        ("::1", "http://[::1]:8080", True),
        ("::ffff:127.0.0.1", "http://127.0.0.1", True),
        ("192.168.1.5", "http://localhost:8080", False),
        ("127.0.0.1", "http://attacker.example:8080", False),
        ("127.0.0.1", "http://localhost.attacker.example", False),
    ],
)
async def test_without_keys_only_this_machine_asks_under_its_own_name(host, url, allowed):
    async with Clients(app()).client(host=host, url=url) as client:
        assert (await client.post("/rag", json=ASK)).status_code == (200 if allowed else 403)


async def test_without_keys_a_foreign_page_in_the_own_browser_is_turned_away():
    async with Clients(app(origins=["https://me.example"])).client() as client:
        for origin, status in (
            ("http://[", 403),
            ("https://evil.example", 403),
            ("null", 403),
            ("http://localhost:8080", 200),
            ("https://me.example", 200),
        ):
            assert (await client.post("/rag", json=ASK, headers={"Origin": origin})).status_code == status


async def test_an_allowed_origin_may_ask_before_it_asks_and_another_is_not_named():
    async with Clients(app(hashes=HASHES, origins=["https://me.example"])).client() as client:
        asking = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        allowed = await client.options("/rag", headers=asking | {"Origin": "https://me.example"})
        refused = await client.options("/rag", headers=asking | {"Origin": "https://evil.example"})
    assert allowed.headers["access-control-allow-origin"] == "https://me.example"
    assert "access-control-allow-origin" not in refused.headers


async def test_each_key_has_a_pace_of_its_own():
    async with Clients(app(hashes=HASHES, burst=2, per_minute=1)).client() as client:
        for _ in range(2):
            assert (await client.post("/rag", json=ASK, headers=ANN)).status_code == 200
        refused = await client.post("/rag", json=ASK, headers=ANN)
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
        assert (await client.post("/rag", json=ASK, headers=BOB)).status_code == 200
        assert (await client.get("/health")).status_code == 200


async def test_one_callers_answer_is_not_anothers_to_judge():
    async with Clients(app(hashes=HASHES)).client() as client:
        await client.post("/rag", json=ASK, headers=ANN | {"X-Request-ID": "r"})
        vote = {"request_id": "r", "vote": "up"}
        assert (await client.post("/feedback", json=vote, headers=BOB)).status_code == 404
        assert (await client.post("/feedback", json=vote, headers=ANN)).status_code == 200


async def test_a_body_over_the_limit_is_refused_announced_or_not():
    async def dripping():
        for _ in range(50):
            yield b" " * 100

    async with Clients(app(max_body_bytes=1000)).client() as client:
        for content in (b" " * 1001, dripping()):
            response = await client.post("/rag", content=content, headers={"Content-Type": "application/json"})
            assert (response.status_code, response.json()["status"]) == (413, 413)


async def test_every_response_has_the_safe_headers():
    async with Clients(app()).client() as client:
        for response in (await client.get("/health"), await client.get("/nope"), await client.post("/rag", json=ASK)):
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]
            assert response.headers["Cache-Control"] == "no-store"


async def test_no_key_and_no_question_reaches_the_log(caplog):
    caplog.set_level("DEBUG", logger="llm_engineering")
    async with Clients(app(hashes=HASHES)).client() as client:
        await client.post("/rag", json={"query": "private question"}, headers=ANN)
        await client.post("/rag", json=ASK, headers={"Authorization": "Bearer wrong-key"})
    told = " ".join(str(vars(record)) for record in caplog.records)
    assert "POST /rag 200" in told
    assert not any(word in told for word in (KEY, "wrong-key", "private question"))


def test_a_key_that_is_no_hash_is_refused_without_showing_it():
    with pytest.raises(UsageError, match="entry 2") as refused:
        key_hashes(f"{HASHES[0]}, {KEY}")
    assert KEY not in str(refused.value)
    assert key_hashes(f" {HASHES[0].upper()} ,") == {HASHES[0]}


@pytest.mark.parametrize("host", ["0.0.0.0", "", "::", "192.168.0.1", "example.org", "127.0.0.1.example.org"])
def test_what_others_reach_is_no_loopback(host):
    assert not is_loopback(host)
