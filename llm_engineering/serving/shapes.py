"""What goes in and comes out over HTTP. Our own requests refuse unknown fields; nothing is converted on the quiet."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from llm_engineering.domain.answers import Citation, Message, Passage, Question, Route, Usage
from llm_engineering.domain.entities import Filters, Kind

MAX_QUERY = 10_000
MAX_K = 100

WITH_A_WORD = r"[^\W_]"
Query = Annotated[str, StringConstraints(max_length=MAX_QUERY, pattern=WITH_A_WORD)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
RequestId = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,128}$")]


def _number(value: Any) -> Any:  # noqa: ANN401  # whatever was sent
    if isinstance(value, str | bytes | bool):
        raise ValueError("a number is no text and no truth value")
    return value


NO_TEXT = BeforeValidator(_number)
"""On a number: ``5.0`` is a whole one, too, and a text is none. Stands last, so that limits stay in the description."""


def _moment(value: Any) -> datetime:  # noqa: ANN401  # whatever was sent
    if not isinstance(value, str):
        raise ValueError("write it as 2025-03-01T12:00:00Z")
    try:
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError("write it as 2025-03-01T12:00:00Z") from error


Moment = Annotated[
    datetime,
    BeforeValidator(_moment),
    Field(
        json_schema_extra={"format": "date-time"}, description="RFC 3339; a day alone means its first moment in UTC."
    ),
]


class Shape(BaseModel):
    """Base of what comes in: an unknown field is an error, and a number is no text."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RequestFilters(Shape):
    """Limits of the search; what is absent does not limit."""

    kind: Kind | None = None
    platform: Name | None = None
    language: Name | None = None
    since: Moment | None = None
    until: Moment | None = None
    document_ids: Annotated[tuple[Name, ...], Field(max_length=1000)] | None = None

    def domain(self) -> Filters:
        """The filters as the stages know them."""
        return Filters(**{name: value for name, value in self if value is not None})


class SearchRequest(Shape):
    """A query for ranked passages."""

    query: Query
    author: Name | None = None
    k: Annotated[int, Field(ge=1, le=MAX_K), NO_TEXT] | None = None
    filters: RequestFilters = RequestFilters()

    def question(self) -> Question:
        """The request as the stages know it."""
        return Question(query=self.query, author=self.author, k=self.k, filters=self.filters.domain())


class Turn(Shape):
    """What was said before, by the person or by the twin."""

    role: Literal["user", "assistant"]
    content: Annotated[str, StringConstraints(min_length=1, max_length=20_000)]


class RagRequest(SearchRequest):
    """A question to the twin; with ``history``, oldest turn first, one that may point back."""

    history: Annotated[tuple[Turn, ...], Field(max_length=40)] = ()
    stream: Annotated[bool, Field(strict=True)] = False

    def question(self) -> Question:
        """The request as the stages know it."""
        said = tuple(Message(role=turn.role, content=turn.content) for turn in self.history)
        return super().question().model_copy(update={"history": said})


class FeedbackRequest(Shape):
    """A judgement of an answer. Query, answer and documents are needed only where the service remembers it no more."""

    request_id: RequestId
    vote: Literal["up", "down"]
    better_answer: Annotated[str, StringConstraints(min_length=1, max_length=20_000)] | None = None
    query: Annotated[str, StringConstraints(min_length=1, max_length=MAX_QUERY)] | None = None
    answer: Annotated[str, StringConstraints(min_length=1, max_length=50_000)] | None = None
    document_ids: Annotated[tuple[Name, ...], Field(max_length=1000)] = ()


class SearchHit(BaseModel):
    """A passage that was found; ``text`` is exactly the span ``[start:end)`` of the named revision."""

    document_id: str
    revision: int
    title: str
    url: str
    kind: Kind
    author: str
    published_at: str | None
    heading_path: list[str]
    text: str
    start: int
    end: int
    score: float


class SearchResponse(BaseModel):
    """Best hits first."""

    query: str
    hits: list[SearchHit]


class RagResponse(BaseModel):
    """An answer with the sources that were verified when it was made."""

    answer: str
    citations: list[Citation]
    grounded: bool
    model: str
    usage: Usage
    request_id: str
    route: Route
    removed_markers: int


class PassageResponse(BaseModel):
    """A quote and what stands around it in its document."""

    quote: str
    before: str
    after: str
    title: str
    url: str
    published_at: str | None = None
    heading_path: list[str] = []


class FeedbackResponse(BaseModel):
    """The judgement is kept."""

    request_id: str
    vote: Literal["up", "down"]


class Health(BaseModel):
    """The process runs."""

    status: Literal["ok"] = "ok"


class Ready(BaseModel):
    """Whether the parts that answering needs are there."""

    status: Literal["ready", "not ready"]
    checks: dict[str, bool]


class ProblemDetail(BaseModel):
    """An error as RFC 9457 has it."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    errors: list[dict[str, str]] = []


def cited(passage: Passage) -> dict[str, object]:
    """A passage in the shape of a citation: what the answer may quote, before it was written."""
    return {
        "marker": passage.marker,
        "document_id": passage.document_id,
        "revision": passage.revision,
        "title": passage.title,
        "url": passage.url,
        "quote": passage.text,
        "start": passage.start,
        "end": passage.end,
    }
