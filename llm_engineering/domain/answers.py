"""What answering speaks about: messages, passages, citations, answers, feedback."""

import re
from enum import StrEnum
from typing import Literal

from pydantic import Field

from llm_engineering.domain.entities import Filters, Frozen, Kind, Moment, now

MARKERS = re.compile(r"\[(\d{1,4}(?:\s*[,;]\s*\d{1,4})*)\](?!\()")
"""The numbers of passages that a sentence rests on, in one pair of brackets: ``[1]``, ``[2, 3]``. A link's text is none."""


class Message(Frozen):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class Passage(Frozen):
    """What a model is shown of one document: a span of one revision, numbered by the marker that may cite it."""

    marker: int = Field(ge=1)
    document_id: str
    revision: int
    title: str
    url: str
    kind: Kind
    author: str
    published_at: Moment | None = None
    heading_path: tuple[str, ...] = ()
    text: str
    """Exactly the revision's text ``[start:end)``."""
    start: int = Field(ge=0)
    end: int
    score: float


class Prompt(Frozen):
    """What a chat model gets: the rendered messages, and what they were rendered from (an extractive model reads that)."""

    messages: tuple[Message, ...]
    question: str
    passages: tuple[Passage, ...] = ()


class Reply(Frozen):
    """What a chat model said. Token counts are the server's own, or 0 where it gives none."""

    text: str
    model: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    finish_reason: str = "stop"
    rounds: int = 1
    """Requests that it took: 2 where a reply without the structure that was asked for had to be repaired."""
    lacked: tuple[str, ...] = ()
    """Names of what was asked for and the server does not do, such as ``json_schema`` or ``usage``."""


class Citation(Frozen):
    """A quote that was verified to stand in the named document, revision and span when the answer was made."""

    marker: int
    document_id: str
    revision: int
    title: str
    url: str
    quote: str
    start: int
    end: int


class Route(StrEnum):
    """What kind of request it is."""

    ANSWER = "answer"
    WRITE = "write"
    SMALL_TALK = "small_talk"
    REFUSE = "refuse"


class Question(Frozen):
    """A request to the twin. ``author`` is a name or alias; ``history`` holds the earlier turns, oldest first."""

    query: str
    author: str | None = None
    k: int | None = Field(default=None, ge=1, le=100)
    filters: Filters = Filters()
    history: tuple[Message, ...] = ()


class Usage(Frozen):
    """What an answer cost. Times in milliseconds; ``stages`` has them by stage, tokens include those of every model call."""

    retrieval_ms: float = 0.0
    generation_ms: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    stages: dict[str, float] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()
    """What went otherwise than asked, one line each: a stage out of time, a reply of no use, sources gone stale."""


class Answer(Frozen):
    """An answer with its sources. ``grounded`` is true exactly if at least one citation was verified."""

    answer: str
    citations: tuple[Citation, ...] = ()
    grounded: bool
    model: str
    usage: Usage = Usage()
    request_id: str
    route: Route = Route.ANSWER
    removed_markers: int = 0
    """Citations that the model made and that could not be verified."""


class Feedback(Frozen):
    """A person's judgement of an answer: material for preference pairs."""

    request_id: str = Field(pattern=r"^[!-~]{1,128}$")
    """The answer's id; printable ASCII, so that every store keeps and sorts it alike."""
    vote: Literal["up", "down"]
    query: str
    answer: str
    better_answer: str | None = None
    document_ids: tuple[str, ...] = ()
    """Documents that the answer cited: a forgotten document takes its feedback with it."""
    at: Moment = Field(default_factory=now)
