"""The numbers of judging a trained twin, and the thresholds of promoting it: the ``twin`` part of ``configs/evaluation.yaml``."""

from pathlib import Path

from pydantic import Field

from llm_engineering.domain.config import Configuration, Sampling


class StyleConfig(Configuration):
    """How style is compared. Lengths in words."""

    words: int = Field(default=200, ge=20)
    """Every compared piece has exactly so many; shorter texts of one document are read as one."""
    folds: int = Field(default=5, ge=2)
    """Parts of the documents; each is judged by a classifier that saw the others alone."""
    character_grams: int = Field(default=5000, ge=100)
    """Most frequent character n-grams (2 to 4 characters) that are looked at."""
    frequent_words: int = Field(default=150, ge=20)
    """Most frequent words that Burrows's Delta looks at."""
    fewest_documents: int = Field(default=4, ge=2)
    """A side with fewer documents is not judged."""


class MemorisationConfig(Configuration):
    """What counts as a verbatim run."""

    gram: int = Field(default=8, ge=2)
    """Words of a run that is looked up in the training text."""


class PerplexityConfig(Configuration):
    """How long texts are read. Lengths in tokens; a model with a shorter window reads as much as it can."""

    context: int = Field(default=1024, ge=2)
    stride: int = Field(default=512, ge=1)
    """New tokens of each further window; the rest of the window is context that is not counted again."""


class JudgeConfig(Configuration):
    """Manners of the judge."""

    examples: int = Field(default=3, ge=1)
    """Texts of the author that the judge is shown."""
    example_words: int = Field(default=200, ge=20)
    limit: int = Field(default=100, ge=1)
    """Held-out instructions that are judged at most; chosen by the evaluation's seed."""
    concurrency: int = Field(default=4, ge=1)
    max_tokens: int = Field(default=400, ge=1)


class GateConfig(Configuration):
    """When a candidate may become the current twin. Each threshold is of one check; ``None`` leaves the check out."""

    usable_share: float | None = Field(default=0.9, ge=0, le=1)
    """Share of held-out instructions with an answer of ``answer_words`` at least; the other figures are of what was written."""
    perplexity_ratio: float | None = Field(default=1.02, gt=0)
    """Held-out perplexity per character of the candidate over that of the current twin, or of the base where there is none."""
    style_difference: float | None = Field(default=0.05, ge=0)
    """How much further above 0.5 than the current twin's the AUC may be by which twin and author are told apart."""
    memorised_share: float | None = Field(default=0.2, ge=0, le=1)
    """Share of the output's runs of words that stand in the training text, beyond the author's own rate."""
    longest_run: int | None = Field(default=100, ge=1)
    """Words of the longest verbatim run; as long as the author's own longest is always allowed."""
    parity: float | None = Field(default=0.3, ge=0)
    """Greatest difference of a token's log-probability between the adapter and what is exported from it, in nats."""


class Distractor(Configuration):
    """Another author's texts, for telling styles apart: Markdown and text files of a folder, each a document."""

    name: str
    folder: Path


class TwinEvaluationConfig(Configuration):
    """All of it."""

    limit: int = Field(default=200, ge=1)
    """Held-out instructions that the twin answers at most; chosen by the evaluation's seed."""
    sampling: Sampling = Sampling(temperature=0.7, max_tokens=400, seed=7)
    """How the twin writes what is judged."""
    concurrency: int = Field(default=8, ge=1)
    answer_words: int = Field(default=10, ge=1)
    """A shorter answer counts as none."""
    distractors: tuple[Distractor, ...] = ()
    """Besides the other authors of the dataset."""
    style: StyleConfig = StyleConfig()
    memorisation: MemorisationConfig = MemorisationConfig()
    perplexity: PerplexityConfig = PerplexityConfig()
    judge: JudgeConfig = JudgeConfig()
    gate: GateConfig = GateConfig()
    beta: float = Field(default=0.1, gt=0)
    """Of DPO's implicit reward."""
    blind_pairs: int = Field(default=50, ge=0)
    """Pairs that people are shown at ``/review/ab``, at most."""
