import os
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_engineering.crawl.sources import Source, address_of, source_type
from llm_engineering.domain.config import SourceConfig
from llm_engineering.domain.entities import Author
from llm_engineering.domain.errors import FetchRefused, SourceError, TwinError


def told(at, **config) -> str:
    return source_type(SourceConfig(at=str(at), **config), address_of(str(at)))


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("https://github.com/simonw/llm", "repository"),
        ("https://www.github.com/simonw/llm/", "repository"),
        ("https://gitlab.com/group/project.git", "repository"),
        ("https://github.com.evil.org/simonw/llm", "web"),
        ("https://evil.org/github.com/simonw/llm", "web"),
        ("https://github.com/simonw/llm/issues/1", "web"),
        ("https://example.org/sitemap.xml", "sitemap"),
        ("https://example.org/sitemap_index.xml.gz", "sitemap"),
        ("https://example.org/feed.json", "feed"),
        ("https://example.org/blog/feed/", "feed"),
        ("https://example.org/all.atom", "feed"),
        ("https://example.org/index.xml", "feed"),
        ("https://example.org/", "site"),
        ("https://example.org", "site"),
        ("https://example.org/?p=12", "web"),
        ("https://example.org/2024/a-post", "web"),
    ],
)
def test_a_url_tells_its_type(url, kind):
    assert told(url) == kind


def test_an_explicit_type_goes_before_the_address():
    assert told("https://example.org/", type="article") == "article"
    assert told("https://example.org/feed.xml", type="sitemap") == "sitemap"


def test_a_path_tells_its_type(tmp_path):
    for name in ("git/.git", "bare/objects", "notes", "handbook"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "bare" / "HEAD").write_text("ref: refs/heads/main")
    (tmp_path / "handbook" / "ArticleDocument.json").write_text("[]")
    (tmp_path / "one.md").write_text("a text")
    with zipfile.ZipFile(tmp_path / "linkedin.zip", "w") as archive:
        archive.writestr("Shares.csv", "Date,ShareLink,ShareCommentary\n")
    kinds = {name: told(tmp_path / name) for name in ("git", "bare", "notes", "handbook", "one.md", "linkedin.zip")}
    assert kinds == {
        "git": "repository",
        "bare": "repository",
        "notes": "folder",
        "handbook": "handbook",
        "one.md": "folder",
        "linkedin.zip": "linkedin",
    }


@pytest.mark.parametrize("kind", ["medium", "substack", "linkedin", "folder", "repository", "handbook"])
def test_a_git_repository_is_one_whatever_it_holds_unless_its_type_is_named(tmp_path, kind):
    (tmp_path / ".git").mkdir()
    (tmp_path / "Shares.csv").write_text("Date,ShareLink,ShareCommentary\n")
    (tmp_path / "ArticleDocument.json").write_text("[]")
    assert told(tmp_path) == "repository"
    assert told(tmp_path, type=kind) == kind


def test_one_source_has_one_name_however_it_is_spelled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes").mkdir()
    spellings = ["notes", "./notes/", str(tmp_path / "notes"), (tmp_path / "notes").as_uri()]
    assert {address_of(at).name for at in spellings} == {(tmp_path / "notes").resolve().as_uri()}
    assert address_of("HTTPS://Example.org:443/a?utm_source=x#b").name == "https://example.org/a"


def test_a_path_that_is_not_utf8_has_a_file_address_that_leads_back_to_it(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9 100%"))
    path.mkdir()
    assert path.as_uri().endswith("/caf%E9%20100%25")
    assert address_of(path.as_uri()).path == path.resolve()
    assert address_of(path.as_uri()).name == address_of(str(path)).name


@pytest.mark.parametrize("at", ["ftp://example.org/a", "mailto:ada@example.org", "javascript:alert(1)", "git@host:a/b"])
def test_what_is_neither_web_nor_path_is_refused_with_what_to_do(at):
    with pytest.raises((FetchRefused, SourceError), match=r"Give an http|begins with https"):
        address_of(at)


def test_a_path_that_does_not_exist_says_what_to_do(tmp_path):
    with pytest.raises(SourceError, match=r"no file or folder.*Check the path"):
        address_of(str(tmp_path / "absent"))


def test_a_type_that_does_not_fit_the_address_is_refused(tmp_path):
    with pytest.raises(SourceError, match="Give its URL"):
        told(tmp_path, type="feed")
    with pytest.raises(SourceError, match="Download it"):
        told("https://example.org/", type="folder")


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_one_of_our_errors(at):
    try:
        address = address_of(at)
    except TwinError:
        return
    assert (address.path is None) != (address.url is None)


@pytest.mark.parametrize(
    ("include", "exclude", "kept"),
    [
        ((), (), {"a.md", "docs/b.md", "docs/deep/c.txt"}),
        (("docs/*",), (), {"docs/b.md", "docs/deep/c.txt"}),
        (("*.md",), (), {"a.md", "docs/b.md"}),
        ((), ("*/deep/*", "a.md"), {"docs/b.md"}),
    ],
)
def test_include_and_exclude_are_shell_patterns_over_the_path_or_its_last_part(tmp_path, include, exclude, kept):
    config = SourceConfig(at=str(tmp_path), include=include, exclude=exclude)
    source = Source(config, "folder", address_of(str(tmp_path)), Author.named("Ada"))
    assert {path for path in ("a.md", "docs/b.md", "docs/deep/c.txt") if source.selects(path)} == kept
