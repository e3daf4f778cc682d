"""Writes what the readers find into the warehouse, and keeps the report's lines.

Order of writing: documents, then tombstones of moved ones, then fetch states. A process killed in between has fetched
something in vain, and lost nothing. What is gone is buried at the end, when every source of the run has spoken.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from llm_engineering.crawl.departures import Departure, bury_departed
from llm_engineering.crawl.findings import Complete, Event, Finding, legible, shown
from llm_engineering.crawl.pages import FROM_FEED, IN_FEED
from llm_engineering.crawl.report import LinkLine
from llm_engineering.crawl.sources import Source
from llm_engineering.domain.entities import (
    DocumentState,
    Draft,
    Link,
    LinkOutcome,
    Recorded,
    RecordOutcome,
    TombstoneReason,
    document_id,
    now,
)
from llm_engineering.domain.errors import (
    FetchRefused,
    SourceError,
    StoreError,
    StoreLocked,
    StoreUnavailable,
    TwinError,
)
from llm_engineering.domain.ports import RestoreReport, Warehouse

_BATCH = 32
_BATCH_CHARACTERS = 4_000_000

_OUTCOMES = {
    RecordOutcome.STORED: (LinkOutcome.STORED, "", ""),
    RecordOutcome.UNCHANGED: (LinkOutcome.UNCHANGED, "", ""),
    RecordOutcome.REVISED: (LinkOutcome.REVISED, "", ""),
    RecordOutcome.UPDATED: (LinkOutcome.REVISED, "", "the same text as another kind or platform"),
    RecordOutcome.RESTORED: (LinkOutcome.STORED, "", "back"),
    RecordOutcome.WITHDRAWN: (LinkOutcome.REFUSED, "withdrawn", "withdrawn by its author"),
}
_KEPT = frozenset({LinkOutcome.STORED, LinkOutcome.UNCHANGED, LinkOutcome.REVISED, LinkOutcome.MOVED})
_MARKUP = re.compile(r"[\s*_`#>|\[\]()\\~-]+")


@dataclass
class _Progress:
    """How far one source has come."""

    known: dict[str, Link]
    seen: set[str] = field(default_factory=set)
    complete: bool = False
    silent: bool = True


@dataclass(frozen=True)
class _Entry:
    """A finding on its way into the warehouse; ``earlier`` are documents that its link led to before."""

    source: Source
    finding: Finding
    earlier: frozenset[str] = frozenset()


class Recorder:
    """The only writer of a run; lives in the main thread. Errors of the warehouse pass through."""

    def __init__(self, warehouse: Warehouse, *, progress: Callable[[LinkLine], None] | None = None) -> None:
        self.lines: list[LinkLine] = []
        self._warehouse = warehouse
        self._progress = progress
        self._sources: dict[Source, _Progress] = {}
        self._pending: list[tuple[Source, Finding]] = []
        self._delivered: set[str] = set()
        self._withdrawn: set[str] = set()
        self._departures: list[Departure] = []

    def open(self, source: Source) -> Mapping[str, Link]:
        """Begin with a source: its known links by URL, validators only where the document is live and as configured."""
        links = self._warehouse.links(author_id=source.author.id, source=source.name)
        self._sources[source] = _Progress({link.url: link for link in links})
        dead = {link.document_id for link in links if link.document_id}
        other: set[str | None] = set()
        for state in self._states(link.document_id for link in links):
            if state.live:
                dead.remove(state.document.id)
            if not source.keeps(state.document):
                other.add(state.document.id)
        unread = {"etag": None, "last_modified": None}

        def told(link: Link) -> Link:
            if link.document_id in dead:
                return link.model_copy(update=unread | {"detail": ""})
            anew = link.document_id in other or (bool(other) and link.url == source.name)
            return link.model_copy(update=unread) if anew else link

        return {link.url: told(link) for link in links}

    def take(self, source: Source, event: Event) -> None:
        """Note what a reader says; written once a small batch has come together."""
        if isinstance(event, Complete):
            self._sources[source].complete = True
        elif isinstance(event, TwinError):
            self.fail(source.config.at, event)
        else:
            self._pending.append((source, legible(event)))
            size = sum(len(finding.draft.text) for _, finding in self._pending if finding.draft)
            if len(self._pending) >= _BATCH or size >= _BATCH_CHARACTERS:
                self.flush()

    def fail(self, at: str, error: TwinError) -> None:
        """A source as a whole could not be read (further)."""
        reason = getattr(error, "reason", "source")
        outcome = LinkOutcome.REFUSED if isinstance(error, FetchRefused) else LinkOutcome.FAILED
        self._say(LinkLine(source=at, url=at, outcome=outcome, reason=reason, detail=shown(str(error))))

    def imported(self, at: str, report: RestoreReport) -> None:
        """A source that the warehouse took over as a whole: one line for it, one for each refusal."""
        if report.written:
            self._say(LinkLine(source=at, url=at, outcome=LinkOutcome.STORED, detail=f"{report.written} entries"))
        if report.present:
            text = f"{report.present} entries were there already"
            self._say(LinkLine(source=at, url=at, outcome=LinkOutcome.UNCHANGED, detail=text))
        for refusal in report.refused:
            self._say(LinkLine(source=at, url=at, outcome=LinkOutcome.REFUSED, reason="import", detail=refusal))

    def flush(self) -> None:
        """Write everything taken so far."""
        pending, self._pending = self._pending, []
        if not pending:
            return
        entries = [self._judged(source, finding) for source, finding in pending]
        recorded = self._record([entry.finding.draft for entry in entries if entry.finding.draft])
        settled = [self._settle(entry, recorded) for entry in entries]
        self._warehouse.save_links(
            [link for entry, (link, _) in zip(entries, settled, strict=True) if entry.finding.remember]
        )
        for entry, (_, line) in zip(entries, settled, strict=True):
            if not entry.finding.quiet:
                self._say(line)

    def finish(self) -> None:
        """Write the rest, and bury what is gone from sources that were read completely."""
        self.flush()
        for source, progress in self._sources.items():
            if not progress.complete:
                continue
            left = [link for url, link in progress.known.items() if url not in progress.seen and _leads_somewhere(link)]
            alive = self._live(link.document_id for link in left)
            if alive and not progress.seen:
                self.fail(source.config.at, _emptied(source, len(alive)))
            elif progress.silent and not left:
                self.fail(source.config.at, SourceError(f"{source.config.at} holds nothing to read"))
            else:
                self._departures += [Departure(source, link) for link in left]
        for line in bury_departed(self._warehouse, self._departures, delivered=self._delivered):
            self._say(line)

    def _say(self, line: LinkLine) -> None:
        self.lines.append(line)
        if self._progress is not None:
            self._progress(line)

    def _live(self, ids: Iterable[str | None]) -> set[str]:
        return {state.document.id for state in self._states(ids) if state.live}

    def _states(self, ids: Iterable[str | None]) -> Iterator[DocumentState]:
        """States of those documents that the warehouse knows, each once, a batch at a time."""
        wanted = list(dict.fromkeys(one for one in ids if one))
        for start in range(0, len(wanted), _BATCH):
            yield from self._warehouse.state(wanted[start : start + _BATCH]).values()

    # Before recording

    def _judged(self, source: Source, finding: Finding) -> _Entry:
        """The finding, its draft taken away where the warehouse already has it or must not have it."""
        draft = finding.draft
        if draft is None:
            return _Entry(source, finding)
        link = self._sources[source].known.get(finding.url)
        earlier = _earlier_documents(source, finding, link)
        from_feed = link is not None and link.detail in (IN_FEED, FROM_FEED) and finding.mark != IN_FEED
        states = self._warehouse.state([*earlier, draft.document_id]) if earlier or from_feed else {}
        if any(_is_withdrawn(states[one]) for one in earlier if one in states):
            text = "withdrawn by its author under its former address"
            refusal = replace(finding, draft=None, outcome=LinkOutcome.REFUSED, reason="withdrawn", detail=text)
            return _Entry(source, refusal)
        if draft.document_id in self._delivered:
            finding = _without_draft(finding, detail="same document as another link of this run")
        elif from_feed and _says_the_same(states.get(draft.document_id), draft):
            finding = _without_draft(replace(finding, mark=FROM_FEED))
        self._delivered.add(draft.document_id)
        return _Entry(source, finding, earlier)

    def _record(self, drafts: Sequence[Draft]) -> dict[str, Recorded | StoreError]:
        """Record in one transaction; if one draft cannot be kept, its neighbours are, one by one."""
        if not drafts:
            return {}
        try:
            return {one.document_id: one for one in self._warehouse.record(drafts)}
        except (StoreLocked, StoreUnavailable):
            raise
        except StoreError as error:
            if len(drafts) == 1:
                return {drafts[0].document_id: error}
            return {key: value for draft in drafts for key, value in self._record([draft]).items()}

    # After recording

    def _settle(self, entry: _Entry, recorded: Mapping[str, Recorded | StoreError]) -> tuple[Link, LinkLine]:
        """The link's new fetch state and its line."""
        source, progress = entry.source, self._sources[entry.source]
        finding = self._moved(self._with_outcome(entry.finding, recorded), entry.earlier)
        known = progress.known.get(finding.url)
        misses = 0
        if finding.outcome is LinkOutcome.MISSING:
            misses = (known.misses if known else 0) + 1
            if misses > 1:
                finding = replace(finding, outcome=LinkOutcome.GONE, detail="404 in two runs running")
        progress.silent = progress.silent and finding.quiet
        if finding.listed and not finding.quiet:
            progress.seen.add(finding.url)
        link = _link(source, finding, known, misses=misses)
        if finding.outcome is LinkOutcome.GONE and link.document_id:
            self._departures.append(Departure(source, link, told_by_server=True))
        elif finding.outcome is LinkOutcome.UNCHANGED and finding.document_id:
            self._delivered.add(finding.document_id)
        line = LinkLine(
            source=source.config.at,
            url=finding.url,
            outcome=link.outcome,
            detail=finding.detail,
            reason=finding.reason,
            document_id=link.document_id,
        )
        return link, line

    def _with_outcome(self, finding: Finding, recorded: Mapping[str, Recorded | StoreError]) -> Finding:
        if finding.draft is None:
            if finding.document_id not in self._withdrawn:
                return finding
            outcome, reason, detail = _OUTCOMES[RecordOutcome.WITHDRAWN]
            return replace(finding, outcome=outcome, reason=reason, detail=detail)
        document = finding.draft.document_id
        result = recorded[document]
        if isinstance(result, StoreError):
            self._delivered.discard(document)
            return replace(finding, outcome=LinkOutcome.FAILED, reason="store", detail=str(result))
        if result.outcome is RecordOutcome.WITHDRAWN:
            self._withdrawn.add(document)
        outcome, reason, detail = _OUTCOMES[result.outcome]
        return replace(finding, outcome=outcome, reason=reason, detail=detail, document_id=document)

    def _moved(self, finding: Finding, earlier: frozenset[str]) -> Finding:
        """Bury what the link led to before, now that the document is kept under its new address."""
        if finding.outcome in (LinkOutcome.REFUSED, LinkOutcome.FAILED) or not earlier - self._delivered:
            return finding
        states = self._warehouse.state([finding.document_id or ""])
        address = states[finding.document_id].document.url if finding.document_id in states else ""
        buried = self._warehouse.bury(
            sorted(earlier - self._delivered), reason=TombstoneReason.MOVED, detail=f"moved to {address}"
        )
        return replace(finding, outcome=LinkOutcome.MOVED, detail=f"moved to {address}") if buried else finding


def _leads_somewhere(link: Link) -> bool:
    return link.document_id is not None and link.outcome is not LinkOutcome.GONE


def _earlier_documents(source: Source, finding: Finding, link: Link | None) -> frozenset[str]:
    """Documents that this link has led to before, if it now leads to another one."""
    if finding.draft is None:
        return frozenset()
    ids = {link.document_id} if link is not None and link.document_id else set()
    if finding.draft.url != finding.url:
        ids.add(document_id(source.author.id, finding.url))
    return frozenset(ids - {finding.draft.document_id})


def _without_draft(finding: Finding, *, detail: str = "") -> Finding:
    document = finding.draft.document_id if finding.draft else finding.document_id
    return replace(finding, draft=None, outcome=LinkOutcome.UNCHANGED, document_id=document, detail=detail)


def _link(source: Source, finding: Finding, known: Link | None, *, misses: int) -> Link:
    """The fetch state to keep. What is known of a link outlives a refusal or failure; what was gone does not come back so."""
    kept = known.document_id if known and (finding.listed or known.outcome is not LinkOutcome.GONE) else None
    untold = finding.outcome is LinkOutcome.FAILED and known is not None  # the old validators may still hold
    return Link(
        author_id=source.author.id,
        source=source.name,
        url=finding.url,
        document_id=finding.document_id or kept,
        outcome=finding.outcome or LinkOutcome.FAILED,
        detail=finding.mark if finding.mark and finding.outcome in _KEPT else finding.detail,
        status=finding.status,
        etag=known.etag if untold and known else finding.etag,
        last_modified=known.last_modified if untold and known else finding.last_modified,
        misses=misses,
        fetched_at=now(),
    )


def _is_withdrawn(state: DocumentState) -> bool:
    return state.tombstone is not None and state.tombstone.reason is TombstoneReason.WITHDRAWN


def _says_the_same(state: DocumentState | None, draft: Draft) -> bool:
    """Whether a page says what the feed said before: the same characters, markup and white space aside."""
    if state is not None and (state.document.kind, state.document.platform) != (draft.kind, draft.platform):
        return False
    if state is None or state.revision is None or not state.live or state.revision.metadata.get("text_from") != "feed":
        return False
    return _MARKUP.sub("", state.revision.text) == _MARKUP.sub("", draft.text)


def _emptied(source: Source, count: int) -> TwinError:
    return SourceError(
        f"{source.config.at} is empty, but {count} documents are known from it; nothing was deleted",
        hint="Is a disk not mounted? To delete them, use: poe warehouse forget; then remove the source.",
    )
