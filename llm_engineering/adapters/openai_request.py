"""What a chat endpoint is asked for, and which of it this server has refused so far."""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import openai

from llm_engineering.adapters.openai_errors import is_filtered, is_too_long
from llm_engineering.domain.answers import Message
from llm_engineering.domain.config import Sampling

_EXTRA = ("top_k", "repetition_penalty")
"""Outside the vendor's interface: most servers of open models know them."""
_DISTINCT = (
    *_EXTRA,
    "response_format",
    "stream_options",
    "temperature",
    "top_p",
    "max_tokens",
    "max_completion_tokens",
)
_WORDS = ("stop", "seed")
"""Ordinary words: an error names the field only where it puts them in quotes or alone."""
_SUSPECTS = (*_EXTRA, "response_format", "stream_options")
"""Left out when a server refuses a request without saying why."""
_LACKS = {"response_format": "json_schema", "stream_options": "usage"}
_REFUSED = frozenset({400, 422})

_log = logging.getLogger(__name__)


class Dialect:
    """Which fields one server understands: learnt from its refusals, kept as long as the model is open."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._refused: set[str] = set()
        self._lacks: set[str] = set()

    @property
    def lacks(self) -> tuple[str, ...]:
        """Names of everything that was asked for so far and is not done by this server."""
        return tuple(sorted(self._lacks))

    def body(self, fields: Mapping[str, Any], *, without: Iterable[str] = ()) -> dict[str, Any]:
        """The fields without those that were refused before or are to be left out now."""
        refused = self._refused.union(without)
        body = {name: value for name, value in fields.items() if name not in refused}
        # Newer models of OpenAI know the limit by its longer name alone.
        if "max_tokens" in refused and "max_completion_tokens" not in refused:
            body["max_completion_tokens"] = fields["max_tokens"]
        return body

    def learn(self, refused: set[str]) -> None:
        """These fields were refused, and without them it went well."""
        self._refused |= refused
        for name in refused - {"max_tokens"}:
            self.note(_lack(name))

    def note(self, lack: str) -> None:
        """The server does not do this; said once."""
        if lack not in self._lacks:
            self._lacks.add(lack)
            _log.warning("%s does not do %s; going on without", self._where, lack)

    def lacked(self, fields: Mapping[str, Any]) -> set[str]:
        """What a request asked for in vain."""
        lost = self._refused & fields.keys() - {"max_tokens"}
        if {"max_tokens", "max_completion_tokens"} <= self._refused:
            lost.add("max_tokens")
        return {_lack(name) for name in lost}


def asked(messages: Sequence[Message], sampling: Sampling) -> dict[str, Any]:
    """The fields of a request; what sampling leaves to the server is absent."""
    fields: dict[str, Any] = {
        "messages": [{"role": message.role, "content": message.content} for message in messages],
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "repetition_penalty": sampling.repetition_penalty,
        "max_tokens": sampling.max_tokens,
        "stop": list(sampling.stop) or None,
        "seed": sampling.seed,
    }
    return {name: value for name, value in fields.items() if value is not None}


def call(body: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of the official client: it takes fields that it does not know as ``extra_body``."""
    known = {name: value for name, value in body.items() if name not in _EXTRA}
    extra = {name: value for name, value in body.items() if name in _EXTRA}
    return {**known, "extra_body": extra} if extra else known


def refused_fields(error: openai.APIStatusError, sent: Mapping[str, Any]) -> set[str]:
    """Fields to leave out next time: those that the refusal names, else those that only some servers know."""
    if error.status_code not in _REFUSED or is_too_long(error) or is_filtered(error):
        return set()
    complaint = _complaint(error)
    named = {name for name in _DISTINCT if re.search(rf"(?<!\w){name}(?!\w)", complaint)}
    named |= {name for name in _WORDS if re.search(rf"(^|['\"`]){name}($|['\"`])", complaint, re.M)}
    return (named & sent.keys()) or (set(_SUSPECTS) & sent.keys())


def _complaint(error: openai.APIStatusError) -> str:
    """What the refusal says about fields, by line; not the input that some servers repeat."""
    detail = error.body.get("detail") if isinstance(error.body, dict) else None
    if isinstance(detail, list):
        places = [item["loc"] for item in detail if isinstance(item, dict) and isinstance(item.get("loc"), list)]
        return "\n".join(str(part) for place in places for part in place)
    return f"{error.param or ''}\n{error.message}"


def _lack(name: str) -> str:
    return "max_tokens" if name == "max_completion_tokens" else _LACKS.get(name, name)
