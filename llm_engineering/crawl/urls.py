"""One page, one address: the canonical form of URLs, and what an address says about its source.

Parsing is Ada's, the WHATWG parser: what browsers read as one host is never read as another one here.
"""

import re
from pathlib import Path
from urllib.parse import unquote_plus

from ada_url import URL

from llm_engineering.domain.errors import UsageError


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TRACKING_PREFIXES = ("utm_", "mtm_", "pk_", "hsa_")
_TRACKING = _words(
    """
    fbclid gclid gclsrc gbraid wbraid dclid msclkid yclid twclid ttclid igshid igsh li_fat_id mc_cid mc_eid _hsenc
    _hsmi mkt_tok vero_id oly_anon_id oly_enc_id _ga _gl ref_src ref_url __s s_cid cmpid wt.mc_id
    """
)
_TRACKING_BY_SITE = {
    "medium.com": frozenset({"source"}),
    "substack.com": _words("r s publication_id post_id isfreemail triedredirect showwelcome showwelcomeonshare"),
    "linkedin.com": _words("trk trackingid lipi refid origin"),
    "youtube.com": frozenset({"si", "feature"}),
    "twitter.com": frozenset({"s", "t"}),
    "x.com": frozenset({"s", "t"}),
}
_REFERRERS = _words(
    """
    hn hackernews hacker_news news.ycombinator.com twitter x facebook linkedin reddit lobsters producthunt rss
    feed newsletter email home share tldr
    """
)
"""Values that make ``?ref=`` a note on where the reader came from; any other may select content."""

_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})|%")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")

_GITHUB_OWNER = re.compile(r"[A-Za-z0-9](?:-?[A-Za-z0-9]){0,38}")
_GITHUB_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")
_GITHUB_PAGES = _words(
    """
    about account apps collections contact customer-stories dashboard enterprise events explore features issues
    join login logout marketplace new notifications orgs organizations pricing pulls resources search security
    sessions settings signup site solutions sponsors stars team topics trending users
    """
)
"""First path segments of github.com that are no owners."""


def canonical_url(url: str, *, base: str | None = None) -> str:
    """The one form of an http(s) URL; applying it again changes nothing.

    Scheme and host in lower case (IDNA), default port, fragment and tracking parameters dropped, dot segments resolved,
    percent-encoding in RFC 3986 normal form, order of the remaining query kept. Relative URLs need a ``base``.
    Raises :class:`UsageError` for what is no http(s) URL, and for ``user@`` in front of the host.
    """
    parsed = _parse(url, base)
    path = _normal_escapes(parsed.pathname)
    query = "&".join(
        part
        for part in _normal_escapes(parsed.search.removeprefix("?")).split("&")
        if part and not _is_tracking(part, parsed.hostname)
    )
    return f"{parsed.protocol}//{parsed.host}{path}" + (f"?{query}" if query else "")


def host_of(url: str) -> str:
    """Host in lower case without its port; an IPv6 address without brackets. Errors as :func:`canonical_url`."""
    return str(_parse(url).hostname).strip("[]")


def same_site(first: str, second: str) -> bool:
    """Whether two URLs are on one host and port; ``www.`` and the scheme make no difference."""
    one, other = (str(_parse(url).host).removeprefix("www.") for url in (first, second))
    return one == other


def path_to_url(path: Path) -> str:
    """``file://`` URI of a path: absolute, links resolved, so that one file has one address."""
    return path.expanduser().resolve().as_uri()


def is_github_repository(url: str) -> tuple[str, str] | None:
    """Owner and name, if this is the address of a repository on github.com itself; ``None`` for all else.

    Pages inside a repository (issues, files) are no repositories, and neither are look-alike hosts.
    """
    try:
        parsed = _parse(url)
    except UsageError:
        return None
    if parsed.host not in {"github.com", "www.github.com"}:
        return None
    parts = _normal_escapes(parsed.pathname).strip("/").split("/")
    if len(parts) != 2 or parts[0].lower() in _GITHUB_PAGES:
        return None
    owner, name = parts[0], parts[1].removesuffix(".git")
    if not _GITHUB_OWNER.fullmatch(owner) or not _GITHUB_NAME.fullmatch(name) or name in {".", ".."}:
        return None
    return owner, name


def _parse(url: str, base: str | None = None) -> URL:
    shown = ascii(url[:200])
    try:
        parsed = URL(url, base=base)
    except ValueError as error:
        raise UsageError(
            f"{shown} is not a URL", hint="Give a full address such as https://example.org/post."
        ) from error
    if parsed.protocol not in {"http:", "https:"}:
        raise UsageError(f"{shown} is not a web address", hint="Only http:// and https:// URLs are crawled.")
    if parsed.username or parsed.password:
        # Not shown: it may be a password, or be there to make the host look like another one.
        raise UsageError(
            f"A URL of {parsed.hostname} carries a user name or password",
            hint="Give the address without the part before @.",
        )
    return parsed


def _normal_escapes(text: str) -> str:
    """Escapes of unreserved characters decoded, all others in upper case; a lone ``%`` is escaped itself."""

    def normal(match: re.Match[str]) -> str:
        if match[1] is None:
            return "%25"
        character = chr(int(match[1], 16))
        return character if character in _UNRESERVED else match[0].upper()

    return _ESCAPE.sub(normal, text)


def _is_tracking(part: str, host: str) -> bool:
    key, _, value = part.partition("=")
    name, value = unquote_plus(key).lower(), unquote_plus(value).lower()
    if name in _TRACKING or name.startswith(_TRACKING_PREFIXES):
        return True
    if name == "ref":
        return value in _REFERRERS
    if name == "source" and re.fullmatch(r"rss(-.*)?", value):  # Medium's feeds, also on their authors' own domains
        return True
    return any(
        (host == site or host.endswith(f".{site}")) and name in names for site, names in _TRACKING_BY_SITE.items()
    )
