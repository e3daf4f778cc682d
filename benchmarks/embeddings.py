"""An embedder that remembers on disk, so that a second run of a benchmark that is not about embedding costs none."""

import hashlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from llm_engineering.domain.ports import Embedder


class RememberingEmbedder:
    """Another embedder with its passage vectors kept in a file by text and fingerprint."""

    def __init__(self, embedder: Embedder, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._embedder = embedder
        self._file = sqlite3.connect(file)
        self._file.execute("CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB) WITHOUT ROWID")
        self.fingerprint = embedder.fingerprint
        self.dimensions = embedder.dimensions
        self.window = embedder.window
        self.count_tokens = embedder.count_tokens
        self.embed_query = embedder.embed_query
        self.embed_queries = embedder.embed_queries

    def embed_passages(self, texts: Sequence[str]) -> list[list[float]]:
        """Remembered vectors, and fresh ones for the texts that are new."""
        keys = [hashlib.sha256(f"{self.fingerprint}\0{text}".encode("utf-8", "replace")).digest() for text in texts]
        known = {key: vector for key in keys if (vector := self._known(key)) is not None}
        fresh = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        rows = list(fresh.items())
        for first in range(0, len(rows), 256):
            part = rows[first : first + 256]
            vectors = self._embedder.embed_passages([text for _, text in part])
            known |= {key: vector for (key, _), vector in zip(part, vectors, strict=True)}
            blobs = [(key, np.asarray(known[key], np.float32).tobytes()) for key, _ in part]
            with self._file:
                self._file.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", blobs)
        return [known[key] for key in keys]

    def _known(self, key: bytes) -> list[float] | None:
        row = self._file.execute("SELECT vector FROM vectors WHERE key = ?", (key,)).fetchone()
        return None if row is None else np.frombuffer(row[0], np.float32).tolist()
