import gzip
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_engineering.adapters.http_content import accepted, media_type, read_body, sniffed
from llm_engineering.domain.errors import FetchFailed, FetchRefused

URL = "https://example.org/"


def bare_deflate(data):
    engine = zlib.compressobj(wbits=-15)
    return engine.compress(data) + engine.flush()


ENCODERS = {"": bytes, "identity": bytes, "gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress}


@settings(max_examples=60)
@given(st.binary(max_size=3000), st.sampled_from([*ENCODERS.items(), ("deflate", bare_deflate)]), st.integers(2, 999))
def test_every_encoding_gives_back_the_body_however_it_is_cut(body, encoder, step):
    name, encode = encoder
    sent = encode(body)
    parts = [sent[at : at + step] for at in range(0, len(sent), step)]
    assert read_body(iter(parts), encoding=name, limit=3000, url=URL) == body


def test_a_long_body_is_inflated_to_its_end():
    body = b"ab" * 1_000_000
    assert read_body([gzip.compress(body)], encoding="gzip", limit=3_000_000, url=URL) == body


def test_gzip_members_in_a_row_are_one_body():
    sent = gzip.compress(b"one ") + gzip.compress(b"two") + b"\0\0"
    assert read_body([sent], encoding="gzip", limit=100, url=URL) == b"one two"


def test_a_decompression_bomb_is_left_alone_after_the_limit():
    bomb = gzip.compress(b"\0" * 200_000_000)
    read = []

    def parts():
        for at in range(0, len(bomb), 1000):
            read.append(at)
            yield bomb[at : at + 1000]

    with pytest.raises(FetchRefused) as refusal:
        read_body(parts(), encoding="gzip", limit=1_000_000, url=URL)
    assert refusal.value.reason == "too-large"
    assert len(read) < 5


@pytest.mark.parametrize(
    ("sent", "encoding"),
    [
        (gzip.compress(b"x" * 1000)[:-12], "gzip"),
        (gzip.compress(b"x" * 1000)[:10], "gzip"),
        (b"\x1f\x8bnonsense....", "gzip"),
        (b"plain text", "gzip"),
        (b"anything", "br"),
        (gzip.compress(gzip.compress(b"x")), "gzip, gzip"),
    ],
)
def test_a_body_that_cannot_be_decoded_is_no_page(sent, encoding):
    with pytest.raises(FetchFailed) as failure:
        read_body([sent], encoding=encoding, limit=10_000, url=URL)
    assert failure.value.reason == "content-encoding"


def test_a_body_may_be_cut_at_the_limit_instead_of_refused():
    assert read_body([b"abc", b"def", b"ghi"], encoding="", limit=4, url=URL, cut=True) == b"abcd"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("Text/HTML; Charset=UTF8", ("text/html", "utf-8")),
        ('text/html; charset="iso-8859-1"', ("text/html", "iso8859-1")),
        ("text/html; charset=klingon", ("text/html", None)),
        ("text/html", ("text/html", None)),
        ("", ("", None)),
        ("text/html; charset=\0", ("text/html", None)),
        (";;;", ("", None)),
    ],
)
def test_media_type_and_a_charset_that_can_be_used(header, expected):
    assert media_type(header) == expected


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\xef\xbb\xbf  <!DOCTYPE html><p>", "text/html"),
        (b"<?xml version='1.0'?><rss/>", "application/xml"),
        (b'{"a": 1}', "application/json"),
        (b"%PDF-1.7", "application/pdf"),
        (b"\x1f\x8b\x08", "application/gzip"),
        (b"plain words", "text/plain"),
        (b"\x89PNG\0\0", "application/octet-stream"),
    ],
)
def test_an_unnamed_type_is_told_from_its_first_bytes(content, kind):
    assert sniffed(content) == kind


def test_patterns_accept_families_of_types():
    assert accepted("text/html", ("text/*",)) and accepted("image/png", ())
    assert not accepted("image/png", ("text/*", "application/xml"))
