"""Where a report lies: a folder with JSON, Markdown and a chart."""

import json
from pathlib import Path

from llm_engineering.domain.errors import StoreUnavailable, UsageError
from llm_engineering.evaluation.chart import draw
from llm_engineering.evaluation.report import CHART, JSON, MARKDOWN, EvaluationReport, markdown


def write(report: EvaluationReport, *, level: float) -> None:
    """Write the report's files into its folder, in the place of an earlier report; without a figure there is no chart.

    Raises :class:`UsageError` if its ``report.json`` is something else, :class:`StoreUnavailable` if it cannot be written to.
    """
    folder = Path(report.out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _refuse_others(folder / JSON)
        if report.empty:
            (folder / CHART).unlink(missing_ok=True)
        else:
            draw(report, folder / CHART, level=level)
        (folder / MARKDOWN).write_text(markdown(report, level=level), encoding="utf-8", errors="backslashreplace")
        (folder / JSON).write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise StoreUnavailable(
            f"The report cannot be written to {folder}: {error.strerror or error}", hint="Choose another --out."
        ) from error


def _refuse_others(file: Path) -> None:
    """Never write over a file that is no report of ours."""
    if not file.exists():
        return
    try:
        content = json.loads(file.read_bytes())
    except ValueError:
        content = None
    if not isinstance(content, dict) or not {"title", "facts", "parts"} <= set(content):
        raise UsageError(f"{file} is no report of an evaluation", hint="Choose another --out.")
