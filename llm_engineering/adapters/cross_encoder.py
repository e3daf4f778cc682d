"""Reranking with a sentence-transformers cross-encoder, which reads query and passage together."""

import threading
from collections.abc import Sequence
from typing import Any

from llm_engineering.domain.errors import ModelUnavailable

_BATCH = 16


class CrossEncoderReranker:
    """The model of that name or folder, loaded by :meth:`load` or when it is first asked. Thread-safe: one batch at a time.

    Raises :class:`ModelUnavailable` if the model cannot be loaded or fails on a text.
    """

    def __init__(self, model: str) -> None:
        self.name = model
        self._lock = threading.Lock()
        self._model: Any = None

    def load(self) -> None:
        """Load the model and have it score once: the first time takes longest."""
        self.scores("a query", ["a passage"])

    def scores(self, query: str, passages: Sequence[str]) -> list[float]:
        """One score per passage, higher is better, in order; batched inside."""
        if not passages:
            return []
        with self._lock:
            if self._model is None:
                self._model = self._load()
            try:
                found = self._model.predict(
                    [(query, passage) for passage in passages], batch_size=_BATCH, show_progress_bar=False
                )
            except (RuntimeError, ValueError, TypeError, IndexError) as error:
                raise ModelUnavailable(
                    f"The reranker {self.name} failed: {error}", hint="Check RERANKER_MODEL, or leave it empty."
                ) from error
        if getattr(found, "ndim", 1) != 1:
            raise ModelUnavailable(
                f"The reranker {self.name} gives {found.shape[1]} scores per passage",
                hint="RERANKER_MODEL must be a cross-encoder with one label.",
            )
        return [float(score) for score in found]

    def _load(self) -> Any:  # noqa: ANN401  # the engine has no type stubs
        from sentence_transformers import CrossEncoder

        try:
            return CrossEncoder(self.name)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise ModelUnavailable(
                f"The reranker {self.name} cannot be loaded: {error}",
                hint="RERANKER_MODEL is the name or folder of a sentence-transformers cross-encoder; empty: none.",
            ) from error
