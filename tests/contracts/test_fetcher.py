"""The port Fetcher, run against every adapter: the browser's answers come through the same door as the client's."""

import gzip
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from llm_engineering.adapters.httpx import HttpxFetcher
from llm_engineering.domain.config import CrawlConfig
from llm_engineering.domain.errors import FetchFailed, FetchRefused
from tests.doubles.clock import Clock
from tests.doubles.web import Answer, LocalSite, dripping, gzipped, redirect

Make = Callable[..., HttpxFetcher]


@pytest.fixture
def site():
    with LocalSite({"/": "<p>hello</p>"}) as site:
        yield site


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def make(site, clock):
    """A fetcher that may contact the local site, its pauses cut short; keywords are numbers of the crawl."""
    opened = []

    def open_fetcher(*, allow_private=None, resolver=None, github_token=None, **numbers):
        options = {"resolver": resolver} if resolver else {}
        fetcher = HttpxFetcher(
            CrawlConfig(**{"timeout": 5.0, **numbers}),
            allow_private=(site.host,) if allow_private is None else allow_private,
            github_token=github_token,
            clock=clock,
            sleep=clock.sleep,
            **options,
        )
        opened.append(fetcher)
        return fetcher

    yield open_fetcher
    for fetcher in opened:
        fetcher.close()


@pytest.fixture
def fetcher(make):
    return make()


def refusal_of(fetcher, url, **options):
    with pytest.raises(FetchRefused) as refusal:
        fetcher.fetch(url, **options)
    return refusal.value.reason


def failure_of(fetcher, url, **options):
    with pytest.raises(FetchFailed) as failure:
        fetcher.fetch(url, **options)
    return failure.value.reason


# What an answer says


def test_a_page_arrives_with_what_its_server_says_about_it(site, fetcher):
    site.routes["/p"] = Answer("hé".encode("latin-1"), content_type="Text/HTML; charset=ISO-8859-1", etag='"1"')
    page = fetcher.fetch(site.at("/p#part"))
    assert (page.status, page.content, page.content_type, page.etag) == (200, b"h\xe9", "text/html", '"1"')
    assert page.content.decode(page.charset) == "hé"
    assert (page.url, page.final_url, page.moved_permanently) == (site.at("/p#part"), site.at("/p"), False)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 451])
def test_a_4xx_is_an_answer_without_content(site, fetcher, status):
    site.routes["/p"] = Answer("sorry", status=status)
    page = fetcher.fetch(site.at("/p"), accept=["application/xml"])
    assert (page.status, page.content) == (status, b"")


def test_validators_that_still_hold_bring_no_content(site, fetcher):
    site.routes["/p"] = Answer("text", etag='W/"7"', last_modified="Sat, 01 Aug 2026 10:00:00 GMT")
    first = fetcher.fetch(site.at("/p"))
    by_tag = fetcher.fetch(site.at("/p"), etag=first.etag)
    by_date = fetcher.fetch(site.at("/p"), last_modified=first.last_modified)
    assert [page.not_modified for page in (first, by_tag, by_date)] == [False, True, True]
    assert by_tag.content == b""


def test_a_304_that_nobody_asked_for_is_a_failure(site, fetcher):
    site.routes["/p"] = Answer(status=304)
    assert failure_of(fetcher, site.at("/p")) == "http-304"


def test_the_crawler_says_who_it_is_and_nothing_more(site, make):
    site.routes["/"] = Answer("x", headers={"Set-Cookie": "id=1; Path=/"})
    fetcher = make(user_agent="my-twin/1.0", github_token="sesame")
    for _ in range(2):
        fetcher.fetch(site.at("/"))
    assert {request.headers["user-agent"] for request in site.requests} == {"my-twin/1.0"}
    assert not any({"cookie", "authorization", "referer"} & request.headers.keys() for request in site.requests)


# Redirects


@pytest.mark.parametrize(
    ("statuses", "permanent"), [((301,), True), ((308, 301), True), ((302,), False), ((301, 307), False)]
)
def test_a_page_has_moved_if_every_redirect_is_permanent(site, fetcher, statuses, permanent):
    for hop, status in enumerate(statuses):
        site.routes[f"/{hop}"] = redirect(f"/{hop + 1}", status)
    site.routes[f"/{len(statuses)}"] = "here"
    page = fetcher.fetch(site.at("/0"))
    assert (page.content, page.final_url) == (b"here", site.at(f"/{len(statuses)}"))
    assert page.moved_permanently is permanent


def test_redirects_end_at_the_limit(site, make):
    site.routes.update({f"/{hop}": redirect(f"/{hop + 1}") for hop in range(9)})
    site.routes["/9"] = "end"
    fetcher = make(max_redirects=3)
    assert fetcher.fetch(site.at("/6")).content == b"end"
    assert refusal_of(fetcher, site.at("/5")) == "redirects"


def test_a_circle_of_redirects_is_left_at_once(site, fetcher):
    site.routes.update({"/a": redirect("/b"), "/b": redirect("/a#again")})
    assert failure_of(fetcher, site.at("/a")) == "redirect-loop"
    assert site.paths == ["/a", "/b"]


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("http://127.0.0.1:1/", "private-address"),
        ("http://2130706433:1/", "private-address"),
        ("http://[::ffff:7f00:1]:1/", "private-address"),
        ("http://169.254.169.254/latest/meta-data/", "private-address"),
        ("//0x7f.1:1/", "private-address"),
        ("file:///etc/passwd", "scheme"),
        ("http://github.com@127.0.0.1/", "userinfo"),
        ("http://[bad/", "bad-url"),
    ],
)
def test_a_redirect_leads_nowhere_that_a_link_may_not(site, fetcher, location, reason):
    site.routes["/away"] = redirect(location)
    assert refusal_of(fetcher, site.at("/away")) == reason


# Addresses


def test_a_public_page_cannot_redirect_to_a_private_host(site, make):
    with LocalSite({"/": "secret"}) as inside:
        site.routes["/away"] = redirect(f"http://inside.example:{inside.port}/")
        fetcher = make(allow_private=(f"outside.example:{site.port}",), resolver=lambda host, port: ["127.0.0.1"])
        assert fetcher.fetch(f"http://outside.example:{site.port}/").status == 200
        assert refusal_of(fetcher, f"http://outside.example:{site.port}/away") == "private-address"
        assert inside.requests == []


def test_nothing_is_asked_of_a_private_host_not_even_its_robots_txt(site, make):
    assert refusal_of(make(allow_private=()), site.at("/")) == "private-address"
    with pytest.raises(FetchRefused):
        make(allow_private=()).addresses(site.at("/"))
    assert site.requests == []


def test_the_address_that_was_checked_is_the_one_that_is_contacted(site, make):
    """No other resolver knows this name, so an answer proves that nothing was resolved a second time."""
    fetcher = make(allow_private=("127.0.0.1/32",), resolver=lambda host, port: ["127.0.0.1"])
    fetcher.fetch(f"http://only-here.invalid:{site.port}/")
    assert {request.headers["host"] for request in site.requests} == {f"only-here.invalid:{site.port}"}


def test_a_name_that_changes_its_address_meanwhile_is_refused(site, make):
    """The first answer is permitted (127.0.0.2 stands for a public address), every later one points inside."""
    answers = [["127.0.0.2"]]
    with LocalSite({"/robots.txt": Answer(status=404, headers={"Connection": "close"})}, host="127.0.0.2") as outside:
        fetcher = make(
            allow_private=("127.0.0.2/32",), resolver=lambda host, port: answers.pop() if answers else ["127.0.0.1"]
        )
        assert refusal_of(fetcher, f"http://rebinding.example:{outside.port}/") == "private-address"
        assert [request.path for request in outside.requests] == ["/robots.txt"]
    assert site.requests == []


def test_a_dead_address_is_passed_over_for_the_next_one(site, make):
    fetcher = make(allow_private=("127.0.0.0/8",), resolver=lambda host, port: ["127.0.0.9", "127.0.0.1"])
    assert fetcher.fetch(f"http://two.example:{site.port}/").status == 200


def test_proxies_of_the_environment_are_not_used(site, make, monkeypatch):
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]:
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert make().fetch(site.at("/")).status == 200


# Robots and pacing


def test_what_robots_txt_forbids_is_not_asked_for(site, fetcher):
    site.routes["/robots.txt"] = "User-agent: *\nDisallow: /private"
    assert refusal_of(fetcher, site.at("/private/a")) == "robots"
    assert fetcher.fetch(site.at("/")).status == 200
    assert (site.paths, site.times("/robots.txt")) == (["/"], 1)


def test_a_redirect_into_a_forbidden_place_is_refused(site, fetcher):
    site.routes.update({"/robots.txt": "User-agent: *\nDisallow: /b", "/a": redirect("/b"), "/b": "x"})
    assert refusal_of(fetcher, site.at("/a")) == "robots"
    assert site.paths == ["/a"]


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_site_without_robots_txt_allows_everything(site, fetcher, status):
    site.routes["/robots.txt"] = Answer("User-agent: *\nDisallow: /", status=status)
    assert fetcher.fetch(site.at("/")).status == 200


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_site_whose_robots_txt_fails_forbids_everything(site, make, status):
    site.routes["/robots.txt"] = Answer(status=status)
    assert refusal_of(make(retries=1), site.at("/")) == "robots-unreachable"
    assert site.paths == []


def test_a_huge_robots_txt_is_read_as_far_as_its_limit(site, fetcher):
    site.routes["/robots.txt"] = "User-agent: *\nDisallow: /private\n" + "# padding\n" * 200_000
    assert refusal_of(fetcher, site.at("/private")) == "robots"


def test_robots_txt_may_lie_behind_a_redirect(site, fetcher):
    site.routes.update({"/robots.txt": redirect("/rules"), "/rules": "User-agent: *\nDisallow: /private"})
    assert refusal_of(fetcher, site.at("/private")) == "robots"


def test_requests_to_one_host_are_paced_by_the_longer_of_both_delays(site, make, clock):
    site.routes["/robots.txt"] = "User-agent: *\nCrawl-delay: 4"
    fetcher = make(delay=1.5)
    for _ in range(3):
        fetcher.fetch(site.at("/"))
    assert clock.slept == [1.5, 4, 4]


def test_a_crawl_delay_beyond_the_longest_pause_is_refused(site, make, clock):
    site.routes["/robots.txt"] = "User-agent: *\nCrawl-delay: 3600"
    assert refusal_of(make(max_delay=60), site.at("/")) == "crawl-delay"
    assert (site.paths, clock.slept) == ([], [])


# Patience


def test_a_busy_server_is_asked_again_with_growing_pauses(site, make, clock):
    site.routes["/p"] = [Answer(status=503), Answer(status=502), Answer(status=429), "at last"]
    assert make(delay=0, retries=3).fetch(site.at("/p")).content == b"at last"
    assert clock.slept == [0.5, 1, 2]


def test_patience_ends_after_the_last_retry(site, make):
    site.routes["/p"] = Answer(status=503)
    assert failure_of(make(retries=2), site.at("/p")) == "http-503"
    assert site.times("/p") == 3


def test_an_error_that_will_not_pass_is_not_retried(site, make):
    site.routes["/p"] = Answer(status=501)
    assert failure_of(make(retries=3), site.at("/p")) == "http-501"
    assert site.times("/p") == 1


def test_retry_after_in_seconds_is_kept(site, make, clock):
    site.routes["/p"] = [Answer(status=429, headers={"Retry-After": "17"}), "ok"]
    assert make(delay=0).fetch(site.at("/p")).content == b"ok"
    assert clock.slept == [17]


def test_retry_after_as_a_date_is_kept(site, make, clock):
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    site.routes["/p"] = [Answer(status=503, headers={"Retry-After": date}), "ok"]
    assert make(delay=0).fetch(site.at("/p")).content == b"ok"
    assert 1 < clock.slept[0] <= 30


@pytest.mark.parametrize("value", ["Thu, 01 Jan 1970 00:00:00 GMT", "soon", "-5", "", "1e9", "²"])
def test_a_retry_after_without_sense_is_an_ordinary_pause(site, make, clock, value):
    site.routes["/p"] = [Answer(status=503, headers={"Retry-After": value.encode().decode("latin-1")}), "ok"]
    assert make(delay=0).fetch(site.at("/p")).content == b"ok"
    assert clock.slept == [0.5]


def test_a_retry_after_beyond_the_longest_pause_is_refused_for_the_whole_host(site, make, clock):
    site.routes["/p"] = Answer(status=503, headers={"Retry-After": "9" * 400})
    fetcher = make(max_delay=60, delay=0)
    assert refusal_of(fetcher, site.at("/p")) == "retry-after"
    assert refusal_of(fetcher, site.at("/")) == "retry-after"
    assert (site.paths, clock.slept) == (["/p"], [])


def test_a_lost_connection_is_tried_again(site, make, clock):
    broken = Answer("cut short", headers={"Content-Length": "1000", "Connection": "close"})
    site.routes["/p"] = [broken, "whole"]
    assert make(delay=0).fetch(site.at("/p")).content == b"whole"
    assert clock.slept == [0.5]


def test_a_host_that_is_down_fails_and_is_given_up_after_its_retries(make, clock):
    with LocalSite() as gone:
        url = gone.at("/")
    fetcher = make(allow_private=("127.0.0.1",), retries=2, delay=0)
    assert failure_of(fetcher, url) == "connection"
    assert failure_of(fetcher, url) == "connection"
    assert len(clock.slept) == 2


def test_a_name_that_does_not_exist_fails_as_dns(make):
    assert failure_of(make(), "http://does-not-exist.invalid/") == "dns"


# Limits


def test_a_page_of_exactly_the_limit_is_taken_and_one_byte_more_is_not(site, make):
    site.routes.update({"/fits": "x" * 1000, "/over": "x" * 1001})
    fetcher = make(max_bytes=1000)
    assert len(fetcher.fetch(site.at("/fits")).content) == 1000
    assert refusal_of(fetcher, site.at("/over")) == "too-large"


def test_a_stream_without_a_length_is_stopped_at_the_limit(site, make):
    site.routes["/p"] = Answer(parts=lambda: (b"x" * 1000 for _ in range(1_000_000)))
    assert refusal_of(make(max_bytes=5000), site.at("/p")) == "too-large"


def test_a_decompression_bomb_is_refused(site, make):
    site.routes["/bomb"] = gzipped(b"\0" * 50_000_000)
    assert refusal_of(make(max_bytes=1_000_000), site.at("/bomb")) == "too-large"


def test_compressed_pages_are_unpacked_and_archives_are_not(site, fetcher):
    site.routes["/page"] = gzipped(b"<p>hello</p>")
    site.routes["/sitemap.xml.gz"] = Answer(gzip.compress(b"<urlset/>"), content_type="application/gzip")
    assert fetcher.fetch(site.at("/page")).content == b"<p>hello</p>"
    assert gzip.decompress(fetcher.fetch(site.at("/sitemap.xml.gz")).content) == b"<urlset/>"


def test_a_body_that_drips_runs_out_of_time(site):
    site.routes["/p"] = dripping(2000, every=0.05)
    with HttpxFetcher(CrawlConfig(timeout=0.5, retries=0, delay=0), allow_private=(site.host,)) as fetcher:
        assert failure_of(fetcher, site.at("/p")) == "timeout"


def test_headers_that_drip_run_out_of_time():
    """Every read gets a byte well within a timeout of its own."""
    over = threading.Event()

    def drip(listener):
        with listener.accept()[0] as connection, suppress(ConnectionError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
            while not over.wait(0.05):
                connection.sendall(b".")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip, args=(listener,))
        thread.start()
        host = f"127.0.0.1:{listener.getsockname()[1]}"
        with HttpxFetcher(CrawlConfig(timeout=0.5, retries=0), allow_private=(host,)) as fetcher:
            assert failure_of(fetcher, f"http://{host}/") == "timeout"
        over.set()
        thread.join()


@pytest.mark.parametrize(
    ("accept", "kind", "taken"),
    [
        (["text/html"], "text/html; charset=utf-8", True),
        (["text/*"], "text/markdown", True),
        (["text/html"], "application/pdf", False),
        ([], "application/pdf", True),
        (["text/html"], None, True),
        (["application/xml"], None, False),
    ],
)
def test_only_the_types_asked_for_are_taken(site, fetcher, accept, kind, taken):
    site.routes["/p"] = Answer("<html>hello</html>", content_type=kind)
    if taken:
        assert fetcher.fetch(site.at("/p"), accept=accept).content == b"<html>hello</html>"
    else:
        assert refusal_of(fetcher, site.at("/p"), accept=accept) == "content-type"


def test_many_threads_share_one_fetcher(site, make):
    site.routes.update({f"/{number}": f"page {number}" for number in range(24)})
    fetcher, pages = make(delay=0), {}
    threads = [
        threading.Thread(target=lambda n=n: pages.update({n: fetcher.fetch(site.at(f"/{n}")).content}))
        for n in range(24)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pages == {number: b"page %d" % number for number in range(24)}
    assert site.times("/robots.txt") == 1
