"""Pages: what is kept of them, letter by letter, and what they say about themselves."""

import json
import re
from datetime import UTC, datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llm_engineering.crawl.extract import Page, decode, read_page

URL = "https://example.org/posts/a"
BEFORE = "This is how it began, with a paragraph of some length, so that anybody can see that it is meant to be read."
AFTER = "And this is how it ended, with another paragraph of about the same length, for reasons of symmetry, of course."


def page(body: str, *, head: str = "<title>A title</title>", before: str = BEFORE, after: str = AFTER) -> Page:
    markup = (
        f"<!DOCTYPE html><html lang='en'><head>{head}</head><body>"
        "<nav><a href='/'>Home</a> <a href='/about'>About</a></nav>"
        f"<article><h1>A title</h1><p>{before}</p>{body}<p>{after}</p></article>"
        "<footer><p>All rights reserved, and so on.</p></footer></body></html>"
    )
    return read_page(markup.encode(), url=URL)


def between(body: str) -> str:
    """What of the text stands between the two paragraphs."""
    text = page(body).text
    assert text.startswith(BEFORE) and text.endswith(AFTER)
    return text.removeprefix(BEFORE).removesuffix(AFTER).strip("\n")


# The author's text


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("<h2>Part two</h2><h3>Smaller <em>still</em></h3>", "## Part two\n\n### Smaller *still*"),
        (
            "<p>“Quotes” – dashes — and… it’s 5 °C, naïve, 100 % ¿sí?</p>",
            "“Quotes” – dashes — and… it’s 5 °C, naïve, 100 % ¿sí?",
        ),
        ("<p>a <b>bold</b>, <i>thin</i> and <del>gone</del> word</p>", "a **bold**, *thin* and ~~gone~~ word"),
        ("<p>see <a href='../b?x=1#y'>the other</a>.</p>", "see [the other](https://example.org/b?x=1#y)."),
        ("<p>a <a href='#note'>note</a>, <a href='javascript:x()'>a trick</a></p>", "a note, a trick"),
        ("<ul><li>one</li><li>two<ul><li>deep</li></ul></li></ul>", "- one\n- two\n  - deep"),
        ("<ol start='3'><li>three</li><li>four</li></ol>", "3. three\n4. four"),
        pytest.param(f"<ol start='{'9' * 5_000}'><li>many</li></ol>", "1. many", id="number-past-bounds"),
        ("<blockquote><p>Said so.</p><p>Twice.</p></blockquote>", "> Said so.\n>\n> Twice."),
        ("<p>line one<br>line two</p>", "line one  \nline two"),
        ("<p>one<br><br>two</p>", "one\n\ntwo"),
        ("loose text<p>and a paragraph</p>more", "loose text\n\nand a paragraph\n\nmore"),
        ("<p>use <code>a  `b`</code> here</p>", "use `` a `b` `` here"),
        ("<p>E = mc<sup>2</sup>, H<sub>2</sub>O</p>", "E = mc², H₂O"),
        ("<p>the &lt;pre&gt; element, a &lt; b and $x_i * y_i$</p>", "the \\<pre> element, a < b and $x_i * y_i$"),
        ("<p>1. was not a list</p><p># nor a heading</p>", "1\\. was not a list\n\n\\# nor a heading"),
        ("<p>2019. What a year.</p><p>- dash</p>", "2019\\. What a year.\n\n\\- dash"),
        (
            "<table><tr><th>a</th><th>b|c</th></tr><tr><td>1</td><td>2</td></tr></table>",
            "| a | b\\|c |\n| --- | --- |\n| 1 | 2 |",
        ),
        ("<figure><img src='x.png' alt='x'><figcaption>A river, 1910</figcaption></figure>", "A river, 1910"),
        ("<p>so <script type='math/tex'>x^2</script> it is</p>", "so $x^2$ it is"),
        ("<h2>Head<a class='headerlink' href='#head'>¶</a></h2>", "## Head"),
        ("<p>Short.</p>", "Short."),
        ("<hr>", "---"),
        ("<p>שלום עולם, זה כתוב מימין לשמאל.</p>", "שלום עולם, זה כתוב מימין לשמאל."),
        ("<p>Party 🎉👩‍🚀 time</p>", "Party 🎉👩‍🚀 time"),
        ("<p>日本語の文章です。句読点も残ります。</p>", "日本語の文章です。句読点も残ります。"),
    ],
)
def test_the_text_is_kept_as_the_author_wrote_it(markup: str, text: str) -> None:
    assert between(markup) == text


CODE = "def f(x):\n    if x  <  1:\n\n        return `x`"
ESCAPED = CODE.replace("<", "&lt;")
LINES = ESCAPED.split("\n")


@pytest.mark.parametrize(
    ("markup", "language"),
    [
        (f"<pre>{ESCAPED}</pre>", ""),
        (f"<pre>\n{ESCAPED}\n</pre>", ""),
        (f"<pre><code class='language-python'>{ESCAPED}\n</code></pre>", "python"),
        (f"<pre>{ESCAPED.replace(chr(10), '<br>')}</pre>", ""),
        (
            f"<div class='highlight-python3 notranslate'><div class='highlight'><pre><span></span>{ESCAPED}\n</pre></div></div>",
            "python",
        ),
        (
            f"<div class='language-ruby highlighter-rouge'><div class='highlight'><pre><code>{ESCAPED}</code></pre></div></div>",
            "ruby",
        ),
        (f"<div class='highlight highlight-source-shell'><pre>{ESCAPED}</pre></div>", "shell"),
        (f"<pre class='brush: php; title: ; notranslate'>{ESCAPED}</pre>", "php"),
        (
            "<pre class='chroma'><code data-lang='go'>"
            + "".join(
                f"<span class='line'><span class='ln'>{n}</span><span class='cl'>{line}\n</span></span>"
                for n, line in enumerate(LINES)
            )
            + "</code></pre>",
            "go",
        ),
        (
            "<pre class='line-numbers language-css'><code class='language-css'>"
            f"{ESCAPED}<span class='line-numbers-rows'><span></span></span></code></pre>",
            "css",
        ),
        (
            "<div class='highlight-python'><table class='highlighttable'><tr><td class='linenos'><pre>1\n2\n3\n4</pre></td>"
            f"<td class='code'><div class='highlight'><pre>{ESCAPED}\n</pre></div></td></tr></table></div>",
            "python",
        ),
        (
            "<figure class='highlight'><pre><code data-lang='ruby'><table><tr><td class='gutter gl'>"
            "<pre class='lineno'>1\n2\n3\n4\n</pre></td>"
            f"<td class='code'><pre>{ESCAPED}\n</pre></td></tr></table></code></pre></figure>",
            "ruby",
        ),
        (
            "<figure class='highlight python'><table><tr><td class='gutter'><pre><span class='line'>1</span><br></pre></td>"
            "<td class='code'><pre>"
            + "".join(f"<span class='line'>{line}</span><br>" for line in LINES)
            + "</pre></td></tr></table></figure>",
            "python",
        ),
        (
            "<table class='js-file-line-container'>"
            + "".join(
                f"<tr><td class='blob-num'></td><td class='blob-code js-file-line'>{line}</td></tr>" for line in LINES
            )
            + "</table>",
            "",
        ),
    ],
    ids=[
        "plain",
        "newlines",
        "code",
        "breaks",
        "sphinx",
        "rouge",
        "github",
        "brush",
        "hugo",
        "prism",
        "sphinx-numbered",
        "rouge-numbered",
        "hexo",
        "gist",
    ],
)
def test_code_is_kept_to_the_space_whatever_highlights_it(markup: str, language: str) -> None:
    assert between(markup) == f"```{language}\n{CODE}\n```"


def test_code_that_holds_a_fence_gets_a_longer_one() -> None:
    assert between("<pre>```\nx\n```</pre>") == "````\n```\nx\n```\n````"


def test_code_inside_a_list_stays_in_its_item() -> None:
    assert (
        between("<ul><li>first<pre>a\n  b</pre></li><li>then</li></ul>")
        == "- first\n\n  ```\n  a\n    b\n  ```\n\n- then"
    )


def test_the_title_is_not_repeated_in_the_text() -> None:
    assert "A title" not in page("<h2>Part</h2>").text


@pytest.mark.parametrize(
    "furniture",
    [
        "<div class='share-buttons'><a href='https://twitter.com/share'>Tweet</a></div>",
        "<aside><h3>Related posts</h3><ul><li><a href='/b'>Another one</a></li></ul></aside>",
        "<div class='newsletter'><p>Subscribe to my newsletter</p><form><input name='email'></form></div>",
        "<script>var x = 'not text';</script><style>p { color: red }</style>",
        "<div id='comments'><p>First!</p></div>",
    ],
)
def test_what_stands_around_or_between_the_text_is_left_out(furniture: str) -> None:
    assert between(furniture) == ""


def test_a_comment_that_quotes_the_text_does_not_repeat_it() -> None:
    markup = (
        f"<html><body><div><p>{BEFORE}</p><p>{AFTER}</p>"
        f"<ol class='commentlist'><li class='comment'><p>{BEFORE}</p><p>Well said!</p></li></ol></div></body></html>"
    )

    assert read_page(markup.encode(), url=URL).text.count(BEFORE) == 1


@pytest.mark.parametrize(
    "body", ["", "<nav><a href='/'>Home</a></nav>", "<div id='root'></div><script>start()</script>", "<!-- -->"]
)
def test_a_page_without_main_content_has_no_text(body: str) -> None:
    read = read_page(f"<html><head><title>App</title></head><body>{body}</body></html>".encode(), url=URL)

    assert (read.text, read.word_count) == ("", 0)


def test_a_very_short_page_keeps_its_text() -> None:
    read = read_page(
        b"<html><head><title>Hi</title></head><body><h1>Hi</h1><p>Two small words.</p></body></html>", url=URL
    )

    assert (read.title, read.text) == ("Hi", "Two small words.")


# What the page says about itself


@pytest.mark.parametrize(
    ("head", "heading", "title"),
    [
        ("<title>Why logs grow | My Blog</title>", "Why logs grow", "Why logs grow"),
        ("<title>My Blog » Archive » Why logs grow</title>", "Why logs grow", "Why logs grow"),
        ("<title>My Blog</title>", "<a href='/'>My Blog</a>", "My Blog"),
        ("<title>Why logs grow - My Blog</title>", "<a href='/'>My Blog</a>", "Why logs grow"),
        ("<meta property='og:title' content='Why logs grow'><title>x</title>", "", "Why logs grow"),
        ("<meta property='og:site_name' content='My Blog'><title>Why logs grow – My Blog</title>", "", "Why logs grow"),
        ("", "Why logs grow", "Why logs grow"),
        (
            "<title>Simulating Chutes &amp; Ladders: a test - part 1</title>",
            "",
            "Simulating Chutes & Ladders: a test - part 1",
        ),
    ],
)
def test_the_title_is_that_of_the_text(head: str, heading: str, title: str) -> None:
    markup = f"<html><head>{head}</head><body><h1>{heading}</h1><p>{BEFORE}</p></body></html>"

    assert read_page(markup.encode(), url=URL).title == title


@pytest.mark.parametrize(
    ("head", "canonical"),
    [
        ("<link rel='canonical' href='/a'>", "https://example.org/a"),
        ("<base href='https://example.org/x/'><link rel='canonical' href='a'>", "https://example.org/x/a"),
        ("<meta property='og:url' content='https://www.example.org/a'>", "https://www.example.org/a"),
        ("<link rel='canonical' href='https://evil.example.com/a'>", None),
        ("<link rel='canonical' href=''>", None),
        ("<link rel='canonical' href='http://[broken'>", None),
        ("", None),
    ],
)
def test_a_page_names_its_own_address_only_on_its_own_host(head: str, canonical: str | None) -> None:
    assert page("", head=head).url == canonical


def test_date_author_language_and_feeds_are_read() -> None:
    read = page(
        "",
        head="<meta name='author' content='Ann Marsh'>"
        "<meta property='article:published_time' content='2024-03-01T23:30:00+02:00'>"
        "<link rel='alternate' type='application/rss+xml' href='/feed.xml'><link rel='alternate' hreflang='de' href='/de'>",
    )

    assert (read.author, read.language, read.feeds) == ("Ann Marsh", "en", ("https://example.org/feed.xml",))
    assert read.published_at == datetime(2024, 3, 1, 21, 30, tzinfo=UTC)


def test_a_page_without_date_and_author_has_none() -> None:
    assert (page("").published_at, page("").author) == (None, None)


def test_every_link_is_listed_once_and_without_fragment() -> None:
    read = page(
        "<p><a href='b'>b</a> <a href='b#x'>b</a> <a href='mailto:a@b.c'>m</a> <a href='http://[broken'>x</a></p>"
    )

    assert read.links == ("https://example.org/", "https://example.org/about", "https://example.org/posts/b")


@pytest.mark.parametrize(
    ("content", "noindex"), [("noindex, follow", True), ("none", True), ("index", False), ("", False)]
)
def test_a_page_may_ask_not_to_be_indexed(content: str, noindex: bool) -> None:
    assert page("", head=f"<meta name='robots' content='{content}'>").noindex is noindex


# Encodings and broken pages


@pytest.mark.parametrize(
    ("content", "charset", "text"),
    [
        ("Größe".encode(), None, "Größe"),
        ("Größe".encode(), "iso-8859-1", "Größe"),
        ("Größe".encode("cp1252"), None, "Größe"),
        ("“Größe” €".encode("cp1252"), "iso-8859-1", "“Größe” €"),
        ("Größe".encode("utf-8-sig"), "iso-8859-1", "Größe"),
        ("Größe".encode("utf-16"), None, "Größe"),
        ("<p>Größe</p>".encode("utf-16-le"), None, "<p>Größe</p>"),
        ("<p>Größe</p>".encode("utf-16-be"), None, "<p>Größe</p>"),
        ("Größe".encode("utf-32"), None, "Größe"),
        ("日本".encode("shift_jis"), "Shift_JIS", "日本"),
        ("<meta charset='euc-jp'>日本".encode("euc-jp"), None, "<meta charset='euc-jp'>日本"),
        (
            '<?xml version="1.0" encoding="koi8-r"?>Да'.encode("koi8-r"),
            None,
            '<?xml version="1.0" encoding="koi8-r"?>Да',
        ),
        ("日本".encode("iso2022_jp"), "ISO-2022-JP", "日本"),
        ("Größe".encode("cp1252"), "no-such-charset", "Größe"),
        ("Größe".encode("cp1252"), "hex", "Größe"),
        (b"", None, ""),
    ],
)
def test_text_is_decoded_whatever_is_claimed(content: bytes, charset: str | None, text: str) -> None:
    assert decode(content, charset) == text


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([None, "utf-8", "latin-1", "utf-16", "utf-7", "hex", "gb18030", ""]))
def test_any_bytes_are_decoded(content: bytes, charset: str | None) -> None:
    assert isinstance(decode(content, charset), str)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "cp1252", "utf-8"])
def test_a_page_in_any_encoding_says_the_same(encoding: str) -> None:
    markup = f"<html><head><title>Größe</title></head><body><article><p>Größe. {BEFORE}</p></article></body></html>"

    read = read_page(markup.encode(encoding), url=URL)

    assert (read.title, read.text) == ("Größe", f"Größe. {BEFORE}")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"   \n",
        b"\x00",
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(range(256)),
        b"%PDF-1.7\n\xe2\xe3\xcf\xd3\x00\x01\x02\x03",
        b"<!-- only -->",
    ],
)
def test_what_is_no_page_has_no_text(content: bytes) -> None:
    assert read_page(content, url=URL).text == ""


def test_a_page_nested_without_end_is_read() -> None:
    deep = "<div>" * 20_000 + f"<p>{BEFORE}</p>" + "</div>" * 20_000 + f"<p>{AFTER}</p>"

    text = read_page(f"<html><body>{deep}</body></html>".encode(), url=URL).text

    assert BEFORE in text and AFTER in text


def test_inline_elements_nested_without_end_are_read() -> None:
    deep = "<b><i>" * 20_000 + BEFORE

    assert BEFORE in read_page(f"<html><body><p>{AFTER}</p><p>{deep}</p></body></html>".encode(), url=URL).text


PIECES = (
    "<p>|</p>|<div class='a'>|</div>|<ul><li>|</ul>|<pre>|</pre>|<table><tr><td>|</table>|<b>|<br>|<a href='http://[x'>|<!--|-->|"
    "<script>|</script>|&#xD800;|\x00|\ue000|<h1>|<math>|<form>|<input>|<button>|text and words. |" + AFTER
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(PIECES.split("|")), max_size=25))
def test_broken_markup_never_raises(pieces: list[str]) -> None:
    read = read_page(("<html><body>" + "".join(pieces)).encode("utf-8", "surrogatepass"), url=URL)

    assert read.word_count == len(re.findall(r"\w+", read.text))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["@graph", "@type", "author", "name", "datePublished"]), inner, max_size=4)
    ),
    max_leaves=8,
)
_TYPED = st.fixed_dictionaries(
    {"@type": st.sampled_from(["Article", ["BlogPosting"]])},
    optional={"author": _JSON, "datePublished": _JSON, "@graph": _JSON},
)


@settings(max_examples=80, deadline=None)
@example({"@graph": True})
@given(_JSON | _TYPED | st.fixed_dictionaries({"@graph": _JSON | _TYPED | st.lists(_TYPED, max_size=2)}))
def test_any_json_as_linked_data_leaves_the_text_alone(data: object) -> None:
    script = json.dumps(data).replace("<", "\\u003c")

    read = read_page(
        f"<html><head><script type='application/ld+json'>{script}</script></head><body><article><p>{BEFORE}</p>"
        f"<p>{AFTER}</p></article></body></html>".encode(),
        url=URL,
    )

    assert BEFORE in read.text


@pytest.mark.parametrize("graph", [True, 5, "text", None, {}, [], [[]], [None]])
def test_a_graph_that_is_none_hides_nothing_of_the_object_around_it(graph: object) -> None:
    script = json.dumps({"@type": "Article", "author": {"name": "Ada Winter"}, "@graph": graph})

    read = read_page(
        f"<html><head><script type='application/ld+json'>{script}</script></head><body><p>{BEFORE}</p></body></html>".encode(),
        url=URL,
    )

    assert read.author == "Ada Winter"
