"""What a crawl of the web does to the warehouse, against a scripted site on 127.0.0.1."""

import pytest

from llm_engineering.crawl import pages, run
from llm_engineering.crawl import site as crawl_of_site
from llm_engineering.crawl.extract import read_page
from llm_engineering.domain.config import SourceConfig
from llm_engineering.domain.entities import LinkOutcome, TombstoneReason
from llm_engineering.domain.errors import UsageError
from tests.doubles.crawling import AUTHOR, CrawlWorld, Unreachable, outcomes, reasons
from tests.doubles.web import Answer, LocalSite, redirect

WORDS = {
    "one": "The first article speaks of gardens, of rain, and of the patience that both of them ask for.",
    "two": "The second article is about clocks: how they drift, and who winds them up again every week.",
    "three": "The third article counts the boats in the harbour, and forgets two of them on purpose.",
}


def page(text: str, *, title: str = "A title", head: str = "", links: str = "") -> str:
    return (
        f"<html lang=en><head><title>{title}</title>{head}</head><body>{links}"
        f"<article><h1>{title}</h1><p>{text}</p><p>And a closing paragraph that goes with it.</p></article></body></html>"
    )


def article(name: str, *, etag: str | None = None, head: str = "") -> Answer:
    return Answer(page(WORDS[name], title=name.title(), head=head), etag=etag)


def sitemap(site: LocalSite, *paths: str) -> Answer:
    urls = "".join(f"<url><loc>{site.at(path)}</loc></url>" for path in paths)
    return Answer(f"<urlset>{urls}</urlset>", content_type="application/xml")


def atom(site: LocalSite, *entries: tuple[str, str], etag: str | None = None) -> Answer:
    inner = "".join(
        f'<entry><title>{path.strip("/").title()}</title><link href="{site.at(path)}"/><id>{path}</id>'
        f'<updated>2024-05-06T00:00:00Z</updated><content type="html">&lt;p&gt;{text}&lt;/p&gt;</content></entry>'
        for path, text in entries
    )
    feed = f'<feed xmlns="http://www.w3.org/2005/Atom"><title>Feed</title>{inner}</feed>'
    return Answer(feed, content_type="application/atom+xml", etag=etag)


def serve(site: LocalSite, *names: str) -> str:
    """A sitemap over these articles; returns its address."""
    site.routes.update({f"/{name}": article(name, etag=f'"{name}"') for name in names})
    site.routes["/sitemap.xml"] = sitemap(site, *(f"/{name}" for name in names))
    return site.at("/sitemap.xml")


# A first run and a second one


def test_a_sitemap_becomes_documents_with_a_line_per_link(world, site):
    report = world.crawl(serve(site, "one", "two"))
    assert outcomes(report) == {"one": "stored", "two": "stored"}
    assert report.totals == {"stored": 2} and report.succeeded
    assert world.live()[site.at("/one")].revision.title == "One"
    assert WORDS["one"] in world.texts()["one"]
    assert world.progress == list(report.lines)


def test_a_second_run_sends_validators_and_writes_nothing(world, site):
    address = serve(site, "one", "two")
    world.crawl(address)
    head = world.warehouse.head()
    report = world.crawl(address)
    assert report.totals == {"unchanged": 2} and world.warehouse.head() == head
    assert [r.headers.get("if-none-match") for r in site.requests if r.path == "/one"] == [None, '"one"']


def test_an_unchanged_page_without_validators_is_no_new_revision(world, site):
    site.routes["/one"] = lambda _: page(WORDS["one"], links=f"<nav>{len(site.requests)} readers</nav>")
    source = SourceConfig(at=site.at("/one"))
    world.crawl(source)
    assert outcomes(world.crawl(source)) == {"one": "unchanged"}


def test_an_edit_an_addition_and_a_removal_arrive(world, site):
    address = serve(site, "one", "two")
    world.crawl(address)
    site.routes["/one"] = Answer(page(WORDS["one"].replace("rain", "snow")), etag='"new"')
    site.routes["/three"] = article("three")
    site.routes["/sitemap.xml"] = sitemap(site, "/one", "/three")
    report = world.crawl(address)
    assert outcomes(report) == {"one": "new revision", "three": "stored", "two": "gone"}
    assert set(world.texts()) == {"one", "three"} and "snow" in world.texts()["one"]


# Gone, missing, moved


def test_404_is_missing_once_and_gone_the_second_time(world, site):
    site.routes["/one"] = article("one")
    world.crawl(site.at("/one"))
    del site.routes["/one"]
    assert outcomes(world.crawl(site.at("/one"))) == {"one": "missing"} and "one" in world.texts()
    assert outcomes(world.crawl(site.at("/one"))) == {"one": "gone"} and "one" not in world.texts()


def test_a_404_between_two_good_answers_is_forgotten(world, site):
    site.routes["/one"] = [article("one"), Answer(status=404), article("one"), Answer(status=404)]
    for expected in ("stored", "missing", "unchanged", "missing"):
        assert outcomes(world.crawl(site.at("/one"))) == {"one": expected}


def test_410_is_gone_at_once_and_a_page_that_returns_is_back(world, site):
    site.routes["/one"] = [article("one", etag='"1"'), Answer(status=410), article("one", etag='"1"')]
    world.crawl(site.at("/one"))
    assert outcomes(world.crawl(site.at("/one"))) == {"one": "gone"} and not world.live()
    [line] = world.crawl(site.at("/one")).lines
    assert (line.outcome, line.detail) == ("stored", "back")


def test_a_permanent_redirect_moves_the_document(world, site):
    address = serve(site, "one")
    world.crawl(address)
    site.routes["/one"], site.routes["/new-one"] = redirect("/new-one", 301), article("one")
    [line] = world.crawl(address).lines
    assert (line.outcome, line.detail) == ("moved", f"moved to {site.at('/new-one')}")
    assert list(world.live()) == [site.at("/new-one")]
    [old] = world.warehouse.find_documents(site.at("/one"))
    assert world.warehouse.state([old.id])[old.id].tombstone.reason is TombstoneReason.MOVED
    assert outcomes(world.crawl(address)) == {"one": "unchanged"}


def test_a_temporary_redirect_moves_nothing(world, site):
    site.routes["/one"], site.routes["/today"] = redirect("/today", 302), article("one")
    world.crawl(site.at("/one"))
    assert list(world.live()) == [site.at("/one")]


def test_old_posts_that_all_lead_to_the_front_page_are_not_moved_there(world, site):
    address = serve(site, "one", "two")
    world.crawl(address)
    site.routes.update({"/one": redirect("/", 301), "/two": redirect("/", 301), "/": page(WORDS["three"])})
    assert reasons(world.crawl(address)) == {"one": "soft-404", "two": "soft-404"}
    assert set(world.texts()) == {"one", "two"}


def test_a_host_that_is_down_deletes_nothing(world, site):
    address = serve(site, "one", "two")
    world.crawl(address, site.at("/one"))
    world.fetcher.close()
    world.fetcher = Unreachable()
    for _ in range(2):
        report = world.crawl(address, site.at("/one"))
        assert set(report.totals) == {"failed"} and not report.succeeded
    assert set(world.texts()) == {"one", "two"}


def test_a_dead_host_is_not_asked_for_every_page(world, site):
    class Dying(Unreachable):
        asked = 0

        def fetch(self, url, **options):
            if url.endswith("sitemap.xml"):
                return real.fetch(url, **options)
            self.asked += 1
            return super().fetch(url)

    real, world.fetcher = world.fetcher, Dying()
    site.routes["/sitemap.xml"] = sitemap(site, *(f"/{n}" for n in range(20)))
    report = world.crawl(site.at("/sitemap.xml"))
    assert world.fetcher.asked == 3 and report.refusals == {"dns": 3, "host-down": 17}
    real.close()


def test_a_sitemap_that_failed_in_part_deletes_nothing(world, site):
    index = "<sitemapindex><sitemap><loc>{0}</loc></sitemap><sitemap><loc>{1}</loc></sitemap></sitemapindex>"
    site.routes["/sitemap.xml"] = Answer(index.format(site.at("/a.xml"), site.at("/b.xml")), content_type="text/xml")
    site.routes.update({"/one": article("one"), "/two": article("two")})
    site.routes.update({"/a.xml": sitemap(site, "/one"), "/b.xml": [sitemap(site, "/two"), Answer(status=500)]})
    world.crawl(site.at("/sitemap.xml"))
    report = world.crawl(site.at("/sitemap.xml"))
    assert outcomes(report) == {"b.xml": "failed", "one": "unchanged", "two": "unchanged"}
    assert set(world.texts()) == {"one", "two"}


def test_an_emptied_sitemap_deletes_nothing(world, site):
    address = serve(site, "one")
    world.crawl(address)
    site.routes["/sitemap.xml"] = sitemap(site)
    report = world.crawl(address)
    assert "is empty, but 1 document" in report.lines[0].detail and set(world.texts()) == {"one"}


def test_a_sitemap_past_the_page_limit_is_cut_and_deletes_nothing(tmp_path, site):
    world = CrawlWorld(tmp_path, max_pages=2)
    world.crawl(serve(site, "one", "two"))
    site.routes["/sitemap.xml"] = sitemap(site, "/three", "/two", "/four", "/five")
    report = world.crawl(site.at("/sitemap.xml"))
    assert report.refusals["page-limit"] == 1 and "one" in world.texts()
    world.close()


def test_missing_from_one_source_but_held_by_another_stays(world, site, tmp_path):
    address = serve(site, "one", "two")
    site.routes["/feed.xml"] = atom(site, ("/one", "short …"))
    world.crawl(address, site.at("/feed.xml"))
    site.routes["/sitemap.xml"] = sitemap(site, "/two")
    world.crawl(address)
    assert "one" in world.texts()
    world.crawl(address, site.at("/feed.xml"))
    assert "one" in world.texts()


def test_a_document_that_another_link_still_delivers_outlives_its_own_address(world, site):
    address = serve(site, "one", "two")
    world.crawl(address)
    site.routes["/one"] = Answer(status=410)
    site.routes["/two"] = article("one", head=f'<link rel="canonical" href="{site.at("/one")}">')
    world.crawl(address)
    assert site.at("/one") in world.live()


def test_a_document_buried_behind_the_crawls_back_is_sent_again_and_back(world, site):
    address = serve(site, "one", "two")
    world.crawl(address)
    world.warehouse.bury([world.live()[site.at("/one")].document.id], reason=TombstoneReason.GONE)
    assert outcomes(world.crawl(address)) == {"one": "stored", "two": "unchanged"} and "one" in world.texts()


def test_what_is_gone_for_one_author_stays_with_another(world, site):
    address = serve(site, "one", "two")
    world.crawl(address)
    world.crawl(address, author="Bo Summer")
    site.routes["/sitemap.xml"] = sitemap(site, "/two")
    world.crawl(address)
    assert set(world.texts()) == {"two"} and set(world.texts("Bo Summer")) == {"one", "two"}


# Withdrawn


def test_a_withdrawn_document_never_comes_back(world, site):
    address = serve(site, "one", "two")
    world.crawl(address)
    gone = world.live()[site.at("/one")].document.id
    world.warehouse.bury([gone], reason=TombstoneReason.WITHDRAWN)
    site.routes["/one"] = Answer(page("An entirely new text, with enough words in it."), etag='"new"')
    report = world.crawl(address, site.at("/one"))
    lines = {line.reason for line in report.lines if line.url.endswith("/one")}
    assert lines == {"withdrawn"} and set(world.texts()) == {"two"}


def test_a_withdrawn_document_does_not_come_back_under_a_new_address(world, site):
    address = serve(site, "one")
    world.crawl(address)
    world.warehouse.bury([world.live()[site.at("/one")].document.id], reason=TombstoneReason.WITHDRAWN)
    site.routes["/one"], site.routes["/new-one"] = redirect("/new-one", 301), article("one")
    assert reasons(world.crawl(address)) == {"one": "withdrawn"} and not world.live()


# One page, one document


def test_links_that_name_one_canonical_address_are_one_document_read_once_each(world, site):
    canonical = f'<link rel="canonical" href="{site.at("/one")}">'
    site.routes["/one"] = article("one", head=canonical)
    site.routes["/print-one"] = article("one", head=canonical)
    tracked = SourceConfig(at=site.at("/one?utm_source=x#top"))
    report = world.crawl(site.at("/one"), tracked, site.at("/print-one"))
    assert list(world.live()) == [site.at("/one")] and site.times("/one") == 1
    assert [line.outcome for line in report.lines] == ["refused", "stored", "unchanged"]


def test_a_page_that_declares_another_canonical_address_takes_its_document_there(world, site):
    site.routes["/one"] = article("one")
    world.crawl(site.at("/one"))
    site.routes["/one"] = article("one", head=f'<link rel="canonical" href="{site.at("/proper/one")}">')
    assert outcomes(world.crawl(site.at("/one"))) == {"one": "moved"}
    assert list(world.live()) == [site.at("/proper/one")]


@pytest.mark.parametrize("target", ["https://elsewhere.example/one", "/", "javascript:alert(1)"])
def test_a_canonical_address_on_another_site_or_the_front_page_is_ignored(world, site, target):
    site.routes["/one"] = article("one", head=f'<link rel="canonical" href="{target}">')
    world.crawl(site.at("/one"))
    assert list(world.live()) == [site.at("/one")]


def test_two_sources_that_list_one_page_fetch_it_once(world, site):
    address = serve(site, "one")
    site.routes["/feed.xml"] = atom(site, ("/one", "short …"))
    report = world.crawl(site.at("/feed.xml"), address)
    assert site.times("/one") == 1
    assert sorted(line.outcome for line in report.lines) == ["stored", "unchanged"]


# Feeds


def test_a_complete_feed_is_kept_without_fetching_its_pages(world, site):
    site.routes["/feed.xml"] = atom(site, ("/one", (WORDS["one"] + " ") * 30), ("/two", (WORDS["two"] + " ") * 30))
    report = world.crawl(site.at("/feed.xml"))
    assert report.totals == {"stored": 2} and site.paths == ["/feed.xml"]
    assert world.live()[site.at("/one")].revision.published_at.isoformat() == "2024-05-06T00:00:00+00:00"


def test_a_feed_that_is_cut_short_leads_to_the_pages(world, site):
    site.routes["/one"] = article("one")
    site.routes["/feed.xml"] = atom(site, ("/one", "The first article speaks of …"))
    world.crawl(site.at("/feed.xml"))
    assert WORDS["one"] in world.texts()["one"]


def test_falling_out_of_a_feed_is_no_delete_and_an_edit_still_arrives(world, site):
    text = (WORDS["one"] + " ") * 30
    site.routes["/feed.xml"] = [atom(site, ("/one", text)), atom(site, ("/two", (WORDS["two"] + " ") * 30))]
    site.routes["/one"] = page(text)
    world.crawl(site.at("/feed.xml"))
    world.crawl(site.at("/feed.xml"))
    assert set(world.texts()) == {"one", "two"}
    site.routes["/one"] = page(text.replace("rain", "snow"))
    assert outcomes(world.crawl(site.at("/feed.xml")))["one"] == "new revision"


def test_the_page_behind_a_dropped_entry_that_says_the_same_is_no_new_revision(world, site):
    paragraphs = [WORDS["one"], WORDS["two"]] * 5
    in_feed = "&lt;/p&gt;&lt;p&gt;".join(paragraphs)
    on_page = "".join(f"<p><em>{text[:30]}</em>{text[30:]}</p>" for text in paragraphs)
    site.routes["/one"] = f"<html><body><article><h1>One</h1>{on_page}</article></body></html>"
    site.routes["/feed.xml"] = [atom(site, ("/one", in_feed)), atom(site, ("/two", (WORDS["two"] + " ") * 30))]
    world.crawl(site.at("/feed.xml"))
    for _ in range(2):
        assert outcomes(world.crawl(site.at("/feed.xml")))["one"] == "unchanged"
    assert site.times("/one") == 2


def test_feed_and_sitemap_over_the_same_pages_store_nothing_new_the_second_time(world, site):
    address = serve(site, "one", "two")
    site.routes["/feed.xml"] = atom(site, ("/one", (WORDS["three"] + " ") * 30))
    world.crawl(site.at("/feed.xml"), address)
    head = world.warehouse.head()
    assert world.crawl(site.at("/feed.xml"), address).totals == {"unchanged": 3}
    assert world.crawl(address, site.at("/feed.xml")).totals == {"unchanged": 3}
    assert world.warehouse.head() == head and WORDS["one"] in world.texts()["one"]


def test_a_feed_that_has_not_changed_is_not_sent_again(world, site):
    site.routes["/feed.xml"] = atom(site, ("/one", (WORDS["one"] + " ") * 30), etag='"f"')
    world.crawl(site.at("/feed.xml"))
    report = world.crawl(site.at("/feed.xml"))
    assert report.totals == {"unchanged": 1} and site.requests[-1].headers["if-none-match"] == '"f"'


def test_a_page_that_failed_is_tried_again_although_its_feed_has_not_changed(world, site):
    site.routes["/feed.xml"] = atom(site, ("/one", "Read on…"), ("/two", "Read on…"), etag='"f"')
    site.routes |= {"/one": [Answer(status=503), article("one")], "/two": [Answer(status=404), article("two")]}
    world.crawl(site.at("/feed.xml"))
    assert world.crawl(site.at("/feed.xml")).totals == {"stored": 2}


def test_a_feed_is_told_by_its_content(world, site):
    site.routes["/news"] = atom(site, ("/one", (WORDS["one"] + " ") * 30))
    assert world.crawl(site.at("/news")).totals == {"stored": 1}


def test_a_feed_that_is_no_feed_is_one_clear_line(world, site):
    site.routes["/feed.xml"] = page(WORDS["one"])
    [line] = world.crawl(site.at("/feed.xml")).lines
    assert line.outcome == "failed" and "feed" in line.detail and not world.live()


# A site


def test_a_site_is_crawled_within_its_host_and_lists_are_followed_but_not_kept(world, site):
    links = (
        '<a href="/one">1</a> <a href="/tag/x">tag</a> <a href="http://other.example/">out</a> <a href="/p.png">p</a>'
    )
    site.routes.update({"/": page(WORDS["three"], links=links), "/one": article("one"), "/two": article("two")})
    site.routes["/tag/x"] = page("A list of things.", links='<a href="/two">2</a> <a href="/missing">3</a>')
    report = world.crawl(site.url + "/")
    assert set(world.texts()) == {"one", "two"}
    assert outcomes(report) | {"": ""} == {site.host: "refused", "one": "stored", "two": "stored", "x": "refused",
                                           "missing": "missing", "": ""}  # fmt: skip


def test_a_site_crawl_from_a_folder_stays_in_it(world, site):
    site.routes["/blog/"] = page(WORDS["three"], links='<a href="/blog/one">1</a><a href="/two">2</a>')
    site.routes.update({"/blog/one": article("one"), "/two": article("two")})
    world.crawl(SourceConfig(at=site.at("/blog/"), type="site"))
    assert site.times("/two") == 0 and "one" in world.texts()


def test_a_site_crawl_has_a_page_limit_and_says_so(tmp_path, site):
    world = CrawlWorld(tmp_path, max_pages=3)
    site.routes["/"] = page(WORDS["one"], links="".join(f'<a href="/{n}">{n}</a>' for n in range(9)))
    site.routes.update({f"/{n}": page(f"{WORDS['two']} {n} times over.") for n in range(9)})
    report = world.crawl(site.url + "/")
    assert report.refusals["page-limit"] == 1 and len(world.live()) == 2
    world.config = world.config.model_copy(update={"max_pages": 50})
    world.crawl(site.url + "/")
    assert len(world.live()) == 9
    world.close()


def test_a_raised_page_limit_reaches_what_unchanged_pages_link_to(tmp_path, site):
    world = CrawlWorld(tmp_path, max_pages=2)
    for number, name in enumerate(["/", "/1", "/2", "/3"]):
        text = page(f"{WORDS['one']} Chapter {number}.", links=f'<a href="/{number + 1}">next</a>')
        site.routes[name] = Answer(text, etag=f'"{number}"')
    world.crawl(site.url + "/")
    world.config = world.config.model_copy(update={"max_pages": 9})
    world.crawl(site.url + "/")
    assert set(world.texts()) == {"1", "2", "3"}
    assert world.crawl(site.url + "/").totals["unchanged"] == 3
    world.close()


def test_a_page_that_no_list_links_to_any_more_is_still_asked_for(world, site):
    site.routes["/"] = [page(WORDS["three"], links='<a href="/one">1</a>'), page(WORDS["three"])]
    site.routes["/one"] = [article("one"), Answer(status=410)]
    world.crawl(site.url + "/")
    assert outcomes(world.crawl(site.url + "/"))["one"] == "gone"


def test_robots_are_kept_on_a_site_crawl(world, site):
    site.routes["/robots.txt"] = Answer("User-agent: *\nDisallow: /one", content_type="text/plain")
    site.routes["/"] = page(WORDS["three"], links='<a href="/one">1</a><a href="/two">2</a>')
    site.routes.update({"/one": article("one"), "/two": article("two")})
    assert reasons(world.crawl(site.url + "/"))["one"] == "robots" and set(world.texts()) == {"two"}


# What is no document


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(b"%PDF-1.7", content_type="application/pdf"), "content-type"),
        (page("nothing here by that name", title="404 Not Found"), "soft-404"),
        (page("Hi."), "too-short"),
        (Answer(status=403), "http-403"),
        (Answer(status=503), "http-503"),
    ],
)
def test_what_is_no_document_is_not_stored_and_its_neighbours_are(tmp_path, site, answer, reason):
    world = CrawlWorld(tmp_path, min_words=12)
    address = serve(site, "one", "two")
    site.routes["/one"] = answer
    report = world.crawl(address)
    assert reasons(report) == {"one": reason} and set(world.texts()) == {"two"}
    world.close()


def test_a_known_page_that_turns_into_a_soft_404_is_kept(world, site):
    site.routes["/one"] = [article("one"), page("no such page", title="404 Not Found")]
    world.crawl(site.at("/one"))
    assert outcomes(world.crawl(site.at("/one"))) == {"one": "refused"} and "one" in world.texts()


def test_plain_text_and_markdown_pages_are_documents(world, site):
    site.routes["/notes.md"] = Answer("# Notes\n\nWith three words more.", content_type="text/markdown")
    site.routes["/plain"] = Answer("Nothing but plain words.", content_type="text/plain")
    world.crawl(site.at("/notes.md"), site.at("/plain"))
    assert world.texts()["notes.md"].startswith("# Notes") and "plain" in world.texts()


# The run as a whole


def test_one_bad_source_never_costs_its_neighbours(world, site, tmp_path):
    site.routes["/one"] = article("one")
    report = world.crawl("ftp://example.org/x", str(tmp_path / "absent"), "https://:99999/", site.at("/one"))
    assert [line.outcome for line in report.lines] == ["refused", "failed", "failed", "stored"] and report.succeeded


def test_a_run_in_which_nothing_succeeded_says_so(world, tmp_path):
    assert not world.crawl(str(tmp_path / "absent")).succeeded
    assert not world.crawl().succeeded


def test_a_source_without_an_author_is_refused_before_anything_is_read(world, site):
    with pytest.raises(UsageError, match="whose writing"):
        world.crawl(site.at("/one"), author=None)
    assert not site.requests


def test_kind_and_platform_can_be_set_per_source(world, site):
    site.routes["/one"] = article("one")
    world.crawl(SourceConfig(at=site.at("/one"), kind="post", platform="mastodon"))
    document = world.live()[site.at("/one")].document
    assert (document.kind, document.platform) == ("post", "mastodon")


def test_a_crawl_that_is_interrupted_keeps_what_it_had(world, site):
    address = serve(site, "one", "two", "three")

    class Interrupted:
        def __init__(self, fetcher):
            self.fetcher = fetcher

        def fetch(self, url, **options):
            if url.endswith("/three"):
                raise KeyboardInterrupt
            return self.fetcher.fetch(url, **options)

    real = world.fetcher
    world.fetcher = Interrupted(real)
    with pytest.raises(KeyboardInterrupt):
        world.crawl(address)
    assert set(world.texts()) == {"one", "two"}
    world.fetcher = real
    assert world.crawl(address).totals == {"unchanged": 2, "stored": 1}


def test_documents_are_written_before_fetch_states(world, site):
    address = serve(site, "one")
    world.warehouse.save_links = lambda links: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        world.crawl(address)
    assert set(world.texts()) == {"one"}
    del world.warehouse.save_links
    assert outcomes(world.crawl(address)) == {"one": "unchanged"}


def test_pages_that_want_a_browser_are_read_through_it(world, site):
    class Browser:
        def fetch(self, url, **options):
            answer = world.fetcher.fetch(url, **options)
            return answer.model_copy(update={"content": page(WORDS["two"]).encode()})

    site.routes["/one"] = page("Please enable JavaScript.")
    world.crawl(SourceConfig(at=site.at("/one"), browser=True), browser=Browser())
    assert WORDS["two"] in world.texts()["one"]
    [line] = world.crawl(SourceConfig(at=site.at("/one"), browser=True)).lines
    assert line.outcome == LinkOutcome.FAILED and "browser" in line.detail


def test_the_authors_name_may_be_an_alias(world, site):
    site.routes["/one"] = article("one")
    world.crawl(site.at("/one"), author="ada   WINTER")
    assert world.live(AUTHOR)


# Defects of parsers


@pytest.mark.parametrize("error", [ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError])
def test_a_page_on_which_a_parser_fails_is_one_line_and_costs_no_neighbour(world, site, monkeypatch, caplog, error):
    def broken(content, **about):
        if about["url"].endswith("/one"):
            raise error("planted")
        return read_page(content, **about)

    monkeypatch.setattr(pages, "read_page", broken)
    report = world.crawl(serve(site, "one", "two"), site.at("/one"))
    assert outcomes(report) == {"one": "failed", "two": "stored"} and reasons(report) == {"one": "parser-error"}
    assert error.__name__ in report.lines[0].detail and "planted" in report.lines[0].detail
    assert "Traceback" in caplog.text and "in broken" in caplog.text


def test_a_feed_entry_on_which_a_parser_fails_costs_no_neighbour(world, site, monkeypatch):
    def broken(source, url, *rest):
        if url.endswith("/one"):
            raise IndexError("planted")
        return draft(source, url, *rest)

    draft = pages._draft
    monkeypatch.setattr(pages, "_draft", broken)
    entries = [(f"/{name}", WORDS[name] * 20) for name in ("one", "two")]
    site.routes["/feed.xml"] = atom(site, *entries)
    report = world.crawl(site.at("/feed.xml"))
    assert (outcomes(report)["one"], outcomes(report)["two"]) == ("failed", "stored")


@pytest.mark.parametrize(("module", "name"), [(run, "list_source"), (crawl_of_site, "_Frontier"), (run, "source_type")])
def test_a_source_on_which_a_parser_fails_is_one_line_and_the_others_are_read(
    world, site, monkeypatch, tmp_path, module, name
):
    (tmp_path / "note.md").write_text("some words of a note")
    note = SourceConfig(at=str(tmp_path / "note.md"))
    world.crawl(serve(site, "one"))
    whole = getattr(module, name)

    def broken(first, *rest, **more):
        if first is note:
            return whole(first, *rest, **more)
        raise TypeError("planted")

    monkeypatch.setattr(module, name, broken)
    at = site.at("/" if module is crawl_of_site else "/sitemap.xml")
    report = world.crawl(at, note)
    assert outcomes(report)["note.md"] == "stored" and "one" in world.texts()
    [line] = [line for line in report.lines if line.source == at]
    assert (line.outcome, line.reason) == ("failed", "parser-error") and "TypeError (planted)" in line.detail
