"""How long a search takes at 1,000, 10,000 and 100,000 chunks, by mode; the query's own embedding apart.

The chunks are made: clustered random unit vectors and word frequencies that fall off as in language (Zipf). Queries are noisy
copies of chunks. The engine, the fusion and the payloads are the product's own.
"""

import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from llm_engineering import bootstrap
from llm_engineering.adapters.qdrant_edge import EdgeIndex
from llm_engineering.domain.config import EmbeddingConfig, IndexRecipe, SparseConfig
from llm_engineering.domain.entities import Chunk, IndexedChunk, IndexQuery, Kind, SparseVector, author_id, document_id
from llm_engineering.settings import Settings

SIZES = (1_000, 10_000, 100_000)
DIMENSIONS = 384
QUERIES = 200
GOAL_MS = 3.0
AUTHOR = author_id("Ada Winter")


def main() -> int:
    """Print the table; exit status 1 if the fused median at the largest size misses its goal."""
    print("## Query latency\n")
    print("| chunks | mode | p50 ms | p95 ms |\n|---:|---|---:|---:|")
    fused = 0.0
    for size in SIZES:
        for mode, times in _measure(size).items():
            fused = statistics.median(times) if mode == "fused" else fused
            print(
                f"| {size:,} | {mode} | {statistics.median(times):.2f} | {statistics.quantiles(times, n=20)[-1]:.2f} |",
                flush=True,
            )
    embedding = _query_embedding()
    median, tail = statistics.median(embedding), statistics.quantiles(embedding, n=20)[-1]
    print(f"\nEmbedding one query: p50 {median:.1f} ms, p95 {tail:.1f} ms.")
    print(f"Goal: fused p50 ≤ {GOAL_MS:.0f} ms at 100,000 chunks; measured {fused:.2f} ms.")
    return int(fused > GOAL_MS)


def _measure(size: int) -> dict[str, list[float]]:
    generator = np.random.default_rng(7)
    centres = generator.normal(size=(200, DIMENSIONS))
    vectors = centres[generator.integers(0, 200, size)] + 0.8 * generator.normal(size=(size, DIMENSIONS))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    terms = [np.unique(generator.zipf(1.3, 90) % 200_000) for _ in range(size)]
    with tempfile.TemporaryDirectory() as folder:
        index = EdgeIndex(Path(folder) / "index")
        with index.writer(_recipe()) as writer:
            for first in range(0, size, 1_000):
                rows = range(first, min(size, first + 1_000))
                writer.publish([_point(row, vectors[row], terms[row]) for row in rows])
            writer.commit()
        chosen = random.Random(7).sample(range(size), min(size, QUERIES))
        noisy = vectors[chosen] + 0.02 * generator.normal(size=(len(chosen), DIMENSIONS))
        queries = [(vector.tolist(), _terms(terms[row])) for row, vector in zip(chosen, noisy, strict=True)]
        modes = {
            "dense": [IndexQuery(dense=dense, limit=10) for dense, _ in queries],
            "sparse": [IndexQuery(sparse=sparse, limit=10) for _, sparse in queries],
            "fused": [IndexQuery(dense=dense, sparse=sparse, limit=10) for dense, sparse in queries],
        }
        times = {mode: list(_timed(index, asked)) for mode, asked in modes.items()}
        index.close()
    return times


def _terms(words: np.ndarray) -> SparseVector:
    """Six of a chunk's terms, as a query has them."""
    asked = words[:: max(1, len(words) // 6)].tolist()
    return SparseVector(indices=asked, values=[1.0] * len(asked))


def _timed(index: EdgeIndex, queries: list[IndexQuery]) -> Iterator[float]:
    for query in queries[:10]:
        index.search(query)
    for query in queries:
        started = time.perf_counter()
        index.search(query)
        yield (time.perf_counter() - started) * 1000


def _query_embedding() -> list[float]:
    with tempfile.TemporaryDirectory() as home:
        embedder = bootstrap.open_embedder(Settings(twin_home=Path(home)), EmbeddingConfig())
        times = []
        for number in range(100):
            started = time.perf_counter()
            embedder.embed_query(f"what did I write about crash safety and number {number}?")
            times.append((time.perf_counter() - started) * 1000)
    return times[10:]


def _recipe() -> IndexRecipe:
    return IndexRecipe(
        model="made",
        embedder="made",
        dimensions=DIMENSIONS,
        embedding=EmbeddingConfig(),
        sparse=SparseConfig(),
        sparse_encoder="made",
        chunker="made",
    )


def _point(row: int, vector: np.ndarray, terms: np.ndarray) -> IndexedChunk:
    document = document_id(AUTHOR, f"https://ada.example/{row // 4}")
    text = f"This is the text of chunk {row}, about as long as chunks are. " * 12
    chunk = Chunk(
        id=document_id(AUTHOR, f"chunk {row}"),
        document_id=document,
        revision=1,
        start=0,
        end=len(text),
        text=text,
        window_start=0,
        window_end=len(text),
        embedded="",
    )
    return IndexedChunk(
        chunk=chunk,
        title=f"Document {row // 4}",
        url=f"https://ada.example/{row // 4}",
        kind=Kind.ARTICLE,
        platform="ada.example",
        author_id=AUTHOR,
        author="Ada Winter",
        vector_key=str(row),
        dense=vector.tolist(),
        sparse=SparseVector(indices=terms.tolist(), values=[1.0] * len(terms)),
    )


if __name__ == "__main__":
    sys.exit(main())
