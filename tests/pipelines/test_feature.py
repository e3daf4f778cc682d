"""The feature pipeline as a person starts it: ZenML for real, the sample corpus over local HTTP, notes and a repository."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from examples.sample import materialise, posts, serve

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Person:
    """Someone at a terminal with a home of their own."""

    home: Path
    corpus: Path
    address: str

    def types(self, *arguments: str, status: int = 0) -> str:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("ZENML", "TWIN_HOME", "COV"))},
            "TWIN_HOME": str(self.home),
            "CRAWL_ALLOW_PRIVATE": "127.0.0.1",
        }
        done = subprocess.run(
            [sys.executable, "-m", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    def runs(self, *options: str) -> dict[str, Any]:
        config = self.home.parent / "feature.yaml"
        sources = [f"{self.address}/sitemap.xml", f"{self.address}/feed.xml", str(self.corpus / "notes")]
        config.write_text(
            yaml.safe_dump(
                {
                    "author": "Ada Winter",
                    "sources": [{"at": place} for place in [*sources, str(self.corpus / "repo")]],
                    "crawl": {"delay": 0},
                }
            )
        )
        return json.loads(self.types("tools.run", "feature", "--config", str(config), "--json", *options))

    def finds(self, query: str, *options: str) -> list[dict[str, Any]]:
        return json.loads(self.types("tools.search", query, "--json", *options))["hits"]

    def indexed(self) -> int:
        return json.loads(self.types("tools.index", "status", "--json"))["chunks"]


@pytest.fixture(scope="module")
def person(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    folder = tmp_path_factory.mktemp("person")
    (folder / "corpus").mkdir()
    with serve(folder / "corpus" / "site") as address:
        materialise("v1", folder / "corpus", base_url=address)
        yield Person(folder / "home", folder / "corpus", address)


@pytest.fixture(scope="module")
def first(person: Person) -> dict[str, Any]:
    return person.runs()


@pytest.fixture(scope="module")
def second(person: Person, first: dict[str, Any]) -> dict[str, Any]:
    return person.runs()


@pytest.fixture(scope="module")
def after_changes(person: Person, second: dict[str, Any]) -> dict[str, Any]:
    materialise("v2", person.corpus, base_url=person.address)
    return person.runs()


def test_the_first_run_indexes_blog_notes_and_repository(person: Person, first: dict[str, Any]):
    synced = first["sync_index"]
    assert synced["documents"] == first["store_features"]["documents"] >= 15
    assert synced["embedded"] > 0
    assert person.indexed() == synced["chunks"]


def test_every_link_has_its_line_and_none_failed(first: dict[str, Any]):
    outcomes = {line["outcome"] for line in first["crawl_sources"]["lines"]}
    assert "stored" in outcomes
    assert "failed" not in outcomes


def test_nothing_that_robots_txt_forbids_was_read(first: dict[str, Any]):
    stored = {line["url"] for line in first["crawl_sources"]["lines"] if line["document_id"]}
    assert not [url for url in stored if "/drafts/" in url]


def test_an_identical_second_run_embeds_nothing_and_changes_nothing(first: dict[str, Any], second: dict[str, Any]):
    assert second["sync_index"]["watermark"] == first["sync_index"]["watermark"]
    assert second["sync_index"]["embedded"] == second["sync_index"]["chunks"] == 0
    assert second["store_features"]["artifact"] == first["store_features"]["artifact"]


def test_an_edit_an_addition_and_a_removal_arrive(person: Person, after_changes: dict[str, Any]):
    assert after_changes["sync_index"]["documents"] == 2
    assert after_changes["sync_index"]["removed"] == 1
    found = {hit["url"].rstrip("/").rsplit("/", 1)[-1]: hit for hit in person.finds("engineering notes", "--k", "500")}
    assert {slug for slug in found if slug in posts("v1") or slug in posts("v2")} == set(posts("v2"))
    assert found["bm25-and-vectors"]["revision"] == 2


def test_search_finds_a_passage_with_its_exact_span(person: Person, after_changes: dict[str, Any]):
    hit = person.finds("what happens when a sync is killed halfway")[0]
    assert set(hit) == {
        "document_id", "revision", "title", "url", "kind", "author", "published_at", "heading_path", "text", "start", "end",
        "score",
    }  # fmt: skip
    assert hit["end"] - hit["start"] == len(hit["text"])


def test_search_is_limited_by_kind_and_author(person: Person, after_changes: dict[str, Any]):
    assert {hit["kind"] for hit in person.finds("code that checks spans", "--kind", "repository")} == {"repository"}
    assert {hit["author"] for hit in person.finds("spans", "--author", "ada winter")} == {"Ada Winter"}


def test_a_file_of_queries_gives_one_json_object_per_line(
    person: Person, after_changes: dict[str, Any], tmp_path: Path
):
    (tmp_path / "queries.txt").write_text("crash safety\n\nrobots\n")
    lines = person.types("tools.search", "--file", str(tmp_path / "queries.txt"), "--json").splitlines()
    assert [json.loads(line)["query"] for line in lines] == ["crash safety", "robots"]


def test_a_forgotten_document_leaves_search_and_every_kept_version(person: Person, after_changes: dict[str, Any]):
    hit = person.finds("what happens when a sync is killed halfway")[0]
    person.types("tools.warehouse", "forget", hit["url"])
    person.types("tools.run", "sync", "--json")
    assert hit["document_id"] not in {
        found["document_id"] for found in person.finds("sync killed halfway", "--k", "500")
    }
    kept = [pq.read_table(path) for path in person.home.rglob("cleaned_documents/*/*")]
    assert kept
    assert not [table for table in kept if hit["document_id"] in table["document_id"].to_pylist()]
    person.runs()
    assert hit["document_id"] not in {
        found["document_id"] for found in person.finds("sync killed halfway", "--k", "500")
    }


def test_everything_the_pipeline_keeps_is_under_its_home(person: Person, first: dict[str, Any]):
    assert {path.name for path in person.home.iterdir()} >= {"warehouse.sqlite", "index", "zenml"}
