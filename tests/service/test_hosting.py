"""The served twin over real embedded stores: without an index, with one, and while another process changes it."""

import asyncio
import socket
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn

from llm_engineering import bootstrap, hosting
from llm_engineering.domain.config import AnswerConfig, ChatConfig, ServiceConfig
from llm_engineering.domain.entities import TombstoneReason
from llm_engineering.hosting import open_service
from llm_engineering.serving.app import create_app
from llm_engineering.serving.batching import QueryBatcher
from llm_engineering.settings import Settings
from tests.doubles.chat_server import ChatServer, fails, html, says
from tests.doubles.encoders import WordEmbedder
from tests.doubles.twin_service import Clients
from tools.serve import Server

pytestmark = pytest.mark.anyio
ANSWERING = AnswerConfig(threshold=0)
PACE = 0.01
"""Seconds between searches, so that the process that writes has its share of the machine."""
RULES = AnswerConfig(threshold=0, understand="rules", chat=ChatConfig(retries=0))
IMPATIENT = AnswerConfig(threshold=0, understand="rules", chat=ChatConfig(retries=0, timeout=3))
"""For models that fail, one of them by its silence."""
LIMITS = ServiceConfig(burst=100_000, per_minute=1e6)
KAFKA = "Kafka taught me that a log is the simplest database, and that a consumer keeps its own place in it."
WRITER = """
import sys
from pathlib import Path
from llm_engineering import bootstrap
from llm_engineering.domain.config import FeatureConfig, SyncConfig
from llm_engineering.domain.entities import Author, Draft, Kind
from llm_engineering.features.sync import sync
from llm_engineering.settings import Settings
from tests.doubles.encoders import WordEmbedder

settings = Settings(_env_file=None, twin_home=Path(sys.argv[1]))
config = FeatureConfig()
with bootstrap.open_warehouse(settings) as warehouse, bootstrap.open_index(settings) as index:
    embedder, sparse = WordEmbedder(dimensions=256), bootstrap.open_sparse_encoder(config.sparse)
    ann = warehouse.save_author(Author.named("Ann Lee"))
    for number, text in enumerate(sys.argv[2:]):
        url = f"https://ann.example/{number}"
        warehouse.record([Draft(author_id=ann.id, url=url, kind=Kind.ARTICLE, platform="x", title="On logs", text=text)])
        sync(warehouse, index, recipe=bootstrap.recipe_for(settings, config, embedder, sparse),
             chunker=bootstrap.chunker_for(config, embedder), embedder=embedder, sparse=sparse, config=SyncConfig())
"""


async def written(home: Path, *texts: str) -> None:
    """Another process writes these documents and commits after each."""
    writer = await asyncio.create_subprocess_exec(sys.executable, "-c", WRITER, str(home), *texts)
    assert await writer.wait() == 0


def settings_of(home: Path, **more) -> Settings:
    return Settings(_env_file=None, twin_home=home, **more)


@pytest.fixture(scope="module", autouse=True)
def words():
    """Words decide the vectors, so that no process of these tests loads a model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrap.encoders, "open_embedder", lambda *_: WordEmbedder(dimensions=256))
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("twin")
    asyncio.run(written(folder, KAFKA))
    return folder


@asynccontextmanager
async def serving(settings: Settings, config: AnswerConfig = ANSWERING):
    """A client of the twin over these stores."""
    async with (
        open_service(settings, config, LIMITS) as service,
        Clients(create_app(service, config=LIMITS)).client(timeout=60) as client,
    ):
        yield client


def ask(query: str = "What did Kafka teach you about a log?", **more):
    return {"query": query} | more


async def test_without_an_index_it_says_so_and_takes_up_what_another_process_writes(tmp_path):
    async with serving(settings_of(tmp_path)) as client:
        for path in ("/rag", "/search"):
            refused = await client.post(path, json=ask())
            assert (refused.status_code, refused.json()["type"]) == (503, "/problems/no-index")
        checks = (await client.get("/ready")).json()["checks"]
        assert checks == {"warehouse": True, "index": False, "model": True}

        more = [f"{KAFKA} This is edition {number} of it." for number in range(3)]
        writing = asyncio.create_task(written(tmp_path, KAFKA, *more))
        statuses = []
        async with asyncio.timeout(60):
            while not writing.done() or 200 not in statuses:
                statuses.append((await client.post("/search", json=ask())).status_code)
                await asyncio.sleep(PACE)
        await writing
        first = statuses.index(200)
        assert set(statuses[:first]) <= {503}
        assert set(statuses[first:]) <= {200}
        found = (await client.post("/search", json=ask("edition 2 of it", k=10))).json()["hits"]
        assert any("edition 2" in hit["text"] for hit in found)


async def test_states_switch_under_a_running_service_without_a_failed_request(home):
    async with serving(settings_of(home)) as client:
        await client.post("/search", json=ask())
        writing = asyncio.create_task(written(home, *(f"{KAFKA} Version {number}." for number in range(3))))
        statuses = set()
        while not writing.done():
            for response in await asyncio.gather(*(client.post("/search", json=ask()) for _ in range(4))):
                statuses.add(response.status_code)
            await asyncio.sleep(PACE)
        await writing
        assert statuses == {200}
        hits = (await client.post("/search", json=ask("Version 2"))).json()["hits"]
        assert any("Version 2." in hit["text"] for hit in hits)


@pytest.mark.parametrize(
    ("turn", "status", "kind"),
    [
        (fails(500), 503, "model-unavailable"),
        (fails(429, retry_after=0), 503, "model-unavailable"),
        (html(), 502, "model-reply-invalid"),
        (says("Too late.", delay=30), 503, "model-unavailable"),
        (says("Cut short.", cut_after=20), 503, "model-unavailable"),
    ],
    ids=["fails", "is busy", "a web page", "slow", "cut short"],
)
async def test_a_model_that_fails_is_said_to(home, turn, status, kind):
    with ChatServer(turn) as model:
        async with serving(settings_of(home, llm_base_url=model.url, llm_model="double"), IMPATIENT) as client:
            response = await client.post("/rag", json=ask())
    assert (response.status_code, response.json()["type"]) == (status, f"/problems/{kind}")


async def test_a_model_that_cuts_its_stream_ends_the_answer_with_a_problem(home):
    with ChatServer(says("A log is the simplest database.", cut_after=3)) as model:
        async with serving(settings_of(home, llm_base_url=model.url, llm_model="double"), RULES) as client:
            said = (await client.post("/rag", json=ask(stream=True))).text.strip().split("\n\n")
    assert said[0].startswith("event: citations")
    assert said[-1].startswith("event: error")
    assert '"type":"/problems/model-unavailable"' in said[-1]


async def test_an_index_of_another_embedder_is_said(home, monkeypatch):
    monkeypatch.setattr(bootstrap.encoders, "open_embedder", lambda *_: WordEmbedder(dimensions=64))
    async with serving(settings_of(home)) as client:
        for path in ("/rag", "/search"):
            refused = await client.post(path, json=ask())
            assert (refused.status_code, refused.json()["type"]) == (503, "/problems/index-mismatch")


async def test_what_does_not_fit_the_index_is_not_loaded_again_for_each_request(home, monkeypatch):
    loaded = []

    def load(*_):
        loaded.append(WordEmbedder(dimensions=64))
        return loaded[-1]

    monkeypatch.setattr(bootstrap.encoders, "open_embedder", load)
    monkeypatch.setattr(hosting, "_FRESH", 1000.0)
    async with serving(settings_of(home)) as client:
        responses = await asyncio.gather(*(client.post("/search", json=ask()) for _ in range(5)))
    assert {response.json()["type"] for response in responses} == {"/problems/index-mismatch"}
    assert len(loaded) == 1


async def test_a_twin_of_an_earlier_recipe_is_closed_when_its_last_request_is_done(home, monkeypatch):
    monkeypatch.setattr(hosting, "_FRESH", 0.0)
    closed = []
    monkeypatch.setattr(QueryBatcher, "close", closing(closed))
    settings = settings_of(home)
    with bootstrap.open_warehouse(settings) as warehouse, bootstrap.open_index(settings) as index:
        twins = hosting._Twins(settings, ANSWERING, LIMITS, warehouse, index)
        async with twins.use() as first:
            recipe = index.recipe()
            monkeypatch.setattr(index, "recipe", lambda: recipe.model_copy(update={"chunker": "another"}))
            async with twins.use() as second:
                assert second is not first
            assert closed == []
        assert closed == [first.embed]
        await twins.close()
    assert closed == [first.embed, second.embed]


def closing(closed):
    close = QueryBatcher.close

    async def note(self):
        closed.append(self)
        await close(self)

    return note


async def test_a_document_forgotten_while_the_model_writes_leaves_no_word_in_the_answer(home):
    secret = "The vault opens with walnuts and nothing else."
    await written(home, KAFKA, secret)

    def forgetting(_):
        with bootstrap.open_warehouse(settings_of(home)) as warehouse:
            held = [
                state.document.id for state in warehouse.states() if state.revision and secret in state.revision.text
            ]
            warehouse.bury(held, reason=TombstoneReason.WITHDRAWN)
        return f"{secret} [1]."

    with ChatServer(says(forgetting)) as model:
        async with serving(settings_of(home, llm_base_url=model.url, llm_model="double"), RULES) as client:
            answer = (await client.post("/rag", json=ask("What opens the vault?", k=1))).json()
    assert (answer["grounded"], answer["citations"]) == (False, [])
    assert "walnuts" not in answer["answer"]


async def test_a_client_that_leaves_ends_the_work_of_the_model(home):
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with ChatServer(says("Slowly, " * 50, pause=0.2)) as model:
        chosen = settings_of(home, llm_base_url=model.url, llm_model="double")
        async with open_service(chosen, RULES, LIMITS) as service:
            server = Server(uvicorn.Config(create_app(service, config=LIMITS), log_config=None, lifespan="off"))
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            async with (
                httpx.AsyncClient(base_url=url, timeout=60) as client,
                client.stream("POST", "/rag", json=ask(stream=True)) as response,
            ):
                async for line in response.aiter_lines():
                    if line.startswith("event: text"):
                        break
            await asyncio.to_thread(model.wait_for, lambda seen: seen.requests and seen.requests[-1].left)
            server.should_exit = True
            await serving


async def test_an_answer_its_context_and_its_judgement_belong_together(home):
    async with serving(settings_of(home)) as client:
        answer = (await client.post("/rag", json=ask())).json()
        assert answer["grounded"], answer
        citation = answer["citations"][0]
        where = {name: citation[name] for name in ("document_id", "revision", "start", "end")}
        assert (await client.get("/passage", params=where)).json()["quote"] == citation["quote"]
        vote = {"request_id": answer["request_id"], "vote": "up"}
        assert (await client.post("/feedback", json=vote)).status_code == 200
        assert (await client.post("/rag", json=ask(author="Nobody"))).json()["type"] == "/problems/unknown-author"
        with bootstrap.open_warehouse(settings_of(home)) as warehouse:
            assert [kept.request_id for kept in warehouse.feedback()] == [answer["request_id"]]
            cited = {citation["document_id"] for citation in answer["citations"]}
            warehouse.bury(sorted(cited), reason=TombstoneReason.WITHDRAWN)
            assert list(warehouse.feedback()) == []
        assert (await client.get("/passage", params=where)).status_code == 404
        assert (await client.post("/feedback", json=vote)).status_code == 422
