"""The terminal: one real run with the embedded engines and the packaged embedding model."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from llm_engineering import bootstrap
from llm_engineering.domain.config import EmbeddingConfig, FeatureConfig
from llm_engineering.domain.entities import Author, Draft, Kind
from llm_engineering.features.sync import sync
from llm_engineering.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
POSTS = ("tombstones", "the-outbox")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A twin of two posts of the sample corpus."""
    folder = tmp_path_factory.mktemp("home")
    settings, ada = Settings(twin_home=folder, _env_file=None), Author.named("Ada Winter")
    config = FeatureConfig(embedding=EmbeddingConfig(backend="openvino"))  # measuring which is quickest takes longer
    embedder = bootstrap.open_embedder(settings, config.embedding)
    sparse = bootstrap.open_sparse_encoder(config.sparse)
    with bootstrap.open_warehouse(settings) as warehouse, bootstrap.open_index(settings) as index:
        warehouse.save_author(ada)
        for name in POSTS:
            text = (ROOT / "examples" / "posts" / f"{name}.md").read_text(encoding="utf-8").split("---\n", 2)[2]
            address = f"https://ada.example/{name}"
            warehouse.record(
                [Draft(author_id=ada.id, url=address, kind=Kind.ARTICLE, platform="blog", title=name, text=text)]
            )
        sync(
            warehouse,
            index,
            recipe=bootstrap.recipe_for(settings, config, embedder, sparse),
            chunker=bootstrap.chunker_for(config, embedder),
            embedder=embedder,
            sparse=sparse,
            config=config.sync,
        )
    return folder


def ask(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tools.ask", *arguments],
        cwd=ROOT,
        env={
            "PATH": "/usr/bin:/bin",
            "TWIN_HOME": str(home),
            "HF_HUB_OFFLINE": "1",
            "HOME": str(home),
            "TWIN_ENV_FILE": "",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def test_an_answer_is_printed_with_numbered_sources(home: Path):
    result = ask(home, "Why does a withdrawn document leave a tombstone behind?")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("In my own words:\n\n“")
    assert "[1] tombstones\n    https://ada.example/tombstones\n    “" in result.stdout
    assert "Answered by offline (quotes only)" in result.stdout


def test_questions_of_a_file_give_one_json_object_per_line(home: Path, tmp_path: Path):
    questions = tmp_path / "questions.txt"
    questions.write_text("Why not follow MongoDB change streams directly?\n\nHow do I bake sourdough bread?\n")
    result = ask(home, "--json", "--file", str(questions), "--k", "2", "--author", "ada winter")
    known, unknown = map(json.loads, result.stdout.splitlines())
    assert {"answer", "citations", "grounded", "model", "usage", "request_id"} <= known.keys()
    assert (known["grounded"], unknown["grounded"]) == (True, False)
    assert unknown["citations"] == []
    (first, *_) = known["citations"]
    assert first.keys() == {"marker", "document_id", "revision", "title", "url", "quote", "start", "end"}


@pytest.mark.parametrize(
    ("arguments", "status", "word"),
    [
        ((), 2, "--file"),
        (("  ",), 2, "no word"),
        (("why?", "--k", "0"), 2, "--k"),
        (("why?", "--author", "Nobody"), 2, "Ada Winter"),
        (("why?", "--config", "no/such.yaml"), 2, "no/such.yaml"),
    ],
)
def test_bad_usage_is_one_line(home: Path, arguments: tuple[str, ...], status: int, word: str):
    result = ask(home, *arguments)
    assert (result.returncode, len(result.stderr.strip().splitlines())) == (status, 1), result.stderr
    assert word in result.stderr
    assert result.stdout == ""


def test_asking_before_anything_was_indexed_says_what_to_do(tmp_path: Path):
    result = ask(tmp_path, "why?")
    assert result.returncode == 1
    assert "poe run-feature-pipeline" in result.stderr
