"""Front matter of Markdown files, and the dates people write in it."""

import re
import tomllib
from datetime import UTC, date, datetime, time
from email.utils import parsedate_to_datetime
from typing import Any

import yaml

_FENCES = {"---": ("---", "..."), "+++": ("+++",)}
_LONGEST = 100_000  # characters searched for the closing fence
_FORMATS = (
    "%Y/%m/%d",
    "%Y/%m/%d %H:%M",
    "%Y/%m/%d %H:%M:%S",
    "%d.%m.%Y",
    "%d %B %Y",
    "%d %b %Y",
    "%B %d, %Y",
    "%b %d, %Y",
    "%B %d %Y",
    "%m/%d/%y %I:%M %p",
    "%Y-%m-%d %H:%M:%S %z",
    "%Y-%m-%d %H:%M %z",
)


class _Loader(yaml.SafeLoader):
    """Plain YAML without anchors: an alias of an alias of an alias grows without bound."""

    def compose_node(self, parent: Any, index: Any) -> Any:  # noqa: ANN401  # the signature of yaml's Composer
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not read")
        return super().compose_node(parent, index)


def split_front_matter(text: str) -> tuple[dict[str, object], int, str | None]:
    """Read YAML (``---``) or TOML (``+++``) front matter at the very beginning of a text.

    Returns the metadata, the offset at which the body starts, and what is wrong with the front matter, if anything is.
    Without front matter, or with one that cannot be read, the metadata is empty and the body starts at 0: nothing is lost.
    """
    match = re.match(r"\ufeff?(---|\+\+\+)[ \t]*\r?\n", text)
    if match is None:
        return {}, 0, None
    closing = "|".join(re.escape(fence) for fence in _FENCES[match.group(1)])
    end = re.compile(rf"^(?:{closing})[ \t]*(?:\r?\n|\Z)", re.MULTILINE).search(
        text, match.end(), match.end() + _LONGEST
    )
    if end is None:
        return {}, 0, None
    block = text[match.end() : end.start()]
    try:
        metadata = tomllib.loads(block.replace("\r\n", "\n")) if match.group(1) == "+++" else yaml.load(block, _Loader)
        str(metadata)  # what cannot be written down, such as a number of 5,000 digits, is of no use further on
    except Exception as error:  # noqa: BLE001  # yaml's constructors let anything out: `!!bool maybe` is a KeyError
        said = str(error) if isinstance(error, yaml.YAMLError | ValueError) else f"{type(error).__name__}: {error}"
        where = " ".join(said.split())[:200]
        return {}, 0, f"front matter cannot be read ({where})"
    if metadata is None and not block.strip():
        metadata = {}
    if not isinstance(metadata, dict):  # a text that begins with a ruler
        return {}, 0, None
    body = end.end() + len(re.match(r"(?:[ \t]*\r?\n)*", text[end.end() :]).group())  # type: ignore[union-attr]  # matches always
    return {str(key): value for key, value in metadata.items()}, body, None


def parse_date(value: object) -> datetime | None:
    """The moment that a date stands for, in UTC; ``None`` if it is none. Without a zone it is read as UTC.

    Understands what YAML and TOML give, ISO 8601, RFC 2822, seconds since 1970, and the usual written forms.
    """
    try:
        moment = _read_date(value)
        return moment.astimezone(UTC) if moment is not None else None
    except (ValueError, OverflowError, OSError):
        return None


def _read_date(value: object) -> datetime | None:
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, date):
        return datetime.combine(value, time(), UTC)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return datetime.fromtimestamp(value / 1000 if value > 1e11 else value, UTC) if value > 1e8 else None
    if not isinstance(value, str) or not (text := " ".join(value.split()).removesuffix(" UTC")):
        return None
    for read in (_iso, _rfc, _written):
        moment = read(text)
        if moment is not None:
            return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return None


def _iso(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _rfc(text: str) -> datetime | None:
    try:
        return parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError):
        return None


def _written(text: str) -> datetime | None:
    text = re.sub(r"(?<=\d)(st|nd|rd|th)\b", "", text)
    for form in _FORMATS:
        try:
            return datetime.strptime(text, form)
        except ValueError:
            continue
    return None
