"""A stage in a process of its own, where its engine would change the process that it runs in."""

import logging
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Protocol

from llm_engineering.domain.errors import TrainingError
from llm_engineering.training.hardware import detect
from llm_engineering.training.loading import chosen_engine
from llm_engineering.training.recipe import Recipe
from llm_engineering.training.report import TrainingReport


class Stage(Protocol):
    """:func:`~llm_engineering.training.sft.sft` and :func:`~llm_engineering.training.dpo.dpo`."""

    def __call__(self, recipe: Recipe, *, dataset: Path, out: Path) -> TrainingReport:
        """Train it."""
        ...


def trained_by(stage: Stage, recipe: Recipe, *, dataset: Path, out: Path) -> TrainingReport:
    """The report of a stage whose process goes on to load other models.

    Unsloth replaces methods of transformers for good: with it the stage runs in a process of its own.
    """
    if chosen_engine(recipe, detect()) != "unsloth":
        return stage(recipe, dataset=dataset, out=out)
    level = logging.getLogger().getEffectiveLevel()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, initializer=_log, initargs=(level,)) as process:
        try:
            return process.submit(stage, recipe, dataset=dataset, out=out).result()
        except BrokenProcessPool as error:
            raise TrainingError(
                "The process of the stage was ended from outside",
                hint="Look at the machine's memory and run it again: it goes on from the last whole checkpoint.",
            ) from error


def _log(level: int) -> None:
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
