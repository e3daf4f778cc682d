"""The report: JSON for programs, Markdown for people, a chart; and the truth where there is nothing."""

import json
from datetime import UTC, datetime

import pytest
from inline_snapshot import snapshot

from llm_engineering.domain.errors import StoreUnavailable, UsageError
from llm_engineering.evaluation.chart import caption
from llm_engineering.evaluation.folder import write
from llm_engineering.evaluation.human import NAME as PEOPLE
from llm_engineering.evaluation.intervals import Interval
from llm_engineering.evaluation.questions import LeftOut
from llm_engineering.evaluation.report import Evaluated, EvaluationReport, Figure, Part, combined, markdown

AT = datetime(2026, 11, 21, 15, 30, tzinfo=UTC)
PART = Part(
    name="Retrieval",
    figures=(
        Figure(name="MRR@10", over="questions", interval=Interval(mean=0.75, low=0.5, high=0.9, n=20)),
        Figure(name="recall@10", over="questions", interval=None),
    ),
    counts={"questions": 20},
    notes=("A note.",),
    findings={"Not found": tuple(f"question {number}?" for number in range(22))},
)
FOUND = Evaluated(
    parts=(PART, Part(name="Model", missing="There is no model.")),
    facts={"model": "offline"},
    left_out=(LeftOut(query="who?", reason="no document x in the warehouse"),),
)
PARTLY = Part(name="Half", figures=PART.figures, missing="the other half is not there")
NOTHING = Evaluated(parts=(Part(name="Retrieval", missing="There is no index yet."),))


def report(tmp_path, *found):
    return combined(found or (FOUND,), out=tmp_path / "report", at=AT)


def test_the_markdown_has_figures_intervals_notes_and_what_was_not_evaluated(tmp_path):
    text = markdown(report(tmp_path), level=0.95)
    assert "\n".join(line for line in text.splitlines() if "question 1" not in line) == snapshot("""\
# Evaluation

2026-11-21 15:30 UTC

- model: offline

## Retrieval

| figure | mean | 95% interval | over |
|---|---:|---:|---|
| MRR@10 | 0.750 | 0.500 – 0.900 | 20 questions |
| recall@10 | – | – | no questions |

| count | |
|---|---:|
| questions | 20 |

A note.

Not found:

- question 0?
- question 2?
- question 3?
- question 4?
- question 5?
- question 6?
- question 7?
- question 8?
- question 9?
- … and 2 more, see report.json

## Model

Nothing was evaluated: There is no model.

## Not asked

- who? (no document x in the warehouse)

![Figures with their intervals](report.png)\
""")


def test_the_folder_holds_json_markdown_and_a_picture(tmp_path):
    write(report(tmp_path), level=0.95)
    content = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    assert EvaluationReport.model_validate(content) == report(tmp_path)
    assert (tmp_path / "report" / "report.md").read_text(encoding="utf-8").startswith("# Evaluation\n")
    assert (tmp_path / "report" / "report.png").read_bytes().startswith(b"\x89PNG")


def test_a_report_without_a_figure_says_why_and_leaves_no_picture_of_an_earlier_one(tmp_path):
    write(report(tmp_path), level=0.95)
    write(report(tmp_path, NOTHING), level=0.95)
    assert report(tmp_path, NOTHING).empty and not report(tmp_path).empty
    assert not (tmp_path / "report" / "report.png").exists()
    assert "Nothing was evaluated: There is no index yet." in (tmp_path / "report" / "report.md").read_text()


def test_the_findings_of_several_steps_are_one_report(tmp_path):
    both = report(tmp_path, FOUND, Evaluated(parts=(Part(name="Style"),), facts={"seed": "7"}))
    assert [part.name for part in both.parts] == ["Retrieval", "Model", "Style"]
    assert both.facts == {"model": "offline", "seed": "7"}


@pytest.mark.parametrize("content", ["[]", "{}", "not JSON", '{"title": "mine"}'])
def test_a_file_that_is_no_report_is_never_written_over(tmp_path, content):
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "report.json").write_text(content)
    with pytest.raises(UsageError, match="no report of an evaluation"):
        write(report(tmp_path), level=0.95)
    assert (tmp_path / "report" / "report.json").read_text() == content


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "report").write_text("a file")
    with pytest.raises(StoreUnavailable, match="cannot be written"):
        write(report(tmp_path), level=0.95)


def test_figures_beyond_one_and_single_values_are_drawn(tmp_path):
    odd = Part(
        name="Loss", figures=(Figure(name="loss", over="texts", interval=Interval(mean=2.5, low=2.5, high=2.5, n=1)),)
    )
    write(report(tmp_path, Evaluated(parts=(odd,))), level=0.9)
    assert (tmp_path / "report" / "report.png").stat().st_size > 1000


def test_the_picture_says_which_intervals_it_shows():
    people = Part(name=PEOPLE, figures=PART.figures)
    assert caption([PART], level=0.95) == "mean and 95% bootstrap interval"
    assert caption([people], level=0.9) == "mean and 90% Wilson's interval"
    assert "bootstrap, and Wilson's" in caption([PART, people], level=0.95)


def test_a_part_with_figures_never_says_that_nothing_was_evaluated(tmp_path):
    found = report(tmp_path, Evaluated(parts=(PARTLY,)))
    assert "Not everything was evaluated: the other half is not there" in markdown(found, level=0.95)


def test_an_interval_over_one_document_is_not_shown(tmp_path):
    found = Interval(mean=0.5, low=0.5, high=0.5, n=3, documents=1)
    part = Part(name="x", figures=(Figure(name="y", over="texts", interval=found),))
    assert "| y | 0.500 | – | 3 texts of one document |" in markdown(
        report(tmp_path, Evaluated(parts=(part,))), level=0.95
    )
    several = part.model_copy(
        update={
            "figures": (part.figures[0].model_copy(update={"interval": found.model_copy(update={"documents": 2})}),)
        }
    )
    assert "3 texts of 2 documents |" in markdown(report(tmp_path, Evaluated(parts=(several,))), level=0.95)
