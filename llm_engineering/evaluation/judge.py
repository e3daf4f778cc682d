"""A chat model as judge: accuracy and style by a rubric with the author's examples in view, and which text is the author's.

Every request is asked at temperature 0 and kept in a journal, replies of no use too, so that judging the same output again
costs nothing. Which of two texts is the author's is asked in both orders: a judge that changes its mind with the order has not
decided.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llm_engineering.domain.answers import Prompt
from llm_engineering.domain.chat import attribution_prompt, grading_prompt
from llm_engineering.domain.config import Sampling
from llm_engineering.domain.entities import Frozen
from llm_engineering.domain.errors import ModelReplyInvalid
from llm_engineering.domain.evaluation_config import EvaluationConfig
from llm_engineering.domain.ports import ChatModel
from llm_engineering.domain.samples import JournalEntry, request_key
from llm_engineering.domain.twin_evaluation_config import JudgeConfig
from llm_engineering.domain.words import first_words
from llm_engineering.evaluation.at_once import for_each
from llm_engineering.evaluation.overlap import Answered
from llm_engineering.evaluation.prose import StyleText
from llm_engineering.evaluation.report import Figure, Part, counted
from llm_engineering.evaluation.resampling import ratio

NAME = "Judge"
PURPOSE = "judge-v1"
Shape = TypeVar("Shape", bound=BaseModel)


class Journal(Protocol):
    """Where replies are kept; every warehouse is one."""

    def journal(self, keys: Sequence[str]) -> dict[str, JournalEntry]:
        """What is kept under these keys."""
        ...

    def save_journal(self, entries: Sequence[JournalEntry]) -> set[str]:
        """Keep these; returns the keys that may not be kept."""
        ...


class Grades(BaseModel):
    """A judge's grades, 3 is best; the scale of the published figures of TwinLlama."""

    model_config = ConfigDict(frozen=True)
    reason: str = ""
    accuracy: int = Field(ge=1, le=3)
    style: int = Field(ge=1, le=3)


class Choice(BaseModel):
    """Which of two texts."""

    model_config = ConfigDict(frozen=True)
    better: Literal["first", "second", "neither"]


class Verdict(Frozen):
    """What a judge made of one answer. ``None`` where its reply was of no use."""

    id: str
    document_id: str
    grades: Grades | None = None
    twin_first: Choice | None = None
    """Asked with the twin's text first."""
    author_first: Choice | None = None
    useless: tuple[str, ...] = ()
    """Why a reply was of no use, one line each."""

    @property
    def agreed(self) -> bool | None:
        """Whether both orders name the same text, or neither; ``None`` where one is missing."""
        return None if self.preferred is None else self.preferred[0] == self.preferred[1]

    @property
    def taken(self) -> float | None:
        """1 if the twin's text was taken for the author's in both orders, 0 if the author's was, else 0.5."""
        if self.preferred is None:
            return None
        return 1.0 if self.preferred == ("twin", "twin") else 0.0 if self.preferred == ("author", "author") else 0.5

    @property
    def preferred(self) -> tuple[str, str] | None:
        """Whose text was chosen in each order."""
        if self.twin_first is None or self.author_first is None:
            return None
        names = {"first": "twin", "second": "author", "neither": "neither"}
        swapped = {"first": "author", "second": "twin", "neither": "neither"}
        return names[self.twin_first.better], swapped[self.author_first.better]


async def judge(
    answered: Sequence[Answered],
    *,
    model: ChatModel | None,
    author: str | None,
    known: Sequence[StyleText],
    journal: Journal,
    config: JudgeConfig,
    evaluation: EvaluationConfig,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Part:
    """Judge the twin's answers; ``known`` are the author's texts that examples are taken from.

    Without a model nothing is judged, and the part says so. A reply of no use costs that answer alone, and the notes say why; a
    model that is down raises :class:`ModelUnavailable`, and what was judged stays in the journal.
    """
    if model is None or not answered or not known:
        reason = (
            "no chat model is configured (set LLM_BASE_URL and LLM_MODEL)"
            if model is None
            else "there is no text to judge"
        )
        return Part(name=NAME, missing=reason)
    chance = random.Random(evaluation.seed)
    chosen = sorted(chance.sample(range(len(answered)), min(config.limit, len(answered))))
    shown = chance.sample(sorted(known, key=lambda each: each.text), min(config.examples, len(known)))
    examples = [first_words(each.text, config.example_words) for each in shown]
    asked = _Asked(model, journal, config, tuple(each.document_id for each in shown))
    verdicts = await for_each(
        [answered[number] for number in chosen],
        lambda one: asked.verdict(one, author, examples),
        concurrency=config.concurrency,
        progress=progress,
    )
    return judged(verdicts, model=model.name, evaluation=evaluation)


def judged(verdicts: Sequence[Verdict], *, model: str, evaluation: EvaluationConfig) -> Part:
    """The figures over all verdicts, and how far the judge agrees with itself; none if no reply was of use."""
    useless = [reason for each in verdicts for reason in each.useless]
    if useless and not any(each.grades or each.twin_first or each.author_first for each in verdicts):
        return Part(name=NAME, missing=f"no reply of {model} was of use: {'; '.join(counted(useless))}")

    def figure(name: str, over: str, found: Sequence[tuple[Verdict, float | None]]) -> Figure:
        kept = [(each, value) for each, value in found if value is not None]
        interval = ratio(
            [value for _, value in kept], [1.0] * len(kept), [each.document_id for each, _ in kept], config=evaluation
        )
        return Figure(name=name, over=over, interval=interval)

    agreed = [(each, None if each.agreed is None else float(each.agreed)) for each in verdicts]
    return Part(
        name=NAME,
        figures=(
            figure(
                "accuracy, 1 to 3",
                "answers",
                [(each, float(each.grades.accuracy) if each.grades else None) for each in verdicts],
            ),
            figure(
                "style, 1 to 3",
                "answers",
                [(each, float(each.grades.style) if each.grades else None) for each in verdicts],
            ),
            figure(
                "twin's text taken for the author's",
                "pairs asked in both orders",
                [(each, each.taken) for each in verdicts],
            ),
            figure("same choice in both orders", "pairs asked in both orders", agreed),
        ),
        counts={
            "answers judged": len(verdicts),
            "without usable grades": sum(each.grades is None for each in verdicts),
            "without usable choices": sum(each.preferred is None for each in verdicts),
        },
        notes=(
            f"Judge: {model}, at temperature 0.",
            "Of two texts for one task, one the author's: 0.5 is indistinguishable to the judge. A choice that changes with the "
            "order counts half.",
            *(f"Of no use: {reason}." for reason in counted(useless)),
        ),
        rows=tuple(
            {
                "id": each.id,
                "group": each.document_id,
                "weight": 1.0,
                **(
                    {"accuracy, 1 to 3": each.grades.accuracy, "style, 1 to 3": each.grades.style}
                    if each.grades
                    else {}
                ),
                **({"twin's text taken for the author's": each.taken} if each.taken is not None else {}),
                "reason": each.grades.reason if each.grades else "",
            }
            for each in verdicts
        ),
    )


class _Asked:
    """One judge, its journal and the documents whose text it is shown each time."""

    def __init__(self, model: ChatModel, journal: Journal, config: JudgeConfig, shown: tuple[str, ...]) -> None:
        self._model, self._journal, self._shown = model, journal, shown
        self._sampling = Sampling(temperature=0.0, max_tokens=config.max_tokens, seed=0)

    async def verdict(self, one: Answered, author: str | None, examples: Sequence[str]) -> Verdict:
        grading = grading_prompt(one.instruction, author=author, examples=examples, original=one.author, text=one.twin)
        orders = [
            attribution_prompt(one.instruction, author=author, examples=examples, first=first, second=second)
            for first, second in ((one.twin, one.author), (one.author, one.twin))
        ]
        grades, ungraded = await self._reply(grading, Grades, one)
        twin_first, undecided = await self._reply(orders[0], Choice, one)
        author_first, undecided_again = await self._reply(orders[1], Choice, one)
        return Verdict(
            id=one.id,
            document_id=one.document_id,
            grades=grades,
            twin_first=twin_first,
            author_first=author_first,
            useless=tuple(reason for reason in (ungraded, undecided, undecided_again) if reason),
        )

    async def _reply(self, prompt: Prompt, shape: type[Shape], one: Answered) -> tuple[Shape | None, str]:
        """The reply, or why there is none of use."""
        messages = [message.model_dump() for message in prompt.messages]
        schema, sampling = shape.model_json_schema(), self._sampling.model_dump()
        key = request_key(PURPOSE, self._model.name, messages, schema, sampling)
        kept = (await asyncio.to_thread(self._journal.journal, [key])).get(key)
        if kept is not None:
            if kept.error:
                return None, kept.error
            try:
                return shape.model_validate_json(kept.reply), ""
            except ValidationError:
                return None, f"the journal keeps a reply of {self._model.name} that is no {shape.__name__}"
        found, said, error = None, "", ""
        try:
            found, reply = await self._model.structured(prompt, shape=shape, sampling=self._sampling)
            said, tokens = found.model_dump_json(), (reply.prompt_tokens, reply.completion_tokens)
        except ModelReplyInvalid as invalid:
            said, error, tokens = invalid.said, invalid.message, invalid.tokens
            if not said and not any(tokens):  # no model has spoken, and nothing was paid for: ask again next time
                return None, str(invalid)
        entry = JournalEntry(
            key=key,
            purpose=PURPOSE,
            model=self._model.name if found is None else reply.model,
            reply=said,
            error=error,
            prompt_tokens=tokens[0],
            completion_tokens=tokens[1],
            document_ids=tuple(dict.fromkeys((one.document_id, *self._shown))),
        )
        await asyncio.to_thread(self._journal.save_journal, [entry])
        return found, error
