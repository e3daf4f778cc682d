"""Sitemaps in all their forms, and the addresses that list instead of telling."""

import gzip
from datetime import UTC, datetime
from pathlib import Path

import pytest

from llm_engineering.crawl.sitemaps import is_listing_page, listing_kind, read_sitemap
from llm_engineering.domain.errors import FetchRefused, SourceError

URL = "https://example.org/sitemap.xml"
HEAD = '<?xml version="1.0" encoding="UTF-8"?><urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">'


def test_a_sitemap_lists_its_pages_with_their_dates(data: Path) -> None:
    sitemap = read_sitemap((data / "sitemaps_feeds" / "sitemap.xml").read_bytes(), url=URL)

    assert len(sitemap.pages) == 84 and not sitemap.children
    assert sitemap.pages[0].url == "https://www.sitemaps.org/"
    assert sitemap.pages[0].last_modified == datetime(2016, 11, 21, tzinfo=UTC)


def test_a_gzipped_sitemap_says_the_same_as_the_plain_one(data: Path) -> None:
    folder = data / "sitemaps_feeds"

    packed = read_sitemap((folder / "sitemap.xml.gz").read_bytes(), url=URL + ".gz")

    assert packed == read_sitemap((folder / "sitemap.xml").read_bytes(), url=URL)


def test_an_index_lists_further_sitemaps(data: Path) -> None:
    sitemap = read_sitemap((data / "sitemaps_feeds" / "sitemap2.xml").read_bytes(), url=URL)

    assert sitemap.children == ("http://www.example.com/sitemap1.xml.gz", "http://www.example.com/sitemap2.xml.gz")
    assert not sitemap.pages


def test_language_variants_are_not_counted_as_further_pages(data: Path) -> None:
    sitemap = read_sitemap((data / "sitemaps_feeds" / "sitemap-hreflang.xml").read_bytes(), url=URL)

    assert [page.url for page in sitemap.pages] == [
        "http://www.example.com/english/page.html",
        "http://www.example.com/deutsch/page.html",
        "http://www.example.com/schweiz-deutsch/page.html",
    ]


def test_a_text_file_of_addresses_is_a_sitemap() -> None:
    sitemap = read_sitemap(
        b"\xef\xbb\xbfhttps://example.org/a\r\nhttps://example.org/b\nhttps://example.org/a\n", url=URL
    )

    assert [page.url for page in sitemap.pages] == ["https://example.org/a", "https://example.org/b"]


def test_relative_addresses_are_resolved_and_what_is_no_address_is_left_out() -> None:
    locations = ("/a", "  https://example.org/b \n", "javascript:alert(1)", "", "http://[broken")
    content = HEAD + "".join(f"<url><loc>{loc}</loc></url>" for loc in locations) + "</urlset>"

    assert [page.url for page in read_sitemap(content.encode(), url=URL).pages] == [
        "https://example.org/a",
        "https://example.org/b",
    ]


def test_images_and_videos_of_a_page_do_not_replace_its_address() -> None:
    content = (
        HEAD
        + '<url><loc>https://example.org/a</loc><i:image xmlns:i="http://www.google.com/schemas/sitemap-image/1.1">'
        "<i:loc>https://example.org/a.png</i:loc></i:image></url></urlset>"
    )

    assert [page.url for page in read_sitemap(content.encode(), url=URL).pages] == ["https://example.org/a"]


def test_entities_are_refused() -> None:
    lol = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    content = HEAD.replace("?><urlset", f"?>{lol}<urlset") + "<url><loc>&b;</loc></url></urlset>"

    with pytest.raises(SourceError, match="entities"):
        read_sitemap(content.encode(), url=URL)


def test_a_file_outside_is_never_read() -> None:
    content = HEAD.replace("?><urlset", '?><!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><urlset')

    with pytest.raises(SourceError, match="entities"):
        read_sitemap((content + "<url><loc>&f;</loc></url></urlset>").encode(), url=URL)


def test_a_gzip_bomb_is_refused_at_the_limit() -> None:
    with pytest.raises(FetchRefused) as refusal:
        read_sitemap(gzip.compress(b"https://example.org/\n" * 1_000_000), url=URL, max_bytes=100_000)

    assert refusal.value.reason == "too-large"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "got an empty answer"),
        (b"<!DOCTYPE html><html><body>Not found</body></html>", "got an HTML page"),
        (b"User-agent: *\nDisallow: /\n", "got something else"),
        (HEAD.encode() + b"<url><loc>https://example.org/a</loc>", "not well-formed"),
        (gzip.compress(b"https://example.org/a\n" * 50)[:-20], "ends before its end"),
        (b"\x1f\x8b\x08\x00" + b"\xff" * 40, "damaged"),
    ],
)
def test_what_is_no_sitemap_says_what_it_is(content: bytes, complaint: str) -> None:
    with pytest.raises(SourceError, match=complaint):
        read_sitemap(content, url=URL)


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("/tag/python.html", "tag"),
        ("/tags/", "tag"),
        ("/category/opinion/", "category"),
        ("/archives.html", "archive"),
        ("/archive/2019/", "archive"),
        ("/2019/", "archive"),
        ("/2019/05/", "archive"),
        ("/blog/2019/05/08/", "archive"),
        ("/author/jane/", "author"),
        ("/author/jane-doe.html", "author"),
        ("/search?q=x", "search"),
        ("/?s=word", "search"),
        ("/wp-login.php", "login"),
        ("/login", "login"),
        ("/feeds/all.atom.xml", "feed"),
        ("/feed/", "feed"),
        ("/post/feed/", "feed"),
        ("/index.xml", "feed"),
        ("/page/2/", "pagination"),
        ("/index3.html", "pagination"),
        ("/blog?page=4", "pagination"),
        ("/post/?replytocom=12", "variant"),
        ("/wp-json/wp/v2/posts", "variant"),
        ("/images/a.PNG", "asset"),
        ("/theme/main.css", "asset"),
        ("/paper.pdf", "asset"),
        ("/sitemap.xml", "sitemap"),
    ],
)
def test_lists_forms_and_assets_are_told_by_their_address(address: str, kind: str) -> None:
    assert listing_kind(f"https://example.org{address}") == kind


@pytest.mark.parametrize(
    "address",
    [
        "/",
        "/about/",
        "/blog/2019/05/08/why-logs/",
        "/2019/05/why-logs.html",
        "/posts/how-tags-work",
        "/posts/search-engines-explained/",
        "/posts/the-author-of-my-life",
        "/p/on-archives",
        "/login-systems-compared",
        "/posts/page-caches-in-linux/",
        "/feedback",
        "/posts/10",
        "/til/python/tag-parsing.html",
        "/?p=123",
        "/article.php?id=7",
        "/2019-in-review",
        "/why-i-left-2019/",
        "/post.html?utm_source=x",
    ],
)
def test_texts_are_not_taken_for_lists(address: str) -> None:
    assert not is_listing_page(f"https://example.org{address}")


def test_every_post_of_a_real_blog_is_a_text_and_every_tag_page_a_list(data: Path) -> None:
    rows = (data / "blog_html_jakevdp" / "posts.tsv").read_text(encoding="utf-8").splitlines()[1:]

    assert not [row for row in rows if is_listing_page(row.split("\t")[0])]
    assert is_listing_page("http://jakevdp.github.io/tag/tutorial2.html")
    assert is_listing_page("http://jakevdp.github.io/index6.html")
