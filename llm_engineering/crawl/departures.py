"""What is gone at its source: which documents to bury, and which another source still holds."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from llm_engineering.crawl.report import LinkLine
from llm_engineering.crawl.sources import Source
from llm_engineering.domain.entities import Link, LinkOutcome, TombstoneReason, document_id, now
from llm_engineering.domain.ports import Warehouse

_BATCH = 500


@dataclass(frozen=True)
class Departure:
    """A link that leads nowhere any more: its server says so, or a complete listing of its source lacks it."""

    source: Source
    link: Link
    told_by_server: bool = False

    @property
    def document(self) -> str:
        """Id of the document that the link led to."""
        return self.link.document_id or ""

    @property
    def is_final(self) -> bool:
        """The document's own address is gone, whoever else lists it."""
        return self.told_by_server and document_id(self.link.author_id, self.link.url) == self.document


def bury_departed(
    warehouse: Warehouse, departures: Sequence[Departure], *, delivered: Collection[str]
) -> Iterator[LinkLine]:
    """Bury the documents behind these links and yield a line for each link that was missing from its listing.

    A document that any source delivered in this run stays, and so does one that a further source is known to hold.
    The links are marked gone after their documents are buried: a process killed in between does it again.
    """
    held = _held_elsewhere(warehouse, departures)
    doomed = [
        departure
        for departure in departures
        if departure.document not in delivered and (departure.is_final or departure.document not in held)
    ]
    by_detail: defaultdict[str, list[str]] = defaultdict(list)
    for departure in doomed:
        by_detail[_detail(departure)].append(departure.document)
    for detail, documents in by_detail.items():
        for start in range(0, len(documents), _BATCH):
            warehouse.bury(documents[start : start + _BATCH], reason=TombstoneReason.GONE, detail=detail)
    unlisted = [departure for departure in departures if not departure.told_by_server]
    gone = {"outcome": LinkOutcome.GONE, "etag": None, "last_modified": None, "fetched_at": now()}
    links = [departure.link.model_copy(update={**gone, "detail": _detail(departure)}) for departure in unlisted]
    for start in range(0, len(links), _BATCH):
        warehouse.save_links(links[start : start + _BATCH])
    buried = {departure.document for departure in doomed}
    for departure in unlisted:
        detail = _detail(departure)
        yield LinkLine(
            source=departure.source.config.at,
            url=departure.link.url,
            outcome=LinkOutcome.GONE,
            detail=detail if departure.document in buried else f"{detail}; kept, because another source holds it",
            document_id=departure.document,
        )


def _held_elsewhere(warehouse: Warehouse, departures: Sequence[Departure]) -> set[str]:
    """Documents to which a link leads that is not departing itself, nor answered 404 the last time."""
    departing = {(one.link.author_id, one.link.source, one.link.url) for one in departures}
    documents = {one.document for one in departures}
    return {
        link.document_id
        for author in {one.link.author_id for one in departures}
        for link in warehouse.links(author_id=author)
        if link.document_id in documents
        and link.outcome not in (LinkOutcome.GONE, LinkOutcome.MISSING)
        and (link.author_id, link.source, link.url) not in departing
    }


def _detail(departure: Departure) -> str:
    if departure.told_by_server:
        return departure.link.detail
    return (
        f"no longer in the {departure.source.type if departure.source.type in ('folder', 'repository') else 'sitemap'}"
    )
