"""What answering works with, and what it tells while it works."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Protocol

from llm_engineering.domain.answers import Answer, Passage
from llm_engineering.domain.config import AnswerConfig
from llm_engineering.domain.ports import ChatModel, Embedder, Index, Reranker, SparseEncoder, Warehouse
from llm_engineering.rag.rerank import Reranking

_TEXTS = 5_000
"""Texts whose terms are remembered: a few megabytes."""
Embed = Callable[[str], Awaitable[list[float]]]
"""Turns one query into its vector; a service may gather queries that come at the same time."""


Value = str | bool | int | float


class Remarks(Protocol):
    """Takes what becomes known of a stage while it runs."""

    def set(self, **attributes: Value | None) -> None:
        """Add it; ``None`` says nothing."""
        ...


class Spans(Protocol):
    """Opens a span around a stage."""

    def __call__(
        self, name: str, *, operation: str | None = None, agent: str | None = None
    ) -> AbstractContextManager[Remarks]:
        """Entered when the stage begins, left when it ends."""
        ...


class _Unheard:
    def set(self, **attributes: Value | None) -> None: ...


def _no_span(name: str, *, operation: str | None = None, agent: str | None = None) -> AbstractContextManager[Remarks]:
    return nullcontext(_Unheard())


@dataclass(frozen=True, kw_only=True)
class Twin:
    """Open stores and models, and the numbers of answering. Everything in it is thread-safe and serves many questions at once."""

    warehouse: Warehouse
    index: Index
    embedder: Embedder
    sparse: SparseEncoder
    model: ChatModel
    """Writes the answer."""
    endpoint: str = ""
    """Address of the server where the model is; two servers may have another model under the same name."""
    planner: ChatModel | None = None
    """Reads questions and rewords them; ``None``: rules do it, and nothing is reworded (the ``offline`` model does neither)."""
    reranker: Reranker | None = None
    config: AnswerConfig = field(default_factory=AnswerConfig)
    embed: Embed | None = None
    """Used in place of ``embedder.embed_query`` where it is given."""
    span: Spans = _no_span
    """Entered around each stage with its name: understand, expand, retrieve, rerank, assemble, write, verify."""

    @cached_property
    def reranking(self) -> Reranking | None:
        """The reranker, in a thread of its own."""
        return Reranking(self.reranker) if self.reranker else None

    @property
    def window(self) -> int | None:
        """Tokens that the model reads and writes at most, where it knows them."""
        window: int | None = getattr(self.model, "window", None)
        return window

    @cached_property
    def terms(self) -> Callable[[str], frozenset[int]]:
        """The terms of a text, as the index knows them. Sentences that are read again and again are read once."""

        sparse = (
            self.sparse
        )  # not the twin: what holds itself is never let go by a process that freezes its garbage collector

        @lru_cache(maxsize=_TEXTS)
        def terms(text: str) -> frozenset[int]:
            return frozenset(sparse.encode_query(text).indices)

        return terms


@dataclass(frozen=True)
class Sources:
    """First event: the passages that the answer is written from; empty where none are."""

    passages: tuple[Passage, ...]


@dataclass(frozen=True)
class Text:
    """A piece of the answer as the model writes it, not verified yet."""

    piece: str


@dataclass(frozen=True)
class Done:
    """Last event: the verified answer. Its text replaces the pieces wherever the two differ."""

    answer: Answer


Event = Sources | Text | Done
