"""Hybrid retrieval: one query, encoded for meaning and for terms, answered by the index under filters."""

import unicodedata

from llm_engineering.domain.config import SearchConfig
from llm_engineering.domain.entities import Filters, Hit, IndexQuery, SparseVector
from llm_engineering.domain.errors import UnknownAuthor, UsageError
from llm_engineering.domain.ports import Embedder, Index, SparseEncoder, Warehouse

MAX_QUERY_CHARACTERS = 10_000
"""A longer query is no question: the embedder would read a small part of it and stay silent about the rest."""


def retrieve(
    query: str,
    *,
    index: Index,
    embedder: Embedder,
    sparse: SparseEncoder,
    filters: Filters = Filters(),
    config: SearchConfig = SearchConfig(),
) -> list[Hit]:
    """The best ``config.k`` chunks for a query, best first.

    Raises :class:`UsageError` for a query without a letter or digit, or of more than ``MAX_QUERY_CHARACTERS``.
    """
    text = checked_query(query)
    dense, terms = embedder.embed_query(text), sparse.encode_query(text)
    return index.search(hybrid_query(dense, terms, filters=filters, limit=config.k, config=config))


def hybrid_query(
    dense: list[float], terms: SparseVector, *, filters: Filters, limit: int, config: SearchConfig
) -> IndexQuery:
    """What the index is asked, with the configured fusion; the weight of the dense ranking is less for a long query."""
    most = config.long_query
    shrunk = 1.0 if most is None else min(1.0, most / max(1, len(terms.indices)))
    return IndexQuery(
        dense=dense,
        sparse=terms,
        filters=filters,
        limit=limit,
        fusion=config.fusion,
        alpha=config.alpha * shrunk,
    )


def checked_query(query: str) -> str:
    """The query as the encoders take it: NFKC, single spaces."""
    if len(query) > MAX_QUERY_CHARACTERS:
        raise UsageError(
            f"The query has {len(query):,} characters; at most {MAX_QUERY_CHARACTERS:,} are searched for",
            hint="Ask for the point of it in a sentence or two.",
        )
    text = " ".join(unicodedata.normalize("NFKC", query).split())
    if not any(character.isalnum() for character in text):
        raise UsageError("The query has no word to search for", hint="Use at least one letter or digit.")
    return text


def author_filter(warehouse: Warehouse, name: str | None) -> str | None:
    """Id of the named author; :class:`UnknownAuthor` lists who there is. Nothing is written."""
    if name is None:
        return None
    author = warehouse.find_author(name)
    if author is None:
        known = ", ".join(author.full_name for author in warehouse.authors()) or "none yet"
        raise UnknownAuthor(f"No author named {name!r} in the warehouse", hint=f"Known authors: {known}.")
    return author.id


def hit_json(hit: Hit) -> dict[str, object]:
    """A hit as programs get it: ``text`` is exactly the span ``[start:end)`` of the named revision."""
    return {
        "document_id": hit.document_id,
        "revision": hit.revision,
        "title": hit.title,
        "url": hit.url,
        "kind": hit.kind.value,
        "author": hit.author,
        "published_at": hit.published_at.isoformat() if hit.published_at else None,
        "heading_path": list(hit.heading_path),
        "text": hit.text,
        "start": hit.start,
        "end": hit.end,
        "score": round(hit.score, 6),
    }
