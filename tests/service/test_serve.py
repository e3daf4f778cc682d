"""Starting the service: where it may listen, and what it says when it may not."""

import socket

import pytest

from llm_engineering.domain.errors import UsageError
from tools.serve import listen, serve


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
