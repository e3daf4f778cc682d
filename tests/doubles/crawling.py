"""A crawl over a local world: real fetcher on 127.0.0.1, real SQLite warehouse, short to write down in a test."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from llm_engineering.adapters.httpx import HttpxFetcher
from llm_engineering.adapters.sqlite import SQLiteWarehouse
from llm_engineering.crawl.report import CrawlReport, LinkLine
from llm_engineering.crawl.run import crawl
from llm_engineering.domain.config import CrawlConfig, SourceConfig
from llm_engineering.domain.entities import DocumentState, author_id
from llm_engineering.domain.errors import SourceError
from llm_engineering.domain.ports import Fetched, Fetcher

AUTHOR = "Ada Winter"


class Checkouts:
    """Repositories that are folders here already, by address; any other cannot be cloned."""

    def __init__(self, folders: dict[str, Path] | None = None) -> None:
        self.folders = folders or {}

    def checkout(self, url_or_path: str) -> AbstractContextManager[Path]:
        return self._checkout(url_or_path)

    @contextmanager
    def _checkout(self, at: str) -> Iterator[Path]:
        if at not in self.folders:
            raise SourceError(f"{at} cannot be cloned: repository not found", hint="Check the address.")
        yield self.folders[at]


class CrawlWorld:
    """A warehouse and everything that a crawl needs, in one folder."""

    def __init__(self, home: Path, **config: object) -> None:
        self.config = CrawlConfig(**({"delay": 0, "retries": 0, "timeout": 5, "min_words": 3} | config))  # type: ignore[arg-type]
        self.warehouse = SQLiteWarehouse(home / "warehouse.sqlite")
        self.checkouts = Checkouts()
        self.fetcher: Fetcher = HttpxFetcher(self.config, allow_private=("127.0.0.0/8",))
        self.progress: list[LinkLine] = []

    def crawl(
        self, *sources: str | SourceConfig, author: str | None = AUTHOR, browser: Fetcher | None = None
    ) -> CrawlReport:
        return crawl(
            [SourceConfig(at=source) if isinstance(source, str) else source for source in sources],
            author=author,
            config=self.config,
            warehouse=self.warehouse,
            fetcher=self.fetcher,
            repositories=self.checkouts,
            browser=(lambda: browser) if browser is not None else None,
            progress=self.progress.append,
        )

    def live(self, author: str = AUTHOR) -> dict[str, DocumentState]:
        """Live documents of an author by URL."""
        return {state.document.url: state for state in self.warehouse.states(author_id=author_id(author))}

    def texts(self, author: str = AUTHOR) -> dict[str, str]:
        """Texts of the live documents by the last part of their URL."""
        return {
            url.rsplit("/", 1)[-1]: state.revision.text
            for url, state in self.live(author).items()
            if state.revision is not None
        }

    def close(self) -> None:
        self.warehouse.close()
        if isinstance(self.fetcher, HttpxFetcher):
            self.fetcher.close()


def outcomes(report: CrawlReport) -> dict[str, str]:
    """Outcome by the last part of each line's URL."""
    return {line.url.rstrip("/").rsplit("/", 1)[-1]: line.outcome.value for line in report.lines}


def reasons(report: CrawlReport) -> dict[str, str]:
    """Reason by the last part of each line's URL, for lines that have one."""
    return {line.url.rstrip("/").rsplit("/", 1)[-1]: line.reason for line in report.lines if line.reason}


class Unreachable:
    """A fetcher without a network."""

    def fetch(self, url: str, **_: object) -> Fetched:
        from llm_engineering.domain.errors import FetchFailed

        raise FetchFailed(f"{url} could not be fetched (dns)", reason="dns")

    def check(self, url: str) -> None:
        """Every address is fine, none is reachable."""
