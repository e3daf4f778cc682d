"""Which addresses a crawl may contact: public ones, and those that its user has excepted by name.

What a page links to is chosen by strangers. Without a guard a link or a redirect could make the crawler read the
machines next to it: databases, routers, the metadata service of a cloud. The rule is about the addresses that a name
resolves to at the moment of connecting, so no spelling of a host and no change of a DNS answer gets around it.
"""

import ipaddress
import re
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ada_url import URL

from llm_engineering.domain.errors import FetchFailed, FetchRefused, UsageError

Resolver = Callable[[str, int], Sequence[str]]
"""All addresses of a host name, as numeric text. Raises ``OSError`` if there are none."""

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NOT_PUBLIC = tuple(
    ipaddress.ip_network(network)
    for network in (
        "192.88.99.0/24",  # deprecated 6to4 relays
        "2001::/23",  # protocol assignments, among them Teredo tunnels
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: wraps any IPv4 address
        "3fff::/20",  # documentation
    )
)
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")


def is_public(address: str) -> bool:
    """Whether a numeric address belongs to the public internet, also when it wraps an IPv4 address (mapped, NAT64)."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.scope_id is not None:
            return False
        if ip.ipv4_mapped is not None:
            return is_public(str(ip.ipv4_mapped))
        if ip in _NAT64:
            return is_public(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
        if ip not in _GLOBAL_UNICAST:
            return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved) and not any(ip in net for net in _NOT_PUBLIC)


def system_resolver(host: str, port: int) -> list[str]:
    """The addresses that the operating system knows for a host."""
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


@dataclass(frozen=True)
class Target:
    """A parsed http(s) URL. ``host`` is in ASCII, lower case, numeric hosts in normal form, IPv6 without brackets."""

    url: str
    """Without a fragment."""
    scheme: str
    host: str
    port: int

    @property
    def origin(self) -> str:
        """Scheme, host and port: what one robots.txt speaks for."""
        return str(URL(self.url).origin)


def parse_target(url: str, *, base: str | None = None) -> Target:
    """Read a URL as browsers do. Raises :class:`FetchRefused`: ``bad-url``, ``scheme`` or ``userinfo``."""
    shown = ascii(url[:200])
    try:
        parsed = URL(url, base=base)
    except ValueError as error:
        raise FetchRefused(f"{shown} is not a URL", reason="bad-url") from error
    if parsed.protocol not in {"http:", "https:"}:
        raise FetchRefused(f"{shown} is neither http nor https", reason="scheme")
    if parsed.username or parsed.password:
        # Not shown: it may be a password, or be there to make the host look like another one.
        raise FetchRefused(f"A URL of {parsed.hostname} carries a user name or password", reason="userinfo")
    parsed.hash = ""
    scheme = parsed.protocol.removesuffix(":")
    return Target(
        url=parsed.href.removesuffix("#"),
        scheme=scheme,
        host=parsed.hostname.strip("[]"),
        port=int(parsed.port or {"http": 80, "https": 443}[scheme]),
    )


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


class NetworkGuard:
    """Resolves hosts and lets only permitted addresses through. Stateless, thread-safe.

    ``allow_private`` entries: a ``host`` or ``host:port`` (whatever it resolves to), or a network (CIDR; whatever host
    resolves into it). A bad entry is a :class:`UsageError`.
    """

    def __init__(self, allow_private: Iterable[str] = (), *, resolver: Resolver = system_resolver) -> None:
        self._resolver = resolver
        self._hosts: set[tuple[str, int | None]] = set()
        self._networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        for entry in allow_private:
            self._except(entry)

    def addresses(self, host: str, port: int) -> list[str]:
        """Every address of a host, all of them permitted; never empty.

        Raises :class:`FetchRefused` (``private-address``) if a single one is not, :class:`FetchFailed` (``dns``) if
        the host has no address.
        """
        try:
            found = list(dict.fromkeys(self._resolver(host, port)))
        except UnicodeError as error:
            raise FetchRefused(f"{host!a} is not a host name", reason="bad-url") from error
        except OSError as error:
            raise FetchFailed(f"{host} could not be resolved: {error.strerror or error}", reason="dns") from error
        if not found:
            raise FetchFailed(f"{host} has no address", reason="dns")
        if not self._excepted_host(host, port):
            for address in found:
                if not is_public(address) and not self._in_excepted_network(address):
                    raise FetchRefused(
                        f"{host} resolves to {address}, which is not a public address",
                        reason="private-address",
                        hint=f"If you mean to crawl it, add {_shown(host)}:{port} to CRAWL_ALLOW_PRIVATE.",
                    )
        return found

    def _excepted_host(self, host: str, port: int) -> bool:
        name = host.rstrip(".")
        return (name, None) in self._hosts or (name, port) in self._hosts

    def _in_excepted_network(self, address: str) -> bool:
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:
            return False
        if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        return any(ip in network for network in self._networks)

    def _except(self, entry: str) -> None:
        try:
            if "/" in entry:
                self._networks.append(ipaddress.ip_network(entry, strict=False))
                return
            match = re.fullmatch(r"(\[[^\]]+\]|[^:@]+)(?::(\d{1,5}))?", entry)
            host = f"[{entry}]" if match is None else match[1]  # a bare IPv6 address
            name = URL(f"http://{host}/").hostname.strip("[]").rstrip(".")
        except ValueError as error:
            raise UsageError(
                f"{entry!r} is not a host, host:port or network",
                hint="Correct CRAWL_ALLOW_PRIVATE, for instance: localhost:8000,intranet.example,10.1.0.0/16",
            ) from error
        self._hosts.add((name, int(match[2]) if match and match[2] else None))
