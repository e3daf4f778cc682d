"""When the twin says that it does not know: how well confidence tells answerable questions from others, and its weights.

Corpora of different authors and subjects, each asked its own questions and those about the others; the sample corpus also
has questions near its subject that it does not answer. Weights are fitted on one half of the questions and judged on the
other. ``python -m benchmarks.confidence``; embeddings are remembered under ``TWIN_HOME``.
"""

import json
import sys
import tempfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.data import SETS
from benchmarks.embeddings import RememberingEmbedder
from llm_engineering import bootstrap
from llm_engineering.adapters.qdrant_edge import EdgeIndex
from llm_engineering.adapters.sqlite import SQLiteWarehouse
from llm_engineering.domain.config import AnswerConfig, FeatureConfig, SearchConfig
from llm_engineering.domain.entities import Author, Draft, Filters, Hit, Kind, TextFormat
from llm_engineering.domain.ports import Embedder, Index, SparseEncoder, Warehouse
from llm_engineering.features.sync import sync
from llm_engineering.rag import confidence
from llm_engineering.rag.candidates import capped
from llm_engineering.rag.rerank import diversified
from llm_engineering.rag.retrieve import checked_query, hybrid_query
from llm_engineering.settings import load_settings

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
ADA = Author.named("Ada Winter")
CORPORA = ("sample", "anthropic_docs", "handbook", "chroma_chunking")
NEAR = "sample, unanswerable"
"""Questions near the sample corpus's subject that it does not answer."""
PER_SET = 100
"""Questions of one set at most, so that no set outweighs the others."""


class Asked(NamedTuple):
    """One question put to one corpus."""

    corpus: str
    questions: str
    text: str
    answerable: bool
    cosine: float
    coverage: float

    @property
    def held_out(self) -> bool:
        """Half of the questions, the same ones for every corpus."""
        return zlib.crc32(self.text.encode()) % 2 == 1


def main() -> int:
    """Print the table; exit status 1 if a floor is missed."""
    config, numbers, settings = FeatureConfig(), AnswerConfig(), load_settings()
    embedder = RememberingEmbedder(
        bootstrap.open_embedder(settings, config.embedding), settings.twin_home / "benchmarks" / "embeddings.sqlite"
    )
    sparse = bootstrap.open_sparse_encoder(config.sparse)
    questions = questions_by_set()
    asked: list[Asked] = []
    for corpus in CORPORA:
        with tempfile.TemporaryDirectory() as folder:
            warehouse, index = SQLiteWarehouse(Path(folder) / "warehouse.sqlite"), EdgeIndex(Path(folder) / "index")
            _fill(corpus, warehouse)
            sync(
                warehouse,
                index,
                recipe=bootstrap.recipe_for(settings, config, embedder, sparse),
                chunker=bootstrap.chunker_for(config, embedder),
                embedder=embedder,
                sparse=sparse,
                config=config.sync,
            )
            for name, texts in questions.items():
                for text in texts:
                    features = _features(text, index, embedder, sparse, numbers)
                    asked.append(Asked(corpus, name, text, name == corpus, *features))
            index.close()
            warehouse.close()
    return _report(asked, numbers.threshold)


def questions_by_set() -> dict[str, list[str]]:
    """The questions put to every corpus, by the corpus that they belong to."""
    lines = [json.loads(line) for line in (EXAMPLES / "questions.jsonl").read_text(encoding="utf-8").splitlines()]
    found = {
        "sample": [line["question"] for line in lines if line["slugs"] and "v1" in line["states"]],
        NEAR: [line["question"] for line in lines if not line["slugs"]],
    }
    for name in CORPORA[1:]:
        with tempfile.TemporaryDirectory() as folder:
            warehouse = SQLiteWarehouse(Path(folder) / "warehouse.sqlite")
            texts = list(SETS[name](warehouse)[0].queries.values())
            warehouse.close()
        found[name] = sorted(texts, key=lambda text: zlib.crc32(text.encode()))[:PER_SET]
    return found


def _fill(corpus: str, warehouse: Warehouse) -> None:
    if corpus != "sample":
        SETS[corpus](warehouse)
        return
    warehouse.save_author(ADA)
    files = [*EXAMPLES.glob("posts/*.md"), *EXAMPLES.glob("notes/*.md"), *EXAMPLES.glob("repo/**/*.py")]
    files += EXAMPLES.glob("repo/*.md")
    warehouse.record(
        [
            Draft(
                author_id=ADA.id,
                url=file.as_uri(),
                kind=Kind.ARTICLE,
                platform="local",
                title=file.stem.replace("-", " "),
                text=file.read_text(encoding="utf-8"),
                format=TextFormat.CODE if file.suffix == ".py" else TextFormat.MARKDOWN,
            )
            for file in sorted(files)
        ]
    )


def _features(
    text: str, index: Index, embedder: Embedder, sparse: SparseEncoder, numbers: AnswerConfig
) -> tuple[float, float]:
    """As answering has them: the same candidates in the same order."""
    query = checked_query(text)
    dense, terms = embedder.embed_query(query), sparse.encode_query(query)
    wanted = hybrid_query(dense, terms, filters=Filters(), limit=90, config=SearchConfig())
    hits: list[Hit] = capped(index.search(wanted), per_document=numbers.per_document, limit=numbers.candidates)
    best = diversified(hits, encode=sparse.encode_passage, config=numbers, limit=numbers.k)
    return confidence.features(query, [*best, *hits], terms=lambda text: frozenset(sparse.encode_query(text).indices))


def _report(asked: list[Asked], threshold: float) -> int:
    fitted = _fit([each for each in asked if not each.held_out])
    print("## Confidence\n")
    print("Confidence = 1 / (1 + exp(-(intercept + a · cosine + b · coverage))).\n")
    print("| weights | intercept | cosine | coverage |\n|---|---:|---:|---:|")
    print("| fitted on one half | " + " | ".join(f"{weight:.2f}" for weight in fitted) + " |")
    built_in = (confidence.INTERCEPT, confidence.COSINE, confidence.COVERAGE)
    print("| built in | " + " | ".join(f"{weight:.2f}" for weight in built_in) + " |\n")
    print(f"Held-out half, built-in weights, threshold {threshold}:\n")
    print("| corpus | answerable: answered | unanswerable: declined | AUC |\n|---|---:|---:|---:|")
    held_out = [each for each in asked if each.held_out]
    for corpus in (*CORPORA, "all"):
        members = [each for each in held_out if corpus in (each.corpus, "all")]
        yes = [confidence.probability(each.cosine, each.coverage) for each in members if each.answerable]
        no = [confidence.probability(each.cosine, each.coverage) for each in members if not each.answerable]
        answered, declined = sum(p >= threshold for p in yes), sum(p < threshold for p in no)
        auc = float(np.mean([(p > q) + 0.5 * (p == q) for p in yes for q in no]))
        print(
            f"| {corpus} | {answered}/{len(yes)} ({answered / len(yes):.0%}) | {declined}/{len(no)} ({declined / len(no):.0%}) "
            f"| {auc:.3f} |"
        )
    near = [each for each in asked if each.corpus == "sample" and each.questions == NEAR]
    print("\nNear the sample corpus's subject, but not answered in it:\n")
    for each in near:
        print(f"- {confidence.probability(each.cosine, each.coverage):.2f} {each.text}")
    own = [each for each in asked if each.corpus == each.questions == "sample"]
    lowest = sorted(own, key=lambda each: confidence.probability(each.cosine, each.coverage))[:3]
    print("\nThe sample's own questions with the lowest confidence:\n")
    for each in lowest:
        print(f"- {confidence.probability(each.cosine, each.coverage):.2f} {each.text}")
    return 0


def _fit(asked: list[Asked]) -> tuple[float, float, float]:
    """Logistic regression by Newton's method, both classes weighing the same, with a slight ridge."""
    features = np.array([[1.0, each.cosine, each.coverage] for each in asked])
    labels = np.array([float(each.answerable) for each in asked])
    balance = np.where(labels == 1, 0.5 / labels.mean(), 0.5 / (1 - labels.mean()))
    weights = np.zeros(3)
    for _ in range(50):
        guess = 1 / (1 + np.exp(-features @ weights))
        gradient = features.T @ (balance * (labels - guess)) - 1e-3 * weights
        curvature = (features.T * (balance * guess * (1 - guess))) @ features + 1e-3 * np.eye(3)
        weights += np.linalg.solve(curvature, gradient)
    return float(weights[0]), float(weights[1]), float(weights[2])


if __name__ == "__main__":
    sys.exit(main())
