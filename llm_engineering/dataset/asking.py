"""What a model is asked, and what its journalled reply says: the reply, or why there is none."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from llm_engineering.dataset.checks import model_refusal
from llm_engineering.domain.answers import Prompt
from llm_engineering.domain.config import Sampling
from llm_engineering.domain.samples import JournalEntry, request_key

_PER_MESSAGE = 16
"""Tokens that a chat template may add to each message."""
_REPAIR_WORDS = 250
"""Tokens that tell a model the shape, and what was wrong with its first reply."""
_ORDINARY_REPLY = 120
"""Tokens of a reply with a structure."""

Shape = TypeVar("Shape", bound=BaseModel)


class NoReply(StrEnum):
    """Why a request has no reply that can be used."""

    MALFORMED_REPLY = "malformed-reply"
    """Not the structure that was asked for, in two tries."""
    EMPTY_REPLY = "empty-reply"
    """Nothing, or an empty list or object."""
    MODEL_REFUSAL = "model-refusal"
    TIMED_OUT = "timed-out"
    RATE_LIMITED = "rate-limited"
    UNAVAILABLE = "unavailable"
    PROMPT_TOO_LONG = "prompt-too-long"
    """For the window of this model: a longer window, or a shorter passage, is another matter for the next run."""
    BUDGET = "budget"
    """Not asked: the budget or the number of calls was used up."""
    SOURCE_GONE = "source-gone"
    """The document was withdrawn meanwhile; the reply was thrown away."""


class Plain(BaseModel):
    """A reply in free text."""

    model_config = ConfigDict(frozen=True)

    text: str
    finish_reason: str = "stop"


@dataclass(frozen=True)
class Request(Generic[Shape]):
    """What is asked. ``shape`` :class:`Plain` asks for free text.

    ``arrived`` tells by a reply whether the model was given all of the prompt; one that was not is asked again another time.
    """

    purpose: str
    prompt: Prompt
    shape: type[Shape]
    sampling: Sampling
    document_ids: tuple[str, ...]
    arrived: Callable[[Shape], bool] = lambda reply: True

    def key(self, model: str) -> str:
        """The same model, words, sampling and shape have the same key."""
        messages = [(message.role, message.content) for message in self.prompt.messages]
        shape = self.shape.model_json_schema()
        return request_key(model, messages, self.sampling.model_dump(mode="json"), self.shape.__name__, shape)

    def replayed(self, entry: JournalEntry | None) -> "Shape | Missing | None":
        """What the journal answers; ``None`` if the model is to be asked."""
        if entry is None:
            return None
        reply = read(entry, self.shape)
        return reply if isinstance(reply, Missing) or self.arrived(reply) else None

    def most_tokens(self, count: Callable[[str], int]) -> tuple[int, int]:
        """The most that the request can read and write, its repair round included."""
        once, written = self.tokens(count), self.sampling.max_tokens
        if self.shape is Plain:
            return once, written
        return 2 * once + written + _REPAIR_WORDS, 2 * written

    def likely_reply(self) -> int:
        """Tokens of an ordinary reply: free text is asked for with about its own room."""
        return self.sampling.max_tokens if self.shape is Plain else min(_ORDINARY_REPLY, self.sampling.max_tokens)

    def tokens(self, count: Callable[[str], int]) -> int:
        """What the model reads of it, over-estimated."""
        told = 0 if self.shape is Plain else count(json.dumps(self.shape.model_json_schema())) + _REPAIR_WORDS // 5
        return told + sum(count(message.content) + _PER_MESSAGE for message in self.prompt.messages)


@dataclass(frozen=True)
class Missing:
    """Why there is no reply."""

    reason: NoReply
    detail: str = ""


def read(entry: JournalEntry, shape: type[Shape]) -> Shape | Missing:
    """The reply of an entry, or why it is of no use."""
    if entry.error:
        return _useless(entry)
    try:
        return shape.model_validate_json(entry.reply)
    except ValidationError:  # an imported journal may hold anything
        return Missing(NoReply.MALFORMED_REPLY, "the journal holds no such reply")


def _useless(entry: JournalEntry) -> Missing:
    said = entry.reply.strip().strip("`").removeprefix("json").strip()
    if not any(character.isalnum() for character in said) or said == "null":
        return Missing(NoReply.EMPTY_REPLY, entry.error)
    if "{" not in said and model_refusal(said):
        return Missing(NoReply.MODEL_REFUSAL, entry.error)
    return Missing(NoReply.MALFORMED_REPLY, entry.error)
