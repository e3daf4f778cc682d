"""Two evaluations side by side: every figure that both have, and whether chance explains the difference."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from llm_engineering.domain.evaluation_config import EvaluationConfig
from llm_engineering.evaluation.compare import compare as compare_reports
from llm_engineering.evaluation.compare import markdown, read_report
from llm_engineering.settings import Settings
from tools.entry import load_config, main, settings_with_logging

app = typer.Typer(add_completion=False, help=__doc__, pretty_exceptions_enable=False, no_args_is_help=True)
Run = Annotated[str, typer.Argument(help="folder of a report, or its name under TWIN_HOME/evaluation")]


@app.command()
def compare(
    first: Run,
    second: Run,
    config: Annotated[Path, typer.Option("--config", help="YAML with the numbers of judging")] = Path(
        "configs/evaluation.yaml"
    ),
    json: Annotated[bool, typer.Option("--json", help="one JSON document on standard output")] = False,
) -> None:
    """Compare two runs; where both kept a value for each text, text by text."""
    settings = settings_with_logging()
    numbers = load_config(config, EvaluationConfig)
    found = compare_reports(read_report(_place(first, settings)), read_report(_place(second, settings)), config=numbers)
    sys.stdout.write(found.model_dump_json(indent=1) + "\n" if json else markdown(found))


def _place(run: str, settings: Settings) -> Path:
    kept = settings.twin_home / "evaluation" / run
    return kept if kept.is_dir() and not Path(run).is_dir() else Path(run)


if __name__ == "__main__":
    main(app)
