"""Replies of chat endpoints, whole or in pieces, as servers really send them: much may be absent or null."""

import json
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from llm_engineering.adapters.openai_errors import Endpoint
from llm_engineering.domain.answers import Reply
from llm_engineering.domain.errors import ModelReplyInvalid

_ADDRESS = "Check LLM_BASE_URL, which usually ends in /v1."


class _Part(BaseModel):
    text: str = ""


class _Spoken(BaseModel):
    content: str | list[_Part] | None = None
    refusal: str | None = None
    tool_calls: list[Any] | None = None
    function_call: Any = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""


class _Choice(BaseModel):
    message: _Spoken | None = None
    delta: _Spoken | None = None
    finish_reason: str | None = None


class _Counts(BaseModel):
    prompt_tokens: int | None = Field(default=None, ge=0)
    completion_tokens: int | None = Field(default=None, ge=0)


class ReplyBody(BaseModel):
    """A ``chat.completion`` or one ``chat.completion.chunk``; only what is needed of it."""

    choices: list[_Choice] | None = None
    usage: _Counts | None = None
    model: str | None = None


@dataclass
class Heard:
    """What a model has said so far."""

    endpoint: Endpoint
    text: str = ""
    finish_reason: str | None = None
    model: str = ""
    counts: _Counts | None = None
    _refusal: str = ""
    _calls_tools: bool = False

    def add(self, body: ReplyBody) -> str:
        """Take in a reply or a piece of one; returns the text that is new."""
        self.model = body.model or self.model
        self.counts = body.usage or self.counts
        if not body.choices:
            return ""
        choice = body.choices[0]
        self.finish_reason = choice.finish_reason or self.finish_reason
        spoken = choice.message or choice.delta or _Spoken()
        self._refusal += spoken.refusal or ""
        self._calls_tools = self._calls_tools or bool(spoken.tool_calls or spoken.function_call)
        self.text += spoken.text
        return spoken.text

    def reply(self, lacked: set[str]) -> Reply:
        """The reply; :class:`ModelReplyInvalid` if there is no text in it."""
        counts = self.counts or _Counts()
        if not self.text.strip():
            nothing = self._nothing_said()
            nothing.tokens = (counts.prompt_tokens or 0, counts.completion_tokens or 0)
            nothing.rounds = 1
            raise nothing
        return Reply(
            text=self.text,
            model=self.model or self.endpoint.model,
            prompt_tokens=counts.prompt_tokens or 0,
            completion_tokens=counts.completion_tokens or 0,
            finish_reason=self.finish_reason or "stop",
            lacked=tuple(sorted(lacked if self.counts else {*lacked, "usage"})),
        )

    def _nothing_said(self) -> ModelReplyInvalid:
        who = f"{self.endpoint.model!r} at {self.endpoint.url}"
        if self._refusal:
            return ModelReplyInvalid(
                f"{who} declines to answer: {self.endpoint.quoted(self._refusal)}", hint="Ask in other words."
            )
        if self._calls_tools:
            return ModelReplyInvalid(
                f"{who} calls a tool instead of answering", hint="Switch tool calls off in that server."
            )
        if self.finish_reason == "length":
            return ModelReplyInvalid(f"{who} used up max_tokens before any text", hint="Raise sampling.max_tokens.")
        if self.finish_reason == "content_filter":
            return ModelReplyInvalid(f"{who}: its content filter withheld the reply", hint="Ask in other words.")
        return ModelReplyInvalid(f"{who} answered without any text", hint="Try again, or take another model.")


def read_reply(text: str, content_type: str, endpoint: Endpoint) -> ReplyBody:
    """The whole reply in an HTTP body; :class:`ModelReplyInvalid` if it is none, without repeating pages."""
    try:
        body = ReplyBody.model_validate_json(text)
    except ValidationError as error:
        kind = content_type.partition(";")[0].strip() or "no content type"
        what = "not a chat reply" if _is_json(text) else "no JSON"
        raise ModelReplyInvalid(f"{endpoint.url} answered with {what} ({kind})", hint=_ADDRESS) from endpoint.cause(
            error
        )
    if not body.choices:
        said = endpoint.quoted(json.loads(text).get("error"))
        raise ModelReplyInvalid(
            f"{endpoint.url} answered without choices{': ' if said else ''}{said}", hint="Look at its log."
        )
    return body


def read_piece(piece: object, endpoint: Endpoint) -> ReplyBody:
    """One event of a stream, as the client made it without checking."""
    try:
        return ReplyBody.model_validate(piece, from_attributes=True)
    except ValidationError as error:
        raise ModelReplyInvalid(
            f"{endpoint.url} sent a piece that is no part of a chat reply", hint=_ADDRESS
        ) from error


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
