"""How entities look in MongoDB: string ids, datetimes, and bytes for the rare text that is no valid UTF-8."""

import hashlib
from enum import Enum
from typing import Any

from llm_engineering.domain.answers import Feedback
from llm_engineering.domain.entities import (
    Author,
    Change,
    Document,
    DocumentState,
    Frozen,
    Link,
    Revision,
    Tombstone,
)
from llm_engineering.domain.ledger import TAGS, Content, LinkKey, Standing, link_key, readable, storable
from llm_engineering.domain.samples import Decision, JournalEntry

Row = dict[str, Any]


def author_row(author: Author) -> Row:
    """Key: the author's id."""
    return {"_id": author.id, **_fields(author, "id")}


def document_row(standing: Standing) -> Row:
    """Key: the document's id. Beside the document: the current revision's number and the tombstone."""
    tombstone = standing.tombstone
    return {
        "_id": standing.document.id,
        **_fields(standing.document, "id"),
        "current": standing.current,
        "tombstone": _fields(tombstone, "document_id") if tombstone else None,
    }


def revision_row(revision: Revision) -> Row:
    """Key: document id and number. Metadata as pairs, because a field name may not be just any text."""
    pairs = [[pack(name), pack(value)] for name, value in revision.metadata.items()]
    return {
        "_id": f"{revision.document_id}:{revision.number}",
        **_fields(revision, "metadata"),
        "metadata": pairs,
    }


def change_row(change: Change) -> Row:
    """Key: the sequence, padded so that keys sort as numbers do."""
    return {"_id": f"{change.sequence:020d}", **_fields(change)}


def link_row(link: Link) -> Row:
    """Key: see :func:`link_row_id`."""
    return {"_id": link_row_id(link_key(link)), **_fields(link)}


def link_row_id(key: LinkKey) -> str:
    """One short key for author, source and URL, whatever their length."""
    return hashlib.sha256("\x00".join(key).encode("utf-8", "surrogatepass")).hexdigest()


def feedback_row(feedback: Feedback) -> Row:
    """Key: the request's id."""
    return {"_id": feedback.request_id, **_fields(feedback, "request_id")}


def journal_row(entry: JournalEntry) -> Row:
    """Key: the request's key."""
    return {"_id": entry.key, **_fields(entry, "key")}


def decision_row(decision: Decision) -> Row:
    """Key: the sample's id."""
    return {"_id": decision.sample_id, **_fields(decision, "sample_id")}


def author(row: Row) -> Author:
    """Inverse of :func:`author_row`."""
    return Author(id=row["_id"], **_rest(row))


def document(row: Row) -> Document:
    """The document of a :func:`document_row`."""
    return Document(id=row["_id"], **_rest(row, "current", "tombstone"))


def standing(row: Row) -> Standing:
    """Inverse of :func:`document_row`."""
    return Standing(document(row), row["current"], tombstone(row))


def tombstone(row: Row) -> Tombstone | None:
    """The tombstone of a :func:`document_row`."""
    kept = row["tombstone"]
    return Tombstone(document_id=row["_id"], **_rest(kept)) if kept else None


def revision(row: Row) -> Revision:
    """Inverse of :func:`revision_row`."""
    return Revision(**_rest(row, "metadata"), metadata={unpack(name): unpack(value) for name, value in row["metadata"]})


def content(row: Row) -> Content:
    """What the ledger must know of a :func:`revision_row`, whose text may be left out."""
    return Content(
        content_hash=row["content_hash"],
        title=unpack(row["title"]),
        language=unpack(row["language"]),
        published_at=row["published_at"],
        tags=next((unpack(value) for name, value in row["metadata"] if name == TAGS), None),
    )


def change(row: Row) -> Change:
    """Inverse of :func:`change_row`."""
    return Change(**_rest(row))


def link(row: Row) -> Link:
    """Inverse of :func:`link_row`."""
    return Link(**_rest(row))


def feedback(row: Row) -> Feedback:
    """Inverse of :func:`feedback_row`."""
    return Feedback(request_id=row["_id"], **_rest(row))


def journal_entry(row: Row) -> JournalEntry:
    """Inverse of :func:`journal_row`."""
    return JournalEntry(key=row["_id"], **_rest(row))


def decision(row: Row) -> Decision:
    """Inverse of :func:`decision_row`."""
    return Decision(sample_id=row["_id"], **_rest(row))


def state(row: Row, authors: dict[str, Author], revisions: dict[str, Row]) -> DocumentState:
    """A document as it is now, of its row, the authors by id and the current revisions by document id."""
    current = revisions.get(row["_id"])
    return DocumentState(
        document=document(row),
        author=authors[row["author_id"]],
        revision=revision(current) if current else None,
        tombstone=tombstone(row),
    )


def pack(value: Any) -> Any:  # noqa: ANN401  # any value of an entity, any value of BSON
    """A value as BSON can hold it."""
    match value:
        case Enum():
            return value.value
        case str():
            return storable(value)
        case tuple() | list():
            return [pack(item) for item in value]
        case _:
            return value


def unpack(value: Any) -> Any:  # noqa: ANN401  # any value of BSON, any value of an entity
    """The inverse of :func:`pack`, as far as the entities do not see to it themselves."""
    match value:
        case bytes():
            return readable(value)
        case list():
            return [unpack(item) for item in value]
        case _:
            return value


def _fields(entity: Frozen, *without: str) -> Row:
    return {name: pack(value) for name, value in entity.model_dump(exclude=set(without)).items()}


def _rest(row: Row, *without: str) -> Row:
    return {name: unpack(value) for name, value in row.items() if name not in {"_id", *without}}
