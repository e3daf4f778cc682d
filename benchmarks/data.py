"""The real sets that the benchmarks read: where they lie, and questions with known answers over them."""

import json
import os
import random
import re
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llm_engineering.crawl.handbook import import_handbook
from llm_engineering.domain.config import CleanConfig
from llm_engineering.domain.entities import Author, Draft, Kind, TextFormat, document_id
from llm_engineering.domain.ports import Warehouse
from llm_engineering.features.clean import reading_spans, reading_text

_ROOT = Path(__file__).resolve().parents[1]
_NOBODY = Author.named("Unknown Author")
_PASSAGES_PER_THIRD = 3
_SAME = 0.8


def real_data(name: str) -> Path:
    """A set in the folder ``TWIN_TEST_DATA`` (default ``../shared/data``, see CONTRIBUTING.md); exits if it is absent."""
    folder = Path(os.environ.get("TWIN_TEST_DATA", _ROOT.parent / "shared" / "data")) / name
    if not folder.is_dir():
        sys.exit(f"The benchmark's data are absent: no folder {folder}. Set TWIN_TEST_DATA to where they lie.")
    return folder


@dataclass(frozen=True)
class Questions:
    """Queries with the documents that answer them (graded), and the spans where those are known.

    ``group`` names what a query is reported under besides the whole, such as the third of the text that it comes from.
    """

    name: str
    queries: dict[str, str]
    relevant: dict[str, dict[str, int]]
    spans: dict[str, list[tuple[str, int, int]]] = field(default_factory=dict)
    group: dict[str, str] = field(default_factory=dict)

    def second_half(self) -> set[str]:
        """A fixed half of the queries, to see whether a figure hangs on a few of them. It is no untouched test set: the
        defaults were compared on all queries as well."""
        return {query for query in self.queries if zlib.crc32(f"{self.name} {query}".encode()) % 2}


def handbook(warehouse: Warehouse) -> list[Questions]:
    """76 articles of two authors: title → article, and passages of 20 to 30 words → article.

    The passages are drawn evenly over each third of every article's reading view, whatever stands there: prose, code,
    lists, tables, references. Articles of a series repeat each other with a word changed here and there, so every article
    that has four fifths of a passage's runs of three words counts as right.
    """
    import_handbook(warehouse, real_data("handbook_warehouse"))
    articles = [
        (state.document.id, state.revision.title, state.revision.text) for state in warehouse.states() if state.revision
    ]
    titles: dict[str, dict[str, int]] = {}
    for identity, title, _ in articles:
        titles.setdefault(title, {})[identity] = 1
    by_title = Questions(
        name="handbook titles",
        queries={identity: title for identity, title, _ in articles},
        relevant={identity: titles[title] for identity, title, _ in articles},
    )
    rng = random.Random(7)
    queries: dict[str, str] = {}
    third: dict[str, str] = {}
    read = {identity: _reading_view(text).split() for identity, _, text in articles}
    for identity, words in read.items():
        for part, name in enumerate(("first third", "middle third", "last third")):
            for number in range(_PASSAGES_PER_THIRD):
                length = rng.randint(20, 30)
                low, high = part * len(words) // 3, (part + 1) * len(words) // 3 - length
                start = rng.randint(low, max(low, high))
                query = f"{identity} {part} {number}"
                queries[query], third[query] = " ".join(words[start : start + length]), name
    triples = {identity: set(_triples(" ".join(words))) for identity, words in read.items()}
    relevant = {
        query: {identity: 1 for identity, known in triples.items() if _share(_triples(passage), known) >= _SAME}
        for query, passage in queries.items()
    }
    return [by_title, Questions(name="handbook passages", queries=queries, relevant=relevant, group=third)]


def collection(name: str, warehouse: Warehouse) -> Questions:
    """A set in the form corpus, queries, qrels; ``spans.jsonl`` where there is one."""
    folder = real_data(name)
    warehouse.save_author(_NOBODY)
    warehouse.record([draft for record in _lines(folder / "corpus.jsonl") if (draft := _draft(name, record))])
    relevant: dict[str, dict[str, int]] = {}
    for line in (folder / "qrels.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        query, document, grade = line.split("\t")
        relevant.setdefault(query, {})[_identity(name, document)] = int(grade)
    spans: dict[str, list[tuple[str, int, int]]] = {}
    if (folder / "spans.jsonl").is_file():
        for span in _lines(folder / "spans.jsonl"):
            place = (_identity(name, span["doc_id"]), span["start"], span["end"])
            spans.setdefault(span["query_id"], []).append(place)
    queries = {record["id"]: record["text"] for record in _lines(folder / "queries.jsonl") if record["id"] in relevant}
    return Questions(name=name, queries=queries, relevant=relevant, spans=spans)


SETS: dict[str, Callable[[Warehouse], list[Questions]]] = {
    "handbook": handbook,
    "cranfield": lambda warehouse: [collection("cranfield", warehouse)],
    "anthropic_docs": lambda warehouse: [collection("anthropic_docs", warehouse)],
    "chroma_chunking": lambda warehouse: [collection("chroma_chunking", warehouse)],
}
"""What puts each corpus into an empty warehouse and returns the questions about it."""


def _reading_view(text: str) -> str:
    return reading_text(text, reading_spans(text, format=TextFormat.MARKDOWN, config=CleanConfig()))


def _triples(text: str) -> list[tuple[str, ...]]:
    """Runs of three words, markup and punctuation left out."""
    words = re.findall(r"[^\W_]+", text.casefold())
    return list(zip(words, words[1:], words[2:], strict=False)) or [tuple(words)]


def _share(triples: list[tuple[str, ...]], known: set[tuple[str, ...]]) -> float:
    return sum(triple in known for triple in triples) / len(triples)


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def _url(name: str, record: str) -> str:
    return f"https://{name.replace('_', '-')}.example/{record}"


def _identity(name: str, record: str) -> str:
    return document_id(_NOBODY.id, _url(name, record))


def _draft(name: str, record: dict[str, Any]) -> Draft | None:
    """The record as it is; ``None`` for one that is really empty."""
    if not re.search(r"\w", record["text"]):
        return None
    return Draft(
        author_id=_NOBODY.id,
        url=_url(name, record["id"]),
        kind=Kind.ARTICLE,
        platform=name,
        title=record["title"],
        text=record["text"],
        format=TextFormat.TEXT,
    )
