"""How entities look in SQLite: plain columns, datetimes as ISO 8601, bytes for the rare text that is no valid UTF-8."""

import json
import sqlite3
from datetime import datetime

from llm_engineering.domain.answers import Feedback
from llm_engineering.domain.entities import Author, Change, Document, DocumentState, Link, Revision, Tombstone
from llm_engineering.domain.ledger import TAGS, Content, Standing, readable, storable
from llm_engineering.domain.samples import Decision, JournalEntry

Values = tuple[str | bytes | int | None, ...]


def author_values(author: Author) -> Values:
    """In the order of the columns of ``authors``."""
    return bound(author.id, author.full_name, json.dumps(author.aliases))


def document_values(standing: Standing) -> Values:
    """In the order of the columns of ``documents``."""
    document, tombstone = standing.document, standing.tombstone
    buried = (tombstone.reason.value, _iso(tombstone.at), tombstone.detail) if tombstone else (None, None, None)
    return bound(
        document.id,
        document.author_id,
        document.kind.value,
        document.platform,
        document.url,
        standing.current,
        *buried,
    )


def revision_values(revision: Revision) -> Values:
    """In the order of the columns of ``revisions``."""
    return bound(
        revision.document_id,
        revision.number,
        revision.content_hash,
        revision.title,
        revision.format.value,
        revision.language,
        _iso(revision.published_at),
        _iso(revision.fetched_at),
        json.dumps(revision.metadata),
        revision.text,
    )


def change_values(change: Change) -> Values:
    """In the order of the columns of ``changes``, without the sequence."""
    return bound(change.document_id, change.revision, _iso(change.at))


def link_values(link: Link) -> Values:
    """In the order of the columns of ``links``."""
    return bound(
        link.author_id,
        link.source,
        link.url,
        link.document_id,
        link.outcome.value,
        link.detail,
        link.status,
        link.etag,
        link.last_modified,
        link.misses,
        _iso(link.fetched_at),
    )


def feedback_values(feedback: Feedback) -> Values:
    """In the order of the columns of ``feedback``."""
    return bound(
        feedback.request_id,
        feedback.vote,
        feedback.query,
        feedback.answer,
        feedback.better_answer,
        json.dumps(feedback.document_ids),
        _iso(feedback.at),
    )


def journal_values(entry: JournalEntry) -> Values:
    """In the order of the columns of ``journal``."""
    return bound(
        entry.key,
        entry.purpose,
        entry.model,
        entry.reply,
        entry.error,
        entry.prompt_tokens,
        entry.completion_tokens,
        json.dumps(entry.document_ids),
        _iso(entry.at),
    )


def decision_values(decision: Decision) -> Values:
    """In the order of the columns of ``decisions``."""
    return bound(
        decision.sample_id,
        decision.verdict,
        decision.instruction,
        json.dumps(decision.document_ids),
        _iso(decision.at),
    )


def bound(*values: str | int | None) -> Values:
    """Parameters as SQLite takes them."""
    return tuple(storable(value) if isinstance(value, str) else value for value in values)


def author(row: sqlite3.Row) -> Author:
    """The author of a row of ``authors``."""
    return Author(id=row["id"], full_name=readable(row["full_name"]), aliases=tuple(json.loads(row["aliases"])))


def document(row: sqlite3.Row) -> Document:
    """The document of a row of ``documents``."""
    return Document(**{name: readable(row[name]) for name in ("id", "author_id", "kind", "platform", "url")})


def standing(row: sqlite3.Row) -> Standing:
    """A row of ``documents``."""
    return Standing(document(row), row["current"], tombstone(row))


def tombstone(row: sqlite3.Row) -> Tombstone | None:
    """The tombstone of a row of ``documents``."""
    if row["tombstone_reason"] is None:
        return None
    return Tombstone(
        document_id=row["id"],
        reason=row["tombstone_reason"],
        at=_moment(row["tombstone_at"]),
        detail=readable(row["tombstone_detail"]),
    )


def revision(row: sqlite3.Row) -> Revision:
    """A row of ``revisions``."""
    return Revision(
        document_id=row["document_id"],
        number=row["number"],
        text=readable(row["text"]),
        content_hash=row["content_hash"],
        title=readable(row["title"]),
        format=row["format"],
        language=_plain(row["language"]),
        published_at=_moment(row["published_at"]) if row["published_at"] else None,
        fetched_at=_moment(row["fetched_at"]),
        metadata=json.loads(row["metadata"]),
    )


def content(row: sqlite3.Row) -> Content:
    """What the ledger must know of a row of ``revisions``."""
    return Content(
        content_hash=row["content_hash"],
        title=readable(row["title"]),
        language=None if row["language"] is None else readable(row["language"]),
        published_at=_moment(row["published_at"]) if row["published_at"] else None,
        tags=json.loads(row["metadata"]).get(TAGS),
    )


def change(row: sqlite3.Row) -> Change:
    """A row of ``changes``."""
    return Change(
        sequence=row["sequence"], document_id=row["document_id"], revision=row["revision"], at=_moment(row["at"])
    )


def link(row: sqlite3.Row) -> Link:
    """A row of ``links``."""
    columns = {name: _plain(row[name]) for name in set(row.keys()) - {"fetched_at"}}
    return Link(**columns, fetched_at=_moment(row["fetched_at"]))


def feedback(row: sqlite3.Row) -> Feedback:
    """A row of ``feedback``."""
    columns = {name: _plain(row[name]) for name in ("request_id", "vote", "query", "answer", "better_answer")}
    return Feedback(**columns, document_ids=tuple(json.loads(row["document_ids"])), at=_moment(row["at"]))


def journal_entry(row: sqlite3.Row) -> JournalEntry:
    """A row of ``journal``."""
    columns = {name: _plain(row[name]) for name in set(row.keys()) - {"document_ids", "at"}}
    return JournalEntry(**columns, document_ids=tuple(json.loads(row["document_ids"])), at=_moment(row["at"]))


def decision(row: sqlite3.Row) -> Decision:
    """A row of ``decisions``."""
    columns = {name: _plain(row[name]) for name in ("sample_id", "verdict", "instruction")}
    return Decision(**columns, document_ids=tuple(json.loads(row["document_ids"])), at=_moment(row["at"]))


def state(row: sqlite3.Row) -> DocumentState:
    """A document joined with its author and its current revision."""
    return DocumentState(
        document=document(row),
        author=Author(
            id=row["author_id"], full_name=readable(row["full_name"]), aliases=tuple(json.loads(row["aliases"]))
        ),
        revision=revision(row) if row["number"] is not None else None,
        tombstone=tombstone(row),
    )


def _plain(value: str | bytes | int | None) -> str | int | None:
    return readable(value) if isinstance(value, bytes) else value


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="milliseconds") if moment else None


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
