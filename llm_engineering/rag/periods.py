"""Periods of time in a question: "last year", "in 2023", "since March 2024", "between 2019 and 2021"."""

import re
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)"
)
_POINT = rf"(?:(?:19|20)\d\d-[01]\d(?:-[0-3]\d)?|(?:{_MONTH}\.?,?\s+)?(?:19|20)\d\d)"
_RANGE = re.compile(
    rf"\b(?:between|from)\s+(?P<first>{_POINT})\s+(?:and|to|until|till)\s+(?P<last>{_POINT})\b", re.IGNORECASE
)
_ONE = re.compile(
    rf"\b(?P<word>since|from|after|before|until|till|in|during|of)\s+(?P<point>{_POINT})\b(?!\s*(?:%|percent))",
    re.IGNORECASE,
)
_RELATIVE = re.compile(
    r"\b(?:(?:in|over|during|of)\s+)?(?:the\s+)?(?P<which>last|past|previous|this)\s+(?P<unit>year|month|week)\b"
    r"|\b(?P<day>today|yesterday)\b",
    re.IGNORECASE,
)


class Period(NamedTuple):
    """``[since, until)``, open where ``None``, and where in the question it stands."""

    since: datetime | None
    until: datetime | None
    start: int
    end: int


def find_period(text: str, *, today: datetime) -> Period | None:
    """The first period that the text names; ``None`` if it names none. Years, months and weeks are calendar ones."""
    since: datetime | None
    until: datetime | None
    if match := _RANGE.search(text):
        (since, _), (_, until) = _bounds(match["first"]), _bounds(match["last"])
        return Period(since, until, *match.span())
    if match := _RELATIVE.search(text):
        return Period(*_relative(match, today.astimezone(UTC)), *match.span())
    if match := _ONE.search(text):
        first, after = _bounds(match["point"])
        since, until = {
            "since": (first, None),
            "from": (first, None),
            "after": (after, None),
            "before": (None, first),
            "until": (None, after),
            "till": (None, after),
        }.get(match["word"].casefold(), (first, after))
        return Period(since, until, *match.span())
    return None


def _bounds(point: str) -> tuple[datetime, datetime]:
    """First moment of a year, month or day, and the first after it."""
    if "-" in point:
        year, month, *day = (int(part) for part in point.split("-"))
        month = min(max(month, 1), 12)
        if day:
            first = datetime(year, month, 1, tzinfo=UTC) + timedelta(days=max(day[0], 1) - 1)
            return first, first + timedelta(days=1)
        return datetime(year, month, 1, tzinfo=UTC), _next_month(year, month)
    words = point.replace(",", " ").split()
    year = int(words[-1])
    if len(words) > 1:
        month = _MONTHS.index(words[0][:3].casefold()) + 1
        return datetime(year, month, 1, tzinfo=UTC), _next_month(year, month)
    return datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)


def _next_month(year: int, month: int) -> datetime:
    return datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)


def _relative(match: re.Match[str], today: datetime) -> tuple[datetime, datetime]:
    midnight = today.replace(hour=0, minute=0, second=0, microsecond=0)
    if match["day"]:
        first = midnight - timedelta(days=match["day"].casefold() == "yesterday")
        return first, first + timedelta(days=1)
    this = match["which"].casefold() == "this"
    unit = match["unit"].casefold()
    if unit == "week":
        monday = midnight - timedelta(days=midnight.weekday())
        return (monday, monday + timedelta(days=7)) if this else (monday - timedelta(days=7), monday)
    if unit == "month":
        first = midnight.replace(day=1)
        if this:
            return first, _next_month(first.year, first.month)
        return (first - timedelta(days=1)).replace(day=1), first
    year = midnight.year - (not this)
    return datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
