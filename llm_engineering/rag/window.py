"""What a model with a known window is shown: as much of the passages and of the conversation as it reads."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from llm_engineering.domain.answers import Message, Prompt
from llm_engineering.domain.chat import answer_prompt, writing_prompt
from llm_engineering.domain.config import AnswerConfig
from llm_engineering.domain.ports import ChatModel

_log = logging.getLogger(__name__)

REPLY_SHARE = 4
"""The part of a window that is kept for the reply, at least."""
_TURN_TOKENS = 8
"""What a template puts around each message."""
_LEAST = 48
"""Tokens below which a passage says nothing."""
_FRAME_TOKENS, _PASSAGE_TOKENS = 64, 48
"""What a question with its template, and the tags of a passage, take of a window."""


@dataclass(frozen=True)
class Load:
    """How much a prompt holds."""

    passages: int
    """At most so many."""
    tokens: int
    """Of all passages together."""
    examples: int
    history: tuple[Message, ...]
    """The latest turns."""


def fitted(config: AnswerConfig, model: ChatModel) -> AnswerConfig:
    """The numbers of answering, with no more passages than the model's window holds, where it is known."""
    window = getattr(model, "window", None)
    if window is None:
        return config
    frames = (answer_prompt("", author="", passages=()), writing_prompt("", author="", passages=()))
    frame = max(sum(model.count_tokens(message.content) for message in prompt.messages) for prompt in frames)
    room = window - window // REPLY_SHARE - frame - _FRAME_TOKENS
    k = max(1, min(config.k, room // (3 * _PASSAGE_TOKENS)))
    tokens = max(64, room - k * _PASSAGE_TOKENS)
    if tokens >= config.context_tokens:
        return config
    _log.info("%s reads %d tokens: at most %d passages of %d tokens in all are shown", model.name, window, k, tokens)
    return config.model_copy(update={"context_tokens": tokens, "k": k, "style_examples": 0})


def fit(
    wanted: Load, write: Callable[[Load], Prompt], *, window: int, count_tokens: Callable[[str], int]
) -> tuple[Prompt, Load]:
    """The prompt of as much as leaves the model room to reply, and how much that is.

    Examples of the style go first, then the oldest turns of the conversation, then words of passages, then passages. A
    prompt that is too long even with one short passage is returned as it is: the model refuses what it cannot read.
    """
    limit = window - window // REPLY_SHARE
    load = wanted
    while (over := size(prompt := write(load), count_tokens) - limit) > 0:
        used = sum(count_tokens(passage.text) for passage in prompt.passages)
        lighter = _lighter(load, left=used - over, shown=len(prompt.passages))
        if lighter is None:
            break
        load = lighter
    return prompt, load


def size(prompt: Prompt, count_tokens: Callable[[str], int]) -> int:
    """Tokens of the messages with what a template puts around them, about."""
    return sum(count_tokens(message.content) + _TURN_TOKENS for message in prompt.messages)


def _lighter(load: Load, *, left: int, shown: int) -> Load | None:
    """``left``: tokens that the passages may still have."""
    if load.examples:
        return replace(load, examples=0)
    if load.history:
        return replace(load, history=load.history[1:])
    if shown * _LEAST <= left < load.tokens:
        return replace(load, tokens=left)
    if load.passages > 1:
        return replace(load, passages=load.passages // 2)
    return replace(load, tokens=_LEAST) if load.tokens > _LEAST else None
