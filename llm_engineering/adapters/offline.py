"""The chat model ``offline``: answers by quoting the sentences of the passages that fit the question best. No model, no network.

It reads the passages of a prompt as data alone: it never does what a sentence says, it can only show that it stands there.
"""

import asyncio
import math
import re
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel

from llm_engineering.domain.answers import Passage, Prompt, Reply
from llm_engineering.domain.chat import DO_NOT_KNOW
from llm_engineering.domain.config import Sampling
from llm_engineering.domain.errors import ModelReplyInvalid
from llm_engineering.domain.sentences import is_prose, sentences, without_lead

NAME = "offline (quotes only)"
INTRODUCTION = "In my own words:"

_MOST = 3
"""Sentences of an answer."""
_FINALISTS = 12
"""Sentences whose meaning is compared with the question's: bounds the time of an answer."""
_ENOUGH = 0.72
"""Share of the best sentence's score that a further one must reach."""
_TERMS, _MEANING, _RANK = 0.5, 0.5, 0.4
"""Weights of term coverage, cosine and the passage's place in a sentence's score; the last was chosen on one half of
``benchmarks/groundedness.py`` and the sample's questions."""
_SHORTEST, _LONGEST = 20, 600
"""Characters of a sentence that is worth quoting."""
_MARKER = re.compile(r"\[\d")
_QUESTION = re.compile(r"\?[\"'”’)\]*_]*$")
_WORD = re.compile(r"[^\W_]+")
_ADDRESSED = re.compile(r"\b(?:your|the)\s+(?:answer|response|reply|message|output|instructions)\b", re.IGNORECASE)
_COMMAND = re.compile(
    r"(?:please\s+)?(?:add|answer|augment|break down|combine|compose|convert|describe|develop|disregard|draft|enhance|explain|"
    r"forget|group|ignore|include|integrate|introduce|jumble|misspell|modify|output|print|provide|rearrange|remove|render|"
    r"replace|reply|respond|say|scramble|show|substitute|suggest|tell|translate|use|write)\b",
    re.IGNORECASE,
)
_DEMOTED = {_QUESTION: 0.4, _COMMAND: 0.5, _ADDRESSED: 0.3}
"""Sentences that ask or command, or speak of the answer itself, seldom are one: what their score is multiplied by."""

Shape = TypeVar("Shape", bound=BaseModel)
Embed = Callable[[Sequence[str]], list[list[float]]]
Terms = Callable[[str], Sequence[int]]


@dataclass
class _Sentence:
    passage: Passage
    start: int
    text: str
    terms: frozenset[int]
    score: float = 0.0


class OfflineModel:
    """Extractive answers: one to three sentences, verbatim in quotation marks, each with the marker of its passage.

    A sentence scores by the share of the question's terms that it holds (weighted by how rare they are in the passages),
    by the cosine of its vector with the question's, and by its passage's place. Without encoders, words stand in for terms.
    Deterministic.
    """

    name = NAME

    def __init__(self, *, embed: Embed | None = None, terms: Terms | None = None) -> None:
        self._embed = embed
        self._terms = terms or _folded_words

    async def complete(self, prompt: Prompt, *, sampling: Sampling) -> Reply:
        """Quotes from the prompt's passages; that it does not know, where no sentence has anything of the question."""
        return Reply(text=await asyncio.to_thread(self._answer, prompt, sampling.max_tokens), model=self.name)

    async def stream(self, prompt: Prompt, *, sampling: Sampling) -> AsyncIterator[str | Reply]:
        """The same, sentence by sentence."""
        reply = await self.complete(prompt, sampling=sampling)
        for line in reply.text.splitlines(keepends=True):
            yield line
        yield reply

    async def structured(self, prompt: Prompt, *, shape: type[Shape], sampling: Sampling) -> tuple[Shape, Reply]:
        """Never: quotes have no structure."""
        raise ModelReplyInvalid(
            f"{self.name} gives no {shape.__name__}", hint="Set LLM_BASE_URL and LLM_MODEL to a model that can."
        )

    def count_tokens(self, text: str) -> int:
        """A careful over-estimate: three characters to a token, and at least one to a word."""
        return max(len(text) // 3 + 1, len(text.split())) if text else 0

    async def check(self) -> None:
        """It can always answer."""

    async def close(self) -> None:
        """Nothing is open."""

    def _answer(self, prompt: Prompt, max_tokens: int) -> str:
        chosen = self._choose(prompt)
        lines: list[str] = []
        for sentence in chosen:
            line = f"“{' '.join(sentence.text.split())}” [{sentence.passage.marker}]"
            if lines and self.count_tokens("\n".join([INTRODUCTION, *lines, line])) > max_tokens:
                break
            lines.append(line)
        return "\n\n".join([INTRODUCTION, *lines]) if lines else DO_NOT_KNOW

    def _choose(self, prompt: Prompt) -> list[_Sentence]:
        """The best sentences that add something to each other, in the order in which they are shown."""
        wanted = frozenset(self._terms(prompt.question))
        pool = self._sentences(prompt.passages)
        self._score_by_terms(pool, wanted)
        pool = sorted(pool, key=lambda each: -each.score)[:_FINALISTS]
        if self._embed is not None and pool:
            vectors = self._embed([prompt.question, *(each.text for each in pool)])
            for each, vector in zip(pool, vectors[1:], strict=True):
                each.score += _MEANING * sum(a * b for a, b in zip(vectors[0], vector, strict=True))
        for each in pool:
            each.score *= math.prod(weight for kind, weight in _DEMOTED.items() if _is(kind, each.text))
        pool = sorted((each for each in pool if each.score > 0), key=lambda each: -each.score)
        chosen: list[_Sentence] = []
        for each in pool:
            if (
                len(chosen) < _MOST
                and each.score >= _ENOUGH * pool[0].score
                and not any(_same(each, o) for o in chosen)
            ):
                chosen.append(each)
        return chosen

    def _sentences(self, passages: Sequence[Passage]) -> list[_Sentence]:
        found: list[_Sentence] = []
        for passage in passages:
            for span in sentences(passage.text):
                start, end = without_lead(passage.text, span)
                text = passage.text[start:end]
                if is_prose(text) and _SHORTEST <= len(text) <= _LONGEST and not _MARKER.search(text):
                    found.append(_Sentence(passage, start, text, frozenset(self._terms(text))))
        return found

    def _score_by_terms(self, pool: Sequence[_Sentence], wanted: frozenset[int]) -> None:
        """Coverage of the question's terms, each weighted by log(1 + n / (1 + sentences that hold it)), and the passage's place.

        A sentence without any term of the question has only its place.
        """
        weights = {
            term: math.log(1 + len(pool) / (1 + sum(term in each.terms for each in pool))) for term in sorted(wanted)
        }
        total = sum(weights.values()) or 1.0
        best = max((each.passage.score for each in pool), default=0.0)
        worst = min((each.passage.score for each in pool), default=0.0)
        for each in pool:
            covered = sum(weights[term] for term in each.terms & wanted) / total
            place = (each.passage.score - worst) / ((best - worst) or 1.0)
            each.score = _TERMS * covered + _RANK * place


def _is(kind: re.Pattern[str], text: str) -> bool:
    return bool(kind.match(text) if kind is _COMMAND else kind.search(text))


def _same(one: _Sentence, other: _Sentence) -> bool:
    """Whether two sentences say nearly the same: most terms of the shorter stand in the longer."""
    fewer = min(len(one.terms), len(other.terms)) or 1
    return len(one.terms & other.terms) / fewer > 0.8


def _folded_words(text: str) -> Sequence[int]:
    """Numbers for the words of a text, the same in every process."""
    return sorted({zlib.crc32(word.encode()) for word in _WORD.findall(text.casefold())})
