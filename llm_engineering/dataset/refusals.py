"""Why a candidate was refused, which of several alike stands first, and what a run of gates hands back."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Generic, TypeVar

from llm_engineering.dataset.masking import mask
from llm_engineering.domain.samples import AuthorPassage, Origin, Pair, Provenance, Refusal, Sample

Candidate = TypeVar("Candidate", AuthorPassage, Sample, Pair)


class Reason(StrEnum):
    """Why a candidate was refused."""

    SOURCE_GONE = "source-gone"
    """The revision that it says to come from is not there."""
    NOT_VERBATIM = "not-verbatim"
    """It says to be the author's words and is not."""
    UNSUPPORTED = "unsupported"
    """A rephrased answer whose passage does not say so."""
    MALFORMED = "malformed"
    """Empty, broken characters, an unfilled placeholder, or a structure that was not unpacked."""
    TOO_SHORT = "too-short"
    TOO_LONG = "too-long"
    INSTRUCTION_TOO_SHORT = "instruction-too-short"
    INSTRUCTION_TOO_LONG = "instruction-too-long"
    OTHER_LANGUAGE = "other-language"
    """A language that the configuration does not name, or an instruction in another one than its answer."""
    BOILERPLATE = "boilerplate"
    CODE_ONLY = "code-only"
    MODEL_REFUSAL = "model-refusal"
    """A model says that it cannot or will not."""
    POINTS_AT_SOURCE = "points-at-source"
    """Speaks of "the extract" or "the passage", which nobody will see."""
    GIVES_ANSWER_AWAY = "gives-answer-away"
    """The instruction holds a long piece of its answer."""
    CONTAMINATED = "contaminated"
    """Shares a 13-gram with an evaluation set."""
    DUPLICATE = "duplicate"
    NEAR_DUPLICATE = "near-duplicate"
    REPEATED_INSTRUCTION = "repeated-instruction"
    SIMILAR_INSTRUCTION = "similar-instruction"
    REPHRASED_SHARE = "rephrased-share"
    """A rephrased answer more than its share allows, or held out."""
    CHOSEN_EQUALS_REJECTED = "chosen-equals-rejected"
    CHOSEN_LIKE_REJECTED = "chosen-like-rejected"
    LENGTH_RATIO = "length-ratio"


@dataclass(frozen=True, slots=True)
class Gated(Generic[Candidate]):
    """What came through, in the order in which it came, and what did not."""

    kept: tuple[Candidate, ...]
    refused: tuple[Refusal, ...]
    masked: Counter[str] = field(default_factory=Counter)
    """Secrets and personal data masked in what was kept, by kind."""

    @property
    def reasons(self) -> dict[str, int]:
        """Refusals by reason, most frequent first."""
        return dict(Counter(refusal.reason for refusal in self.refused).most_common())


def passage_rank(passage: AuthorPassage) -> tuple[object, ...]:
    """Passages in the order of preference."""
    return (*_source_rank(passage.provenance), passage.key)


def sample_rank(sample: Sample) -> tuple[object, ...]:
    """Samples in the order of preference: the author before a teacher."""
    return (sample.origin is not Origin.AUTHOR, *_source_rank(sample.provenance), sample.id)


def pair_rank(pair: Pair) -> tuple[object, ...]:
    """Pairs in the order of preference; those of unknown source last."""
    return (*_source_rank(pair.provenance), pair.id) if pair.provenance else (_NEVER, "", 0, 0, pair.id)


_NEVER = datetime.max.replace(tzinfo=UTC)


def _source_rank(where: Provenance) -> tuple[datetime, str, int, int]:
    return (where.published_at or _NEVER, where.document_id, where.start, where.end)


def identity(candidate: AuthorPassage | Sample | Pair) -> str:
    """The id under which a candidate is refused."""
    return candidate.key if isinstance(candidate, AuthorPassage) else candidate.id


def refuse(reason: Reason, candidate: AuthorPassage | Sample | Pair, detail: str = "") -> Refusal:
    """The refusal of a candidate."""
    if candidate.provenance:
        document: str | None = candidate.provenance.document_id
    else:
        document = candidate.document_ids[0] if isinstance(candidate, Pair) and candidate.document_ids else None
    return Refusal(reason=reason, subject=identity(candidate), document_id=document, detail=mask(detail).text)


def gated(
    given: Sequence[Candidate], refused: Mapping[str, Refusal], masked: Mapping[str, Counter[str]]
) -> Gated[Candidate]:
    """What a run of gates hands back: every candidate given, kept or refused."""
    kept = tuple(candidate for candidate in given if identity(candidate) not in refused)
    total: Counter[str] = Counter()
    for candidate in kept:
        total += masked.get(identity(candidate), Counter())
    return Gated(
        kept, tuple(refused[identity(candidate)] for candidate in given if identity(candidate) in refused), total
    )
