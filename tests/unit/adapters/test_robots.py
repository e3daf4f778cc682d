import pytest

from llm_engineering.adapters.network_guard import parse_target
from llm_engineering.adapters.robots import Robots
from llm_engineering.domain.errors import FetchFailed, FetchRefused
from tests.doubles.clock import Clock


class Site:
    """Texts of robots.txt by address; an exception is raised."""

    def __init__(self, answer):
        self.answer = answer
        self.asked = []

    def __call__(self, url):
        self.asked.append(url)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def robots(site, clock=None, **options):
    return Robots(site, user_agent="llm-twin/0.1 (+https://example.org)", clock=clock or Clock(), **options)


RULES = """
User-agent: *
Disallow: /
User-agent: llm-twin
Disallow: /private
Allow: /private/open
Disallow: /*.pdf$
Crawl-delay: 7
"""


@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/", True), ("/private/a", False), ("/private/open/a", True), ("/a.pdf", False), ("/a.pdf?x", True)],
)
def test_the_group_that_names_us_decides_and_the_longest_rule_wins(path, allowed):
    rules = robots(Site(RULES))
    if allowed:
        assert rules.delay(parse_target(f"https://example.org{path}")) == 7
    else:
        with pytest.raises(FetchRefused) as refusal:
            rules.delay(parse_target(f"https://example.org{path}"))
        assert refusal.value.reason == "robots"


@pytest.mark.parametrize(
    ("text", "delay"),
    [
        ("", 0),
        ("\ufeff<html>not found</html>\x00", 0),
        ("User-agent: *\nCrawl-delay: nan", 0),
        ("User-agent: *\nCrawl-delay: -5", 0),
        ("User-agent: *\nCrawl-delay: inf", 0),
        ("User-agent: *\nRequest-rate: 1/10s", 10),
    ],
)
def test_any_text_is_read_as_far_as_it_goes(text, delay):
    assert robots(Site(text)).delay(parse_target("https://example.org/")) == delay


def test_a_site_is_asked_once_a_day():
    site, clock = Site(""), Clock()
    rules = robots(site, clock)
    for _ in range(3):
        rules.delay(parse_target("https://example.org/a"))
    clock.now += 25 * 3600
    rules.delay(parse_target("https://example.org/b"))
    assert site.asked == ["https://example.org/robots.txt"] * 2


def test_every_scheme_host_and_port_speaks_for_itself():
    site = Site("")
    rules = robots(site)
    for url in ["https://example.org/", "http://example.org/", "https://example.org:8443/", "https://www.example.org/"]:
        rules.delay(parse_target(url))
    assert len(set(site.asked)) == 4


def test_a_server_that_cannot_tell_forbids_everything():
    with pytest.raises(FetchRefused) as refusal:
        robots(Site(FetchFailed("busy", reason="http-503"))).delay(parse_target("https://example.org/"))
    assert refusal.value.reason == "robots-unreachable"


@pytest.mark.parametrize("reason", ["dns", "connection", "timeout", "tls"])
def test_a_site_out_of_reach_says_so(reason):
    with pytest.raises(FetchFailed) as failure:
        robots(Site(FetchFailed("no way", reason=reason))).delay(parse_target("https://example.org/"))
    assert failure.value.reason == reason


def test_a_dead_site_is_not_asked_again_for_every_page():
    site, clock = Site(FetchFailed("no way", reason="connection")), Clock()
    rules = robots(site, clock)
    for _ in range(3):
        with pytest.raises(FetchFailed):
            rules.delay(parse_target("https://example.org/"))
    assert len(site.asked) == 1
    site.answer, clock.now = "", clock.now + 600
    assert rules.delay(parse_target("https://example.org/")) == 0


def test_memory_stays_bounded_over_many_sites():
    rules = robots(Site(""), capacity=10)
    for number in range(100):
        rules.delay(parse_target(f"https://{number}.example/"))
    assert len(rules) == 10
