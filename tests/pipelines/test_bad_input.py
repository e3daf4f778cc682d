"""Bad input from end to end: one clear line, the right exit status, nothing lost, and the next good run works."""

import fcntl
import json
import os
import resource
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from llm_engineering.adapters.sqlite import SQLiteWarehouse
from llm_engineering.crawl.transfer import export_lines
from llm_engineering.domain.entities import Author, Draft, Kind
from tests.doubles.terminal import ROOT, complaint, environment, types
from tests.doubles.web import Answer, LocalSite

ADA = Author.named("Ada Winter")
WORDS = "The lighthouse keeper writes down every ship that passes, and the weather it came with."


@dataclass
class Newcomer:
    """Someone whose sources are mostly broken."""

    folder: Path
    site: LocalSite

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def runs(self, *sources: str) -> subprocess.CompletedProcess[str]:
        config = self.folder / "feature.yaml"
        numbers = {"delay": 0, "retries": 0, "timeout": 20}
        config.write_text(
            yaml.safe_dump(
                {
                    "author": ADA.full_name,
                    "sources": [{"at": at} for at in sources],
                    "crawl": numbers,
                    "embedding": {"backend": "openvino"},  # auto would measure both first
                }
            )
        )
        return types("tools.run", "feature", "--config", str(config), "--json", home=self.home)

    def finds(self, query: str) -> list[str]:
        found = json.loads(types("tools.search", query, "--json", home=self.home).stdout)
        return [hit["url"].rsplit("/", 1)[-1] for hit in found["hits"]]


def closed_port() -> int:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Newcomer]:
    def fifty_megabytes() -> Iterator[bytes]:
        yield b"<html><body><article><p>"
        for _ in range(50):
            yield b"word " * 200_000

    page = "<html><head><title>{}</title></head><body><article><h1>{}</h1><p>{}</p></article></body></html>"
    with LocalSite() as site:
        site.routes |= {
            "/huge": Answer(parts=fifty_megabytes),
            "/mislabelled": Answer(page.format("Café", "Café", f"Déjà vu: {WORDS}").encode("cp1252")),
            "/broken": f"<html><body><div><article><h1>Broken<p>{WORDS}<table><tr><td><b>and</i> never <p>closed" * 2,
            "/feed.xml": Answer("{not xml at all", content_type="application/rss+xml"),
        }
        yield Newcomer(tmp_path_factory.mktemp("newcomer"), site)


@pytest.fixture(scope="module")
def nothing(newcomer: Newcomer) -> subprocess.CompletedProcess[str]:
    """The first run of all: an empty folder, and a network that is not there."""
    (newcomer.folder / "empty").mkdir()
    return newcomer.runs(str(newcomer.folder / "empty"), f"http://127.0.0.1:{closed_port()}/feed.xml")


@pytest.fixture(scope="module")
def sources(newcomer: Newcomer) -> list[str]:
    """Every kind of bad source, and two good notes among them."""
    notes = newcomer.folder / "notes"
    notes.mkdir()
    (notes / "good.md").write_text(f"# Lighthouse\n\n{WORDS}\n")
    (notes / "latin.txt").write_bytes(f"Prüfstände und Öfen. {WORDS}\n".encode("latin-1"))
    (notes / "nothing.md").touch()
    with (notes / "huge.txt").open("wb") as huge:
        huge.truncate(50_000_000)
    return [
        *(newcomer.site.at(path) for path in ("/huge", "/mislabelled", "/broken", "/feed.xml", "/nobody/nothing.git")),
        f"http://127.0.0.1:{closed_port()}/down",
        str(newcomer.folder / "no such repository"),
        str(notes),
    ]


@pytest.fixture(scope="module")
def held(newcomer: Newcomer, nothing: Any, sources: list[str]) -> subprocess.CompletedProcess[str]:
    """The second run, while another process writes the index."""
    with (newcomer.home / "index" / "writer.lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate(0)
        lock.write(json.dumps({"pid": os.getpid()}))
        lock.flush()
        return newcomer.runs(*sources)


@pytest.fixture(scope="module")
def mixed(newcomer: Newcomer, held: Any, sources: list[str]) -> subprocess.CompletedProcess[str]:
    """The same once more, with nobody in the way."""
    return newcomer.runs(*sources)


def lines_of(result: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    lines = json.loads(result.stdout)["crawl_sources"]["lines"]
    return {line["url"].rstrip("/").rsplit("/", 1)[-1]: line for line in lines}


def test_an_empty_corpus_without_a_network_is_one_line_and_a_whole_report(nothing: subprocess.CompletedProcess[str]):
    assert "Nothing could be read (2 failed)" in complaint(nothing, 1)
    assert {line["outcome"] for line in lines_of(nothing).values()} == {"failed"}


def test_an_empty_index_answers_every_search_with_nothing(newcomer: Newcomer, nothing: Any):
    result = types("tools.search", "lighthouse", "--json", home=newcomer.home)
    assert json.loads(result.stdout) == {"query": "lighthouse", "hits": []}


@pytest.mark.parametrize(
    ("name", "outcome", "words"),
    [
        ("huge", "refused", "10000000 bytes"),
        ("feed.xml", "failed", "feed"),
        ("nothing.git", "failed", "not found. Check the address"),
        ("down", "failed", "refused"),
        ("no such repository", "failed", "There is no file or folder"),
        ("nothing.md", "refused", "empty"),
        ("huge.txt", "refused", "more than 1,000,000 bytes"),
        ("mislabelled", "unchanged", ""),
        ("broken", "unchanged", ""),
        ("latin.txt", "unchanged", ""),
        ("good.md", "unchanged", ""),
    ],
)
def test_each_bad_source_has_its_line_and_costs_no_neighbour(
    mixed: subprocess.CompletedProcess[str], name: str, outcome: str, words: str
):
    assert mixed.returncode == 0 and "Traceback" not in mixed.stderr, mixed.stderr
    line = lines_of(mixed)[name]
    assert (line["outcome"], words in line["detail"]) == (outcome, True), line


def test_text_in_the_wrong_encoding_is_found_by_its_words(newcomer: Newcomer, mixed: Any):
    assert newcomer.finds("Prüfstände und Öfen")[0] == "latin.txt"
    assert newcomer.finds("déjà vu café")[0] == "mislabelled"


def test_an_index_that_another_process_writes_is_named(held: subprocess.CompletedProcess[str]):
    line = complaint(held, 1)
    assert f"process {os.getpid()}" in line and "Wait until it is done" in line and not held.stdout


def test_what_was_crawled_meanwhile_is_kept_and_arrives_with_the_next_run(mixed: subprocess.CompletedProcess[str]):
    report = json.loads(mixed.stdout)
    assert (report["crawl_sources"]["totals"]["unchanged"], report["sync_index"]["documents"]) == (4, 4)


def test_a_second_run_of_one_pipeline_is_refused_at_once(tmp_path: Path):
    with (tmp_path / "sync.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert "running already. Wait for it to end" in complaint(types("tools.run", "sync", home=tmp_path), 1)


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    """An export of 40 documents, some of them long."""
    with closing(SQLiteWarehouse(tmp_path / "source.sqlite")) as warehouse:
        warehouse.save_author(ADA)
        warehouse.record(
            [
                Draft(
                    author_id=ADA.id,
                    url=f"https://ada.example/{number}",
                    kind=Kind.ARTICLE,
                    platform="ada.example",
                    title=f"Number {number}",
                    text=f"{WORDS} " * 300,
                )
                for number in range(40)
            ]
        )
        (tmp_path / "export.jsonl").write_text("".join(f"{line}\n" for line in export_lines(warehouse)))
    return tmp_path / "export.jsonl"


def imported(home: Path, backup: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return types("tools.warehouse", "import", str(backup), "--json", home=home, **options)


def test_a_disk_that_is_full_for_the_warehouse_loses_nothing(tmp_path: Path, backup: Path):
    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    home = tmp_path / "home"
    assert "run the same again" in complaint(imported(home, backup, preexec_fn=small_disk), 1)
    report = json.loads(imported(home, backup).stdout)
    assert (
        report["refused"] == [] and report["written"] + report["present"] == 81
    )  # an author, 40 documents, 40 revisions
    with closing(SQLiteWarehouse(home / "warehouse.sqlite")) as warehouse:
        assert sum(state.live for state in warehouse.states()) == warehouse.head() == 40


def test_a_disk_that_is_full_for_the_index_loses_nothing(newcomer: Newcomer, mixed: Any, tmp_path: Path):
    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    before = newcomer.finds("lighthouse")
    copy = ("tools.index", "copy", "--to", str(tmp_path / "copy"))
    assert "The index in" in complaint(types(*copy, home=newcomer.home, preexec_fn=small_disk), 1)
    assert types(*copy, home=newcomer.home).returncode == 0
    assert newcomer.finds("lighthouse") == before
    moved = types("tools.search", "lighthouse", "--json", home=newcomer.home, env={"INDEX_URL": str(tmp_path / "copy")})
    assert len(json.loads(moved.stdout)["hits"]) == len(before)


def test_a_disk_that_is_full_for_the_history_of_runs_is_one_line(tmp_path: Path):
    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    line = complaint(types("tools.run", "sync", home=tmp_path, preexec_fn=small_disk), 1)
    assert f"ZenML cannot work with its state in {tmp_path / 'zenml'}" in line and "Check space" in line


def test_a_disk_without_room_is_said_before_anything_begins(tmp_path: Path):
    home = tmp_path / "home"
    home.mkdir()
    mounted = (
        "unshare",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        f'mount -t tmpfs -o size=5m t "{home}" && "$@"',
        "sh",
    )
    if not shutil.which("unshare") or subprocess.run([*mounted, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no small file system can be mounted here")
    result = types("tools.run", "sync", home=home, under=mounted)
    assert "is full" in complaint(result, 1) and "set TWIN_HOME to another" in result.stderr


def test_a_read_only_home_is_named_and_left_as_it_was(tmp_path_factory: pytest.TempPathFactory, backup: Path):
    home = backup.parent / "home"
    assert imported(home, backup).returncode == 0
    before = {path.name: path.read_bytes() for path in home.iterdir()}
    for folder in (home, *list(home.parents)[:3]):
        folder.chmod(0o555 if folder == home else 0o755)
    nobody = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups") if os.geteuid() == 0 else ()
    if nobody and not (shutil.which("setpriv") and python_runs(under=nobody)):
        pytest.skip("permissions do not bind this user, and another one cannot run this Python")
    try:
        for command in (("tools.run", "sync"), ("tools.warehouse", "import", str(backup))):
            line = complaint(types(*command, home=home, under=nobody), 1)
            assert f"{home} cannot be written to" in line and "set TWIN_HOME to another folder" in line
    finally:
        home.chmod(0o755)
    assert {path.name: path.read_bytes() for path in home.iterdir()} == before


def python_runs(*, under: tuple[str, ...]) -> bool:
    command = [*under, sys.executable, "-c", "import typer"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="what a process has open can be seen on Linux only")
def test_a_warehouse_that_another_process_holds_is_waited_for(tmp_path: Path, backup: Path):
    home = tmp_path / "home"
    imported(home, backup)
    (home / "more.jsonl").write_text(backup.read_text().replace("Number", "Another number"))
    with closing(sqlite3.connect(home / "warehouse.sqlite", isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        with subprocess.Popen(
            [sys.executable, "-m", "tools.warehouse", "import", str(backup), "--json"],
            cwd=ROOT,
            env=environment(home),
            stdout=subprocess.PIPE,
            text=True,
        ) as waiting:
            until_open(waiting.pid, home / "warehouse.sqlite")
            holder.execute("COMMIT")
            assert json.loads(waiting.communicate(timeout=60)[0])["refused"] == []
    assert waiting.returncode == 0


def until_open(pid: int, file: Path, *, patience: float = 60) -> None:
    """Return once that process has the file open."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        for handle in Path(f"/proc/{pid}/fd").iterdir():
            try:
                if handle.readlink() == file:
                    return
            except OSError:
                continue
    raise AssertionError(f"{file} was not opened")
