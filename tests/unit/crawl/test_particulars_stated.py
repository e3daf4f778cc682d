"""An edit of date, language, tags, kind or platform arrives although the text is the same; a guess is no edit."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from llm_engineering.crawl.report import CrawlReport
from llm_engineering.domain.config import SourceConfig
from llm_engineering.domain.entities import DocumentState, Kind
from tests.doubles.crawling import CrawlWorld, outcomes
from tests.doubles.web import Answer, LocalSite

BODY = "A note about gardens, and the patience that they ask for.\n"
TEXT = "The first article speaks of gardens, of rain, and of the patience that both of them ask for. " * 20


@pytest.fixture
def world(tmp_path: Path) -> Iterator[CrawlWorld]:
    world = CrawlWorld(tmp_path)
    yield world
    world.close()


@pytest.fixture
def site() -> Iterator[LocalSite]:
    with LocalSite() as site:
        yield site


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "a.md").write_text(f"---\ndate: 2020-01-01\nlang: de\n---\n{BODY}")
    return folder


def only(world: CrawlWorld) -> DocumentState:
    [state] = world.live().values()
    return state


def page(*, head: str = "", body: str = "") -> str:
    article = f"<article><h1>One</h1><p>{TEXT}</p></article>"
    return f"<html lang=en><head><title>One</title>{head}</head><body>{body}{article}</body></html>"


def feed(site: LocalSite, dates: str, *, etag: str | None = None) -> Answer:
    content = f'<content type="html">&lt;p&gt;{TEXT}&lt;/p&gt;</content>'
    entry = f'<entry><title>One</title><link href="{site.at("/one")}"/><id>1</id>{dates}{content}</entry>'
    form = f'<feed xmlns="http://www.w3.org/2005/Atom"><title>Feed</title>{entry}</feed>'
    return Answer(form, content_type="application/atom+xml", etag=etag)


def twice(world: CrawlWorld, source: SourceConfig) -> CrawlReport:
    """The report of the first of two runs; the second finds everything unchanged."""
    report, head = world.crawl(source), world.warehouse.head()
    assert set(world.crawl(source).totals) == {"unchanged"} and world.warehouse.head() == head
    return report


def test_another_front_matter_over_the_same_note_arrives(world: CrawlWorld, notes: Path):
    source = SourceConfig(at=str(notes))
    twice(world, source)
    (notes / "a.md").write_text(f"---\ndate: 2024-05-05\nlang: en\ntags: [x]\n---\n{BODY}")
    assert outcomes(twice(world, source)) == {"a.md": "new revision"}
    kept = only(world).revision
    assert kept is not None
    assert (kept.number, kept.language, kept.metadata["tags"]) == (2, "en", "x")
    assert kept.published_at == datetime(2024, 5, 5, tzinfo=UTC)


def test_front_matter_that_is_taken_away_states_nothing_else(world: CrawlWorld, notes: Path):
    world.crawl(str(notes))
    (notes / "a.md").write_text(BODY)
    assert outcomes(world.crawl(str(notes))) == {"a.md": "unchanged"}


def test_another_kind_and_platform_in_the_configuration_arrive(world: CrawlWorld, notes: Path):
    world.crawl(str(notes))
    report = twice(world, SourceConfig(at=str(notes), kind=Kind.ARTICLE, platform="diary"))
    [line] = report.lines
    assert (line.outcome.value, line.detail) == ("new revision", "the same text as another kind or platform")
    state = only(world)
    assert (state.document.kind, state.document.platform) == (Kind.ARTICLE, "diary")
    assert state.revision is not None and state.revision.number == 1


@pytest.mark.parametrize("listed", ["page", "feed"])
def test_another_kind_arrives_from_a_server_that_has_nothing_new(world: CrawlWorld, site: LocalSite, listed: str):
    site.routes["/one"] = Answer(page(), etag='"1"')
    site.routes["/feed.xml"] = feed(site, "", etag='"f"')
    at = site.at("/one" if listed == "page" else "/feed.xml")
    twice(world, SourceConfig(at=at))
    twice(world, SourceConfig(at=at, kind=Kind.POST))
    assert only(world).document.kind is Kind.POST
    assert site.requests[-1].headers["if-none-match"]


META = '<meta property="article:published_time" content="{}">'
LINKED = '<script type="application/ld+json">{{"@type": "BlogPosting", "datePublished": "{}"}}</script>'


@pytest.mark.parametrize(
    "dated",
    [
        {"head": META},
        {"head": LINKED},
        {"body": '<time class="dt-published" datetime="{}">long ago</time>'},
        {"body": '<time itemprop="datePublished" datetime="{}">long ago</time>'},
    ],
)
def test_another_date_that_a_page_states_arrives(world: CrawlWorld, site: LocalSite, dated: dict[str, str]):
    for day, outcome in (("2020-01-01", "stored"), ("2024-05-05", "new revision")):
        site.routes["/one"] = page(**{place: markup.format(f"{day}T10:00:00Z") for place, markup in dated.items()})
        assert outcomes(twice(world, SourceConfig(at=site.at("/one")))) == {"one": outcome}
        kept = only(world).revision
        assert kept is not None and f"{kept.published_at:%Y-%m-%d}" == day


def test_another_date_that_only_stands_beside_the_text_is_no_edit(world: CrawlWorld, site: LocalSite):
    for day in ("2020-01-01", "2024-05-05"):
        site.routes["/one"] = page(body=f'<aside>Seen <time datetime="{day}">{day}</time></aside>')
        report = world.crawl(site.at("/one"))
    kept = only(world).revision
    assert kept is not None and kept.published_at == datetime(2020, 1, 1, tzinfo=UTC)
    assert outcomes(report) == {"one": "unchanged"}


@pytest.mark.parametrize(("word", "outcome"), [("published", "new revision"), ("updated", "unchanged")])
def test_a_feed_states_when_an_entry_was_published_not_when_it_was_touched(
    world: CrawlWorld, site: LocalSite, word: str, outcome: str
):
    for year in (2020, 2024):
        site.routes["/feed.xml"] = feed(site, f"<{word}>{year}-05-05T00:00:00Z</{word}>")
        report = world.crawl(site.at("/feed.xml"))
    assert outcomes(report) == {"one": outcome}
