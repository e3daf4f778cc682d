"""What breaks during training, in one line each, with the knobs that help."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llm_engineering.domain.errors import StoreUnavailable, TrainingError
from llm_engineering.training.recipe import Recipe, StageRecipe

_NO_SPACE = ("no space left", "file write failed", "disk quota", "unexpected pos")
_NO_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory")


@contextmanager
def explained(recipe: Recipe, stage: StageRecipe, *, work: Path) -> Iterator[None]:
    """Raise our errors for a full disk and for memory that ran out; everything else passes."""
    try:
        yield
    except (OSError, RuntimeError, MemoryError) as error:
        if is_full_disk(error):
            raise StoreUnavailable(
                f"The disk is full: a checkpoint could not be written in {work} ({_free(work)} free)",
                hint="Free some space and run it again: it goes on from the last whole checkpoint.",
            ) from error
        if is_out_of_memory(error):
            raise TrainingError(
                f"The device ran out of memory at {_size(recipe, stage)}", hint=_smaller(recipe, stage)
            ) from error
        raise


def is_full_disk(error: BaseException) -> bool:
    """Whether the error, or one behind it, says that a file could not be written for lack of space."""
    return any(
        getattr(cause, "errno", None) in {errno.ENOSPC, errno.EDQUOT}
        or any(words in str(cause).lower() for words in _NO_SPACE)
        for cause in _chain(error)
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error, or one behind it, is about memory of the GPU or of the machine."""
    return any(
        isinstance(cause, MemoryError) or any(words in str(cause).lower() for words in _NO_MEMORY)
        for cause in _chain(error)
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _size(recipe: Recipe, stage: StageRecipe) -> str:
    return f"batch_size {stage.batch_size}, context {recipe.context}, quantization {recipe.quantization}"


def _smaller(recipe: Recipe, stage: StageRecipe) -> str:
    """What to turn down, the cheapest first."""
    knobs = []
    if stage.batch_size > 1:
        knobs.append(f"batch_size: {stage.batch_size // 2} with accumulation: {stage.accumulation * 2}")
    if not stage.gradient_checkpointing:
        knobs.append("gradient_checkpointing: true")
    if recipe.quantization == "none":
        knobs.append("quantization: nf4")
    knobs += [f"context: {recipe.context // 2}", "a lower lora.rank", "a smaller model"]
    return f"Try, in this order: {'; '.join(knobs)}."


def _free(folder: Path) -> str:
    return f"{shutil.disk_usage(folder).free / 1e6:.0f} MB"
