"""Further things to search for besides the question: rewordings, and a hypothetical answer. Needs a model."""

import asyncio
import logging
import re
from dataclasses import dataclass

from llm_engineering.domain.answers import Prompt, Reply
from llm_engineering.domain.chat import hypothetical_prompt, rewording_prompt
from llm_engineering.domain.config import AnswerConfig, Sampling
from llm_engineering.domain.errors import ModelReplyInvalid
from llm_engineering.domain.ports import ChatModel
from llm_engineering.rag.retrieve import MAX_QUERY_CHARACTERS

log = logging.getLogger(__name__)

_BULLET = re.compile(r"^\s*(?:[-*•]|\d{1,2}[.):])\s*|^[\"“]|[\"”]\s*$")
_SAMPLING = Sampling(temperature=0.7, max_tokens=300)


@dataclass(frozen=True)
class Expansion:
    """Further queries, what they cost, and what went wrong."""

    queries: tuple[str, ...] = ()
    prompt_tokens: int = 0
    completion_tokens: int = 0
    notes: tuple[str, ...] = ()


async def expand(query: str, *, model: ChatModel, config: AnswerConfig) -> Expansion:
    """Rewordings and a hypothetical answer as configured, asked for at the same time.

    A reply of no use costs that expansion alone, with a note; :class:`ModelUnavailable` is raised.
    """
    asked = []
    if config.rewordings:
        asked.append(_ask(model, "rewordings", rewording_prompt(query, count=config.rewordings)))
    if config.hyde:
        asked.append(_ask(model, "words of a hypothetical answer", hypothetical_prompt(query)))
    replies = await asyncio.gather(*asked)
    queries: list[str] = []
    spent = [0, 0]
    for name, reply in replies:
        if isinstance(reply, ModelReplyInvalid):
            spent = [spent[0] + reply.tokens[0], spent[1] + reply.tokens[1]]
            continue
        spent = [spent[0] + reply.prompt_tokens, spent[1] + reply.completion_tokens]
        if name == "rewordings":
            queries += [line for line in map(_plain, reply.text.splitlines()) if _searchable(line)][: config.rewordings]
        elif _searchable(reply.text):
            queries.append(" ".join(reply.text.split())[: MAX_QUERY_CHARACTERS // 2])
    return Expansion(
        queries=tuple(dict.fromkeys(text for text in queries if text.casefold() != query.casefold())),
        prompt_tokens=spent[0],
        completion_tokens=spent[1],
        notes=tuple(f"expand: the {name} were of no use" for name, reply in replies if isinstance(reply, Exception)),
    )


async def _ask(model: ChatModel, name: str, prompt: Prompt) -> tuple[str, Reply | ModelReplyInvalid]:
    try:
        return name, await model.complete(prompt, sampling=_SAMPLING)
    except ModelReplyInvalid as error:
        log.info("the %s of a question are of no use: %s", name, error)
        return name, error


def _plain(line: str) -> str:
    return _BULLET.sub("", line).strip().strip('"“”')


def _searchable(text: str) -> bool:
    return any(character.isalnum() for character in text)
