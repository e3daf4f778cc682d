"""What a person sees when something is wrong: one clear line, the right exit status."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import typer

from llm_engineering.domain.config import FeatureConfig
from llm_engineering.domain.errors import StoreLocked, TwinError, UsageError
from llm_engineering.settings import ENV_FILE
from steps.failure import remember
from tools.entry import main
from tools.run import _run, discard_unborn, feature_config
from tools.search import chosen_numbers

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env={
            "PATH": "/usr/bin:/bin",
            "TWIN_HOME": str(home),
            "HF_HUB_OFFLINE": "1",
            "HOME": str(home),
            ENV_FILE: "",
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def assert_one_line(result: subprocess.CompletedProcess[str], status: int, *words: str) -> None:
    assert result.returncode == status, result.stderr
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    for word in words:
        assert word in result.stderr


@pytest.mark.parametrize(
    ("ending", "status"),
    [
        (None, 0),
        (typer.Exit(1), 1),
        (StoreLocked("The store is held", hint="Wait."), 1),
        (UsageError("No such thing", hint="Name another."), 2),
        (typer.BadParameter("not a day"), 2),
        (KeyboardInterrupt(), 130),
    ],
)
def test_the_exit_status_says_how_a_command_ended(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ending: BaseException | None, status: int
):
    monkeypatch.setattr(sys, "argv", ["tool"])
    app = typer.Typer()

    @app.command()
    def ends() -> None:
        if ending is not None:
            raise ending

    with pytest.raises(SystemExit) as left:
        main(app)
    assert left.value.code == status
    assert len(capsys.readouterr().err.splitlines()) == (0 if status == 0 or isinstance(ending, typer.Exit) else 1)


@pytest.mark.parametrize(
    ("yaml", "words"),
    [
        ("chunks: {}", ["chunks", "Extra inputs"]),
        ("search: {k: many}", ["search.k", "integer"]),
        ("search: {alpha: 3}", ["search.alpha"]),
        ("crawl: {user_agent: Jürgen/1.0}", ["crawl.user_agent", "pattern"]),
        ("chunk: {sizes: []}", ["chunk.sizes", "at least 1"]),
        ("chunk: {by_kind: {post: []}}", ["chunk.by_kind.post", "at least 1"]),
        ("- a list", ["not a mapping"]),
        ("a: [", ["not YAML"]),
        ("a: !!bool y", ["not YAML", "KeyError"]),
    ],
)
def test_a_wrong_configuration_names_the_entry(tmp_path: Path, yaml: str, words: list[str]):
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml)
    assert_one_line(run("tools.run", "feature", "--config", str(path), home=tmp_path), 2, str(path), *words)


def test_a_configuration_that_is_not_there_is_named(tmp_path: Path):
    assert_one_line(run("tools.run", "feature", "--config", "no/such.yaml", home=tmp_path), 2, "no/such.yaml")


def test_a_source_without_an_author_is_refused(tmp_path: Path):
    assert_one_line(run("tools.run", "feature", "--source", "x", home=tmp_path), 2, "--author")


def test_a_source_whose_path_is_not_utf8_is_named_by_its_file_address(tmp_path: Path):
    (tmp_path / "numbers.yaml").write_text("")
    config = feature_config(tmp_path / "numbers.yaml", ["/notes/caf\udce9", "notes/café"], "Ada Winter")
    assert [source.at for source in config.sources] == ["file:///notes/caf%E9", "notes/café"]


def test_an_unknown_option_is_bad_usage(tmp_path: Path):
    assert_one_line(run("tools.search", "--nonsense", home=tmp_path), 2, "--nonsense")


def test_a_tool_without_its_command_shows_what_there_is(tmp_path: Path):
    result = run("tools.run", home=tmp_path)
    assert (result.returncode, result.stderr) == (2, "") and "feature" in result.stdout


def test_a_bad_setting_names_its_variable(tmp_path: Path):
    assert_one_line(run("tools.search", "x", home=tmp_path, LOG_LEVEL="loud"), 2, "LOG_LEVEL")


@pytest.mark.parametrize(("query", "word"), [("why " * 25_000, "10,000"), ("🙂🎉", "no word"), ("   ", "no word")])
def test_a_query_that_cannot_be_searched_says_why(tmp_path: Path, query: str, word: str):
    assert_one_line(run("tools.search", query, home=tmp_path), 2, word)


def test_searching_before_anything_was_indexed_says_what_to_do(tmp_path: Path):
    assert_one_line(run("tools.search", "anything", home=tmp_path), 1, "poe run-feature-pipeline")


@pytest.mark.parametrize(
    ("yaml", "given", "used"),
    [
        ("search: {k: 2, alpha: 0.9}", {}, (2, 0.9, 12)),
        ("search: {k: 2, alpha: 0.9}", {"k": 7}, (7, 0.9, 12)),
        ("", {"alpha": 1.0}, (5, 1.0, None)),
    ],
)
def test_a_search_takes_its_numbers_from_the_configuration_and_then_from_the_command_line(
    tmp_path: Path, yaml: str, given: dict[str, float], used: tuple[int, float, int | None]
):
    (tmp_path / "own.yaml").write_text(yaml)
    numbers = chosen_numbers(tmp_path / "own.yaml", **given)
    assert (numbers.k, numbers.alpha, numbers.long_query) == used


def test_a_search_without_an_author_leaves_the_warehouse_alone(tmp_path: Path):
    run("tools.search", "anything", home=tmp_path / "home")
    assert not (tmp_path / "home").exists()


def test_searching_for_an_unknown_author_writes_nothing(tmp_path: Path):
    result = run("tools.search", "anything", "--author", "Nobody", home=tmp_path)
    assert_one_line(result, 2, "Nobody", "none yet")


def test_an_address_of_an_unknown_engine_is_refused(tmp_path: Path):
    result = run("tools.warehouse", "status", home=tmp_path, WAREHOUSE_URL="postgres://user:secret@host/db")
    assert_one_line(result, 2, "WAREHOUSE_URL", "postgres://")
    assert "secret" not in result.stderr


def test_a_home_that_cannot_be_written_to_is_named(tmp_path: Path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    result = run("tools.run", "feature", home=blocked / "home")
    assert_one_line(result, 1, "TWIN_HOME", "set TWIN_HOME")


def test_forgetting_what_is_not_there_says_so(tmp_path: Path):
    assert_one_line(run("tools.warehouse", "forget", "https://nowhere.example/", home=tmp_path), 2, "nowhere.example")


def test_an_import_of_which_nothing_could_be_taken_fails(tmp_path: Path):
    nameless = [{"_id": "1", "link": "", "platform": "x", "author_id": "u", "author_full_name": "", "content": {}}]
    (tmp_path / "ArticleDocument.json").write_text(json.dumps(nameless))
    result = run("tools.warehouse", "import", str(tmp_path), home=tmp_path / "home")
    assert_one_line(result, 1, "Nothing could be imported")
    assert "refused  ArticleDocument.json, record 1" in result.stdout


def test_a_cron_expression_that_is_none_is_refused(tmp_path: Path):
    assert_one_line(run("tools.schedule", "--cron", "sometimes", home=tmp_path), 2, "sometimes")


def test_a_database_of_runs_that_was_never_finished_is_made_anew(tmp_path: Path):
    database = tmp_path / "zenml.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
    discard_unborn(database)
    assert not database.exists()


def test_a_database_of_runs_that_is_whole_or_unreadable_is_left_alone(tmp_path: Path):
    whole, unreadable = tmp_path / "whole.db", tmp_path / "unreadable.db"
    with closing(sqlite3.connect(whole)) as connection, connection:
        connection.execute("CREATE TABLE alembic_version AS SELECT '0.98.0' AS version_num")
    unreadable.write_text("this is no database, and it is long enough to be looked at as one" * 20)
    for database in (whole, unreadable, tmp_path / "none.db"):
        discard_unborn(database)
    assert whole.exists() and unreadable.exists()


def test_a_full_disk_in_a_step_is_said_of_its_file_and_not_of_the_orchestrator():
    def pipeline(**_: object) -> None:
        remember(OSError(28, "No space left on device", "/disk/answers.jsonl"))
        raise RuntimeError("Step answer_questions failed.")

    with pytest.raises(TwinError, match=r"^The pipeline failed at /disk/answers.jsonl: No space left on device"):
        _run(pipeline, FeatureConfig(), {})
