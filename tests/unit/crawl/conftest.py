"""A warehouse to crawl into, and a site to crawl."""

import pytest

from tests.doubles.crawling import CrawlWorld
from tests.doubles.web import LocalSite


@pytest.fixture
def world(tmp_path):
    world = CrawlWorld(tmp_path)
    yield world
    world.close()


@pytest.fixture
def site():
    with LocalSite() as site:
        yield site
