"""What a question asks for: a query that stands alone, filters, and a route. Only the person's own words decide it.

Retrieved text and earlier answers (which quote it) are never read here, so that no document can choose filters or routes.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime

from pydantic import BaseModel, ConfigDict, Field

from llm_engineering.domain.answers import Question, Route
from llm_engineering.domain.chat import understanding_prompt
from llm_engineering.domain.config import Sampling
from llm_engineering.domain.entities import Author, Filters, Kind, fold
from llm_engineering.domain.errors import ModelReplyInvalid
from llm_engineering.domain.ports import ChatModel
from llm_engineering.rag.periods import find_period
from llm_engineering.rag.retrieve import MAX_QUERY_CHARACTERS

log = logging.getLogger(__name__)

_SMALL_TALK = re.compile(
    r"\W*(?:(?:hi|hello|hey|hiya|thanks|thank you|thx|bye|goodbye|cheers|good (?:morning|afternoon|evening|night)|ok|okay|great"
    r"|there|how are you(?: doing)?(?: today)?|nice to meet you|very much|so much|a lot|see you|what'?s up"
    r"|who are you|what are you|what can you do)\W*)+",
    re.IGNORECASE,
)
_OUR_OWN = (
    r"(?:(?:hidden|secret|initial|original|internal)\s+)*(?:instructions?|prompts?|api\s+keys?|secrets?|passwords?)\b"
)
_ENDS = (
    r"\s*(?:$|[.!?,;:)\"]|(?:above|below|again|verbatim|exactly|now|please|word\s+for\s+word|in\s+full)\b"
    r"|(?:that\s+|which\s+)?you\s+(?:were|are|was|have|had|got|follow|received|know|hold|keep)\b"
    r"|(?:of|in|from|behind)\s+(?:your|the|this|that)\s+(?:system|(?:system\s+)?prompt|conversation|chat)\b)"
)
"""The request ends here, or goes on about what the service itself was told: "the secrets of fast tests" are a subject."""
_SUBJECT = r"\s+(?:for|of|on|to|about|behind)\s+(?!(?:me|us|this|the\s+(?:system|chat|conversation)|your)\b)"
_REFUSE = re.compile(
    r"(?:^|[.!?:\n]\s*)(?:please\s+)?(?:"
    r"(?:ignore|disregard|forget|override)\s+(?:all\s+|any\s+|of\s+|the\s+|your\s+|my\s+)*(?:previous|prior|above|earlier|system)?\s*"
    rf"(?:instructions?|prompts?|rules|guidelines)\b(?!{_SUBJECT})"
    r"|(?:reveal|show|print|repeat|output|give|tell)\s+(?:me\s+|us\s+)?(?:"
    r"(?:all\s+)?(?:of\s+)?(?:your|the|all)\s+(?:(?:hidden|secret|initial|full|whole)\s+)*system\s+(?:prompt|message|instructions)\b"
    rf"|(?:all\s+)?(?:of\s+)?your\s+{_OUR_OWN}(?!{_SUBJECT})"
    rf"|(?:all\s+)?(?:of\s+)?(?:the|all)\s+{_OUR_OWN}{_ENDS}"
    r"))",
    re.IGNORECASE,
)
_WRITE = re.compile(
    r"\s*(?:(?:please|now|can you|could you|would you)\s+)*(?:write|draft|compose|pen)\s+(?:me\s+|us\s+)?"
    r"(?:(?:a|an|the|some|one|another|short|long|brief|new|blog|linkedin|medium|substack|twitter|social media|two|my next)\s+)*"
    r"(?:posts?|articles?|essays?|paragraphs?|introductions?|intros?|notes?|newsletters?|tweets?|threads?|summary|text|blog|piece|"
    r"emails?|letters?|sentences?|something)\b(?:\s+in\s+(?:my|your|the same)\s+(?:own\s+)?(?:style|voice))?"
    r"(?:\s*(?:about|on|explaining|describing|arguing)\b)?\s*",
    re.IGNORECASE,
)
_STYLE = re.compile(r",?\s*in\s+(?:my|your|the same|\w+(?:['’]s)?)\s+(?:own\s+)?(?:style|voice)\b", re.IGNORECASE)
_POINTS_BACK = re.compile(
    r"\b(?:it|its|that|this|these|those|they|them|their|he|she|his|her|the same|the former|the latter|there|then)\b"
    r"|^\s*(?:and|but|so|or|also|why|how so|what about|how about|what else|tell me more|more|go on|really)\b",
    re.IGNORECASE,
)
_ABOUT_WRITINGS = re.compile(
    r"\b(?:wr(?:ite|ites|iting|ote|itten)|publish\w*|post(?:s|ed)?|sa(?:y|ys|id)|mention\w*|blog\w*|articles?|notes?|texts?|"
    r"repositor(?:y|ies)|repos?|think|thought|explain\w*|describ\w*|discuss\w*|cover\w*|argu\w*|recommend\w*)\b",
    re.IGNORECASE,
)
_KINDS = {
    Kind.ARTICLE: r"articles?|essays?",
    Kind.POST: r"posts?",
    Kind.REPOSITORY: r"repositor(?:y|ies)|repos?",
    Kind.NOTE: r"notes?",
}
_WHOSE = r"(?:(?:all\s+)?(?:my|your|his|her|their|the|our|\w+['’]s)\s+)"
_KIND = re.compile(
    rf"\b(?:(?:in|from|among|across|of|which|what)\s+(?:of\s+)?{_WHOSE}?|(?:my|your|his|her|their|our)\s+)"
    rf"(?:{'|'.join(f'(?P<{kind.value}>{words})' for kind, words in _KINDS.items())})\b(?!\s+about\b)",
    re.IGNORECASE,
)
_PLATFORM = re.compile(
    r"\b(?:on|from|in)\s+(?:my\s+|your\s+)?(?P<name>medium|substack|linkedin|github|gitlab|(?:[\w-]+\.)+[a-z]{2,})\b",
    re.IGNORECASE,
)
_NOT_BY = re.compile(r"\b(?:about|on|with|to|against|for|than|and|or)\s+$", re.IGNORECASE)
_REPLY_TOKENS = 300
_EARLIER_CHARACTERS = 500
"""Of an earlier question, at most so much is searched for again."""

Exists = Callable[[Filters], bool]
"""Whether anything is indexed under these filters."""


@dataclass(frozen=True)
class Understanding:
    """What to search for, under which limits, and what to do with what is found."""

    query: str
    """Stands alone, without the words that became filters."""
    filters: Filters
    route: Route = Route.ANSWER
    notes: tuple[str, ...] = ()
    tokens: tuple[int, int] = (0, 0)
    """What a model read and wrote for it."""


class Reading(BaseModel):
    """A model's reading of a question. The model is told these fields, too."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    standalone_query: str
    route: Route = Route.ANSWER
    author: str | None = None
    kind: Kind | None = None
    platform: str | None = Field(
        default=None,
        description="where it was published, such as medium.com, if only writings from there are asked for",
    )
    since: date | None = None
    until: date | None = None


def understand(
    question: Question,
    *,
    authors: Sequence[Author],
    exists: Exists,
    today: datetime,
) -> Understanding:
    """Read the question by rules. Limits that it states itself (``question.filters``) stand above those in its words.

    A kind or platform of which nothing ``exists`` is no limit, but a word. What is taken over from an earlier question never
    makes the query longer than what is searched for.
    """
    text = " ".join(question.query.split())
    route = _route(text)
    if route in (Route.SMALL_TALK, Route.REFUSE):
        return Understanding(query=text, filters=question.filters, route=route)
    filters, rest = _limits(text, question.filters, authors, exists, today)
    if route is Route.WRITE:
        rest = _STYLE.sub("", _WRITE.sub("", rest, count=1)).strip() or rest
    earlier = [turn.content for turn in question.history if turn.role == "user" and turn.content.strip()]
    if earlier and _POINTS_BACK.search(rest):
        room = max(0, MAX_QUERY_CHARACTERS - len(rest) - 1)
        rest = f"{' '.join(earlier[-1].split())[: min(room, _EARLIER_CHARACTERS)]} {rest}".strip()
    return Understanding(query=rest if _has_word(rest) else text, filters=filters, route=route)


async def understand_with_model(
    question: Question,
    by_rules: Understanding,
    *,
    model: ChatModel,
    authors: Sequence[Author],
    exists: Exists,
    today: datetime,
) -> Understanding:
    """The model's reading, where it is valid; what the rules found stands where the model is silent or of no use.

    A kind or platform that the model reads and of which nothing ``exists`` is dropped. Raises :class:`ModelUnavailable`.
    """
    if by_rules.route in (Route.SMALL_TALK, Route.REFUSE):
        return by_rules
    prompt = understanding_prompt(
        question.query,
        earlier=[turn.content[:_EARLIER_CHARACTERS] for turn in question.history if turn.role == "user"][-3:],
        authors=[author.full_name for author in authors],
        today=f"{today:%Y-%m-%d}",
    )
    try:
        reading, reply = await model.structured(
            prompt, shape=Reading, sampling=Sampling(temperature=0.0, max_tokens=_REPLY_TOKENS)
        )
    except ModelReplyInvalid as error:
        log.info("the model's reading of a question is of no use, the rules' stands: %s", error)
        notes = (*by_rules.notes, "understand: the model's reading was of no use, rules stood in")
        return replace(by_rules, notes=notes, tokens=error.tokens)
    merged = await asyncio.to_thread(_merged, reading, by_rules, question, authors, exists)
    return replace(merged, tokens=(reply.prompt_tokens, reply.completion_tokens))


def _merged(
    reading: Reading, by_rules: Understanding, question: Question, authors: Sequence[Author], exists: Exists
) -> Understanding:
    named = {fold(name): author.id for author in authors for name in (author.full_name, *author.aliases)}
    stated, ruled = question.filters, by_rules.filters
    filters = ruled.model_copy(
        update={
            "author_id": ruled.author_id or (named.get(fold(reading.author)) if reading.author else None),
            "since": stated.since or _midnight(reading.since) or ruled.since,
            "until": stated.until or _midnight(reading.until) or ruled.until,
        }
    )
    notes = by_rules.notes
    if filters.since and filters.until and filters.since >= filters.until:
        filters = filters.model_copy(update={"since": ruled.since, "until": ruled.until})
        notes = (*notes, "understand: the model read an empty period, rules stood in")
    filters = _on_platform(_of_kind(filters, reading.kind, exists), reading.platform, exists)
    query = " ".join(reading.standalone_query.split())[:1000]
    return Understanding(
        query=query if _has_word(query) else by_rules.query,
        filters=filters,
        route=reading.route,
        notes=notes,
    )


def _route(text: str) -> Route:
    if _REFUSE.search(text):
        return Route.REFUSE
    if _SMALL_TALK.fullmatch(text):
        return Route.SMALL_TALK
    return Route.WRITE if _WRITE.match(text) else Route.ANSWER


def _limits(
    text: str, stated: Filters, authors: Sequence[Author], exists: Exists, today: datetime
) -> tuple[Filters, str]:
    """Filters named in the text, and the text without the words that named them."""
    filters, cuts = stated, list[tuple[int, int]]()
    if filters.author_id is None and (named := _author_in(text, authors)):
        author, start, end = named
        filters = filters.model_copy(update={"author_id": author.id})
        cuts.append((start, end))
    if filters.since is None and filters.until is None and _ABOUT_WRITINGS.search(text):
        period = find_period(text, today=today)
        if period:
            filters = filters.model_copy(update={"since": period.since, "until": period.until})
            cuts.append((period.start, period.end))
    if match := _KIND.search(text):
        filters = _of_kind(filters, Kind(str(match.lastgroup)), exists)
    if (match := _PLATFORM.search(text)) and (narrowed := _on_platform(filters, match["name"], exists)) != filters:
        filters = narrowed
        cuts.append(match.span())
    rest = text
    for start, end in sorted(cuts, reverse=True):
        rest = f"{rest[:start]} {rest[end:]}"
    return filters, " ".join(rest.split())


def _of_kind(filters: Filters, kind: Kind | None, exists: Exists) -> Filters:
    """The filters limited to that kind, if they name none yet and anything of it is there."""
    if filters.kind or not kind:
        return filters
    narrowed = filters.model_copy(update={"kind": kind})
    return narrowed if exists(narrowed) else filters


def _on_platform(filters: Filters, name: str | None, exists: Exists) -> Filters:
    """The filters limited to the platform of that name, with or without ``.com``, if they name none yet and it is there."""
    if filters.platform or not name or not _has_word(name):
        return filters
    folded = name.strip().casefold()
    tried = (filters.model_copy(update={"platform": platform}) for platform in (folded, f"{folded}.com"))
    return next(filter(exists, tried), filters)


def _author_in(text: str, authors: Sequence[Author]) -> tuple[Author, int, int] | None:
    """The author whose name or alias stands in the text, the longest one; not where the question is *about* that person."""
    names = sorted(
        ((name, author) for author in authors for name in (author.full_name, *author.aliases) if _has_word(name)),
        key=lambda item: -len(item[0]),
    )
    for name, author in names:
        pattern = r"\s+".join(re.escape(part) for part in name.split())
        for match in re.finditer(rf"(?<!\w){pattern}(?:['’]s?)?(?!\w)", text, re.IGNORECASE):
            if not _NOT_BY.search(text[: match.start()]):
                return author, *match.span()
    return None


def _midnight(day: date | None) -> datetime | None:
    return datetime(day.year, day.month, day.day, tzinfo=UTC) if day else None


def _has_word(text: str) -> bool:
    return any(character.isalnum() for character in text)
