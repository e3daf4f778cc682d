"""The shape of ``configs/evaluation.yaml``: the numbers of judging. What is judged has its own (``configs/inference.yaml``)."""

from pydantic import Field

from llm_engineering.domain.config import Configuration
from llm_engineering.domain.twin_evaluation_config import TwinEvaluationConfig


class EvaluationConfig(Configuration):
    """How an evaluation measures."""

    k: int = Field(default=10, ge=1, le=100)
    """Ranks that nDCG, recall and MRR look at."""
    depth: int = Field(default=60, ge=1, le=1000)
    """Chunks searched for per question; a document ranks by its best chunk, so more than ``k`` are needed."""
    negatives: int = Field(default=50, ge=0)
    """Questions put to an author who did not answer them, at most; chosen by ``seed``."""
    level: float = Field(default=0.95, gt=0, lt=1)
    """Share of the bootstrap distribution that an interval holds."""
    resamples: int = Field(default=2000, ge=100)
    seed: int = 7
    twin: TwinEvaluationConfig = TwinEvaluationConfig()
    """Of a trained model."""
