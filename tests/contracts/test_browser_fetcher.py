"""The port Fetcher through a real Chromium, which must not get to the network by any way of its own."""

import importlib.util
from urllib.parse import quote

import pytest

from llm_engineering.adapters.httpx import HttpxFetcher
from llm_engineering.adapters.playwright import PlaywrightFetcher, find_chromium
from llm_engineering.domain.config import CrawlConfig
from llm_engineering.domain.errors import FetchFailed, FetchRefused, MissingExtra, UsageError
from tests.doubles.web import Answer, LocalSite, redirect


@pytest.fixture
def site():
    with LocalSite() as site:
        yield site


@pytest.fixture
def inside():
    """A host of the intranet that the user has excepted too: pages of other sites must not reach it."""
    with LocalSite({"/": Answer("secret", headers={"Access-Control-Allow-Origin": "*"})}) as inside:
        yield inside


@pytest.fixture
def make(site, inside):
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("playwright is not installed (extra browser)")
    try:
        find_chromium()
    except UsageError as error:
        pytest.skip(str(error))
    opened = []

    def open_browser(**numbers):
        config = CrawlConfig(**{"timeout": 8.0, "delay": 0, "retries": 0, **numbers})
        fetcher = HttpxFetcher(config, allow_private=(site.host, inside.host))
        opened.extend([PlaywrightFetcher(fetcher, config), fetcher])
        return opened[-2]

    yield open_browser
    for one in opened:
        one.close()


@pytest.fixture
def browser(make):
    return make()


def script(text):
    return Answer(text, content_type="text/javascript")


def test_the_text_is_what_scripts_have_made_of_the_page(site, browser):
    site.routes["/"] = "<p id=a>loading</p><script src=/s.js></script>"
    site.routes["/s.js"] = script("fetch('/api').then(r => r.json()).then(d => a.textContent = d.text)")
    site.routes["/api"] = Answer('{"text": "made — by script"}', content_type="application/json")
    page = browser.fetch(site.at("/"))
    assert "made — by script" in page.content.decode(page.charset)
    assert (page.status, page.content_type, page.final_url) == (200, "text/html", site.at("/"))


def test_a_rendered_page_is_never_taken_for_unchanged(site, browser):
    site.routes["/"] = Answer("<p>hi", etag='"1"', last_modified="Sat, 01 Aug 2026 10:00:00 GMT")
    page = browser.fetch(site.at("/"), etag='"1"')
    assert (page.status, page.etag, page.last_modified) == (200, None, None)


def test_what_is_no_page_is_passed_on_as_it_is(site, browser):
    site.routes["/feed"] = Answer("<rss/>", content_type="application/rss+xml", etag='"1"')
    assert browser.fetch(site.at("/feed")).content == b"<rss/>"
    assert browser.fetch(site.at("/missing")).status == 404
    assert browser._chromium is None


def test_redirects_count_before_and_after_rendering(site, browser):
    site.routes.update({"/old": redirect("/new", 301), "/new": "<p>here", "/js": "<script>location = '/new'</script>"})
    moved, sent = browser.fetch(site.at("/old")), browser.fetch(site.at("/js"))
    assert (moved.final_url, moved.moved_permanently) == (site.at("/new"), True)
    assert (sent.final_url, sent.moved_permanently) == (site.at("/new"), False)
    assert b"here" in sent.content


def test_robots_txt_holds_for_the_page_and_its_parts(site, browser):
    site.routes.update({"/robots.txt": "User-agent: *\nDisallow: /private", "/private/s.js": script("1")})
    site.routes["/"] = "<p>hi<script src=/private/s.js></script>"
    assert b"hi" in browser.fetch(site.at("/")).content
    with pytest.raises(FetchRefused):
        browser.fetch(site.at("/private/page"))
    assert site.paths == ["/"]


ATTEMPTS = """
<iframe src="{url}/frame"></iframe><img src="{url}/image"><link rel=stylesheet href="{url}/style">
<link rel=prefetch href="{url}/prefetch"><link rel=preconnect href="{url}"><object data="{url}/object"></object>
<video src="{url}/video"></video><script src="{url}/script"></script><form id=f action="{url}/form" method=post></form>
<p id=a>untouched</p>
<script>
  const leak = text => document.getElementById('a').textContent = text;
  fetch('{url}/').then(r => r.text()).then(leak);
  fetch('/hop').then(r => r.text()).then(leak);
  fetch('{url}/post', {{method: 'POST', body: 'x', mode: 'no-cors'}});
  navigator.sendBeacon('{url}/beacon', 'x');
  new EventSource('{url}/events');
  try {{ new WebSocket('{ws}/socket') }} catch (e) {{}}
  try {{ new Worker('data:text/javascript,' + {worker}) }} catch (e) {{}}
  try {{ navigator.serviceWorker.register('/sw.js') }} catch (e) {{}}
  window.open('{url}/popup');
  document.getElementById('f').target = '_blank'; document.getElementById('f').submit();
  const hidden = document.createElement('iframe'); document.body.append(hidden);
  try {{ hidden.contentWindow.fetch('{url}/hidden') }} catch (e) {{}}
  leak(document.getElementById('a').textContent + ' ' + typeof RTCPeerConnection + typeof WebTransport);
</script>"""


def test_a_page_cannot_reach_another_private_host_by_any_means(site, inside, browser):
    worker = repr(quote(f"fetch('{inside.url}/worker'); importScripts('{inside.url}/imported')"))
    site.routes["/"] = ATTEMPTS.format(url=inside.url, ws=inside.url.replace("http", "ws"), worker=worker)
    site.routes["/hop"] = redirect(inside.at("/"))
    site.routes["/sw.js"] = script(f"fetch('{inside.url}/service-worker')")
    page = browser.fetch(site.at("/"))
    assert b"untouched undefinedundefined" in page.content
    assert inside.requests == []


def test_a_page_may_not_leave_for_where_a_link_may_not_lead(site, inside, browser):
    site.routes.update(
        {"/in": f"<script>location = '{inside.url}/'</script>", "/no": "<script>location = '/x'</script>"}
    )
    site.routes["/post"] = "<form method=post action=/></form><script>document.forms[0].submit()</script>"
    with pytest.raises(FetchRefused) as refusal:
        browser.fetch(site.at("/in"))
    assert (refusal.value.reason, inside.requests) == ("private-address", [])
    with pytest.raises(FetchRefused):
        browser.fetch(site.at("/post"))
    assert (page := browser.fetch(site.at("/no"))).status == 404 and page.content == b""


def test_a_page_that_never_rests_is_taken_as_it_stands(site, make):
    site.routes["/"] = "<p>hi<script>setInterval(() => fetch('/again'), 100)</script>"
    assert b"hi" in make(timeout=4.0).fetch(site.at("/")).content


def test_a_script_that_never_ends_runs_out_of_time_and_harms_no_other_page(site, make):
    site.routes.update({"/stuck": "<script>for (;;);</script>", "/": "<p>hi"})
    browser = make(timeout=2.0)
    with pytest.raises(FetchFailed) as failure:
        browser.fetch(site.at("/stuck"))
    assert failure.value.reason == "timeout"
    assert b"hi" in browser.fetch(site.at("/")).content


def test_a_page_that_grows_beyond_the_limit_is_refused(site, make):
    site.routes["/"] = "<script>document.write('x'.repeat(200000))</script>"
    with pytest.raises(FetchRefused) as refusal:
        make(max_bytes=100_000).fetch(site.at("/"))
    assert refusal.value.reason == "too-large"


def test_a_private_page_is_refused_like_anywhere(make):
    with LocalSite({"/": "secret"}) as other:
        with pytest.raises(FetchRefused) as refusal:
            make().fetch(other.at("/"))
        assert refusal.value.reason == "private-address"


def test_without_playwright_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with HttpxFetcher(CrawlConfig()) as fetcher, pytest.raises(MissingExtra, match=r"\[browser\]"):
        PlaywrightFetcher(fetcher, CrawlConfig())


def test_a_machine_without_chromium_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CHROMIUM_PATH", raising=False)
    with pytest.raises(UsageError, match="Install chromium"):
        find_chromium()
    monkeypatch.setenv("CHROMIUM_PATH", "/no/such/browser")
    with pytest.raises(UsageError, match="/no/such/browser"):
        find_chromium()


def test_a_browser_that_does_not_start_says_so(site, make, monkeypatch):
    monkeypatch.setenv("CHROMIUM_PATH", "/bin/false")
    site.routes["/"] = "<p>hi"
    with pytest.raises(FetchFailed) as failure:
        make().fetch(site.at("/"))
    assert failure.value.reason == "browser"
