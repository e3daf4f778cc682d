"""What reads the web and repositories, politely."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from llm_engineering.domain.config import CrawlConfig
from llm_engineering.domain.ports import Fetcher, Repositories

if TYPE_CHECKING:
    from llm_engineering.settings import Settings


@contextmanager
def open_fetcher(settings: "Settings", config: CrawlConfig) -> Iterator[Fetcher]:
    """The polite HTTP client, with the exceptions of ``CRAWL_ALLOW_PRIVATE``."""
    from llm_engineering.adapters.httpx import HttpxFetcher

    token = settings.github_token.get_secret_value() if settings.github_token else None
    fetcher = HttpxFetcher(config, allow_private=settings.private_hosts, github_token=token)
    try:
        yield fetcher
    finally:
        fetcher.close()


@contextmanager
def open_browser(settings: "Settings", config: CrawlConfig) -> Iterator[Fetcher]:
    """Pages rendered by Chromium, whose every request goes through the polite client.

    Raises :class:`MissingExtra` without the extra ``browser``.
    """
    from llm_engineering.adapters.httpx import HttpxFetcher
    from llm_engineering.adapters.playwright import PlaywrightFetcher

    with HttpxFetcher(config, allow_private=settings.private_hosts) as client:
        browser = PlaywrightFetcher(client, config)
        try:
            yield browser
        finally:
            browser.close()


def open_repositories(settings: "Settings", fetcher: Fetcher) -> Repositories:
    """Git repositories, cloned only from addresses that the fetcher may contact."""
    from llm_engineering.adapters.git import GitRepositories

    token = settings.github_token.get_secret_value() if settings.github_token else None
    return GitRepositories(fetcher.addresses, github_token=token)
