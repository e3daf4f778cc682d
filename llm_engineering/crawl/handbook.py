"""The ``data_warehouse_raw_data`` folder of the LLM Engineer's Handbook: one JSON list for each collection."""

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from llm_engineering.crawl.urls import canonical_url, host_of, is_github_repository
from llm_engineering.domain.entities import (
    Author,
    DocumentState,
    Draft,
    Kind,
    RecordOutcome,
    TextFormat,
    content_hash,
)
from llm_engineering.domain.errors import UsageError
from llm_engineering.domain.ports import RestoreReport, Warehouse

_COLLECTIONS = {"ArticleDocument": Kind.ARTICLE, "PostDocument": Kind.POST, "RepositoryDocument": Kind.REPOSITORY}
_FORMATS = {
    ".md": TextFormat.MARKDOWN,
    ".markdown": TextFormat.MARKDOWN,
    ".mdx": TextFormat.MARKDOWN,
    ".rst": TextFormat.TEXT,
    ".txt": TextFormat.TEXT,
}
_NOT_TEXT = {"Title", "Subtitle", "language", "image"}
_BATCH = 50

Record = dict[str, Any]


class _Refused(ValueError):
    """This record cannot be taken, and why."""


def is_handbook(folder: Path) -> bool:
    """Whether a folder holds at least one of the collections."""
    return any((folder / f"{name}.json").is_file() for name in _COLLECTIONS)


def import_handbook(warehouse: Warehouse, folder: Path) -> RestoreReport:
    """Bring in the documents that are not there yet, batch by batch; a second time it changes nothing.

    A text that the document has or once had counts as present, so an old export never undoes what a crawl has found
    since. Each record that cannot be taken is one line of ``refused``; a document without a link gets the address
    ``handbook:<_id>``; a repository becomes one document a file.
    """
    taken = _Import(warehouse)
    taken.users(folder)
    drafts = taken.drafts(folder)
    while batch := list(islice(drafts, _BATCH)):
        taken.record(batch)
    return RestoreReport(written=taken.written, present=taken.present, refused=tuple(taken.refused))


class _Import:
    """One run: who the authors are, what was seen, what became of it."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse
        self._authors: dict[str, Author] = {}
        self._seen: dict[str, tuple[str, str]] = {}
        self.written = self.present = 0
        self.refused: list[str] = []

    def users(self, folder: Path) -> None:
        """Save the authors that ``UserDocument.json`` names."""
        for where, record in self._records(folder, "UserDocument"):
            name = " ".join(_text(record.get(part)) for part in ("first_name", "last_name")).strip()
            if not name:
                self.refused.append(f"{where}: a user without a name")
            elif identity := _text(record.get("_id")):
                self._authors[identity] = self._author(name)
            else:
                self._author(name)

    def drafts(self, folder: Path) -> Iterator[Draft]:
        """Every document of the folder that can be taken."""
        for collection, kind in _COLLECTIONS.items():
            for where, record in self._records(folder, collection):
                try:
                    author = self._author_of(record)
                    address = _address(record)
                    contents = _files(record, address) if kind is Kind.REPOSITORY else _writing(record, address)
                except _Refused as refusal:
                    self.refused.append(f"{where}: {refusal}")
                    continue
                for url, fields in contents:
                    if not _text(fields["text"]):
                        self.refused.append(f"{where}: {url} has no text")
                        continue
                    yield from self._first(
                        where,
                        Draft(author_id=author.id, url=url, kind=kind, platform=_platform(record, url), **fields),
                    )

    def record(self, drafts: list[Draft]) -> None:
        """Keep one batch in one transaction."""
        states = self._warehouse.state([draft.document_id for draft in drafts])
        new = [draft for draft in drafts if not self._had(states.get(draft.document_id), draft)]
        self.present += len(drafts) - len(new)
        for draft, kept in zip(new, self._warehouse.record(new), strict=True):
            match kept.outcome:
                case RecordOutcome.WITHDRAWN:
                    self.refused.append(f"{draft.url}: its author has withdrawn it")
                case RecordOutcome.UNCHANGED:
                    self.present += 1
                case _:
                    self.written += 1

    def _had(self, state: DocumentState | None, draft: Draft) -> bool:
        """Whether some revision of the document, the current or an older one, is just this."""
        if state is None or state.revision is None:
            return False
        content = (content_hash(draft.text), draft.title)
        older = (
            self._warehouse.revision(draft.document_id, number) for number in range(state.revision.number - 1, 0, -1)
        )
        return any(kept and (kept.content_hash, kept.title) == content for kept in (state.revision, *older))

    def _first(self, where: str, draft: Draft) -> Iterator[Draft]:
        """The draft, unless an earlier record has the same author and address."""
        content = (content_hash(draft.text), draft.title)
        if draft.document_id not in self._seen:
            self._seen[draft.document_id] = content
            yield draft
        elif self._seen[draft.document_id] == content:
            self.present += 1
        else:
            self.refused.append(f"{where}: an earlier record has another text for {draft.url}")

    def _author_of(self, record: Record) -> Author:
        known = self._authors.get(_text(record.get("author_id")))
        if known is not None:
            return known
        name = _text(record.get("author_full_name"))
        if not name:
            raise _Refused("its author is no user of the export and has no name")
        return self._author(name)

    def _author(self, name: str) -> Author:
        return self._warehouse.find_author(name) or self._warehouse.save_author(Author.named(name))

    def _records(self, folder: Path, collection: str) -> Iterator[tuple[str, Record]]:
        """Each object of a collection, with the words for where it stands; none if the folder lacks the collection."""
        path = folder / f"{collection}.json"
        if not path.is_file():
            return
        try:
            records = json.loads(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError, RecursionError) as error:
            self.refused.append(f"{path.name}: cannot be read ({error})")
            return
        if not isinstance(records, list):
            self.refused.append(f"{path.name}: not a JSON list")
            return
        for number, record in enumerate(records, start=1):
            if isinstance(record, dict):
                yield f"{path.name}, record {number}", record
            else:
                self.refused.append(f"{path.name}, record {number}: not a JSON object")


def _address(record: Record) -> str:
    """Canonical URL of the record, or an address made of its id."""
    if link := _text(record.get("link")):
        try:
            return canonical_url(link)
        except UsageError as error:
            raise _Refused(error.message) from error
    identity = _text(record.get("_id"))
    if not identity:
        raise _Refused("neither link nor _id")
    return f"handbook:{identity}"


def _writing(record: Record, url: str) -> Iterator[tuple[str, Record]]:
    """The one text of an article or a post."""
    content = _content(record)
    body = content.get("Content")
    text = body if isinstance(body, str) else "\n\n".join(_strings(content))
    language = _text(content.get("language"))
    first_line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return iter(
        [
            (
                url,
                {
                    "text": text,
                    "title": _text(content.get("Title")) or first_line[:80],
                    "language": language if len(language) == 2 else None,
                    "metadata": _metadata(record, subtitle=_text(content.get("Subtitle"))),
                },
            )
        ]
    )


def _files(record: Record, repository: str) -> Iterator[tuple[str, Record]]:
    """Each file of a repository."""
    content = _content(record)
    if not content:
        raise _Refused("a repository without files")
    return (
        (
            _file_address(repository, path),
            {
                "text": text if isinstance(text, str) else "",
                "title": path,
                "format": _FORMATS.get(PurePosixPath(path).suffix.lower(), TextFormat.CODE),
                "metadata": _metadata(record, path=path, repository=repository),
            },
        )
        for path, text in content.items()
    )


def _file_address(repository: str, path: str) -> str:
    if github := is_github_repository(repository):
        return f"https://github.com/{'/'.join(github).lower()}/blob/HEAD/{quote(path, errors='replace')}"
    return f"{repository.removesuffix('/')}/{quote(path, errors='replace')}"


def _content(record: Record) -> Record:
    content = record.get("content")
    if isinstance(content, str):
        return {"Content": content}
    if not isinstance(content, dict):
        raise _Refused("no content")
    return content


def _strings(value: object) -> Iterator[str]:
    """Every text in a content of unknown shape, such as the posts of one page: ``{"Post_0": {"text": …}}``."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, part in value.items():
            if name not in _NOT_TEXT:
                yield from _strings(part)
    elif isinstance(value, list):
        for part in value:
            yield from _strings(part)


def _platform(record: Record, url: str) -> str:
    if platform := _text(record.get("platform")):
        return platform
    return "handbook" if url.startswith("handbook:") else host_of(url).removeprefix("www.")


def _metadata(record: Record, **more: str) -> dict[str, str]:
    found = {"handbook_id": _text(record.get("_id")), **more}
    return {name: value for name, value in found.items() if value}


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""
