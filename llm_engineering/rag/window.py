"""What a model with a known window is shown: as much of the passages and of the conversation as it reads."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from llm_engineering.domain.answers import Message, Prompt

REPLY_SHARE = 4
"""The part of a window that is kept for the reply, at least."""
_TURN_TOKENS = 8
"""What a template puts around each message."""
_LEAST = 48
"""Tokens below which a passage says nothing."""


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
