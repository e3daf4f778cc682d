"""Questions with known answering passages: read from a file, found in the warehouse as it is now."""

import json
import random
import re
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pydantic import Field

from llm_engineering.domain.entities import DocumentState, Frozen
from llm_engineering.domain.errors import UsageError, in_one_line
from llm_engineering.domain.ports import Warehouse

_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,5}$")


class Source(Frozen):
    """Where an answer stands: a document's id, address or the end of its address, and the words of it, if known."""

    document: str = Field(min_length=1)
    quote: str = ""


class QuestionLine(Frozen):
    """One line of the file. Without ``sources`` the corpus does not answer it. ``author`` asks one author's writings only."""

    question: str = Field(pattern=r"[^\W_]", max_length=10_000)
    sources: tuple[Source, ...] = ()
    author: str | None = None


class Place(Frozen):
    """A document, and the span of the quote in its current revision, if a quote is known."""

    document_id: str
    start: int | None = None
    end: int | None = None

    def overlaps(self, document_id: str, start: int, end: int) -> bool:
        """Whether a span of a document shares a character with the quote."""
        if self.start is None or self.end is None or document_id != self.document_id:
            return False
        return start < self.end and end > self.start


class Known(Frozen):
    """One answering passage. Several places are copies of it, any of which will do."""

    places: tuple[Place, ...]

    @property
    def documents(self) -> frozenset[str]:
        """Ids of the documents that hold it."""
        return frozenset(place.document_id for place in self.places)

    @property
    def quoted(self) -> bool:
        """Whether its words are known, and not only its document."""
        return all(place.start is not None for place in self.places)


class Origin(StrEnum):
    """Why the right behaviour is known."""

    KNOWN = "known passages"
    ABSENT = "not in the corpus"
    OTHER_AUTHOR = "another author's question"


class Asked(Frozen):
    """A question to be asked, and the passages that answer it: none, if it should not be answered."""

    query: str
    author: str | None = None
    known: tuple[Known, ...] = ()
    origin: Origin = Origin.KNOWN

    @property
    def documents(self) -> tuple[frozenset[str], ...]:
        """Answering documents, each as the set of its copies."""
        return tuple(dict.fromkeys(known.documents for known in self.known))

    @property
    def document_ids(self) -> frozenset[str]:
        """All documents that answer it."""
        return frozenset().union(*self.documents)


class LeftOut(Frozen):
    """A question that was not asked, and why."""

    query: str
    reason: str


def read_lines(path: Path) -> list[QuestionLine]:
    """The questions of a file of JSON lines; :class:`UsageError` names the first line that is none."""
    try:
        content = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The file of questions {path} cannot be read: {error}", hint="Give a UTF-8 file.") from error
    found: dict[QuestionLine, None] = {}
    for number, line in enumerate(content, start=1):
        if line.strip():
            try:
                found[QuestionLine.model_validate(json.loads(line))] = None
            except ValueError as error:
                raise UsageError(
                    f"Line {number} of {path} is no question with known passages: {in_one_line(error)}",
                    hint='Write {"question": "…", "sources": [{"document": "…", "quote": "…"}]}; no sources: nothing answers it.',
                ) from error
    if not found:
        raise UsageError(f"{path} holds no question", hint="Write one JSON object per line.")
    return list(found)


def resolve(lines: Sequence[QuestionLine], warehouse: Warehouse) -> tuple[list[Asked], list[LeftOut]]:
    """The questions with their passages as places in the warehouse; those whose passages are not there are left out.

    Where a file speaks of a corpus and none of its passages is in the warehouse, its unanswerable questions are left out too:
    they are known to be unanswerable from that corpus only.
    """
    asked: list[Asked] = []
    left_out: list[LeftOut] = []
    unanswerable: list[QuestionLine] = []
    find = _finder(warehouse)
    for line in lines:
        if line.author is not None and warehouse.find_author(line.author) is None:
            left_out.append(LeftOut(query=line.question, reason=f"no author named {line.author} in the warehouse"))
            continue
        if not line.sources:
            unanswerable.append(line)
            continue
        found = [_known(source, find) for source in line.sources]
        missing = next((reason for reason in found if isinstance(reason, str)), None)
        if missing is None:
            known = tuple(known for known in found if isinstance(known, Known))
            asked.append(Asked(query=line.question, author=line.author, known=known))
        else:
            left_out.append(LeftOut(query=line.question, reason=missing))
    if any(line.sources for line in lines) and not asked:
        reason = "none of the file's passages is in the warehouse, so its corpus is another one"
        left_out += [LeftOut(query=line.question, reason=reason) for line in unanswerable]
        return [], left_out
    absent = [Asked(query=line.question, author=line.author, origin=Origin.ABSENT) for line in unanswerable]
    return asked + absent, left_out


def to_other_authors(asked: Sequence[Asked], warehouse: Warehouse, *, limit: int, seed: int) -> list[Asked]:
    """Negatives: each question put to every author who wrote none of its passages; at most ``limit``, chosen by ``seed``."""
    names = {author.id: author.full_name for author in warehouse.authors()}
    wanted = sorted(frozenset().union(*(one.document_ids for one in asked)))
    writers = {id_: state.author.id for id_, state in warehouse.state(wanted).items()} if wanted else {}
    pairs = [
        Asked(query=one.query, author=name, origin=Origin.OTHER_AUTHOR)
        for one in asked
        if one.known
        for author, name in sorted(names.items())
        if author not in {writers.get(id_) for id_ in one.document_ids}
    ]
    chosen = sorted(random.Random(seed).sample(range(len(pairs)), min(limit, len(pairs))))
    return [pairs[number] for number in chosen]


def _known(source: Source, find: Callable[[str], list[DocumentState]]) -> Known | str:
    """The passage, or why there is none."""
    states = find(source.document)
    if not states:
        return f"no document {source.document} in the warehouse"
    if not source.quote.split():
        return Known(places=tuple(Place(document_id=state.document.id) for state in states))
    words = re.compile(r"\s+".join(re.escape(word) for word in source.quote.split()))
    places = [
        Place(document_id=state.document.id, start=match.start(), end=match.end())
        for state in states
        if state.revision and (match := words.search(state.revision.text))
    ]
    return Known(places=tuple(places)) if places else f"the quote no longer stands in {source.document}"


def _finder(warehouse: Warehouse) -> Callable[[str], list[DocumentState]]:
    """Live documents by id, address or the end of one; the whole warehouse is read once, and only where an end is asked for."""
    ends: dict[str, list[str]] = {}

    def find(name: str) -> list[DocumentState]:
        ids = [document.id for document in warehouse.find_documents(name)]
        if not ids:
            if not ends:
                for state in warehouse.states():
                    ends.setdefault(_parts(state.document.url)[-1], []).append(state.document.id)
            parts = _parts(name)
            candidates = warehouse.state(ends.get(parts[-1], []))
            ids = [id_ for id_, state in candidates.items() if _parts(state.document.url)[-len(parts) :] == parts]
        return [state for state in warehouse.state(sorted(ids)).values() if state.live]

    return find


def _parts(address: str) -> list[str]:
    """The path of an address, part by part, without a file's suffix."""
    path = unquote(urlsplit(address).path).strip("/")
    return _SUFFIX.sub("", path).split("/")
