"""Where settings come from, and that tests and benchmarks never reach the stores of the person who starts them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from llm_engineering.settings import ENV_FILE, load_settings, variables
from tests.doubles.terminal import ROOT, environment


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
