"""What one answer costs: time by stage, tokens of every model call, and what went otherwise than asked."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from llm_engineering.domain.answers import Usage
from llm_engineering.rag.twin import Remarks, Spans

_RETRIEVAL = ("retrieve", "rerank", "assemble")


class Ledger:
    """Filled by the stages of one answer, read once at its end."""

    def __init__(self, span: Spans) -> None:
        self._span = span
        self._stages: dict[str, float] = {}
        self._tokens = [0, 0]
        self._notes: list[str] = []

    @contextmanager
    def stage(self, name: str, *, operation: str | None = None) -> Iterator[Remarks]:
        """Times what happens inside, under a span of that name; ``operation`` as the GenAI conventions call it."""
        started = time.perf_counter()
        try:
            with self._span(name, operation=operation) as remarks:
                yield remarks
        finally:
            self._stages[name] = (time.perf_counter() - started) * 1000

    def spend(self, prompt_tokens: int, completion_tokens: int) -> None:
        """Add the tokens of a model call."""
        self._tokens[0] += prompt_tokens
        self._tokens[1] += completion_tokens

    def note(self, *lines: str) -> None:
        """Add lines for the usage block."""
        self._notes += lines

    def usage(self) -> Usage:
        """The account so far."""
        stages = {name: round(milliseconds, 2) for name, milliseconds in self._stages.items()}
        return Usage(
            retrieval_ms=round(sum(stages.get(name, 0.0) for name in _RETRIEVAL), 2),
            generation_ms=stages.get("write", 0.0),
            prompt_tokens=self._tokens[0],
            completion_tokens=self._tokens[1],
            stages=stages,
            notes=tuple(self._notes),
        )
