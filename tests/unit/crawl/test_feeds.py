"""RSS, Atom and JSON feeds."""

import json
import tarfile
from collections.abc import Callable
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


@pytest.mark.parametrize(
    ("title", "meant"),
    [
        ("Hi &#55357;&#56832;", "Hi 😀"),
        ("Hi &#xD83D;&#xde00;!", "Hi 😀!"),
        ("Hi &#55357 &#56832;", "Hi \ufffd \ufffd"),
        ("<![CDATA[Hi &#55357;&#56832;]]>", "Hi 😀"),
        ("&#x110000;&#99999999999;", "\ufffd\ufffd"),
        ("&#" + "9" * 5000 + ";", "\ufffd"),
        ("&#0000000000000233;&#x1F600;", "é😀"),
    ],
)
@pytest.mark.parametrize("rest", ["", "<broken"])
def test_a_character_reference_that_means_no_character_costs_nothing_else(title: str, meant: str, rest: str) -> None:
    assert first(rss(f"<title>{title}</title><link>/a</link>") + rest.encode()).title == meant


def test_what_the_xml_parser_fails_on_is_a_feed_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (ValueError("chr() arg not in range"), OverflowError("too large")):
        monkeypatch.setattr("feedparser.parse", raising(error))
        with pytest.raises(SourceError, match="broken XML"):
            read_feed(rss("<link>/a</link>"), url=URL)


def raising(error: Exception) -> Callable[..., None]:
    def parse(*_: object, **__: object) -> None:
        raise error

    return parse


def test_a_summary_that_is_never_closed_is_read_as_far_as_it_goes() -> None:
    read_feed(atom('<link href="/a"/><summary type="xhtml"></content:encoded>'), url=URL)


@pytest.mark.parametrize(
    ("fields", "author"),
    [
        ({"authors": True}, None),
        ({"authors": 7, "author": {"name": "Ann"}}, None),
        ({"authors": {"name": "Ann"}}, "Ann"),
        ({"authors": [], "author": {"name": "Ann"}}, "Ann"),
        ({"authors": [None, {"name": ["x"]}, {"name": "Ann"}, {"name": "Bo\ud83d"}]}, "Ann, Bo\ufffd"),
        ({"author": "Ann"}, None),
    ],
)
def test_authors_of_a_json_feed_are_objects_with_a_name(fields: dict[str, object], author: str | None) -> None:
    assert first(json_feed({"url": "/a", **fields})).author == author


def test_what_is_no_text_in_a_json_feed_is_no_text() -> None:
    entry = first(
        json_feed({"url": "/a", "title": 1984, "content_html": {"a": 1}, "content_text": ["x"], "summary": True})
    )

    assert (entry.title, entry.text, entry.summary) == ("1984", "", "")


def test_items_of_a_json_feed_without_an_address_are_reported() -> None:
    content = json_feed(
        17, {"id": 1.5, "title": "Lost"}, {"url": ["/a"], "content_text": "Some\nwords."}, {"url": "/a"}
    )

    feed = read_feed(content, url=URL)

    assert [entry.url for entry in feed.entries] == ["https://example.org/a"]
    assert feed.problems == (
        "entry 1 has no address",
        "entry “Lost” has no address",
        "entry “Some words.” has no address",
    )


def json_feed(*items: object, **fields: object) -> bytes:
    return json.dumps({**fields, "version": "https://jsonfeed.org/version/1.1", "items": items}).encode()


_NAMES = (
    *("url", "id", "title", "summary", "content_html", "content_text", "date_published", "date_modified"),
    *("authors", "author", "name", "language", "tags", "version", "items", "next_url", "attachments"),
)
_LEAF = (
    st.sampled_from(
        [None, True, False, 0, 17, "/a", "https://example.org/a", "http://[", "2024-05-06", "<p>Text", "\ud83d"]
    )
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()), max_size=20)
)
_FLAT = _LEAF | st.lists(_LEAF, max_size=2) | st.dictionaries(st.sampled_from(_NAMES), _LEAF, max_size=3)
_JSON = _FLAT | st.lists(_FLAT, max_size=3)
_OBJECT = st.fixed_dictionaries({}, optional=dict.fromkeys(_NAMES, _JSON))


@settings(max_examples=200, deadline=None)
@given(st.lists(_OBJECT | _JSON, max_size=3), _OBJECT)
def test_any_json_inside_a_json_feed_is_read(items: list[object], fields: dict[str, object]) -> None:
    feed = read_feed(json_feed(*items, **fields), url=URL)

    assert len(feed.entries) + len(feed.problems) <= len(items)
    feed.model_dump_json().encode()


@settings(max_examples=100, deadline=None)
@given(_OBJECT)
def test_any_json_instead_of_a_feed_is_refused(content: dict[str, object]) -> None:
    with pytest.raises(SourceError, match="no JSON Feed"):
        read_feed(json.dumps(content).encode(), url=URL)


_REFERENCES = st.integers(0, 1 << 40) | st.integers(0xD700, 0xE100) | st.integers(0x10FFF0, 0x110010)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(_REFERENCES, st.sampled_from(["&#{};", "&#x{:x};", "&#X{:X}", "&#{} ", "&amp;#{};"])), max_size=6
    )
)
def test_any_character_reference_is_read(references: list[tuple[int, str]]) -> None:
    text = "".join(form.format(number) for number, form in references)

    feed = read_feed(rss(f"<title>{text}</title><link>/a</link>", encoded(text)) + text.encode(), url=URL)

    assert len(feed.entries) == 1
    feed.model_dump_json().encode()


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="<>/&;![]CDATA\"'= abitemlnk\n", max_size=80))
def test_any_rubbish_inside_a_feed_is_read_or_refused(rubbish: str) -> None:
    try:
        feed = read_feed(rss("<link>/a</link>", rubbish), url=URL)
    except SourceError:
        return
    assert all(entry.url.startswith("http") for entry in feed.entries)
