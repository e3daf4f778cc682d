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
ROUNDS = 24


def main() -> int:
    """Print the table; exit status 1 if an index is not equal, or the two corpora take times that are apart."""
    with tempfile.TemporaryDirectory() as folder:
        corpora = [_Corpus(Path(folder) / str(size), size) for size in SIZES]
        for number in range(ROUNDS):  # in turns: what else the machine does meets both
            for corpus in corpora:
                corpus.edit_and_delete(number)
        equal = [corpus.equals_its_index() for corpus in corpora]
        for corpus in corpora:
            corpus.close()
    print("## One edit, one delete\n")
    print("| documents | first sync | one edit: median (10 to 90 %) | one delete | index equals warehouse |")
    print("|---:|---:|---:|---:|---|")
    for corpus, same in zip(corpora, equal, strict=True):
        edit, delete = _shown(corpus.edits), _shown(corpus.deletes)
        print(f"| {corpus.size:,} | {corpus.built:.2f} s | {edit} | {delete} | {'yes' if same else 'NO'} |")
    small, large = corpora
    edit, delete = (
        statistics.median(many) / statistics.median(few)
        for few, many in ((small.edits, large.edits), (small.deletes, large.deletes))
    )
    overlap = all(
        _spread(many)[0] <= _spread(few)[1]
        for few, many in ((small.edits, large.edits), (small.deletes, large.deletes))
    )
    print(
        f"\n{ROUNDS} rounds in turns; 20,000 against 76 documents: edit × {edit:.2f}, delete × {delete:.2f}; the spans from 10 to"
    )
    print(f"90 % {'overlap' if overlap else 'DO NOT OVERLAP'}. Embedding is a stand-in here, so that it hides nothing.")
    return int(not (all(equal) and overlap))


class _Corpus:
    """A warehouse of so many documents, its index, and what each change took."""

    def __init__(self, folder: Path, size: int) -> None:
        folder.mkdir()
        self.size, self.edits, self.deletes = size, list[float](), list[float]()
        self._warehouse, self._index = SQLiteWarehouse(folder / "warehouse.sqlite"), EdgeIndex(folder / "index")
        self._warehouse.save_author(ADA)
        for first in range(0, size, 500):
            self._warehouse.record([_draft(number, "first") for number in range(first, min(size, first + 500))])
        self._embedder = WordEmbedder(dimensions=384)
        self.built = self._timed_sync()

    def edit_and_delete(self, number: int) -> None:
        """One edit and one delete, each followed by a sync."""
        self._warehouse.record([_draft(number, f"edited {number}")])
        self.edits.append(self._timed_sync())
        self._warehouse.bury([document_id(ADA.id, _url(self.size - 1 - number))], reason=TombstoneReason.GONE)
        self.deletes.append(self._timed_sync())

    def equals_its_index(self) -> bool:
        """Whether the index holds exactly the chunks of the warehouse."""
        chunker = bootstrap.chunker_for(FeatureConfig(), self._embedder)
        expected = {chunk.id for state in self._warehouse.states() for chunk in chunker(state)}
        return {item.chunk.id for item in self._index.chunks()} == expected

    def close(self) -> None:
        """Release both stores."""
        self._index.close()
        self._warehouse.close()

    def _timed_sync(self) -> float:
        started = time.perf_counter()
        _sync(self._warehouse, self._index, self._embedder)
        return time.perf_counter() - started


def _spread(seconds: list[float]) -> tuple[float, float]:
    """The 10th and the 90th percentile."""
    tenths = statistics.quantiles(seconds, n=10)
    return tenths[0], tenths[-1]


def _shown(seconds: list[float]) -> str:
    low, high = _spread(seconds)
    return f"{statistics.median(seconds) * 1000:.0f} ms ({low * 1000:.0f} to {high * 1000:.0f})"


def _url(number: int) -> str:
    return f"https://ada.example/{number}"


def _draft(number: int, word: str) -> Draft:
    text = f"# Note {number}\n\nThis is the {word} state of note {number}, which speaks of topic {number % 97} at some length.\n"
    return Draft(
        author_id=ADA.id, url=_url(number), kind=Kind.NOTE, platform="ada.example", title=f"Note {number}", text=text
    )


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
