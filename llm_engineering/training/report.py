"""What a stage of training says it did."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import Field

from llm_engineering.domain.entities import Frozen
from llm_engineering.training.provenance import RECORD


class TrainingReport(Frozen):
    """Counts, losses and times of one stage. Losses are per answer token, in nats."""

    stage: str
    folder: str
    """Holds ``adapter``, the resolved recipe, ``run.json`` and the curves."""
    samples: dict[str, int] = Field(default_factory=dict)
    """By split, those that were used."""
    too_long: dict[str, int] = Field(default_factory=dict)
    """By split, those that are longer than the context and were left out."""
    rows: int = 0
    """Of training, after packing."""
    steps: int = 0
    best_step: int | None = None
    """Whose weights were kept."""
    stopped_early: bool = False
    resumed_from: int | None = None
    trained_parameters: int = 0
    before: dict[str, float] = Field(default_factory=dict)
    """On the validation split before the first step: ``loss``, for DPO also ``accuracy`` and ``margin`` of rewards."""
    after: dict[str, float] = Field(default_factory=dict)
    """The same with the kept weights."""
    seconds: float = 0.0
    peak_memory_bytes: int = 0
    skipped: bool = False
    """Whether the same run was finished already, and nothing was done."""

    def lines(self) -> Sequence[str]:
        """For a terminal."""
        if self.skipped:
            return (f"{self.stage}: finished already in {self.folder}; nothing to do.",)
        left_out = sum(self.too_long.values())
        return (
            f"{self.stage}: {self.steps} steps over {self.samples.get('train', 0)} samples in {self.seconds:.0f} s"
            + (f", resumed at step {self.resumed_from}" if self.resumed_from else "")
            + (f", stopped early, kept step {self.best_step}" if self.stopped_early else "")
            + (f"; {left_out} samples longer than the context left out" if left_out else ""),
            "validation: "
            + ", ".join(f"{name} {self.before[name]:.4f} -> {self.after[name]:.4f}" for name in self.after),
            f"weights and record: {self.folder}",
        )


def read_report(folder: Path) -> TrainingReport:
    """The report of a finished stage."""
    return TrainingReport.model_validate(json.loads((folder / RECORD).read_text(encoding="utf-8"))["report"])


def is_whole(folder: Path) -> bool:
    """Whether a stage was written to its end, report and all."""
    record = folder / RECORD
    return record.is_file() and "report" in json.loads(record.read_text(encoding="utf-8"))


def measured(metrics: Mapping[str, float]) -> dict[str, float]:
    """The numbers of an evaluation under our names. A pair whose answers are rewarded alike counts half, as in an evaluation.

    The trainer counts it as lost. Where no pair is won and the mean margin is 0, each pair is such a tie: so it is before the
    first step, when the policy is its own reference.
    """
    names = {"eval_loss": "loss", "eval_rewards/accuracies": "accuracy", "eval_rewards/margins": "margin"}
    found = {name: float(metrics[key]) for key, name in names.items() if key in metrics}
    if found.get("accuracy") == 0 and found.get("margin") == 0:
        found["accuracy"] = 0.5
    if "accuracy" not in found and "loss" in found:
        found["perplexity"] = math.exp(min(found["loss"], 700.0))
    return found
