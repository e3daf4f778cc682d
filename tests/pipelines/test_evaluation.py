"""The evaluation pipeline as a person starts it: a folder with a report, and the truth where there is nothing to judge."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llm_engineering import bootstrap
from llm_engineering.domain.config import EmbeddingConfig, FeatureConfig
from llm_engineering.domain.entities import Author, Draft, Kind
from llm_engineering.features.sync import sync
from llm_engineering.settings import load_settings

ROOT = Path(__file__).resolve().parents[2]
TEXTS = {
    (
        "Ann Lee",
        "watermarks",
    ): "The watermark moves last. A sync that is killed before that repeats its work and loses nothing.",
    ("Bo Berg", "bread"): "Sourdough bread wants a warm kitchen. The starter eats flour every day.",
}
QUESTIONS = [
    {
        "question": "What does a sync that is killed before the watermark moves lose?",
        "sources": [{"document": "watermarks", "quote": "A sync that is killed before that repeats its work"}],
    },
    {
        "question": "What does the sourdough starter eat?",
        "sources": [{"document": "bread", "quote": "The starter eats flour"}],
    },
    {"question": "Who wrote the anthem of Uruguay?", "sources": []},
    {"question": "What of a page that is gone?", "sources": [{"document": "gone"}]},
]


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    file = tmp_path_factory.mktemp("asked") / "questions.jsonl"
    file.write_text("".join(json.dumps(question) + "\n" for question in QUESTIONS), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home whose index holds two short articles of two authors, made with the product's own encoders."""
    settings = load_settings(twin_home=tmp_path_factory.mktemp("person") / "home")
    bootstrap.prepare_home(settings)
    config = FeatureConfig(embedding=EmbeddingConfig(backend="float32"))  # nothing to convert or to measure first
    with bootstrap.open_warehouse(settings) as warehouse, bootstrap.open_index(settings) as index:
        for (name, title), text in TEXTS.items():
            author = warehouse.save_author(Author.named(name))
            url = f"https://writers.example/{title}"
            warehouse.record(
                [Draft(author_id=author.id, url=url, kind=Kind.ARTICLE, platform="w", title=title, text=text)]
            )
        embedder = bootstrap.open_embedder(settings, config.embedding)
        sparse = bootstrap.open_sparse_encoder(config.sparse)
        sync(
            warehouse,
            index,
            recipe=bootstrap.recipe_for(settings, config, embedder, sparse),
            chunker=bootstrap.chunker_for(config, embedder),
            embedder=embedder,
            sparse=sparse,
            config=config.sync,
        )
    return settings.twin_home


def types(home, *arguments, status=0):
    private = ("ZENML", "TWIN_HOME", "COV", "LLM", "OPENAI", "WAREHOUSE", "INDEX", "RERANKER", "EMBEDDING")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(private)}
    command = [sys.executable, "-m", "tools.run", "evaluation", *map(str, arguments)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment | {"TWIN_HOME": str(home)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


def test_the_pipeline_writes_a_report_with_figures_and_what_was_not_asked(home, questions, tmp_path):
    types(home, "--questions", questions, "--out", tmp_path / "report")
    report = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    retrieval, answers = report["parts"]
    means = {figure["name"]: figure["interval"]["mean"] for part in (retrieval, answers) for figure in part["figures"]}
    assert means["recall@10, documents"] == means["recall@10, passages"] == 1
    assert means["cites a known document"] == means["citation precision"] == means["declined: not in the corpus"] == 1
    assert answers["counts"]["questions asked"] == 5  # the two of each author are put to the other author as well
    assert answers["counts"]["citations"] >= 2 and answers["counts"]["wrong or invented citations"] == 0
    assert [left["reason"] for left in report["left_out"]] == ["no document gone in the warehouse"]
    assert report["facts"]["model"].startswith("offline")
    assert "| nDCG@10, documents | 1.000 |" in (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert (tmp_path / "report" / "report.png").read_bytes().startswith(b"\x89PNG")


def test_without_an_index_the_report_says_that_there_is_none_and_the_run_failed(questions, tmp_path):
    done = types(tmp_path / "home", "--questions", questions, "--json", status=1)
    assert "Nothing was evaluated: There is no index" in done.stderr.splitlines()[-1]
    assert json.loads(done.stdout)["write_evaluation"]["parts"][0]["figures"] == []
    text = (tmp_path / "home" / "evaluation" / "report.md").read_text(encoding="utf-8")
    assert "Nothing was evaluated: There is no index" in text and ".png" not in text


def test_a_file_of_questions_that_is_wrong_is_one_clear_line(tmp_path):
    (tmp_path / "questions.jsonl").write_text('{"question": "why?", "slugs": []}\n')
    done = types(tmp_path / "home", "--questions", tmp_path / "questions.jsonl", status=2)
    assert "Line 1 of" in done.stderr.splitlines()[-1] and "slugs" in done.stderr
