"""Whether answers rest on what they cite: the ``offline`` model on real sections with known answers, and what it declines.

Everything goes through the product's own path, from the chunker to the check of each citation. The sections that answer each
question are known; questions of other corpora are known not to be answered. ``python -m benchmarks.groundedness``;
embeddings are remembered under ``TWIN_HOME``.
"""

import asyncio
import sys
import tempfile
import uuid
import zlib
from collections.abc import Sequence
from pathlib import Path

from benchmarks.confidence import questions_by_set
from benchmarks.data import collection
from benchmarks.embeddings import RememberingEmbedder
from llm_engineering import bootstrap
from llm_engineering.adapters.offline import OfflineModel
from llm_engineering.adapters.qdrant_edge import EdgeIndex
from llm_engineering.adapters.sqlite import SQLiteWarehouse
from llm_engineering.domain.answers import Answer, Question
from llm_engineering.domain.config import AnswerConfig, FeatureConfig, SearchConfig
from llm_engineering.domain.evaluation_config import EvaluationConfig
from llm_engineering.evaluation.groundedness import Judged, ask_all
from llm_engineering.evaluation.intervals import Interval, interval
from llm_engineering.evaluation.questions import Asked, Known, Origin, Place
from llm_engineering.features.sync import sync
from llm_engineering.rag.answer import Done, Sources, stream
from llm_engineering.rag.retrieve import retrieve
from llm_engineering.rag.twin import Twin
from llm_engineering.settings import load_settings

SET = "anthropic_docs"
FLOOR = 0.9
"""Share of the questions whose section was retrieved that must cite a relevant one."""
OTHERS = ("sample", "handbook", "chroma_chunking")
MEASURING = EvaluationConfig()


def main() -> int:
    """Print the tables; exit status 1 if a floor is missed."""
    settings, features, numbers = load_settings(), FeatureConfig(), AnswerConfig()
    embedder = bootstrap.open_embedder(settings, features.embedding)
    remembering = RememberingEmbedder(embedder, settings.twin_home / "benchmarks" / "embeddings.sqlite")
    sparse = bootstrap.open_sparse_encoder(features.sparse)
    with tempfile.TemporaryDirectory() as folder:
        warehouse, index = SQLiteWarehouse(Path(folder) / "warehouse.sqlite"), EdgeIndex(Path(folder) / "index")
        questions = collection(SET, warehouse)
        sync(
            warehouse,
            index,
            recipe=bootstrap.recipe_for(settings, features, embedder, sparse),
            chunker=bootstrap.chunker_for(features, embedder),
            embedder=remembering,
            sparse=sparse,
            config=features.sync,
        )
        model = OfflineModel(embed=embedder.embed_passages, terms=lambda text: sparse.encode_query(text).indices)
        twin = Twin(warehouse=warehouse, index=index, embedder=embedder, sparse=sparse, model=model, config=numbers)
        known = [
            Asked(query=text, known=tuple(Known(places=(Place(document_id=id_),)) for id_ in questions.relevant[query]))
            for query, text in questions.queries.items()
        ]
        negatives = {
            name: [Asked(query=text, origin=Origin.OTHER_AUTHOR) for text in texts]
            for name, texts in questions_by_set().items()
            if name in OTHERS
        }
        judged, shown = asyncio.run(_asked([*known, *(one for its in negatives.values() for one in its)], twin))
        index.close()
        warehouse.close()
    return _report(known, negatives, judged, shown)


async def _asked(asked: Sequence[Asked], twin: Twin) -> tuple[list[Judged], dict[str, set[str]]]:
    """Every question judged, and the documents whose passages the model was shown for it."""
    search = SearchConfig(k=twin.config.k, fusion=twin.config.search.fusion, alpha=twin.config.search.alpha)
    shown: dict[str, set[str]] = {}

    async def ask(one: Asked) -> Answer:
        async for event in stream(Question(query=one.query), twin, request_id=uuid.uuid4().hex):
            if isinstance(event, Sources):
                shown[one.query] = {passage.document_id for passage in event.passages}
            if isinstance(event, Done):
                return event.answer
        raise AssertionError("a stream ends with its answer")

    def found(one: Asked) -> bool | None:
        hits = retrieve(one.query, index=twin.index, embedder=twin.embedder, sparse=twin.sparse, config=search)
        return any(hit.document_id in one.document_ids for hit in hits) if one.known else None

    retrieved = [found(one) for one in asked]
    return await ask_all(asked, ask, warehouse=twin.warehouse, retrieved=retrieved, concurrency=2), shown


def _report(
    known: Sequence[Asked],
    negatives: dict[str, list[Asked]],
    judged: Sequence[Judged],
    shown: dict[str, set[str]],
) -> int:
    results = {one.query: one for one in judged}
    seen = {one.query for one in known if one.document_ids & shown.get(one.query, set())}
    print("## Grounded answers\n")
    print(
        f"{SET}: {len(known)} questions, each with the sections that answer it; `offline` answers. Retrieved means: a relevant "
        f"section is among the {AnswerConfig().k} best chunks; shown means: among the passages that the model was given. "
        "The weights of confidence and of a passage's place were chosen on the first half of these questions, beside others. "
        "95 % bootstrap intervals.\n"
    )
    print("| questions | half | cite a relevant section | interval |\n|---|---|---:|---|")
    missed = []
    for name, members in (
        ("retrieved", [one for one in known if results[one.query].retrieved]),
        ("shown", [one for one in known if one.query in seen]),
        ("all", list(known)),
    ):
        for half, chosen in (
            ("first", [one for one in members if not second_half(one.query)]),
            ("second", [one for one in members if second_half(one.query)]),
            ("both", members),
        ):
            values = [float(results[one.query].relevant > 0) for one in chosen]
            print(f"| {name} | {half} | {_share(values)} | {_interval(values)} |")
            if name == "retrieved" and half != "first" and sum(values) < FLOOR * len(values):
                missed.append(f"{FLOOR:.0%} of the {half} {'halves' if half == 'both' else 'half'}")
    answered = [one for one in judged if one.citations]
    own = [results[one.query] for one in known]
    precise = [one.relevant / one.citations for one in own if one.citations]
    wrong = [reason for one in judged for reason in one.wrong]
    print(f"\nCitation precision {_interval(precise)}, mean {sum(precise) / len(precise):.3f}; ", end="")
    recalls = [one.documents or 0.0 for one in own]
    print(f"citation recall {_interval(recalls)}, mean {sum(recalls) / len(recalls):.3f}. ", end="")
    print(f"{sum(one.citations for one in answered)} citations, {len(wrong)} wrong or invented.\n")
    print("| questions of | declined | interval |\n|---|---:|---|")
    print(f"| {SET}, its own | {_share([float(not one.grounded) for one in own])} | |")
    for name, members in negatives.items():
        values = [float(not results[one.query].grounded) for one in members]
        print(f"| {name} | {_share(values)} | {_interval(values)} |")
    if wrong:
        missed.append("no wrong or invented citation: " + "; ".join(wrong[:5]))
    print("\nFloors: " + ("; ".join(f"MISSED: {miss}" for miss in missed) if missed else "all met") + ".")
    return int(bool(missed))


def second_half(text: str) -> bool:
    """The half that ``benchmarks/confidence.py`` holds out."""
    return zlib.crc32(text.encode()) % 2 == 1


def _share(values: Sequence[float]) -> str:
    return f"{sum(values):.0f}/{len(values)} ({sum(values) / max(1, len(values)):.0%})"


def _interval(values: Sequence[float]) -> str:
    found: Interval | None = interval(values, config=MEASURING)
    return f"{found.low:.3f} – {found.high:.3f}" if found else "–"


if __name__ == "__main__":
    sys.exit(main())
