"""Reading the body of an HTTP answer: bounded decompression, media type, charset."""

import codecs
import zlib
from collections.abc import Iterable, Sequence
from email.message import Message
from fnmatch import fnmatchcase

from llm_engineering.domain.errors import FetchFailed, FetchRefused

ACCEPT_ENCODING = "gzip, deflate"
_STEP = 64 * 1024


def read_body(raw: Iterable[bytes], *, encoding: str, limit: int, url: str, cut: bool = False) -> bytes:
    """The decoded body, of at most ``limit`` bytes; never more than that and one step is held in memory.

    A longer one is refused (``too-large``), or with ``cut`` read so far and no farther. Raises :class:`FetchFailed`
    (``content-encoding``) if the body is damaged, cut short or encoded in a way that was not asked for.
    """
    body = bytearray()
    for part in _decoded(raw, encoding, url):
        body += part
        if len(body) > limit:
            if cut:
                return bytes(body[:limit])
            raise FetchRefused(f"{url} is larger than {limit} bytes", reason="too-large", hint="See crawl.max_bytes.")
    return bytes(body)


def _decoded(raw: Iterable[bytes], encoding: str, url: str) -> Iterable[bytes]:
    names = [name for name in (part.strip().lower() for part in encoding.split(",")) if name not in {"", "identity"}]
    if not names:
        return raw
    if names in (["gzip"], ["x-gzip"], ["deflate"]):
        return _inflated(raw, url)
    raise FetchFailed(
        f"{url} was sent in the encoding {encoding!r}, which was not asked for", reason="content-encoding"
    )


def _inflated(raw: Iterable[bytes], url: str) -> Iterable[bytes]:
    """Inflate a step at a time: a decompressor without a limit would unpack 64 KiB of zeros to 64 MiB in one go."""
    engine = None
    try:
        for part in raw:
            if engine is None:
                engine = zlib.decompressobj(_window_bits(part))
            pending, full = part, False
            while pending or full or engine.eof:
                if engine.eof:
                    pending = pending or engine.unused_data
                    if not pending.strip(b"\0"):  # padding after the end
                        break
                    engine = zlib.decompressobj(_window_bits(pending))  # gzip allows several members in a row
                out = engine.decompress(pending, _STEP)
                pending, full = engine.unconsumed_tail, len(out) == _STEP
                yield out
        if engine is not None and not engine.eof:
            raise FetchFailed(f"{url} ended in the middle of its compressed body", reason="content-encoding")
    except zlib.error as error:
        raise FetchFailed(f"{url} sent a damaged compressed body", reason="content-encoding") from error


def _window_bits(start: bytes) -> int:
    """What zlib needs to know: gzip and zlib headers are told apart by it; some servers send bare deflate."""
    zlib_header = len(start) > 1 and start[0] & 0x0F == 8 and int.from_bytes(start[:2], "big") % 31 == 0
    return zlib.MAX_WBITS | 32 if zlib_header or start[:1] == b"\x1f" else -zlib.MAX_WBITS


def media_type(header: str) -> tuple[str, str | None]:
    """Media type in lower case without parameters, and the charset if Python knows it."""
    message = Message()
    message["Content-Type"] = header
    kind = header.partition(";")[0].strip().lower()
    charset = message.get_content_charset()
    try:
        return kind, codecs.lookup(charset).name if charset else None
    except (LookupError, ValueError):
        return kind, None


def sniffed(content: bytes) -> str:
    """A careful guess at the media type of an answer that names none."""
    start = content[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for prefixes, kind in (
        ((b"<!doctype html", b"<html", b"<head", b"<body"), "text/html"),
        ((b"<?xml", b"<rss", b"<feed", b"<urlset", b"<sitemapindex"), "application/xml"),
        ((b"{", b"["), "application/json"),
        ((b"\x1f\x8b",), "application/gzip"),
        ((b"%pdf-",), "application/pdf"),
    ):
        if start.startswith(prefixes):
            return kind
    return "application/octet-stream" if b"\0" in content[:1024] else "text/plain"


def accepted(kind: str, accept: Sequence[str]) -> bool:
    """Whether a media type is among those asked for (``text/*`` is a pattern; nothing asked for takes all)."""
    return not accept or any(fnmatchcase(kind, pattern.lower()) for pattern in accept)
