"""The crawl: every source is read into the warehouse, and every link gets its line."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from urllib.parse import urlsplit

from llm_engineering.crawl.archives import read_archive
from llm_engineering.crawl.defects import contained
from llm_engineering.crawl.findings import Event
from llm_engineering.crawl.handbook import import_handbook
from llm_engineering.crawl.listings import Item, Listing, list_source
from llm_engineering.crawl.local import read_folder
from llm_engineering.crawl.pages import Known, Pages
from llm_engineering.crawl.recorder import Recorder
from llm_engineering.crawl.report import CrawlReport, LinkLine
from llm_engineering.crawl.repositories import read_repository
from llm_engineering.crawl.site import crawl_site
from llm_engineering.crawl.sources import Source, address_of, source_type
from llm_engineering.crawl.workers import in_parallel
from llm_engineering.domain.config import CrawlConfig, SourceConfig
from llm_engineering.domain.entities import Author
from llm_engineering.domain.errors import FetchRefused, SourceError, TwinError, UsageError
from llm_engineering.domain.ports import Fetcher, Repositories, Warehouse

_Told = tuple[Source, Event]
"""One event of one source."""

_TURN = {"site": 0, "article": 1, "sitemap": 2, "feed": 3}
"""Which source of a host speaks first about a page that several name. It is the same in every run, so that a text does
not flip between two versions: what the page says goes before what a feed says of it."""


def crawl(
    sources: Sequence[SourceConfig],
    *,
    author: str | None,
    config: CrawlConfig,
    warehouse: Warehouse,
    fetcher: Fetcher,
    repositories: Repositories,
    browser: Callable[[], Fetcher] | None = None,
    progress: Callable[[LinkLine], None] | None = None,
) -> CrawlReport:
    """Read all sources into the warehouse; running it again over the same sources changes nothing.

    Links of different hosts are read in parallel, those of one host in order, each at most once. An error on a link or
    source becomes its line and costs no neighbour; only errors of the warehouse end the run. ``browser`` is called at
    most once, in the caller's thread, when a source wants one. Raises :class:`UsageError` if a source has no author.
    """
    started = time.perf_counter()
    pages = Pages(fetcher, config, browser)
    recorder = Recorder(warehouse, progress=progress)
    try:
        opened = _open(sources, author=author, warehouse=warehouse, recorder=recorder)
        _read_all(opened, pages, repositories, recorder)
        recorder.finish()
    except KeyboardInterrupt:
        recorder.flush()
        raise
    return CrawlReport.of(recorder.lines, seconds=time.perf_counter() - started)


def _read_all(opened: Mapping[Source, Known], pages: Pages, repositories: Repositories, recorder: Recorder) -> None:
    """First everything that is one piece, and the lists of pages; then the pages themselves, host by host."""
    whole: defaultdict[str, list[Iterator[_Told]]] = defaultdict(list)
    listings: list[Listing] = []
    for source, known in opened.items():
        group = urlsplit(source.name).hostname or source.name
        if source.type in _WHOLE:
            whole[group].append(_told(source, _WHOLE[source.type](source, repositories, pages.config)))
        elif source.type != "site":
            whole[group].append(_listed(source, pages, known, listings))
    _drain([_chain(readers) for readers in whole.values()], pages, recorder)

    order = {source: position for position, source in enumerate(opened)}
    listings.sort(key=lambda listing: order[listing.source])
    turns: defaultdict[str, list[tuple[int, Iterator[_Told]]]] = defaultdict(list)
    in_browser: list[Iterator[_Told]] = []
    for source, known in opened.items():
        if source.type == "site":
            reader = _told(source, crawl_site(source, pages, known=known))
            if source.config.browser:
                in_browser.append(reader)
            else:
                turns[urlsplit(source.name).hostname or ""].append((_TURN["site"], reader))
    for listing in listings:
        for host, items in _by_host(listing).items():
            reader = _read_items(listing, items, pages, opened[listing.source])
            if listing.source.config.browser:
                in_browser.append(reader)
            else:
                turns[host].append((_TURN[listing.type], reader))
    in_turn = [sorted(readers, key=lambda turn: turn[0]) for readers in turns.values()]
    _drain([_chain([reader for _, reader in readers]) for readers in in_turn], pages, recorder)
    for reader in in_browser:  # an engine that belongs to the thread that started it
        for source, event in reader:
            recorder.take(source, event)
    for listing in listings:
        for event in listing.closing():
            recorder.take(listing.source, event)


def _drain(groups: list[Iterator[_Told]], pages: Pages, recorder: Recorder) -> None:
    with closing(in_parallel(groups, workers=pages.config.hosts_in_parallel)) as events:
        for source, event in events:
            recorder.take(source, event)


_WHOLE: dict[str, Callable[[Source, Repositories, CrawlConfig], Iterator[Event]]] = {
    "folder": lambda source, _, config: read_folder(source, config),
    "repository": read_repository,
    "medium": lambda source, _, config: read_archive(source, config),
    "substack": lambda source, _, config: read_archive(source, config),
    "linkedin": lambda source, _, config: read_archive(source, config),
}
"""Sources that are read in one go; all others are pages of the web."""


def _told(source: Source, events: Iterator[Event]) -> Iterator[_Told]:
    """The events of one source; the error that ends them is the last."""
    try:
        while True:
            with contained(source.config.at):
                event = next(events, None)
            if event is None:
                return
            yield source, event
    except TwinError as error:
        yield source, error


def _listed(source: Source, pages: Pages, known: Known, listings: list[Listing]) -> Iterator[_Told]:
    try:
        with contained(source.config.at):
            listing = list_source(source, pages, known=known)
    except TwinError as error:
        yield source, error
        return
    listings.append(listing)
    yield from _told(source, listing.events())


def _by_host(listing: Listing) -> dict[str, list[Item]]:
    hosts: defaultdict[str, list[Item]] = defaultdict(list)
    for item in listing.items:
        hosts[urlsplit(item.url).hostname or ""].append(item)
    return hosts


def _read_items(listing: Listing, items: Sequence[Item], pages: Pages, known: Known) -> Iterator[_Told]:
    for item in items:
        if item.entry is not None:
            visit = pages.read_entry(listing.source, item.url, item.entry, item.language)
        else:
            visit = pages.read(listing.source, item.url, known=known)
        yield listing.source, visit.finding


def _chain(readers: Sequence[Iterator[_Told]]) -> Iterator[_Told]:
    for reader in readers:
        yield from reader


def _open(
    sources: Sequence[SourceConfig], *, author: str | None, warehouse: Warehouse, recorder: Recorder
) -> dict[Source, Known]:
    """Tell the sources apart and find their authors; a source that cannot be opened is a line."""
    opened: dict[tuple[str, str], tuple[Source, Known]] = {}
    authors: dict[str, Author] = {}
    for config in sources:
        name = config.author or author
        try:
            with contained(config.at):
                address = address_of(config.at)
                kind = source_type(config, address)
                if kind == "handbook" and address.path is not None:
                    recorder.imported(config.at, import_handbook(warehouse, address.path))
                    continue
        except (SourceError, UsageError) as error:
            recorder.fail(config.at, error)
            continue
        if name is None:
            raise UsageError(f"{config.at} has no author: whose writing is it?", hint="Add author to the source.")
        if name not in authors:
            authors[name] = warehouse.find_author(name) or warehouse.save_author(Author.named(name))
        source = Source(config, kind, address, authors[name])
        if (source.author.id, source.name) in opened:
            recorder.fail(config.at, FetchRefused(f"{config.at} is listed twice; it is read once", reason="repeated"))
        else:
            opened[source.author.id, source.name] = source, recorder.open(source)
    return dict(opened.values())
