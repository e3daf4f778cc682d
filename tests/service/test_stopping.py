"""The service as a process: it says where it listens, answers what is under way when it is told to stop, and ends with 0."""

import asyncio
import re
import sys
import threading

import httpx
import pytest

from tests.doubles.chat_server import ChatServer, says
from tests.service.test_hosting import KAFKA, ask, written

pytestmark = pytest.mark.anyio
SERVE = """
import sys
from llm_engineering import bootstrap
from tests.doubles.encoders import WordEmbedder
from tools.serve import app, main
bootstrap.encoders.open_embedder = lambda *_: WordEmbedder(dimensions=256)
main(app)
"""
RULES = "{understand: rules, threshold: 0}"


async def started(home, *options, **environment):
    """The process and where it listens."""
    numbers = home / "inference.yaml"
    numbers.write_text(RULES, encoding="utf-8")
    known = {"TWIN_HOME": str(home), "PATH": "", "PYTHONPATH": ".", "TWIN_ENV_FILE": "", **environment}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVE, "--port", "0", "--config", str(numbers), *options,
        env=known, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said = (await process.stderr.readline()).decode()
    return process, re.search(r"http://[\d.]+:\d+", said)[0]


async def test_a_signal_to_stop_lets_the_request_under_way_finish(tmp_path):
    release = threading.Event()

    def reply(_):
        assert release.wait(60)
        return "A log is the simplest database [1]."

    await written(tmp_path, KAFKA)
    with ChatServer(says(reply)) as model:
        process, url = await started(tmp_path, LLM_BASE_URL=model.url, LLM_MODEL="double")
        async with httpx.AsyncClient(base_url=url, timeout=60) as client, httpx.AsyncClient(base_url=url) as late:
            asking = asyncio.create_task(client.post("/rag", json=ask()))
            await asyncio.to_thread(model.wait_for, lambda seen: seen.requests)
            process.terminate()
            async with asyncio.timeout(60):
                while await connects(late):
                    pass
            release.set()
            answer = await asking
    assert (answer.status_code, answer.json()["grounded"]) == (200, True)
    assert await process.wait() == 0
    assert "Traceback" not in (await process.stderr.read()).decode()


async def connects(client):
    try:
        return (await client.get("/health", headers={"Connection": "close"})).status_code == 200
    except httpx.TransportError:
        return False


async def test_a_service_whose_model_cannot_be_reached_says_so_and_starts(tmp_path):
    process, url = await started(tmp_path, LLM_BASE_URL="http://127.0.0.1:9/v1", LLM_MODEL="double")
    said = (await process.stderr.readline()).decode() + (await process.stderr.readline()).decode()
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        assert (await client.get("/health")).status_code == 200
    process.terminate()
    assert await process.wait() == 0
    assert "not there yet: index: There is no index" in said
    assert "not there yet: model: http://127.0.0.1:9/v1 cannot be reached" in said
