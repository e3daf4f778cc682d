import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from llm_engineering.domain.entities import now
from llm_engineering.domain.errors import UsageError
from llm_engineering.domain.evaluation_config import EvaluationConfig
from llm_engineering.evaluation.folder import write
from llm_engineering.evaluation.overlap import Answered, overlap
from llm_engineering.evaluation.report import Evaluated, combined
from tools.compare import app

EVALUATION = EvaluationConfig(resamples=100)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TWIN_HOME", str(tmp_path))
    for name, twin in (("me@1", "something else"), ("me@2", "the same words")):
        answered = [
            Answered(id=str(n), document_id=f"d{n}", instruction="?", author="the same words", twin=twin)
            for n in range(4)
        ]
        found = Evaluated(parts=(overlap(answered, evaluation=EVALUATION),), facts={"model": name})
        write(combined([found], out=tmp_path / "evaluation" / name, at=now()), level=0.95)
    return tmp_path


def test_two_runs_are_named_as_they_were_kept(home: Path) -> None:
    shown = CliRunner().invoke(app, ["me@1", "me@2"], catch_exceptions=False)
    assert "- model: me@1 → me@2" in shown.output
    assert "| ROUGE-L | 0.000 | 1.000 | +1.000 (+1.000 – +1.000, n=4) | differs |" in shown.output


def test_programs_get_one_json_document(home: Path) -> None:
    shown = CliRunner().invoke(app, [str(home / "evaluation" / "me@1"), "me@2", "--json"], catch_exceptions=False)
    assert json.loads(shown.stdout)["facts"] == {"model": ["me@1", "me@2"]}


def test_a_run_that_is_not_there_is_said(home: Path) -> None:
    with pytest.raises(UsageError, match="no evaluation report"):
        CliRunner().invoke(app, ["me@1", "me@3"], catch_exceptions=False)
