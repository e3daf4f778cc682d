"""What stands beside a run: curves, plain progress lines, the stop at a loss that is no number, marks of whole checkpoints."""

import logging
import math
import shutil
from pathlib import Path
from typing import Any

from transformers import EarlyStoppingCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from llm_engineering.domain.errors import TrainingError
from llm_engineering.training.curves import Curves
from llm_engineering.training.folders import MARK
from llm_engineering.training.recipe import StageRecipe
from llm_engineering.training.terminal import is_watched

_log = logging.getLogger(__name__)
_SHOWN = ("loss", "eval_loss", "grad_norm", "learning_rate", "rewards/accuracies", "eval_rewards/accuracies")


def watching(curves: Curves | None, numbers: StageRecipe, *, stage: str) -> list[TrainerCallback]:
    """What a stage needs beside its trainer."""
    stopping = [EarlyStoppingCallback(numbers.patience)] if numbers.patience else []
    return [Watch(curves, stage=stage), *stopping]


class Watch(TrainerCallback):
    """Keeps curves (of the main process), stops a diverged run, and marks a checkpoint when all of it is written."""

    def __init__(self, curves: Curves | None, *, stage: str) -> None:
        self._curves, self._stage = curves, stage

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **_: Any,  # noqa: ANN401
    ) -> None:
        """Look at the validation loss at the last step too: the best weights may be the last ones."""
        if state.global_step >= state.max_steps:
            control.should_evaluate = control.should_save = True

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,  # noqa: ANN401
    ) -> None:
        """Write down the numbers; one that is none ends the run."""
        numbers = {name: float(value) for name, value in (logs or {}).items() if isinstance(value, int | float)}
        for name in ("loss", "grad_norm", "eval_loss"):
            if not math.isfinite(numbers.get(name, 0.0)):
                raise TrainingError(
                    f"The {self._stage} run diverged: {name} is {numbers[name]} at step {state.global_step}",
                    hint=f"Lower {self._stage}.learning_rate or {self._stage}.max_grad_norm, lengthen the warmup.",
                )
        if self._curves is not None:
            self._curves.add(state.global_step, numbers)
            if not is_watched():
                shown = "  ".join(f"{name} {numbers[name]:.4g}" for name in _SHOWN if name in numbers)
                if shown:
                    _log.info("%s step %d of %d: %s", self._stage, state.global_step, state.max_steps, shown)

    def on_save(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **_: Any,  # noqa: ANN401
    ) -> None:
        """Mark the checkpoint: from here on a killed run resumes at it."""
        if state.is_world_process_zero:
            checkpoint = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
            # With the reference in a folder of its own transformers resumes that one and forgets the trained adapter.
            shutil.rmtree(checkpoint / "ref", ignore_errors=True)
            (checkpoint / MARK).touch()
