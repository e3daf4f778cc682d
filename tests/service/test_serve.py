"""Starting the service: where it may listen, and what it says when it may not."""

import asyncio
import socket

import pytest

from llm_engineering.domain.config import ServiceConfig
from llm_engineering.domain.errors import UsageError
from llm_engineering.serving.app import create_app
from tests.doubles.twin_service import Clients, FakeTwin
from tools.serve import listen, ready_when, serve, warm


def test_a_port_that_is_taken_is_said_in_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"127.0.0.1:{port}: another program listens there"):
            listen("127.0.0.1", port)


def test_small_replies_are_sent_at_once_on_kept_connections():
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_without_keys_no_public_address_is_listened_at(host, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("API_KEYS", raising=False)
    with pytest.raises(UsageError, match="Without API keys"):
        serve(host=host, port=0)


@pytest.mark.anyio
async def test_nobody_is_sent_to_a_service_that_still_loads():
    begun = asyncio.Event()
    service = ready_when(begun, FakeTwin().service())

    async def ready() -> tuple[int, bool]:
        async with Clients(create_app(service, config=ServiceConfig())).client() as client:
            response = await client.get("/ready")
            return response.status_code, response.json()["checks"]["warm"]

    assert await ready() == (503, False)
    begun.set()
    assert await ready() == (200, True)


@pytest.mark.anyio
async def test_what_is_absent_does_not_keep_a_service_from_beginning(caplog):
    twin = FakeTwin()
    twin.missing = {"index"}
    await warm(twin.service())
    assert "not there yet: index" in caplog.text
    assert len(twin.questions) == 1  # the search was tried all the same
