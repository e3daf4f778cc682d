"""How the chat endpoint of the tests answers: the turns of its script, and replies in the recorded shapes of servers."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

MODEL = "double"


@dataclass(frozen=True)
class Turn:
    """How one chat request is answered. A plain or a streamed reply, as the request asks, unless ``body`` is set."""

    text: str | Callable[[dict[str, Any]], str] = "I wrote about that [1]."
    delay: float = 0.0
    """Seconds before the first byte."""
    pause: float = 0.0
    """Seconds before each piece of a stream."""
    keep_alive: bool = False
    """Comments are sent while a stream pauses, as proxies do."""
    cut_after: int | None = None
    """Pieces (of a stream) or bytes (of a plain reply) after which the connection is dropped."""
    finish_reason: str | None = "stop"
    usage: bool = True
    done: bool = True
    """A stream ends with ``[DONE]``."""
    refuses: frozenset[str] = frozenset()
    """Fields of a request that are answered with 400."""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    body: bytes | None = None
    """Sent instead of a reply, to a plain and to a streaming request alike."""


def says(text: str | Callable[[dict[str, Any]], str], **how: Any) -> Turn:
    """An ordinary reply; a function makes it from the request's body."""
    return Turn(text=text, **how)


def fails(status: int, message: str = "scripted", *, retry_after: float | None = None, code: str | None = None) -> Turn:
    """An error in the usual JSON shape."""
    error = {"error": {"message": message, "type": "error", "param": None, "code": code}}
    headers = {} if retry_after is None else {"Retry-After": f"{retry_after:g}"}
    return Turn(status=status, headers=headers, body=json.dumps(error).encode())


def sends(body: bytes, *, content_type: str = "application/json", status: int = 200, **how: Any) -> Turn:
    """Exactly these bytes."""
    return Turn(body=body, content_type=content_type, status=status, **how)


def html(status: int = 200) -> Turn:
    """A page for people, as a proxy or a wrong address gives."""
    return sends(b"<!doctype html><title>Welcome</title><h1>It works</h1>", content_type="text/html", status=status)


def completion(turn: Turn, asked: dict[str, Any]) -> dict[str, Any]:
    """A reply in the recorded shape of a server's ``chat.completion``."""
    message = {"role": "assistant", "content": _text(turn, asked)}
    reply = _envelope("chat.completion", asked)
    reply["choices"] = [{"index": 0, "message": message, "logprobs": None, "finish_reason": turn.finish_reason}]
    if turn.usage:
        reply["usage"] = _usage(turn, asked)
    return reply


def events(turn: Turn, asked: dict[str, Any]) -> Iterator[str]:
    """One event per piece of text, then the finish, the counts (if asked for) and the end."""

    def event(delta: dict[str, str], finish: str | None = None) -> str:
        choices = [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]
        return json.dumps({**_envelope("chat.completion.chunk", asked), "choices": choices})

    for number, piece in enumerate(_pieces(_text(turn, asked))):
        yield event({"role": "assistant", "content": piece} if number == 0 else {"content": piece})
    if turn.finish_reason is not None:
        yield event({}, turn.finish_reason)
    if turn.usage and (asked.get("stream_options") or {}).get("include_usage"):
        chunk = _envelope("chat.completion.chunk", asked)
        yield json.dumps({**chunk, "choices": [], "usage": _usage(turn, asked)})
    if turn.done:
        yield "[DONE]"


def _text(turn: Turn, asked: dict[str, Any]) -> str:
    return turn.text if isinstance(turn.text, str) else turn.text(asked)


def _pieces(text: str) -> list[str]:
    """Words with the space before them: together exactly the text."""
    words = text.split(" ")
    return [words[0], *(f" {word}" for word in words[1:])]


def _envelope(kind: str, asked: dict[str, Any]) -> dict[str, Any]:
    return {"id": "chatcmpl-double", "object": kind, "created": 1764000000, "model": asked.get("model", MODEL)}


def _usage(turn: Turn, asked: dict[str, Any]) -> dict[str, int]:
    prompt = sum(len(message["content"].split()) for message in asked.get("messages", []))
    reply = len(_text(turn, asked).split())
    return {"prompt_tokens": prompt, "completion_tokens": reply, "total_tokens": prompt + reply}
