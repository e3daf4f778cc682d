"""What the service needs of the rest of the product: callables that whoever opens it brings along."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from llm_engineering.domain.answers import Answer, Feedback, Passage, Question
from llm_engineering.domain.blind import BlindPairs
from llm_engineering.domain.config import Sampling
from llm_engineering.domain.ports import Warehouse
from llm_engineering.domain.review import ReviewSamples

Event = tuple[Passage, ...] | str | Answer
"""Of a stream: the passages first, then pieces of text, last the verified answer."""

Check = Callable[[], Awaitable[None]]
"""Returns if it is there; raises a :class:`TwinError` if it is not."""


class Answers(Protocol):
    """Answers a question as a whole."""

    def __call__(self, question: Question, *, request_id: str, sampling: Sampling | None) -> Awaitable[Answer]:
        """The verified answer."""
        ...


class Streams(Protocol):
    """Answers a question piece by piece; closing the stream ends the work."""

    def __call__(self, question: Question, *, request_id: str, sampling: Sampling | None) -> AsyncIterator[Event]:
        """The events of the answer, from an asynchronous generator."""
        ...


@dataclass(frozen=True)
class Review:
    """What people need to go through training data: the samples, and where their decisions are kept."""

    samples: ReviewSamples
    warehouse: Warehouse


@dataclass(frozen=True, kw_only=True)
class Service:
    """The twin as the service sees it. All of it raises :class:`TwinError` only and never blocks the event loop."""

    model: str
    """Name under which the twin answers."""
    answer: Answers
    stream: Streams
    search: Callable[[Question], Awaitable[list[dict[str, object]]]]
    """Hits in the shape that programs get."""
    passage: Callable[[str, int, int, int], Awaitable[dict[str, object]]]
    """What stands around a span (document id, revision, start, end); raises :class:`UnknownDocument` if that is gone."""
    save_feedback: Callable[[Feedback], Awaitable[None]]
    checks: Mapping[str, Check]
    """What must be there for answering, by name."""
    sampling: Sampling = field(default_factory=Sampling)
    """How words are picked where a request does not say."""
    blind: BlindPairs | None = None
    """Texts that people compare blind at ``/review/ab``; without it there is no such page."""
    review: Review | None = None
    """Training data that people keep, edit and refuse at ``/review/``; without it there is no such page."""
