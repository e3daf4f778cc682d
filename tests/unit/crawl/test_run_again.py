"""What a later run owes to an earlier one: nothing that was named once is lost because a list says "not modified"."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from llm_engineering.adapters.httpx import HttpxFetcher
from llm_engineering.domain.config import SourceConfig
from llm_engineering.domain.entities import author_id
from tests.doubles.crawling import AUTHOR, CrawlWorld, outcomes, reasons
from tests.doubles.web import Answer, LocalSite

TEXT = "speaks of gardens, of rain, and of the patience that both of them ask for. "


def page(name: str, *links: str, head: str = "", etag: str | None = None) -> Answer:
    inner = "".join(f'<a href="{link}">{link}</a>' for link in links)
    text = f"<html><head><title>{name}</title>{head}</head><body>{inner}<p>Page {name} {TEXT * 2}</p></body></html>"
    return Answer(text, etag=etag)


def atom(site: LocalSite, *paths: str, whole: bool = False, head: str = "") -> Answer:
    """A feed with an ETag that carries texts whole or not at all."""
    texts = {path: f"{path} {TEXT * 20}" if whole else "" for path in paths}
    inner = "".join(
        f'<entry><title>{path}</title><link href="{site.at(path)}"/><content type="text">{text}</content></entry>'
        for path, text in texts.items()
    )
    feed = f'<feed xmlns="http://www.w3.org/2005/Atom"><title>Feed</title>{head}{inner}</feed>'
    return Answer(feed, content_type="application/atom+xml", etag='"feed"')


def posts(site: LocalSite, *names: str) -> str:
    """Posts with a page each and a feed over them; the feed's address."""
    site.routes |= {f"/{name}": page(name, etag=f'"{name}"') for name in names}
    site.routes["/feed.xml"] = atom(site, *(f"/{name}" for name in names))
    return site.at("/feed.xml")


def another_process(world: CrawlWorld) -> None:
    """From here on the fetcher remembers no pauses and no robots.txt."""
    world.fetcher.close()
    world.fetcher = HttpxFetcher(world.config, allow_private=("127.0.0.0/8",))


# A feed that has not changed


def test_what_a_busy_host_refused_is_asked_again_although_the_feed_has_not_changed(world, site):
    address = posts(site, "p0", "p1", "p2", "p3")
    site.routes["/p0"] = [Answer(status=503, headers={"Retry-After": "3600"}), page("p0")]
    assert world.crawl(address).refusals == {"http-503": 1, "retry-after": 3}
    another_process(world)
    assert outcomes(world.crawl(address)) == dict.fromkeys(("p0", "p1", "p2", "p3"), "stored")
    assert site.requests[-1].path == "/p3" and site.times("/feed.xml") == 2


def test_what_robots_could_not_allow_is_asked_again_when_they_can(world, site):
    with LocalSite() as feeds:
        address = posts(site, "p0", "p1")
        feeds.routes["/feed.xml"] = site.routes["/feed.xml"]
        site.routes["/robots.txt"] = [Answer(status=503), Answer("", content_type="text/plain")]
        assert world.crawl(feeds.at("/feed.xml")).refusals == {"robots-unreachable": 2}
        another_process(world)
        assert world.crawl(feeds.at("/feed.xml")).totals == {"stored": 2} and address


def test_what_robots_forbid_is_reported_by_every_run_and_never_fetched(world, site):
    address = posts(site, "p0", "p1")
    site.routes["/robots.txt"] = Answer("User-agent: *\nDisallow: /p0", content_type="text/plain")
    for _ in range(2):
        assert reasons(world.crawl(address)) == {"p0": "robots"}
    assert site.times("/p0") == 0
    site.routes["/robots.txt"] = Answer("", content_type="text/plain")
    another_process(world)
    assert outcomes(world.crawl(address)) == {"p0": "stored", "p1": "unchanged"}


def test_posts_past_the_page_limit_arrive_when_it_is_raised(world, site):
    address = posts(site, "p0", "p1", "p2", "p3")
    limited(world, 2)
    assert world.crawl(address).refusals == {"page-limit": 1}
    limited(world, 9)
    assert world.crawl(address).totals == {"unchanged": 2, "stored": 2}


def test_the_next_page_of_a_feed_that_fills_the_limit_exactly_is_reported_and_arrives_later(world, site):
    posts(site, "p0", "p1")
    site.routes["/p2"] = page("p2")
    site.routes["/feed.xml"] = atom(site, "/p0", "/p1", head='<link rel="next" href="/older.xml"/>')
    site.routes["/older.xml"] = atom(site, "/p2")
    limited(world, 2)
    assert world.crawl(site.at("/feed.xml")).refusals == {"page-limit": 1}
    limited(world, 9)
    assert world.crawl(site.at("/feed.xml")).totals == {"unchanged": 2, "stored": 1}


def limited(world: CrawlWorld, max_pages: int) -> None:
    world.config = world.config.model_copy(update={"max_pages": max_pages})


@pytest.mark.parametrize("whole", [True, False])
def test_posts_that_were_excluded_arrive_when_they_no_longer_are(world, site, whole):
    address = posts(site, "p0", "p1")
    site.routes["/feed.xml"] = atom(site, "/p0", "/p1", whole=whole)
    for _ in range(2):
        assert reasons(world.crawl(SourceConfig(at=address, exclude=["p1"]))) == {"p1": "excluded"}
    assert outcomes(world.crawl(address)) == {"p0": "unchanged", "p1": "stored"}


def test_a_post_that_is_excluded_by_now_is_reported_although_its_feed_has_not_changed(world, site):
    address = posts(site, "p0", "p1")
    world.crawl(address)
    for _ in range(2):
        report = world.crawl(SourceConfig(at=address, exclude=["p1"]))
        assert outcomes(report) == {"p0": "unchanged", "p1": "refused"}
    assert outcomes(world.crawl(address)) == {"p0": "unchanged", "p1": "unchanged"}


def test_an_excluded_post_that_has_left_the_feed_is_no_reason_to_have_it_sent_again(world, site):
    source = SourceConfig(at=posts(site, "p0", "p1"), exclude=["p1"])
    site.routes["/feed.xml"] = [atom(site, "/p0", "/p1"), atom(site, "/p0")]
    for expected in ({"refused": 1, "stored": 1}, *[{"unchanged": 1}] * 3):
        assert world.crawl(source).totals == expected
    sent = [request.headers.get("if-none-match") for request in site.requests if request.path == "/feed.xml"]
    assert sent == [None, None, '"feed"', '"feed"']


def test_a_text_too_short_for_the_feed_is_refused_by_every_run_and_its_page_never_read(world, site):
    address = posts(site, "p0")
    short = atom(site, "/p0", whole=True)
    site.routes["/feed.xml"] = Answer(short.body.replace(TEXT, ""), content_type=short.content_type, etag='"feed"')
    for _ in range(2):
        assert reasons(world.crawl(address)) == {"p0": "too-short"}
    assert site.times("/p0") == 0


def test_a_feed_whose_posts_were_all_well_costs_one_small_answer_and_no_page(world, site):
    site.routes["/feed.xml"] = atom(site, "/p0", "/p1", whole=True)
    world.crawl(site.at("/feed.xml"))
    assert world.crawl(site.at("/feed.xml")).totals == {"unchanged": 2}
    assert site.paths == ["/feed.xml", "/feed.xml"] and site.requests[-1].headers["if-none-match"] == '"feed"'


def test_a_run_that_is_interrupted_before_a_post_reads_it_the_next_time(world, site):
    address = posts(site, "p0", "p1")
    with interrupted(world, "/p1"):
        world.crawl(address)
    assert outcomes(world.crawl(address)) == {"p0": "unchanged", "p1": "stored"}


@contextmanager
def interrupted(world: CrawlWorld, path: str) -> Iterator[None]:
    """Inside, someone presses Ctrl-C when this path is to be fetched."""

    class Interrupted:
        def fetch(self, url, **options):
            if url.endswith(path):
                raise KeyboardInterrupt
            return real.fetch(url, **options)

    real, world.fetcher = world.fetcher, Interrupted()
    with pytest.raises(KeyboardInterrupt):
        yield
    world.fetcher = real


def test_pages_off_the_site_of_a_sitemap_are_never_asked_however_it_is_cut(world, site):
    with LocalSite({"/p9": page("p9")}) as other:
        addresses = "".join(f"<url><loc>{at}</loc></url>" for at in (site.at("/p0"), site.at("/p1"), other.at("/p9")))
        site.routes |= {"/sitemap.xml": Answer(f"<urlset>{addresses}</urlset>", content_type="text/xml")}
        site.routes |= {"/p0": page("p0"), "/p1": page("p1")}
        limited(world, 1)
        for _ in range(2):
            assert world.crawl(site.at("/sitemap.xml")).refusals == {"other-site": 1, "page-limit": 1}
        assert not other.requests


# Entries without an address, feeds as PHP writes them


def test_entries_without_an_address_are_reported_by_every_run(world, site):
    feed = atom(site, "/p0", whole=True)
    lost = "<entry><title>Lost</title></entry><entry><title>Found by nobody</title></entry></feed>"
    site.routes["/feed.xml"] = Answer(feed.body.replace("</feed>", lost), content_type=feed.content_type, etag='"1"')
    for _ in range(2):
        report = world.crawl(site.at("/feed.xml"))
        assert report.refusals == {"no-address": 2} and "“Lost” has no address" in report.lines[0].detail
    assert not any(link.outcome == "refused" for link in world.warehouse.links(author_id=author_id(AUTHOR)))


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_json_feed_is_told_by_its_content_with_escaped_slashes_too(world, site, mark):
    item = {"id": "1", "url": site.at("/p0"), "content_text": TEXT * 20}
    feed = json.dumps({"version": "https://jsonfeed.org/version/1.1", "title": "T", "items": [item]})
    site.routes["/news"] = Answer(mark + feed.replace("/", "\\/").encode(), content_type="application/json")
    assert world.crawl(site.at("/news")).totals == {"stored": 1}


@pytest.mark.parametrize("title", ["Hi &#55357;&#56832;", "&#x110000;", "&#99999999999;", "&#xD83D;"])
def test_a_character_that_does_not_exist_costs_no_entry(world, site, title):
    feed = atom(site, "/p0", whole=True)
    site.routes["/feed.xml"] = Answer(feed.body.replace("/p0</title>", f"{title}</title>"), content_type="text/xml")
    assert world.crawl(site.at("/feed.xml")).totals == {"stored": 1}


# A site


def test_a_page_of_a_site_that_failed_is_tried_again_behind_pages_that_have_not_changed(world, site):
    site.routes |= {"/": page("home", "/a"), "/a": page("a", "/b", etag='"a"')}
    site.routes |= {"/b": [Answer(status=503), page("b", "/c")], "/c": page("c")}
    world.crawl(site.url + "/")
    assert outcomes(world.crawl(site.url + "/")) == {
        site.host: "refused",
        "a": "unchanged",
        "b": "stored",
        "c": "stored",
    }


@pytest.mark.parametrize("head", ['<meta name="robots" content="noindex">', ""])
def test_a_new_post_on_a_list_that_is_not_kept_is_found_behind_an_unchanged_page(world, site, head):
    where = "/b" if head else "/tag/b"
    site.routes |= {"/": page("home", "/a"), "/a": page("a", where, etag='"a"'), "/new": page("new")}
    site.routes[where] = [page("b", head=head), page("b", "/new", head=head)]
    world.crawl(site.url + "/")
    assert outcomes(world.crawl(site.url + "/"))["new"] == "stored"


def test_what_is_gone_or_off_the_site_or_no_page_is_not_asked_again(world, site):
    site.routes |= {"/": [page("home", "/a", "/gone", "/feed/"), page("home", "/a")]}
    site.routes |= {"/a": page("a", etag='"a"'), "/gone": Answer(status=410), "/feed/": page("feed")}
    for _ in range(3):
        world.crawl(site.url + "/")
    assert site.times("/gone") == 1 and site.times("/feed/") == 0 and site.times("/a") == 3


def test_the_limit_of_a_site_holds_for_what_earlier_runs_knew_and_all_of_it_has_its_turn(world, site):
    names = [f"/{number}" for number in range(6)]
    site.routes |= {"/": [page("home", *names), page("home")]} | {name: page(name) for name in names}
    world.crawl(site.url + "/")
    limited(world, 4)
    for _ in range(2):
        before = len(site.paths)
        assert world.crawl(site.url + "/").refusals["page-limit"] == 1 and len(site.paths) - before == 4
    assert [site.times(name) for name in names] == [2] * 6


def test_a_site_crawl_that_is_interrupted_finds_what_its_pages_lead_to_the_next_time(world, site):
    site.routes |= {"/": page("home", "/a"), "/a": page("a", "/b", etag='"a"'), "/b": page("b")}
    with interrupted(world, "/b"):
        world.crawl(site.url + "/")
    assert outcomes(world.crawl(site.url + "/"))["b"] == "stored"
    assert world.crawl(site.url + "/").totals == {"refused": 1, "unchanged": 2}
    assert [request.headers.get("if-none-match") for request in site.requests if request.path == "/a"] == [
        None,
        None,
        '"a"',
    ]


def test_a_site_that_is_down_deletes_nothing(world, site):
    site.routes |= {"/": page("home", "/a"), "/a": page("a", "/b", etag='"a"'), "/b": page("b")}
    world.crawl(site.url + "/")
    site.routes |= dict.fromkeys(("/", "/a", "/b"), Answer(status=503))
    for _ in range(3):
        assert not world.crawl(site.url + "/").succeeded
    assert set(world.texts()) == {"a", "b"}
