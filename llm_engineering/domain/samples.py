"""What training data is made of: passages of the author's text, instructions for them, pairs, and why one was refused."""

import hashlib
import json
import uuid
from enum import StrEnum
from typing import Literal

from pydantic import Field

from llm_engineering.domain.entities import Frozen, Kind, Moment, now

_NAMESPACE = uuid.UUID("0e6c3c52-6a0a-5d0e-9a53-6e2f6c1b7f11")


class Split(StrEnum):
    """Which side of the wall a document stands on. ``test`` is the author's held-out writing."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


class Origin(StrEnum):
    """Who wrote the answer of a sample."""

    AUTHOR = "author"
    """A passage of the author's text, verbatim; only the instruction was made for it (back-translation, Li et al., 2023)."""
    REPHRASED = "rephrased"
    """A teacher model wrote question and answer about a passage that supports them."""


class InstructionStyle(StrEnum):
    """How an instruction asks for its passage."""

    ASK = "ask"
    """A question that the passage answers."""
    BRIEF = "brief"
    """A writing task: what to write about and which points to touch."""
    TITLE = "title"
    """The title or heading path alone."""
    CONTINUE = "continue"
    """The author's own words that stand before the passage, to be continued."""
    REPLY = "reply"
    """A message from somebody else that the passage would be the reply to."""


class Provenance(Frozen):
    """Where a text stands: revision ``revision`` of a document, characters ``[start:end)``."""

    author_id: str
    author: str
    document_id: str
    revision: int
    start: int = Field(ge=0)
    end: int
    title: str
    url: str
    kind: Kind
    heading_path: tuple[str, ...] = ()
    published_at: Moment | None = None
    language: str | None = None
    licence: str = ""
    """Under which the author's text may be used, as the configuration states it for the author; empty: not stated."""
    consent: bool | None = None
    """Whether the author agrees to being trained on, as the configuration states it; ``None``: not stated."""


class AuthorPassage(Frozen):
    """A whole piece of the author's text: a section, a post, a note, a documented function. The candidate for an answer."""

    provenance: Provenance
    text: str
    """Exactly the revision's text ``[start:end)``."""
    before: str = ""
    """The author's text right before it in the same document, cut to some sentences; empty at the beginning."""
    occurrence: int = Field(default=0, ge=0)
    """How many passages of the document with the very same text stand before it."""

    @property
    def key(self) -> str:
        """Stable id: document and text. It stays when the text moves, as it does with every edit before it."""
        return _id("passage", self.provenance.document_id, self.text, self.occurrence)


class Sample(Frozen):
    """An instruction and its answer, with provenance down to the span."""

    id: str
    """uuid5 over document, passage, instruction and answer, wherever the passage stands in its document: the same content
    has the same id in every build."""
    instruction: str
    answer: str
    """For ``author``: the revision's text of the span, verbatim save for masked secrets and personal data."""
    origin: Origin
    style: InstructionStyle
    written_by: str
    """Who wrote the instruction: ``rules``, the teacher model's name, or ``person`` (edited in review)."""
    provenance: Provenance
    masked: int = 0
    """Secrets and personal data that were masked in the answer."""

    @classmethod
    def of(
        cls,
        passage: AuthorPassage,
        instruction: str,
        *,
        style: InstructionStyle,
        written_by: str,
        answer: str | None = None,
    ) -> "Sample":
        """A sample for the passage; with ``answer`` a rephrased one."""
        where = passage.provenance
        text = passage.text if answer is None else answer
        return cls(
            id=_id("sample", passage.key, instruction, text),
            instruction=instruction,
            answer=text,
            origin=Origin.AUTHOR if answer is None else Origin.REPHRASED,
            style=style,
            written_by=written_by,
            provenance=where,
        )


class PairSource(StrEnum):
    """Who generated and who judged a preference pair: the four ways of the literature."""

    BASE = "base"
    """Author's text against the base model's answer: human generates, the source decides."""
    TWIN = "twin"
    """Author's text against the current twin's (on-policy)."""
    OTHER = "other"
    """Author's text against another model's, or a deliberately weaker prompt's."""
    FEEDBACK = "feedback"
    """Model generated, a person judged."""
    JUDGE = "judge"
    """Model generated, a model judged with both orders asked."""


class Pair(Frozen):
    """Two answers to one instruction, of which ``chosen`` is preferred."""

    id: str
    instruction: str
    chosen: str
    rejected: str
    source: PairSource
    rejected_by: str
    """Name of the model (or ``rules``) that wrote the rejected answer."""
    provenance: Provenance | None = None
    """Where ``chosen`` stands; ``None`` for feedback and judged pairs, whose documents are in ``document_ids``."""
    document_ids: tuple[str, ...] = ()
    author: str | None = None
    """In whose voice the instruction is asked; ``None`` where the documents are of several authors."""

    @classmethod
    def of(cls, sample: Sample, rejected: str, *, source: PairSource, rejected_by: str) -> "Pair":
        """The author's answer of a sample against another one."""
        return cls(
            id=_id("pair", sample.id, rejected),
            instruction=sample.instruction,
            chosen=sample.answer,
            rejected=rejected,
            source=source,
            rejected_by=rejected_by,
            provenance=sample.provenance,
            document_ids=(sample.provenance.document_id,),
            author=sample.provenance.author,
        )

    @classmethod
    def judged(
        cls,
        instruction: str,
        chosen: str,
        rejected: str,
        *,
        source: PairSource,
        rejected_by: str,
        document_ids: tuple[str, ...] = (),
    ) -> "Pair":
        """Two answers of models, of which a person or a judge preferred one; the documents are those that they speak of."""
        return cls(
            id=_id("judged", instruction, chosen, rejected),
            instruction=instruction,
            chosen=chosen,
            rejected=rejected,
            source=source,
            rejected_by=rejected_by,
            document_ids=document_ids,
        )


class Refusal(Frozen):
    """One candidate that did not become a sample or pair, and why. Nothing disappears without one."""

    reason: str
    """A short stable word of the list in ``dataset/quality.py``, such as ``too-short`` or ``near-duplicate``."""
    subject: str
    """Id of the passage, sample or pair."""
    document_id: str | None = None
    detail: str = ""


class JournalEntry(Frozen):
    """One request to a teacher and what came back: makes a second run free and a killed one resume."""

    key: str = Field(pattern=r"^[!-~]{1,128}$")
    """Digest of model, messages, sampling and shape: the same request has the same key. Printable ASCII, as every id here."""
    purpose: str
    """Which template asked, such as ``ask-v1``."""
    model: str
    reply: str
    """The raw text of the reply; empty where the call failed for good."""
    error: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    document_ids: tuple[str, ...] = ()
    """Documents whose text was in the prompt: withdrawing one erases the entry."""
    at: Moment = Field(default_factory=now)


class Decision(Frozen):
    """What a person decided about a sample in review; survives a rebuild and edits around the passage because sample ids do."""

    sample_id: str = Field(pattern=r"^[!-~]{1,128}$")
    verdict: Literal["keep", "refuse", "edit"]
    instruction: str | None = None
    """The person's instruction, for ``edit``. Answers are the author's own words and are not edited."""
    document_ids: tuple[str, ...] = ()
    at: Moment = Field(default_factory=now)


def request_key(*parts: object) -> str:
    """Stable key of a request: SHA-256 over its JSON."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode("utf-8", "surrogatepass")).hexdigest()


def _id(*parts: object) -> str:
    return str(uuid.uuid5(_NAMESPACE, request_key(*parts)))
