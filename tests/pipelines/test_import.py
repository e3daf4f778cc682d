"""The import pipeline: from a file of another warehouse to one that can be searched."""

import json
import tomllib
from contextlib import closing
from pathlib import Path

from llm_engineering.adapters.sqlite import SQLiteWarehouse
from llm_engineering.crawl.transfer import export_lines
from llm_engineering.domain.entities import Author, Draft, Kind
from tests.doubles.terminal import ROOT, types

ADA = Author.named("Ada Winter")


def test_an_export_is_indexed_by_one_command_and_its_bad_line_is_told(tmp_path: Path):
    with closing(SQLiteWarehouse(tmp_path / "elsewhere.sqlite")) as warehouse:
        warehouse.save_author(ADA)
        note = Draft(
            author_id=ADA.id, url="https://ada.example/1", kind=Kind.NOTE, platform="x", title="Marks",
            text="A watermark says how far a reader has come.",
        )  # fmt: skip
        warehouse.record([note])
        lines = [*export_lines(warehouse), "no entry"]
    (tmp_path / "export.jsonl").write_text("\n".join(lines))
    task = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["poe"]["tasks"]["run-import-pipeline"]["cmd"]
    *_, tool, command = task.split()
    done = types(tool, command, str(tmp_path / "export.jsonl"), "--json", home=tmp_path / "home")
    assert done.returncode == 0, done.stderr
    reports = json.loads(done.stdout)
    assert reports["import_documents"]["written"] == 3 and len(reports["import_documents"]["refused"]) == 1
    assert (reports["sync_index"]["documents"], reports["store_features"]["documents"]) == (1, 1)
