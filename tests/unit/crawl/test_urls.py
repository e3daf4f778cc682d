import json
from collections import Counter
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_engineering.crawl.urls import canonical_url, host_of, is_github_repository, path_to_url, same_site
from llm_engineering.domain.errors import UsageError

CANONICAL = [
    ("HTTP://Example.ORG", "http://example.org/"),
    ("https://example.org:443/a", "https://example.org/a"),
    ("http://example.org:80", "http://example.org/"),
    ("http://example.org:8080/", "http://example.org:8080/"),
    ("https://example.org/a#part", "https://example.org/a"),
    ("https://example.org/a?", "https://example.org/a"),
    ("https://example.org/a/./b/../c", "https://example.org/a/c"),
    ("https://example.org/%7Ejo/caf%c3%a9%2f", "https://example.org/~jo/caf%C3%A9%2F"),
    ("https://example.org/café", "https://example.org/caf%C3%A9"),
    ("https://bücher.example/", "https://xn--bcher-kva.example/"),
    ("https://example.org/?b=2&utm_source=x&a=1&UTM_Medium=y", "https://example.org/?b=2&a=1"),
    ("https://example.org/?fbclid=1&gclid=2&mc_cid=3&mc_eid=4&ref_src=twsrc", "https://example.org/"),
    ("https://example.org/?ref=hackernews", "https://example.org/"),
    ("https://example.org/?ref=v1.2&source=book", "https://example.org/?ref=v1.2&source=book"),
    ("https://blog.example.org/p?source=rss----abc---4", "https://blog.example.org/p"),
    ("https://jo.medium.com/p?source=user_profile&sk=1", "https://jo.medium.com/p?sk=1"),
    ("https://notmedium.com/p?source=user_profile", "https://notmedium.com/p?source=user_profile"),
    ("https://jo.substack.com/p/a?r=1a&s=r", "https://jo.substack.com/p/a"),
    ("http://0x7f.1/", "http://127.0.0.1/"),
    ("http://2130706433", "http://127.0.0.1/"),
]
REFUSED = [
    "",
    "example.org",
    "ftp://example.org/",
    "file:///etc/passwd",
    "javascript:alert(1)",
    "https://",
    "https://user@example.org/",
    "https://user:secret@example.org/",
    "https://github.com@evil.org/",
    "https://exa mple.org/",
    "http://[::1/",
    "http://999.1.1.1.1.0x/",
    "https://\udc80.example/",
]


@pytest.mark.parametrize(("given_url", "expected"), CANONICAL)
def test_every_spelling_of_an_address_has_one_canonical_form(given_url, expected):
    assert canonical_url(given_url) == expected


@pytest.mark.parametrize("url", REFUSED)
def test_what_is_no_plain_web_address_is_refused(url):
    with pytest.raises(UsageError):
        canonical_url(url)


def test_the_refusal_of_a_password_does_not_show_it():
    with pytest.raises(UsageError) as refusal:
        canonical_url("https://jo:secret@example.org/")
    assert "secret" not in str(refusal.value)


def test_a_relative_link_is_resolved_against_its_page():
    assert canonical_url("../b?x=1#y", base="https://example.org/a/c/") == "https://example.org/a/b?x=1"


urls = st.builds(
    "{}://{}{}{}".format,
    st.sampled_from(["http", "HTTPS"]),
    st.sampled_from(["example.org", "Bücher.example:443", "[::1]:80", "0x7f.1", "a.b."]),
    st.text(st.sampled_from("/.%2eE0aA~é ?\\;"), max_size=12).map("/".__add__),
    st.text(st.sampled_from("?&=%4utm_refx#+é "), max_size=12).map("?".__add__),
)


@settings(max_examples=300)
@given(urls | st.text(max_size=20).map("https://example.org/".__add__))
def test_canonical_form_is_a_fixed_point(url):
    once = canonical_url(url)
    assert canonical_url(once) == once


@settings(max_examples=100)
@given(st.text(max_size=40))
def test_any_text_is_a_url_or_a_usage_error(text):
    with suppress(UsageError):
        assert canonical_url(text).startswith(("http://", "https://"))


def test_hosts_agree_with_the_web_platform_tests(data: Path):
    cases = json.loads((data / "vectors" / "wpt_urltestdata.json").read_text(encoding="utf-8"))
    counts = Counter()
    for case in (case for case in cases if isinstance(case, dict)):
        base = case["base"] if (case["base"] or "").startswith(("http:", "https:")) else None
        expected = case["hostname"].strip("[]") if case.get("protocol") in {"http:", "https:"} else None
        try:
            ours = canonical_url(case["input"], base=base)
        except UsageError:
            assert expected is None or case["username"] or case["password"], case["input"]
            counts["refused"] += 1
            continue
        # The client that connects must read the same host out of it as the browser would.
        assert httpx.URL(ours).raw_host.decode() == host_of(ours) == expected, case["input"]
        counts["agreed"] += 1
    assert counts == {"agreed": 216, "refused": 675}


@pytest.mark.parametrize(
    ("url", "repository"),
    [
        ("https://github.com/jo/notes", ("jo", "notes")),
        ("https://www.github.com/jo/notes.git", ("jo", "notes")),
        ("HTTPS://GitHub.com/Jo/a.b_c/?tab=readme#x", ("Jo", "a.b_c")),
        ("https://github.com/jo/notes/issues/1", None),
        ("https://github.com/jo", None),
        ("https://github.com/topics/python", None),
        ("https://github.com/-jo/notes", None),
        ("https://github.com/jo/..", None),
        ("https://github.com/jo/a%2Fb", None),
        ("https://github.com.evil.org/jo/notes", None),
        ("https://github.com@evil.org/jo/notes", None),
        ("https://evil.org/github.com/jo/notes", None),
        ("https://evilgithub.com/jo/notes", None),
        ("https://gist.github.com/jo/notes", None),
        ("https://github.com:8443/jo/notes", None),
        ("https://github.com\\.evil.org/jo/notes", None),
        ("git@github.com:jo/notes", None),
        ("/home/jo/notes", None),
    ],
)
def test_only_github_itself_has_github_repositories(url, repository):
    assert is_github_repository(url) == repository


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ("https://www.example.org/b", True),
        ("http://EXAMPLE.org", True),
        ("https://blog.example.org/", False),
        ("https://example.org:8443/", False),
        ("https://example.org.evil.net/", False),
    ],
)
def test_a_site_is_one_host_and_port(other, same):
    assert same_site("https://example.org/a", other) is same


def test_a_file_has_one_address_whatever_the_way_to_it(tmp_path):
    (tmp_path / "a b.md").write_text("x")
    (tmp_path / "link.md").symlink_to(tmp_path / "a b.md")
    address = path_to_url(tmp_path / "sub" / ".." / "link.md")
    assert address == path_to_url(tmp_path / "a b.md")
    assert address.startswith("file:///") and address.endswith("/a%20b.md")
