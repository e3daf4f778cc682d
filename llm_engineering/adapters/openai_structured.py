"""Replies as JSON of a given shape: the schema for servers, the words for models, and reading what came back."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from llm_engineering.domain.answers import Message

Structured = TypeVar("Structured", bound=BaseModel)
_TRIED = 50
"""Opening braces from which a JSON object is looked for in other text."""
_TOLD = 8
"""Faults that a model is told of."""


def response_format(shape: type[BaseModel]) -> dict[str, Any]:
    """The ``response_format`` that binds a server to the shape, in the vendor's strict dialect of JSON schema."""
    from openai import pydantic_function_tool

    schema = pydantic_function_tool(shape)["function"]["parameters"]
    return {"type": "json_schema", "json_schema": {"name": shape.__name__, "schema": schema, "strict": True}}


def asking_for(shape: type[BaseModel], messages: Sequence[Message]) -> tuple[Message, ...]:
    """The messages with the schema told in words, since a server may ignore ``response_format`` without a word."""
    schema = json.dumps(shape.model_json_schema(), ensure_ascii=False)
    wish = f"Reply with one JSON object and nothing else. It must be valid for this JSON schema:\n{schema}"
    if messages and messages[-1].role == "user":
        last = messages[-1]
        return (*messages[:-1], Message(role="user", content=f"{last.content}\n\n{wish}"))
    return (*messages, Message(role="user", content=wish))


def repairing(messages: Sequence[Message], reply: str, fault: ValueError) -> tuple[Message, ...]:
    """The messages that show the model its reply and what is wrong with it."""
    wish = f"This reply is of no use:\n{faults(fault)}\nReply again with the corrected JSON object and nothing else."
    return (*messages, Message(role="assistant", content=reply), Message(role="user", content=wish))


def is_json_alone(text: str) -> bool:
    """Nothing but one JSON value: what a server does that keeps to ``response_format``."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def read_json(text: str, shape: type[Structured]) -> Structured:
    """The first valid object in a reply, also in a fence or between sentences.

    Raises :class:`ValueError` (a :class:`ValidationError` where there is JSON of another shape).
    """
    spoken = text.rpartition("</think>")[2].strip()
    fault: ValueError = ValueError("There is no JSON object in it.")
    for candidate in _objects(spoken):
        try:
            return shape.model_validate(candidate)
        except ValidationError as error:
            fault = error
    raise fault


def faults(fault: ValueError) -> str:
    """One line per fault, without the input and without links."""
    if not isinstance(fault, ValidationError):
        return f"- {fault}"
    found = fault.errors(include_url=False, include_input=False, include_context=False)
    return "\n".join(f"- {'.'.join(map(str, item['loc'])) or 'object'}: {item['msg']}" for item in found[:_TOLD])


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """JSON objects in a text, outer ones only, from left to right."""
    decoder, start = json.JSONDecoder(), 0
    for _ in range(_TRIED):
        start = text.find("{", start)
        if start < 0:
            return
        try:
            value, start = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            start += 1
        else:
            yield value
