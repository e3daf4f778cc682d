"""Training, one stage at a time: supervised fine-tuning, then preference optimisation."""

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from llm_engineering.training.dpo import dpo as train_dpo
from llm_engineering.training.recipe import Recipe
from llm_engineering.training.report import TrainingReport
from llm_engineering.training.sft import sft as train_sft
from tools.entry import load_config, main, settings_with_logging

app = typer.Typer(add_completion=False, help=__doc__, pretty_exceptions_enable=False, no_args_is_help=True)

RecipeFile = Annotated[Path, typer.Option("--recipe", help="YAML of configs/training/")]
Dataset = Annotated[Path, typer.Option("--dataset", help="folder of a built dataset")]
Out = Annotated[Path, typer.Option("--out", help="folder of the run: base/, sft/, dpo/ come to lie in it")]
Json = Annotated[bool, typer.Option("--json", help="the report as JSON on standard output")]


@app.command()
def sft(recipe: RecipeFile, dataset: Dataset, out: Out, json: Json = False) -> None:
    """Supervised fine-tuning on the author's own answers."""
    _prepare()
    _show(train_sft(load_config(recipe, Recipe), dataset=dataset, out=out), json=json)


@app.command()
def dpo(
    recipe: RecipeFile,
    dataset: Dataset,
    out: Out,
    start: Annotated[
        Path | None, typer.Option("--start", help="folder of the SFT stage to start from; OUT/sft if not given")
    ] = None,
    json: Json = False,
) -> None:
    """Preference optimisation from the SFT adapter, which stays as the reference."""
    _prepare()
    _show(train_dpo(load_config(recipe, Recipe), dataset=dataset, out=out, start=start), json=json)


def _prepare() -> None:
    """Logging as the settings say, and what a run is made of in any case."""
    settings_with_logging()
    logging.getLogger("llm_engineering.training").setLevel(logging.INFO)


def _show(report: TrainingReport, *, json: bool) -> None:
    if os.environ.get("RANK", "0") != "0":
        return  # of several processes the first one speaks
    text = report.model_dump_json(indent=2) if json else "\n".join(report.lines())
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    main(app)
