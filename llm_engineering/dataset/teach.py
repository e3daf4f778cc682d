"""A teacher model reads passages of the author's and writes the instructions that they answer (back-translation).

The answer stays the author's passage, verbatim. A marked minority of samples is rephrased: the teacher writes question and
answer, which the gates then hold against the passage. Passages that the teacher fails on are refused one by one, with a
reason; what the rules made of them stands, as it does where the gates refuse what the teacher wrote
(:mod:`llm_engineering.dataset.mixture`).
"""

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property, partial

from pydantic import BaseModel, ConfigDict, Field

from llm_engineering.dataset.asking import Missing, NoReply, Request
from llm_engineering.dataset.budget import Cost
from llm_engineering.dataset.calls import Calls, Progress, Told, for_each
from llm_engineering.dataset.checks import languages_differ, model_refusal
from llm_engineering.dataset.estimate import Estimate, estimated
from llm_engineering.dataset.masking import mask, masked_source
from llm_engineering.dataset.mixture import most_rephrased, place
from llm_engineering.dataset.words import grams, words
from llm_engineering.domain.answers import Prompt
from llm_engineering.domain.chat import TAUGHT, holds, rephrasing_prompt, teaching_prompt
from llm_engineering.domain.dataset_config import InstructConfig, TeacherConfig
from llm_engineering.domain.errors import PassageNotSeen
from llm_engineering.domain.ports import ChatModel, Warehouse
from llm_engineering.domain.samples import AuthorPassage, InstructionStyle, Refusal, Sample, Split

_VERSION = 1
"""Of the templates: part of the purpose under which the journal keeps a call."""
_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
_MARK = 6
_UNDECIDED = 3
"""Samples of a template without a reply of use after which others no longer wait for its proof."""
_ECHO = 10
"""Words of the prompt in a row that no instruction of a person holds."""


class NotTaught(StrEnum):
    """Why a reply of the teacher became no sample, beside what :class:`NoReply` names."""

    OTHER_LANGUAGE = "other-language"
    MODEL_REFUSAL = "model-refusal"
    PROMPT_ECHO = "prompt-echo"
    """The reply repeats what the teacher was told."""
    PASSAGE_NOT_SEEN = "passage-not-seen"
    """The marks around the passage did not come back."""


class Taught(BaseModel):
    """Everything that came of a run: each lesson is a sample or a refusal."""

    model_config = ConfigDict(frozen=True)

    samples: tuple[Sample, ...]
    refusals: tuple[Refusal, ...]
    cost: Cost


class Instruction(BaseModel):
    """What a teacher replies to a passage."""

    model_config = ConfigDict(frozen=True)

    instruction: str = Field(min_length=1)
    opening_mark: str
    closing_mark: str


class Rephrased(Instruction):
    """A teacher's question about a passage (the instruction), and its answer."""

    answer: str = Field(min_length=1)


@dataclass(frozen=True)
class Lesson:
    """One thing to ask a teacher: an instruction of a style for a passage, or with ``None`` question and answer about it."""

    passage: AuthorPassage
    style: InstructionStyle | None

    @property
    def template(self) -> str:
        """Name of the prompt's wording."""
        return f"{self.style.value if self.style else 'rephrase'}-v{_VERSION}"

    @property
    def marks(self) -> tuple[str, str]:
        """Two words that nobody guesses who has not read the prompt; the same for the same words, wherever they stand."""
        digest = hashlib.sha256(f"{self.template}\0{self.shown.text}".encode("utf-8", "surrogatepass")).digest()
        word = "".join(_LETTERS[byte % len(_LETTERS)] for byte in digest[: 2 * _MARK])
        return word[:_MARK], word[_MARK:]

    @cached_property
    def shown(self) -> AuthorPassage:
        """The passage as a teacher may see it: secrets and personal data masked, whatever the gates do with the answer."""
        where = masked_source(self.passage.provenance)
        return self.passage.model_copy(update={"text": mask(self.passage.text).text, "provenance": where})

    def prompt(self) -> Prompt:
        """What the teacher is sent."""
        if self.style is None:
            return rephrasing_prompt(self.shown, marks=self.marks)
        return teaching_prompt(self.shown, style=self.style, marks=self.marks)


def lessons_for(
    passages: Sequence[AuthorPassage], by_rules: Sequence[Sample], config: InstructConfig, *, sides: Mapping[str, Split]
) -> list[Lesson]:
    """A lesson for each sample by rules whose style a teacher can write better, and rephrasings up to their share.

    Only what is trained on is rephrased: what is held out is the author's own. Which passages those are follows from a hash
    of each, so a new document changes little.
    """
    places = {place(passage): passage for passage in passages}
    taught = [
        Lesson(places[where], sample.style)
        for sample in by_rules
        if sample.style in TAUGHT and (where := place(sample)) in places
    ]
    trained_on = [passage for passage in passages if sides[passage.provenance.document_id] is Split.TRAIN]
    own = sum(sides[sample.provenance.document_id] is Split.TRAIN for sample in by_rules)
    ranked = sorted(trained_on, key=lambda passage: hashlib.sha256(passage.key.encode()).digest())
    return taught + [Lesson(passage, None) for passage in ranked[: most_rephrased(own, config.rephrased_share)]]


async def teach(
    lessons: Sequence[Lesson],
    *,
    model: ChatModel,
    warehouse: Warehouse,
    config: TeacherConfig,
    progress: Progress | None = None,
) -> Taught:
    """Have the lessons taught: one sample or one refusal for each, in their order.

    The first sample of each template is its canary: nobody else is asked with that wording before the teacher has returned
    the marks that stand around the passage. Raises :class:`PassageNotSeen` if it returns others, and before any call if a
    prompt does not hold its passage. Raises :class:`ModelUnavailable` if the teacher never answers at all. A reply without the
    marks is in no journal: the next run asks again.
    """
    async with Calls(model, warehouse, config) as calls:
        told = Told(lambda: calls.cost, len(lessons), progress)
        proofs: dict[str, _Proof] = defaultdict(_Proof)

        async def work(lesson: Lesson) -> Sample | Refusal:
            proof = proofs[lesson.template]
            async with proof.turn if not proof.open else nullcontext():
                first = not proof.open
                outcome = await ask(lesson, proof) if first else None
            outcome = outcome or await ask(lesson, proof)
            told(refused=isinstance(outcome, Refusal))
            return outcome

        async def ask(lesson: Lesson, proof: _Proof) -> Sample | Refusal:
            return _outcome(lesson, await calls.ask(_request(lesson, config)), proof, model.name)

        outcomes = await for_each(lessons, work, workers=calls.workers)
    return Taught(
        samples=tuple(outcome for outcome in outcomes if isinstance(outcome, Sample)),
        refusals=tuple(outcome for outcome in outcomes if isinstance(outcome, Refusal)),
        cost=calls.cost,
    )


def estimate(lessons: Sequence[Lesson], *, model: ChatModel, warehouse: Warehouse, config: TeacherConfig) -> Estimate:
    """Count prompts, tokens and money of a run, less what the journal already holds. Nothing is sent."""
    requests = [_request(lesson, config) for lesson in lessons]
    return estimated(requests, model=model, warehouse=warehouse, config=config)


@dataclass
class _Proof:
    """Whether a template's passages reach the teacher. Until that is known, one sample at a time is asked with it."""

    given: bool = False
    undecided: int = 0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def open(self) -> bool:
        """Whether others need not wait for it any more."""
        return self.given or self.undecided >= _UNDECIDED


def _request(lesson: Lesson, config: TeacherConfig) -> Request[Instruction]:
    """The request of a lesson; raises :class:`PassageNotSeen` if its prompt does not hold the passage, whole."""
    prompt = lesson.prompt()
    if not holds(prompt, lesson.shown.text):
        raise PassageNotSeen(
            f"The prompt {lesson.template} for a passage of {lesson.passage.provenance.url} does not hold the passage",
            hint="Correct its wording in domain/chat.py.",
        )
    documents = (lesson.passage.provenance.document_id,)
    shape = Rephrased if lesson.style is None else Instruction
    return Request(lesson.template, prompt, shape, config.sampling, documents, partial(_is_seen, lesson))


def _outcome(lesson: Lesson, reply: Instruction | Missing, proof: _Proof, teacher: str) -> Sample | Refusal:
    if isinstance(reply, Missing):
        proof.undecided += 1
        return _refused(lesson, reply.reason, reply.detail)
    if not _is_seen(lesson, reply):
        if not proof.given:
            raise PassageNotSeen(_not_seen(lesson, reply, teacher), hint=_NOT_SEEN_HINT)
        return _refused(
            lesson, NotTaught.PASSAGE_NOT_SEEN, f"returned {reply.opening_mark!r} and {reply.closing_mark!r}"
        )
    proof.given = True
    instruction, answer = _tidy(reply.instruction), reply.answer.strip() if isinstance(reply, Rephrased) else None
    for check in (_declined, _echoed, _in_other_language):
        if found := check(lesson, instruction, answer):
            return _refused(lesson, *found)
    return Sample.of(
        lesson.passage, instruction, style=lesson.style or InstructionStyle.ASK, written_by=teacher, answer=answer
    )


_NOT_SEEN_HINT = (
    "The server may cut long prompts: raise its context window (num_ctx, --max-model-len), lower passages.max_words, or take "
    "a model that can repeat two words."
)


def _not_seen(lesson: Lesson, reply: Instruction, teacher: str) -> str:
    (opening, closing), where = lesson.marks, lesson.passage.provenance
    lost = [
        name
        for name, mark, returned in (("beginning", opening, reply.opening_mark), ("end", closing, reply.closing_mark))
        if mark not in returned.upper()
    ]
    return (
        f"{teacher!r} was sent a passage of {where.url} with the prompt {lesson.template} and has not seen its "
        f"{' and '.join(lost)}: nothing more is asked"
    )


def _is_seen(lesson: Lesson, reply: Instruction) -> bool:
    opening, closing = lesson.marks
    return opening in reply.opening_mark.upper() and closing in reply.closing_mark.upper()


def _declined(lesson: Lesson, instruction: str, answer: str | None) -> tuple[NotTaught, str] | None:
    found = model_refusal(instruction) or (model_refusal(answer) if answer is not None else None)
    return (NotTaught.MODEL_REFUSAL, found) if found else None


def _echoed(lesson: Lesson, instruction: str, answer: str | None) -> tuple[NotTaught, str] | None:
    told = set(grams(words(lesson.prompt().messages[0].content), _ECHO))
    for text in (instruction, answer or ""):
        if any(mark in text.upper() for mark in lesson.marks):
            return NotTaught.PROMPT_ECHO, "holds a mark of the prompt"
        if shared := next((run for run in grams(words(text), _ECHO) if run in told), None):
            return NotTaught.PROMPT_ECHO, " ".join(shared)
    return None


def _in_other_language(lesson: Lesson, instruction: str, answer: str | None) -> tuple[NotTaught, str] | None:
    found = languages_differ(instruction, lesson.passage.text)
    found = found or (languages_differ(answer, lesson.passage.text) if answer is not None else None)
    return (NotTaught.OTHER_LANGUAGE, found) if found else None


def _refused(lesson: Lesson, reason: NoReply | NotTaught, detail: str) -> Refusal:
    return Refusal(
        reason=reason.value,
        subject=lesson.passage.key,
        document_id=lesson.passage.provenance.document_id,
        detail=f"{lesson.template}: {detail}" if detail else lesson.template,
    )


def _tidy(text: str) -> str:
    """Without the quotation marks that models put around what they were asked for."""
    text = text.strip()
    for opening, closing in (('"', '"'), ("“", "”")):
        inner = text[1:-1]
        if (
            len(text) > 2
            and text[0] == opening
            and text[-1] == closing
            and opening not in inner
            and closing not in inner
        ):
            return inner.strip()
    return text
