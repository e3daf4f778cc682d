"""The sample corpus is what its README says: two deterministic states of a blog that a crawler can take seriously."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urljoin, urlsplit
from urllib.request import Request, urlopen

import feedparser
import pytest
from defusedxml import ElementTree
from selectolax.lexbor import LexborHTMLParser

from examples.sample import HERE, main, materialise, posts, serve

BASE = "http://blog.example"


@pytest.fixture(scope="module")
def v1(tmp_path_factory):
    return made(tmp_path_factory.mktemp("v1"), "v1")


@pytest.fixture(scope="module")
def v2(tmp_path_factory):
    return made(tmp_path_factory.mktemp("v2"), "v2")


def made(folder, state):
    materialise(state, folder, base_url=BASE)
    return folder


def fingerprints(folder):
    files = (file for file in folder.rglob("*") if file.is_file() and ".git" not in file.parts)
    return {
        file.relative_to(folder).as_posix(): (hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_mtime)
        for file in files
        if file.name != ".sample-corpus"
    }


def commit(folder):
    return subprocess.check_output(["git", "-C", str(folder / "repo"), "rev-parse", "HEAD"], text=True).strip()


def entry_texts(folder):
    pages = {file.parent.name: LexborHTMLParser(file.read_text()) for file in folder.glob("site/posts/*/index.html")}
    return {slug: page.css_first(".entry-content").text() for slug, page in pages.items()}


def answer(url, **headers):
    try:
        with urlopen(Request(url, headers=headers), timeout=10) as response:
            return response.status, dict(response.headers), response.read()
    except HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


@pytest.mark.parametrize("state", ["v1", "v2"])
def test_a_state_is_always_the_same_bytes_times_and_commit(state, request, tmp_path):
    again = made(tmp_path / "again", state)
    assert fingerprints(again) == fingerprints(request.getfixturevalue(state))
    assert commit(again) == commit(request.getfixturevalue(state))


def test_the_states_differ_by_one_edit_one_addition_and_one_removal(v1, v2):
    before, after = entry_texts(v1), entry_texts(v2)
    assert after.keys() - before.keys() == {"left-right-replicas"}
    assert before.keys() - after.keys() == {"one-generation-per-sync"}
    assert {slug for slug in before.keys() & after.keys() if before[slug] != after[slug]} == {"bm25-and-vectors"}


def test_notes_and_repository_are_the_same_in_both_states(v1, v2):
    one, other = fingerprints(v1), fingerprints(v2)
    for name in one:
        if name.startswith(("notes/", "repo/")):
            assert one[name][0] == other[name][0]
    assert commit(v1) == commit(v2)


def test_a_later_state_replaces_an_earlier_one_in_the_same_folder(v2, tmp_path):
    made(tmp_path, "v1")
    made(tmp_path, "v2")
    assert fingerprints(tmp_path) == fingerprints(v2)


def test_a_folder_of_somebody_else_is_left_alone(tmp_path):
    mine = tmp_path / "notes" / "mine.md"
    mine.parent.mkdir()
    mine.write_text("mine")
    with pytest.raises(FileExistsError, match="not empty"):
        materialise("v1", tmp_path)
    assert mine.read_text() == "mine"


@pytest.mark.parametrize("state", ["v1", "v2"])
def test_every_internal_link_leads_to_a_file(state, request):
    site = request.getfixturevalue(state) / "site"
    for file in site.rglob("*.html"):
        here = f"{BASE}/{file.relative_to(site).as_posix().removesuffix('index.html')}"
        for node in LexborHTMLParser(file.read_text()).css("[href]"):
            link = urlsplit(urljoin(here, node.attributes["href"]))
            if link.netloc == "blog.example":
                target = site / link.path.lstrip("/")
                assert (target / "index.html" if link.path.endswith("/") else target).is_file(), (file, link)


@pytest.mark.parametrize("state", ["v1", "v2"])
def test_the_feed_has_ten_entries_of_which_half_are_cut_short(state, request):
    feed = feedparser.parse((request.getfixturevalue(state) / "site/feed.xml").read_bytes())
    assert not feed.bozo
    assert feed.feed.author == "Ada Winter"
    assert [("content" in entry) for entry in feed.entries] == [True, False] * 5


@pytest.mark.parametrize("state", ["v1", "v2"])
def test_the_sitemap_lists_every_post_and_one_forbidden_page(state, request):
    site = request.getfixturevalue(state) / "site"
    urls = {node.text for node in ElementTree.parse(site / "sitemap.xml").iterfind(".//{*}loc")}
    assert urls == {f"{BASE}/posts/{slug}/" for slug in posts(state)} | {f"{BASE}/drafts/unfinished/"}
    robots = (site / "robots.txt").read_text()
    assert "Disallow: /drafts/" in robots
    assert f"Sitemap: {BASE}/sitemap.xml" in robots


def test_each_page_names_the_address_it_is_served_at(v1):
    for file in v1.glob("site/posts/*/index.html"):
        page = LexborHTMLParser(file.read_text())
        assert page.css_first("link[rel=canonical]").attributes["href"] == f"{BASE}/posts/{file.parent.name}/"


def test_the_texts_have_substance():
    for file in [*HERE.glob("posts/*.md"), *HERE.glob("later/*.md"), *HERE.glob("notes/*.md")]:
        assert 500 <= len(file.read_text().split()) <= 1100, file.name


def test_every_question_names_texts_that_exist():
    known = (
        set(posts("v1")) | set(posts("v2")) | {file.stem for file in [*HERE.glob("notes/*"), *HERE.rglob("repo/**/*")]}
    )
    questions = [json.loads(line) for line in (HERE / "questions.jsonl").read_text().splitlines()]
    assert {slug for question in questions for slug in question["slugs"]} <= known
    assert sum(not question["slugs"] for question in questions) == 5
    for question in questions:
        for state in question["states"] if question["slugs"] else []:
            gone = (set(posts("v1")) | set(posts("v2"))) - set(posts(state))
            assert set(question["slugs"]) - gone


def test_the_repository_holds_the_files_byte_for_byte(v1):
    listed = subprocess.check_output(["git", "-C", str(v1 / "repo"), "ls-files"], text=True).split()
    assert "spancheck/spans.py" in listed
    for name in listed:
        kept = subprocess.check_output(["git", "-C", str(v1 / "repo"), "show", f"HEAD:{name}"])
        assert kept == (HERE / "repo" / name).read_bytes()


def test_the_repository_passes_its_own_tests(v1):
    command = [sys.executable, "-B", "-W", "error", "-m", "unittest", "discover", "-s", "tests"]
    done = subprocess.run(command, cwd=v1 / "repo", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"Ran \d+ tests", done.stderr)


def test_pages_are_served_with_their_types(v1):
    with serve(v1 / "site") as address:
        types = {
            path: answer(address + path)[1]["Content-Type"].split(";")[0]
            for path in ("/", "/posts/tombstones/", "/feed.xml", "/sitemap.xml", "/robots.txt")
        }
    assert list(types.values()) == ["text/html", "text/html", "application/atom+xml", "application/xml", "text/plain"]


def test_a_page_that_has_not_changed_is_not_sent_again(v1):
    with serve(v1 / "site") as address:
        _, first, _ = answer(f"{address}/posts/tombstones/")
        assert answer(f"{address}/posts/tombstones/", **{"If-None-Match": first["ETag"]})[0] == 304
        assert answer(f"{address}/posts/tombstones/", **{"If-Modified-Since": first["Last-Modified"]})[0] == 304
        assert answer(f"{address}/posts/tombstones/", **{"If-None-Match": '"another"'})[0] == 200


def test_a_removed_post_answers_404_while_the_folder_is_being_served(tmp_path):
    with serve(tmp_path / "blog" / "site") as address:
        materialise("v1", tmp_path / "blog", base_url=address)
        assert answer(f"{address}/posts/one-generation-per-sync/")[0] == 200
        materialise("v2", tmp_path / "blog", base_url=address)
        assert answer(f"{address}/posts/one-generation-per-sync/")[0] == 404


def test_nothing_outside_the_folder_is_served(v1):
    with serve(v1 / "site") as address:
        assert answer(f"{address}/../notes/robots-as-manners.md")[0] == 404
        assert answer(f"{address}/%2e%2e/notes/robots-as-manners.md")[0] == 404


def test_the_command_line_writes_a_state(tmp_path, capsys):
    assert main(["v2", str(tmp_path / "blog"), "--base-url", BASE]) == 0
    assert (tmp_path / "blog/site/posts/left-right-replicas/index.html").is_file()
    with pytest.raises(SystemExit) as refusal:
        main(["v1", str(Path(HERE))])
    assert refusal.value.code == 2
    assert "not empty" in capsys.readouterr().err
