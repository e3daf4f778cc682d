"""The cost of one edit and one delete, in 76 and in 20,000 documents, and whether the index then equals the warehouse.

Embedding is left out on purpose (a word-counting stand-in): it is the same single text on either side, and would hide
what the stores cost.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

from llm_engineering import bootstrap
from llm_engineering.adapters.qdrant_edge import EdgeIndex
from llm_engineering.adapters.sqlite import SQLiteWarehouse
from llm_engineering.domain.config import EmbeddingConfig, FeatureConfig, IndexRecipe, SparseConfig, SyncConfig
from llm_engineering.domain.entities import Author, Draft, Kind, TombstoneReason, document_id
from llm_engineering.features.sync import SyncReport, sync
from tests.doubles.encoders import WordEmbedder, WordSparseEncoder

ADA = Author.named("Ada Winter")
SIZES = (76, 20_000)
ROUNDS = 5


def main() -> int:
    """Print the table; exit status 1 if the index is not equal or the large corpus costs much more than the small one."""
    rows = {size: _measure(size) for size in SIZES}
    print("## One edit, one delete\n")
    print("| documents | first sync | one edit | one delete | index equals warehouse |\n|---:|---:|---:|---:|---|")
    for size, (first, edit, delete, equal) in rows.items():
        print(
            f"| {size:,} | {first:.2f} s | {edit * 1000:.0f} ms | {delete * 1000:.0f} ms | {'yes' if equal else 'NO'} |"
        )
    small, large = rows[SIZES[0]], rows[SIZES[1]]
    edit, delete = large[1] / small[1], large[2] / small[2]
    print(f"\nMedians of {ROUNDS} rounds; 20,000 against 76 documents: edit × {edit:.2f}, delete × {delete:.2f}.")
    print(
        "Reading, chunking and publishing the change take the same in both; what grows is the engine's own opening, flushing and "
        "closing of two shards. Embedding is a stand-in here, so that it hides nothing."
    )
    return int(not (small[3] and large[3] and large[1] < 3 * small[1] and large[2] < 3 * small[2]))


def _measure(size: int) -> tuple[float, float, float, bool]:
    with tempfile.TemporaryDirectory() as folder:
        warehouse, index = SQLiteWarehouse(Path(folder) / "warehouse.sqlite"), EdgeIndex(Path(folder) / "index")
        warehouse.save_author(ADA)
        for first in range(0, size, 500):
            warehouse.record([_draft(number, "first") for number in range(first, min(size, first + 500))])
        embedder = WordEmbedder(dimensions=384)
        started = time.perf_counter()
        _sync(warehouse, index, embedder)
        built = time.perf_counter() - started
        edits, deletes = [], []
        for number in range(ROUNDS):
            warehouse.record([_draft(number, f"edited {number}")])
            edits.append(_timed_sync(warehouse, index, embedder))
            warehouse.bury([document_id(ADA.id, _url(size - 1 - number))], reason=TombstoneReason.GONE)
            deletes.append(_timed_sync(warehouse, index, embedder))
        chunker = bootstrap.chunker_for(FeatureConfig(), embedder)
        expected = {chunk.id for state in warehouse.states() for chunk in chunker(state)}
        equal = {item.chunk.id for item in index.chunks()} == expected
        index.close()
        warehouse.close()
    return built, statistics.median(edits), statistics.median(deletes), equal


def _url(number: int) -> str:
    return f"https://ada.example/{number}"


def _draft(number: int, word: str) -> Draft:
    text = f"# Note {number}\n\nThis is the {word} state of note {number}, which speaks of topic {number % 97} at some length.\n"
    return Draft(
        author_id=ADA.id, url=_url(number), kind=Kind.NOTE, platform="ada.example", title=f"Note {number}", text=text
    )


def _timed_sync(warehouse: SQLiteWarehouse, index: EdgeIndex, embedder: WordEmbedder) -> float:
    started = time.perf_counter()
    _sync(warehouse, index, embedder)
    return time.perf_counter() - started


def _sync(warehouse: SQLiteWarehouse, index: EdgeIndex, embedder: WordEmbedder) -> SyncReport:
    recipe = IndexRecipe(
        model="words",
        embedder=embedder.fingerprint,
        dimensions=embedder.dimensions,
        embedding=EmbeddingConfig(),
        sparse=SparseConfig(),
        sparse_encoder="words",
        chunker="default",
    )
    return sync(
        warehouse,
        index,
        recipe=recipe,
        chunker=bootstrap.chunker_for(FeatureConfig(), embedder),
        embedder=embedder,
        sparse=WordSparseEncoder(),
        config=SyncConfig(batch_documents=500, batch_chunks=2000),
    )


if __name__ == "__main__":
    sys.exit(main())
