"""Reading real pages of other people: annotated ones, and a whole blog."""

import json
import re
import tarfile
import textwrap
from collections import Counter
from pathlib import Path

import lxml.html
import pytest

from llm_engineering.crawl.extract import Page, read_page


def unmarked(text: str) -> str:
    return " ".join(re.sub(r"[*_`\\]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)).split())


def test_segments_titles_and_dates_of_annotated_pages(data: Path) -> None:
    """31 pages of others' choosing; measured: 180 of 182 segments, 29 of 30 titles, 27 of 28 dates."""
    folder = data / "extraction_cc"
    right: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    for note in json.loads((folder / "annotations.json").read_text(encoding="utf-8")):
        read = read_page((folder / "html" / note["file"]).read_bytes(), url=note["url"])
        text = unmarked(read.text)
        checks = [("with", unmarked(segment) in text) for segment in note["with"]]
        checks += [("without", unmarked(segment) not in text) for segment in note["without"]]
        checks += [("title", read.title == note["title"])] if note["title"] else []
        checks += (
            [("date", f"{read.published_at:%Y-%m-%d}" == note["date"])] if note["date"] and read.published_at else []
        )
        asked.update({"date": 1} if note["date"] and not read.published_at else {})
        asked.update(name for name, _ in checks)
        right.update(name for name, passed in checks if passed)

    shares = {name: right[name] / asked[name] for name in asked}
    assert shares["with"] >= 0.99 and shares["without"] >= 0.97
    assert shares["title"] >= 0.96 and shares["date"] >= 0.96


@pytest.fixture(scope="module")
def blog(data: Path) -> dict[str, tuple[str, str, bytes]]:
    """The posts of a real blog: address → title, date, page."""
    folder = data / "blog_html_jakevdp"
    with tarfile.open(folder / "site_v2.tar.xz") as archive:
        files = {member.name.removeprefix("./"): archive.extractfile(member) for member in archive if member.isfile()}
        pages = {name: file.read() for name, file in files.items() if file and name.endswith("index.html")}
    rows = [line.split("\t") for line in (folder / "posts.tsv").read_text(encoding="utf-8").splitlines()[1:]]
    return {
        url: (title, published[:10], pages[f"{url.removeprefix('http://jakevdp.github.io/')}index.html"])
        for url, published, title, in_pack in rows
        if in_pack == "1"
    }


@pytest.fixture(scope="module")
def read_blog(blog: dict[str, tuple[str, str, bytes]]) -> dict[str, Page]:
    return {url: read_page(content, url=url) for url, (_, _, content) in blog.items()}


def test_titles_and_dates_of_every_post_of_a_real_blog(
    blog: dict[str, tuple[str, str, bytes]], read_blog: dict[str, Page]
) -> None:
    found = {url: (read.title, f"{read.published_at:%Y-%m-%d}") for url, read in read_blog.items()}

    assert found == {url: (title, date) for url, (title, date, _) in blog.items()}


def test_every_code_block_of_a_real_blog_is_kept_exactly(
    blog: dict[str, tuple[str, str, bytes]], read_blog: dict[str, Page]
) -> None:
    wrong = []
    for url, (_, _, content) in blog.items():
        post = lxml.html.document_fromstring(content.decode()).find_class("article_content")[0]
        written = [pre.text_content().strip("\n") for pre in post.iter("pre")]
        fences = re.findall(r"^( *)(`{3,})[^\n`]*\n(.*?)\n\1\2$", read_blog[url].text, re.MULTILINE | re.DOTALL)
        kept = [textwrap.dedent(code) if indent else code for indent, _, code in fences]
        wrong += [url for code in written if code.strip() and code not in kept and textwrap.dedent(code) not in kept]
        wrong += [url] if len(kept) != sum(bool(code.strip()) for code in written) else []

    assert not wrong


def test_every_paragraph_of_a_real_blog_is_kept_and_nothing_of_its_navigation(
    blog: dict[str, tuple[str, str, bytes]], read_blog: dict[str, Page]
) -> None:
    lost, total = 0, 0
    for url, (_, _, content) in blog.items():
        post = lxml.html.document_fromstring(content.decode()).find_class("article_content")[0]
        text = "".join(re.findall(r"\w+", unmarked(read_blog[url].text)))
        for paragraph in post.iter("p", "li", "h2", "h3", "h4"):
            words = "".join(re.findall(r"\w+", unmarked(paragraph.text_content())))
            total += 1
            lost += words not in text
        assert not re.search(
            r"Toggle navigation|blog comments powered|Pythonic Perambulations\b.*Archive", read_blog[url].text
        )

    assert lost <= 0.01 * total
