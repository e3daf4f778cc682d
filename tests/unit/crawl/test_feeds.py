"""RSS, Atom and JSON feeds."""

import json
import tarfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_engineering.crawl.feeds import FeedEntry, read_feed
from llm_engineering.domain.errors import SourceError

URL = "https://example.org/feed.xml"
CONTENT = "http://purl.org/rss/1.0/modules/content/"


@pytest.fixture(scope="module")
def atom_of_a_blog(data: Path) -> bytes:
    with tarfile.open(data / "blog_html_jakevdp" / "site_v2.tar.xz") as archive:
        member = next(member for member in archive if member.name.endswith("feeds/all.atom.xml"))
        file = archive.extractfile(member)
        assert file is not None
        return file.read()


def rss(*items: str, channel: str = "") -> bytes:
    body = "".join(f"<item>{item}</item>" for item in items)
    return (
        f'<rss version="2.0" xmlns:content="{CONTENT}"><channel><title>T</title>{channel}{body}</channel></rss>'
    ).encode()


def atom(*entries: str, head: str = "") -> bytes:
    body = "".join(f"<entry>{entry}</entry>" for entry in entries)
    return f'<feed xmlns="http://www.w3.org/2005/Atom"><title>T</title>{head}{body}</feed>'.encode()


def first(content: bytes) -> FeedEntry:
    return read_feed(content, url=URL).entries[0]


def encoded(markup: str) -> str:
    return f"<link>/a</link><content:encoded><![CDATA[{markup}]]></content:encoded>"


def test_an_rss_feed_is_read(data: Path) -> None:
    feed = read_feed((data / "sitemaps_feeds" / "feed2.rss").read_bytes(), url=URL)

    assert feed.title == "RSS Title"
    assert feed.entries[0].url == "http://www.example.com/blog/post/1"
    assert feed.entries[0].published_at == datetime(2009, 9, 6, 16, 20, tzinfo=UTC)


def test_an_atom_feed_is_read(data: Path) -> None:
    feed = read_feed((data / "sitemaps_feeds" / "feed1.atom").read_bytes(), url=URL)

    assert [entry.title for entry in feed.entries] == ["Atom-Powered Robots Run Amok", "Self-referenced link"]
    assert feed.entries[0].author == "John Doe"


def test_a_json_feed_is_read(data: Path) -> None:
    feed = read_feed((data / "sitemaps_feeds" / "feed.json").read_bytes(), url=URL)

    assert (feed.title, len(feed.entries)) == ("Technology", 25)
    assert feed.entries[0].author == "Manoush Zomorodi"
    assert not any(entry.complete for entry in feed.entries)  # its contents are the summaries over again


def test_a_real_blog_s_feed_names_every_post_with_its_date(data: Path, atom_of_a_blog: bytes) -> None:
    feed = read_feed(atom_of_a_blog, url="http://jakevdp.github.io/feeds/all.atom.xml")
    rows = [line.split("\t") for line in (data / "blog_html_jakevdp" / "posts.tsv").read_text().splitlines()[1:]]
    expected = {url: (datetime.fromisoformat(published), title) for url, published, title, _ in rows}

    assert {entry.url: (entry.published_at, entry.title) for entry in feed.entries} == expected
    assert not any(entry.complete for entry in feed.entries)


def test_full_content_is_kept_as_markdown_with_its_code() -> None:
    code = '<pre><code class="language-python">def f():\n    return  1\n</code></pre>'

    entry = first(rss(encoded(f"<p>Read <a href='/b'>this</a>:</p>{code}")))

    assert entry.text == "Read [this](https://example.org/b):\n\n```python\ndef f():\n    return  1\n```"
    assert entry.complete


@pytest.mark.parametrize(
    "ending",
    [
        "It was late […]",
        "It was late [...]",
        "It was late …",
        "It was late. <a href='/a'>Read more</a>",
        "It was late. <a href='/a'>Continue reading “Late” →</a>",
        "It was late. <a href='/a'>Weiterlesen</a>",
        "It was late. <a class='more-link' href='/a'>(more)</a>",
    ],
)
def test_content_that_breaks_off_is_not_the_whole_text(ending: str) -> None:
    assert not first(rss(encoded(f"<p>{ending}</p>"))).complete


def test_a_summary_alone_is_not_the_whole_text() -> None:
    entry = first(rss("<link>/a</link><description>All &lt;b&gt;there&lt;/b&gt; is.</description>"))

    assert (entry.text, entry.summary, entry.complete) == ("", "All **there** is.", False)


def test_content_that_repeats_the_summary_is_not_the_whole_text() -> None:
    assert not first(rss("<description>Short.</description>" + encoded("<p>Short.</p>"))).complete


def test_the_line_that_wordpress_appends_is_not_the_author_s() -> None:
    trailer = '<p>The post <a href="/a">Late</a> appeared first on <a href="/">Blog</a>.</p>'

    entry = first(rss(encoded(f"<p>It was late.</p>{trailer}")))

    assert (entry.text, entry.complete) == ("It was late.", True)


def test_relative_addresses_are_resolved_against_the_feed() -> None:
    assert first(atom('<link href="../posts/a"/>')).url == "https://example.org/posts/a"


def test_an_entry_without_link_is_found_by_its_permanent_id() -> None:
    assert first(rss("<guid>https://example.org/p/1</guid>")).url == "https://example.org/p/1"


def test_an_entry_without_any_address_is_reported() -> None:
    feed = read_feed(rss('<title>Lost</title><guid isPermaLink="false">17</guid>'), url=URL)

    assert (feed.entries, feed.problems) == ((), ("entry “Lost” has no address",))


def test_an_address_occurs_once() -> None:
    feed = read_feed(rss("<title>New</title><link>/a</link>", "<title>Old</title><link>/a</link>"), url=URL)

    assert [entry.title for entry in feed.entries] == ["New"]


def test_the_next_page_of_a_feed_is_named() -> None:
    assert read_feed(atom(head='<link rel="next" href="?page=2"/>'), url=URL).next_url == f"{URL}?page=2"
    content = {"version": "https://jsonfeed.org/version/1.1", "title": "T", "items": [], "next_url": "/2.json"}
    assert read_feed(json.dumps(content).encode(), url=URL).next_url == "https://example.org/2.json"


@pytest.mark.parametrize(
    ("title", "meant"),
    [
        ("<title>Q&amp;amp;A</title>", "Q&A"),
        ("<title>Why &lt;em&gt;logs&lt;/em&gt; grow</title>", "Why logs grow"),
        ("<title><![CDATA[“Quotes” – and dashes]]></title>", "“Quotes” – and dashes"),
        ("<title>The &lt;pre&gt; element</title>", "The <pre> element"),
        ("<title>\n  Two\n  lines </title>", "Two lines"),
    ],
)
def test_titles_are_read_as_people_see_them(title: str, meant: str) -> None:
    assert first(rss(f"{title}<link>/a</link>")).title == meant


def test_json_content_may_be_plain_text() -> None:
    item = {
        "id": "1",
        "url": "https://example.org/a",
        "content_text": "Plain.\n\n  Indented.",
        "authors": [{"name": "Ann"}],
    }
    content = {"version": "https://jsonfeed.org/version/1.1", "title": "T", "language": "de-AT", "items": [item]}

    feed = read_feed(json.dumps(content).encode(), url=URL)

    assert (feed.language, feed.entries[0].author) == ("de", "Ann")
    assert (feed.entries[0].text, feed.entries[0].complete) == ("Plain.\n\n  Indented.", True)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "iso-8859-1"])
def test_a_feed_is_read_in_the_encoding_that_it_declares(encoding: str) -> None:
    content = f'<?xml version="1.0" encoding="{encoding}"?>' + rss("<title>Über Größe</title><link>/a</link>").decode()

    assert first(content.encode(encoding)).title == "Über Größe"


def test_broken_xml_costs_no_more_than_what_is_broken() -> None:
    content = rss("<title>A & B</title><link>/a</link>", "<title>C</title><link>/c</link>")

    assert [entry.url for entry in read_feed(content, url=URL).entries] == [
        "https://example.org/a",
        "https://example.org/c",
    ]


@pytest.mark.parametrize("definition", ['<!ENTITY a "aaaaaaaa">', '<!ENTITY a SYSTEM "file:///etc/passwd">'])
@pytest.mark.parametrize("rest", ["", "<broken"])
def test_entities_are_refused(definition: str, rest: str) -> None:
    content = f"<!DOCTYPE rss [{definition}]>".encode() + rss("<title>&a;</title><link>/a</link>") + rest.encode()

    with pytest.raises(SourceError, match="entities"):
        read_feed(content, url=URL)


def test_a_page_instead_of_a_feed_is_refused_with_the_feed_that_it_names() -> None:
    page = (
        b'<!DOCTYPE html><html><head><link rel="alternate" type="application/atom+xml" href="/atom.xml"></head></html>'
    )

    with pytest.raises(SourceError, match=r"HTML page.*https://example.org/atom.xml"):
        read_feed(page, url=URL)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "an empty answer"),
        (b"<urlset></urlset>", "a sitemap"),
        (b'{"items": []}', "no JSON Feed"),
        (b'{"items": ', "broken JSON"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "something else"),
        (b"[1, 2]", "something else"),
    ],
)
def test_what_is_no_feed_says_what_it_is(content: bytes, complaint: str) -> None:
    with pytest.raises(SourceError, match=complaint):
        read_feed(content, url=URL)


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="<>/&;![]CDATA\"'= abitemlnk\n", max_size=80))
def test_any_rubbish_inside_a_feed_is_read_or_refused(rubbish: str) -> None:
    try:
        feed = read_feed(rss("<link>/a</link>", rubbish), url=URL)
    except SourceError:
        return
    assert all(entry.url.startswith("http") for entry in feed.entries)
