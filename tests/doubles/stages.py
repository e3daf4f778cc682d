"""Stages that train nothing, at the top of a module, where another process finds them."""

import os
from pathlib import Path

from llm_engineering.domain.errors import TrainingError
from llm_engineering.training.recipe import Recipe
from llm_engineering.training.report import TrainingReport


def tells_process(recipe: Recipe, *, dataset: Path, out: Path) -> TrainingReport:
    """Reports the process that it runs in."""
    return TrainingReport(stage=recipe.engine, folder=str(out), steps=os.getpid())


def diverges(recipe: Recipe, *, dataset: Path, out: Path) -> TrainingReport:
    """Fails as training does."""
    raise TrainingError("The run diverged", hint="Lower the rate.")


def is_killed(recipe: Recipe, *, dataset: Path, out: Path) -> TrainingReport:
    """Ends as by the system."""
    os._exit(9)
