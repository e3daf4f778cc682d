"""The shape of ``configs/dataset.yaml``: the numbers of building training data."""

from pathlib import Path

from pydantic import Field, model_validator

from llm_engineering.domain.config import CleanConfig, Configuration, EmbeddingConfig, Sampling
from llm_engineering.domain.entities import Author, fold
from llm_engineering.domain.samples import InstructionStyle, PairSource


class PassageConfig(Configuration):
    """Which pieces of the author's text become answers. Lengths in words."""

    min_words: int = Field(default=30, ge=1)
    max_words: int = Field(default=600, ge=1)
    """A longer section is divided at its paragraphs."""
    before_words: int = Field(default=80, ge=0)
    """Of the text before a passage, kept for ``continue`` instructions."""


class InstructConfig(Configuration):
    """Instructions by rules or by a teacher."""

    styles: dict[InstructionStyle, float] = Field(
        default_factory=lambda: {
            InstructionStyle.ASK: 0.35,
            InstructionStyle.BRIEF: 0.3,
            InstructionStyle.TITLE: 0.15,
            InstructionStyle.CONTINUE: 0.15,
            InstructionStyle.REPLY: 0.05,
        }
    )
    """Proportions of instruction styles over the passages."""
    per_passage: int = Field(default=1, ge=1, le=5)
    """Instructions of different styles for one passage."""
    rephrased_share: float = Field(default=0.1, ge=0, le=0.5)
    """Cap on rephrased samples among those that are trained on (teacher only); none is held out."""


class TeacherConfig(Configuration):
    """Manners and money of the teacher model. The model itself is a setting (``LLM_MODEL``); prices per million tokens."""

    enabled: bool = False
    """Off: instructions by rules, nothing is called and nothing costs."""
    concurrency: int = Field(default=8, ge=1)
    timeout: float = Field(default=120.0, gt=0)
    prompt_price: float = Field(default=0.0, ge=0)
    completion_price: float = Field(default=0.0, ge=0)
    budget: float | None = Field(default=None, ge=0)
    """In the currency of the prices, for one run, which stops cleanly before a call that would exceed it."""
    max_calls: int | None = Field(default=None, ge=1)
    """Of one run; a call that takes a repair round counts once."""
    sampling: Sampling = Sampling(temperature=0.7, max_tokens=800)

    @model_validator(mode="after")
    def _a_budget_needs_prices(self) -> "TeacherConfig":
        if self.budget is not None and not (self.prompt_price or self.completion_price):
            raise ValueError("a budget without prompt_price and completion_price would never be reached")
        return self


class QualityConfig(Configuration):
    """The gates."""

    min_answer_words: int = Field(default=20, ge=1)
    max_answer_words: int = Field(default=900, ge=1)
    min_instruction_words: int = Field(default=2, ge=1)
    max_instruction_words: int = Field(default=200, ge=1)
    languages: tuple[str, ...] = ()
    """ISO 639-1 codes that may pass; empty: every language."""
    max_code_share: float = Field(default=0.8, ge=0, le=1)
    """Share of words in code above which an answer counts as code only (repository documents are exempt)."""
    support: float = Field(default=0.6, ge=0, le=1)
    """Of a rephrased answer: share of its content words that its passage must hold."""
    support_pairs: float = Field(default=0.2, ge=0, le=1)
    """The same for its pairs of neighbouring content words."""
    support_cosine: float = Field(default=0.3, ge=-1, le=1)
    """Cosine to its passage that a rephrased answer must reach, where there is an embedder."""
    near_duplicate: float = Field(default=0.7, gt=0, le=1)
    """Jaccard similarity of 5-word shingles from which two answers are near-duplicates."""
    permutations: int = Field(default=128, ge=16)
    semantic_duplicate: float = Field(default=0.95, gt=0, le=1)
    """Cosine from which two instructions ask the same."""
    mask: bool = True
    """Mask secrets and personal data in instructions and answers."""
    evaluation_sets: tuple[Path, ...] = ()
    """JSON lines or text files; samples that share a 13-gram with one are refused."""


class PreferenceConfig(Configuration):
    """Where rejected answers come from."""

    sources: tuple[PairSource, ...] = ()
    """Empty: none are generated; ``feedback`` needs no model."""
    length_ratio: float = Field(default=1.6, ge=1)
    """A rejected answer longer or shorter than the chosen one by more than this factor is cut or refused."""
    per_sample: int = Field(default=1, ge=1)
    """Rejected answers of each source for one instruction."""
    models: dict[PairSource, str] = Field(default_factory=dict)
    """Names of the models at ``LLM_BASE_URL`` that write the rejected answers, by source, and under ``judge`` the one that
    judges. A source that is not named here uses ``LLM_MODEL``."""
    weaker_prompt: bool = True
    """``other`` is asked by a prompt that knows nothing of the author; false: by the same prompt as the others."""
    tolerance: float = Field(default=0.05, ge=0, le=0.5)
    """How far from one half the share of pairs whose chosen answer is the longer one may be; 0.5 keeps every pair."""
    calls: TeacherConfig = TeacherConfig(sampling=Sampling(temperature=1.0))
    """Manners and money of these models; ``enabled`` plays no part."""


class SplitConfig(Configuration):
    """Shares of the source documents."""

    validation: float = Field(default=0.05, ge=0, lt=1)
    test: float = Field(default=0.1, ge=0, lt=1)
    fewest_validation: int = Field(default=1, ge=0)
    """Long documents that the side has at least in a corpus of ten and more, while both sides have less than a third."""
    fewest_test: int = Field(default=1, ge=0)
    salt: str = "1"


class AuthorTerms(Configuration):
    """What an author agreed to."""

    licence: str = ""
    consent: bool | None = None
    """Whether to being trained on; false leaves the author's documents out, ``None`` is not stated."""


class DatasetConfig(Configuration):
    """``configs/dataset.yaml``: from the warehouse to training data."""

    name: str = Field(default="twin", pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    author: str | None = None
    """Name or alias; ``None``: every author of the warehouse."""
    terms: dict[str, AuthorTerms] = Field(default_factory=dict)
    """By name or alias of the author."""
    clean: CleanConfig = CleanConfig()
    passages: PassageConfig = PassageConfig()
    instruct: InstructConfig = InstructConfig()
    teacher: TeacherConfig = TeacherConfig()
    quality: QualityConfig = QualityConfig()
    preference: PreferenceConfig = PreferenceConfig()
    split: SplitConfig = SplitConfig()
    embedding: EmbeddingConfig = EmbeddingConfig()
    hub_repository: str | None = None
    """``owner/name`` on the Hugging Face Hub to push to; ``None``: no push."""

    def terms_of(self, author: Author) -> AuthorTerms:
        """What the author agreed to; names are compared folded."""
        names = {fold(name) for name in (author.full_name, *author.aliases)}
        return next((terms for name, terms in self.terms.items() if fold(name) in names), AuthorTerms())
