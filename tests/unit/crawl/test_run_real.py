"""The crawl on other people's real material: a whole blog, a stream of edits, an export."""

import csv
import gzip
import json
import re
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_engineering.domain.config import SourceConfig
from llm_engineering.domain.entities import author_id
from tests.doubles.crawling import CrawlWorld, outcomes
from tests.doubles.web import LocalSite, serve_folder

HOST = re.compile(rb"https?://jakevdp\.github\.io")


@pytest.fixture(scope="module")
def pristine(tmp_path_factory, data) -> Path:
    folder = tmp_path_factory.mktemp("blog")
    with tarfile.open(data / "blog_html_jakevdp" / "site_v2.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture
def blog(pristine, tmp_path) -> Iterator[LocalSite]:
    """The blog as it is served, with its own address replaced by the local one."""
    folder = tmp_path / "served"
    shutil.copytree(pristine, folder)
    with serve_folder(folder) as site:
        for file in folder.rglob("*"):
            if file.suffix in (".html", ".xml"):
                file.write_bytes(HOST.sub(site.url.encode(), file.read_bytes()))
        yield site


def posts(data: Path, *, here: bool = True) -> set[str]:
    """Paths of the posts that the pack holds pages of (or of all)."""
    with (data / "blog_html_jakevdp" / "posts.tsv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return {HOST.sub(b"", row["url"].encode()).decode() for row in rows if not here or row["page_in_pack"] == "1"}


def paths(world: CrawlWorld, site: LocalSite) -> set[str]:
    return {url.removeprefix(site.url) for url in world.live()}


def test_every_post_of_a_real_blog_is_found_through_its_feed_and_the_second_run_writes_nothing(world, blog, data):
    feed = blog.at("/feeds/all.atom.xml")
    world.crawl(feed)
    known = paths(world, blog)
    assert posts(data) <= known <= posts(data, here=False)
    head = world.warehouse.head()
    report = world.crawl(feed)
    assert world.warehouse.head() == head and set(report.totals) <= {"unchanged", "gone"}


def test_a_site_crawl_finds_every_post_and_then_follows_an_edit_and_a_removal(world, blog, data):
    world.crawl(blog.url + "/")
    assert paths(world, blog) == posts(data) | {"/pages/about.html"}
    edited, removed = sorted(posts(data))[:2]
    file = blog.folder / edited.strip("/") / "index.html"
    file.write_bytes(file.read_bytes().replace(b"</p>", b" Edited since.</p>", 3))
    (blog.folder / removed.strip("/") / "index.html").unlink()
    first = {line.url: line.outcome for line in world.crawl(blog.url + "/").lines}
    assert (first[blog.at(edited)], first[blog.at(removed)]) == ("new revision", "missing")
    world.crawl(blog.url + "/")
    assert blog.at(removed) not in world.live() and blog.at(edited) in world.live()


def apply(folder: Path, event: dict) -> None:
    path = folder / event["path"]
    if event.get("old_path"):
        (folder / event["old_path"]).unlink()
    if event["op"] == "delete":
        path.unlink()
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(event["text"], newline="")


def test_the_warehouse_follows_a_real_stream_of_edits(world, data, tmp_path):
    folder = tmp_path / "til"
    folder.mkdir()
    with gzip.open(data / "til_cdc" / "events.jsonl.gz", "rt") as stream:
        events = [json.loads(line) for line, _ in zip(stream, range(200), strict=False)]
    for start in range(0, len(events), 50):
        for event in events[start : start + 50]:
            apply(folder, event)
        victim = sorted(folder.rglob("*.md"))[start // 50]  # deletes are rare in the stream
        victim.unlink()
        world.crawl(str(folder))
        kept = {state.document.url: state.revision.text for state in world.live().values()}
        assert kept == {file.as_uri(): file.read_bytes().decode() for file in folder.rglob("*.md")}
        apply(folder, next(e for e in reversed(events[: start + 50]) if folder / e["path"] == victim))


def test_a_handbook_export_keeps_its_own_authors_and_a_second_run_writes_nothing(world, data):
    report = world.crawl(str(data / "handbook_warehouse"), author=None)
    assert report.succeeded and len(world.live("Maxime Labonne")) + len(world.live("Paul Iusztin")) == 76
    head = world.warehouse.head()
    assert set(world.crawl(str(data / "handbook_warehouse")).totals) <= {"unchanged", "refused"}
    assert world.warehouse.head() == head


def test_the_project_documents_of_a_person_are_a_folder(world, data):
    report = world.crawl(SourceConfig(at=str(data / "person_simonw")))
    assert report.totals["stored"] >= 20
    assert not list(world.warehouse.states(author_id=author_id("Someone Else")))
    assert set(outcomes(world.crawl(str(data / "person_simonw"))).values()) <= {"unchanged", "refused"}
