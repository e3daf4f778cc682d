"""Into the warehouse and out of it: JSON lines without loss, and the data folder of the LLM Engineer's Handbook.

An export is a header line and then one entry a line: authors, documents, revisions and tombstones in the order of the
change log, links, feedback on answers, the journal of model calls, review decisions. An entry is ``{"revision": {…}}``,
named after what it is.
"""

import json
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import ValidationError

from llm_engineering.crawl.handbook import import_handbook, is_handbook
from llm_engineering.domain.answers import Feedback
from llm_engineering.domain.entities import (
    Author,
    Change,
    Document,
    Link,
    Revision,
    Tombstone,
    content_hash,
    document_id,
)
from llm_engineering.domain.errors import UsageError
from llm_engineering.domain.ports import Restorable, RestoreReport, Warehouse
from llm_engineering.domain.samples import Decision, JournalEntry

_FORMAT, _VERSION = "llm-twin-warehouse", 1
_ENTRIES: dict[str, type[Restorable]] = {
    "author": Author,
    "document": Document,
    "revision": Revision,
    "tombstone": Tombstone,
    "link": Link,
    "feedback": Feedback,
    "journal": JournalEntry,
    "decision": Decision,
}
_LARGEST = 1_000_000
"""No honest entry has a higher revision number, HTTP status or count of misses."""
_PAGE = 1000


def import_from(warehouse: Warehouse, path: Path) -> RestoreReport:
    """Read a file that :func:`export_lines` made, or a folder of the Handbook; a second time it changes nothing."""
    if path.is_dir():
        if not is_handbook(path):
            raise UsageError(
                f"The folder {path} holds no ArticleDocument.json, PostDocument.json or RepositoryDocument.json",
                hint="Give the Handbook's data_warehouse_raw_data folder, or a file made by `poe warehouse export`.",
            )
        return import_handbook(warehouse, path)
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="\n") as lines:
            return import_lines(warehouse, lines, name=str(path))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", hint="Check the path.") from error


def export_lines(warehouse: Warehouse) -> Iterator[str]:
    """The whole warehouse as lines of JSON, without line ends. What is written meanwhile comes in whole or not at all."""
    head = warehouse.head()
    yield json.dumps({"format": _FORMAT, "version": _VERSION})
    authors = warehouse.authors()
    for entry in authors:
        yield _line("author", entry)
    for state in warehouse.states(include_deleted=True):
        yield _line("document", state.document)
    yield from _history(warehouse, head)
    for author in authors:
        for link in warehouse.links(author_id=author.id):
            yield _line("link", link)
    for judgement in warehouse.feedback():
        yield _line("feedback", judgement)
    for call in warehouse.journal_entries():
        yield _line("journal", call)
    for decision in warehouse.decisions():
        yield _line("decision", decision)


def import_lines(warehouse: Warehouse, lines: Iterable[str], *, name: str = "the export") -> RestoreReport:
    """Restore the entries of an export. A bad line is refused with its number, and its neighbours are read.

    Raises :class:`UsageError` if this is no export, or one of a version that is not known here.
    """
    numbered = ((number, line) for number, line in enumerate(lines, start=1) if line.strip())
    _check_header(next(numbered, (1, "")), name)
    refused: list[str] = []
    report = warehouse.restore(_entries(numbered, refused))
    return report.model_copy(update={"refused": (*refused, *report.refused)})


def _history(warehouse: Warehouse, head: int) -> Iterator[str]:
    """Every kept revision where the log first speaks of it, and each tombstone where the document's story ends."""
    latest = {change.document_id: change.sequence for change in _changes(warehouse, head)}
    told: dict[str, int] = {}
    for change in _changes(warehouse, head):
        document = change.document_id
        if change.revision is not None:
            for number in range(told.get(document, 0) + 1, change.revision + 1):
                told[document] = number
                revision = warehouse.revision(document, number)
                if revision is not None:
                    yield _line("revision", revision)
        elif latest[document] == change.sequence:
            tombstone = warehouse.state([document])[document].tombstone
            if tombstone is not None:
                yield _line("tombstone", tombstone)


def _changes(warehouse: Warehouse, head: int) -> Iterator[Change]:
    """The log up to its head of that moment."""
    after = 0
    while page := warehouse.changes(after=after, limit=_PAGE):
        yield from (change for change in page if change.sequence <= head)
        after = page[-1].sequence
        if after >= head:
            return


def _line(word: str, entry: Restorable) -> str:
    text = json.dumps({word: entry.model_dump(mode="json")}, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace").decode()  # a lone surrogate becomes its JSON escape


def _check_header(first: tuple[int, str], name: str) -> None:
    try:
        header = json.loads(first[1])
    except ValueError:
        header = None
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise UsageError(
            f"{name} is no export of a warehouse: line {first[0]} is not its header",
            hint="Give a file made by `poe warehouse export`.",
        )
    if header.get("version") != _VERSION:
        raise UsageError(
            f"{name} has format version {header.get('version')!r}, this program reads version {_VERSION}",
            hint="Import it with the version of llm-engineering that wrote it, or a newer one.",
        )


def _entries(numbered: Iterable[tuple[int, str]], refused: list[str]) -> Iterator[Restorable]:
    for number, line in numbered:
        try:
            entry = _entry(line)
        except (ValueError, OverflowError, RecursionError) as error:
            refused.append(f"line {number}: {_reason(error)}")
        else:
            yield entry


def _entry(line: str) -> Restorable:
    """The entry of one line; raises ``ValueError`` for anything that an export would not say."""
    try:
        parsed = json.loads(line.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise ValueError("not UTF-8") from error
    if not isinstance(parsed, dict) or len(parsed) != 1:
        raise ValueError("not one entry of an export")
    ((word, fields),) = parsed.items()
    if word not in _ENTRIES:
        raise ValueError(f"{word!r} is not a kind of entry")
    entry = _ENTRIES[word].model_validate(fields)
    if any(isinstance(value, int) and abs(value) > _LARGEST for value in fields.values()):
        raise ValueError(f"a number is larger than {_LARGEST:,}")
    if isinstance(entry, Author):
        uuid.UUID(entry.id)
    if isinstance(entry, Document) and entry.id != document_id(entry.author_id, entry.url):
        raise ValueError("the document's id does not follow from its author and address")
    if isinstance(entry, Revision) and entry.content_hash != content_hash(entry.text):
        raise ValueError(f"the text of revision {entry.number} of document {entry.document_id} does not match its hash")
    return entry


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(
            f"{'.'.join(map(str, problem['loc'])) or 'entry'}: {problem['msg']}"
            for problem in error.errors(include_input=False, include_url=False)
        )
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON ({error.msg} at character {error.pos + 1})"
    return str(error)
