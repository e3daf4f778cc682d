"""A trained model of the registry answers: in process, over HTTP, and with nothing claimed that it did not cite."""

import json
import shutil
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from llm_engineering import bootstrap
from llm_engineering.domain.answers import Question
from llm_engineering.domain.chat import DO_NOT_KNOW
from llm_engineering.domain.config import AnswerConfig, FeatureConfig, Sampling, ServiceConfig, SyncConfig
from llm_engineering.domain.entities import Author, Draft, Kind
from llm_engineering.domain.errors import StoreError, UsageError
from llm_engineering.domain.registry import Lineage
from llm_engineering.features.sync import sync
from llm_engineering.hosting import open_service
from llm_engineering.rag.answer import answer
from llm_engineering.rag.window import fitted
from llm_engineering.serving.app import create_app
from llm_engineering.settings import Settings
from tests.doubles.encoders import WordEmbedder
from tests.doubles.tiny_adapter import make_tiny_adapter, make_tiny_base
from tests.doubles.twin_service import Clients

pytestmark = pytest.mark.anyio
NUMBERS = AnswerConfig(threshold=0, sampling=Sampling(max_tokens=12, temperature=0))
KAFKA = "Kafka taught me that a log is the simplest database, and that a consumer keeps its own place in it."
QUERY = "What did Kafka teach you about a log?"


@pytest.fixture(scope="module", autouse=True)
def words():
    """Words decide the vectors, so that only the twin is loaded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrap.encoders, "open_embedder", lambda *_: WordEmbedder(dimensions=64))
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of one document, and two versions of a trained model: an adapter, and a merged model that is current."""
    home = tmp_path_factory.mktemp("home")
    settings, config = Settings(_env_file=None, twin_home=home), FeatureConfig()
    embedder, sparse = WordEmbedder(dimensions=64), bootstrap.open_sparse_encoder(config.sparse)
    with bootstrap.open_warehouse(settings) as warehouse, bootstrap.open_index(settings) as index:
        ann = warehouse.save_author(Author.named("Ann Lee"))
        draft = Draft(
            author_id=ann.id,
            url="https://ann.example/log",
            kind=Kind.ARTICLE,
            platform="x",
            title="On logs",
            text=KAFKA,
        )
        warehouse.record([draft])
        recipe = bootstrap.recipe_for(settings, config, embedder, sparse)
        chunker = bootstrap.chunker_for(config, embedder)
        sync(warehouse, index, recipe=recipe, chunker=chunker, embedder=embedder, sparse=sparse, config=SyncConfig())
    base = make_tiny_base(home / "base")
    make_tiny_adapter(base, home / "lora" / "adapter")
    shutil.copytree(base, home / "whole" / "merged")
    registry = bootstrap.open_registry(settings)
    for folder in ("lora", "whole"):
        lineage = Lineage(
            base=str(base), base_digest="b", dataset="d", dataset_version=folder, document_ids=("d1",), prompt_version=1
        )
        registry.register(home / folder, name="ann", lineage=lineage)
    registry.promote("ann@2")
    return home


def settings_of(home: Path, model: str) -> Settings:
    return Settings(_env_file=None, twin_home=home, llm_model=model)


@asynccontextmanager
async def serving(settings: Settings):
    async with (
        open_service(settings, NUMBERS, ServiceConfig()) as service,
        Clients(create_app(service, config=ServiceConfig())).client(timeout=60) as client,
    ):
        yield client


@pytest.mark.parametrize(
    ("model", "named"), [("twin:current", "twin:ann@2"), ("twin:ann", "twin:ann@2"), ("twin:ann@1", "twin:ann@1")]
)
async def test_a_trained_model_answers_and_what_it_cannot_show_is_not_claimed(
    home: Path, model: str, named: str
) -> None:
    async with bootstrap.open_twin(settings_of(home, model), NUMBERS) as twin:
        given = await answer(Question(query=QUERY), twin, request_id="r")
    assert given.model == named
    assert (given.answer, given.grounded, given.citations) == (DO_NOT_KNOW, False, ())
    assert given.usage.completion_tokens == 12, "it did write"


async def test_a_text_to_be_written_is_the_models_own_and_not_called_grounded(home: Path) -> None:
    async with bootstrap.open_twin(settings_of(home, "twin:current"), NUMBERS) as twin:
        given = await answer(Question(query="Write a post about Kafka and logs"), twin, request_id="r")
    assert given.route == "write"
    assert given.answer not in ("", DO_NOT_KNOW)
    assert given.grounded is False


async def test_it_is_asked_for_no_plans(home: Path) -> None:
    async with bootstrap.open_twin(settings_of(home, "twin:current"), NUMBERS) as twin:
        assert twin.planner is None


async def test_passages_are_cut_to_what_it_can_read(home: Path) -> None:
    async with bootstrap.open_twin(settings_of(home, "twin:current"), NUMBERS) as twin:
        assert 64 <= twin.config.context_tokens < 1024 - 256
        assert twin.config.k < NUMBERS.k
        wide = fitted(NUMBERS.model_copy(update={"context_tokens": 64}), twin.model)
        assert wide.context_tokens == 64


async def test_it_answers_over_http_and_says_who_it_is(home: Path) -> None:
    async with serving(settings_of(home, "twin:current")) as client:
        checks = (await client.get("/ready")).json()["checks"]
        given = (await client.post("/rag", json={"query": QUERY})).json()
        body = {"model": "x", "messages": [{"role": "user", "content": QUERY}]}
        chat = (await client.post("/v1/chat/completions", json=body)).json()
    assert checks == {"warehouse": True, "index": True, "model": True}
    assert (given["model"], given["grounded"], given["answer"]) == ("twin:ann@2", False, DO_NOT_KNOW)
    assert chat["choices"][0]["message"]["content"] == DO_NOT_KNOW


async def test_a_long_conversation_that_asks_for_many_passages_is_answered(home: Path) -> None:
    turns = [{"role": role, "content": "More about logs and consumers. " * 60} for role in ("user", "assistant") * 3]
    body = {"model": "x", "k": 50, "messages": [*turns, {"role": "user", "content": QUERY}]}
    async with serving(settings_of(home, "twin:current")) as client:
        given = await client.post("/v1/chat/completions", json=body)
        endless = {"model": "x", "messages": [{"role": "user", "content": f"{QUERY} " + "qzxj " * 380}]}
        refused = await client.post("/v1/chat/completions", json=endless)
    assert given.status_code == 200, given.text
    assert (refused.status_code, refused.json()["type"]) == (422, "/problems/prompt-too-long")
    assert "Retry-After" not in refused.headers


async def test_a_streamed_answer_ends_with_what_is_true_of_it(home: Path) -> None:
    async with serving(settings_of(home, "twin:current")) as client:
        said = (await client.post("/rag", json={"query": QUERY, "stream": True})).text
    last = [line.removeprefix("data: ") for line in said.splitlines() if line.startswith("data: {")][-1]
    assert json.loads(last)["grounded"] is False


async def test_a_model_that_is_not_there_is_one_clear_line(home: Path, tmp_path: Path) -> None:
    for model, words in (("twin:bob", "no trained model bob"), ("twin:ann@9", "no version 9 of ann")):
        with pytest.raises(UsageError, match=words):
            bootstrap.require_local_twin(settings_of(home, model))
        with pytest.raises(UsageError, match=words):
            async with bootstrap.open_twin(settings_of(home, model), NUMBERS):
                pass
    with pytest.raises(UsageError, match="is current"):
        bootstrap.require_local_twin(settings_of(tmp_path, "twin:current"))


async def test_a_model_whose_files_are_gone_names_the_file(home: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(home, tmp_path / "home"))
    (broken / "models-registry" / "ann" / "2" / "merged" / "model.safetensors").unlink()
    with pytest.raises(StoreError, match=r"A file of ann@2 is gone: .*model.safetensors"):
        bootstrap.require_local_twin(settings_of(broken, "twin:current"))


async def test_a_model_of_another_wording_is_asked_with_a_warning(
    home: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap.models, "PROMPTS", 2)
    async with bootstrap.open_twin(settings_of(home, "twin:ann@2"), NUMBERS):
        assert "ann@2 was trained on version 1 of the prompts and is asked in version 2" in caplog.text
