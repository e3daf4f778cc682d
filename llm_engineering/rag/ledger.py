"""What one answer costs: time by stage, tokens of every model call, and what went otherwise than asked."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from llm_engineering.domain.answers import Usage

_RETRIEVAL = ("retrieve", "rerank", "assemble")


class Ledger:
    """Filled by the stages of one answer, read once at its end."""

    def __init__(self, span: Callable[[str], AbstractContextManager[object]]) -> None:
        self._span = span
        self._stages: dict[str, float] = {}
        self._tokens = [0, 0]
        self._notes: list[str] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times what happens inside, under a span of that name."""
        started = time.perf_counter()
        try:
            with self._span(name):
                yield
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
