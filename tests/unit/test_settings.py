"""Where settings come from, and that tests and benchmarks never reach the stores of the person who starts them."""

import io
import logging
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

from llm_engineering.settings import ENV_FILE, load_settings, variables
from llm_engineering.telemetry import set_up_logging
from tests.doubles.terminal import ROOT, environment
from tools.entry import settings_secrets


def test_settings_come_from_the_environment_then_from_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INDEX_COLLECTION", "mine")
    Path(".env").write_text("INDEX_COLLECTION=theirs\nWAREHOUSE_DATABASE=from_dot_env\n")
    Path("other").write_text("WAREHOUSE_DATABASE=from_other\n")
    for named, database in {"": "twin", "other": "from_other", "no/such": "twin"}.items():
        monkeypatch.setenv(ENV_FILE, named)
        assert (load_settings().index_collection, load_settings().warehouse_database) == ("mine", database)
    monkeypatch.delenv(ENV_FILE)
    assert load_settings().warehouse_database == "from_dot_env"


def test_what_settings_read_is_known_by_name():
    assert {"TWIN_HOME", "WAREHOUSE_URL", "LLM_API_KEY", "OPENAI_API_KEY"} <= variables()


def test_a_tool_started_by_a_test_leaves_the_stores_of_a_person_alone(tmp_path: Path):
    store = tmp_path / "real.sqlite"
    (tmp_path / ".env").write_text(f"WAREHOUSE_URL={store}\n")
    command = [sys.executable, "-m", "tools.warehouse", "import", str(ROOT / "examples")]
    for known in ({}, {ENV_FILE: ".env"}):  # the second shows that the first could have reached it
        assert not store.exists()
        given = environment(tmp_path / "home", PYTHONPATH=str(ROOT)) | known
        subprocess.run(command, cwd=tmp_path, env=given, capture_output=True, check=False)
    assert store.exists()


@pytest.mark.parametrize(
    ("package", "dropped"),
    [
        ("tests.conftest", ["WAREHOUSE_URL", "index_url", "INDEX_API_KEY", "LLM_API_KEY", "OPENAI_BASE_URL"]),
        ("benchmarks", ["WAREHOUSE_URL", "index_url", "INDEX_API_KEY"]),
    ],
)
def test_addresses_that_the_task_runner_exported_are_forgotten(package: str, dropped: list[str]):
    hostile = {name: "mongodb://real/" for name in dropped}
    script = f"import os, {package}; print(sorted(set({dropped}) & set(os.environ)), repr(os.environ['{ENV_FILE}']))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env={**os.environ, ENV_FILE: ".env", **hostile}, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "[] ''"


@pytest.mark.parametrize("password", ["hunter2", "p%40ss%2Fword", "p@ss:word/unescaped"])
@pytest.mark.parametrize("name", ["warehouse_url", "index_url", "llm_base_url"])
def test_a_password_within_an_address_is_never_printed_and_is_blotted_out_of_the_log(name: str, password: str):
    settings = load_settings(**{name: f"mongodb://me:{password}@server:27017/?replicaSet=rs0"})
    assert password not in repr(settings) + str(settings) and "://me:**********@server:27017" in repr(settings)
    stream = io.StringIO()
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        set_up_logging("info", stream=stream, structured=False, secrets=settings_secrets(settings))
        root.warning("cannot reach %s or %s", getattr(settings, name), unquote(password))
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    assert (
        stream.getvalue().strip() and password not in stream.getvalue() and unquote(password) not in stream.getvalue()
    )


def test_keys_are_never_printed():
    settings = load_settings(llm_api_key="k-1", index_api_key="k-2", github_token="k-3", hf_token="k-4", api_keys="k-5")
    assert "k-" not in repr(settings) and set(settings.secrets) == {"k-1", "k-2", "k-3", "k-4"}


def test_an_address_without_a_password_is_printed_as_it_is():
    settings = load_settings(index_url="http://127.0.0.1:6333")
    assert "http://127.0.0.1:6333" in repr(settings) and settings.secrets == ()
