import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_engineering.adapters.network_guard import NetworkGuard, is_public, parse_target
from llm_engineering.domain.errors import FetchFailed, FetchRefused, UsageError

PRIVATE = [
    *["0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254", "172.16.0.1"],
    *["192.0.0.1", "192.0.2.1", "192.88.99.1", "192.168.0.1", "198.18.0.1", "203.0.113.9", "224.0.0.1", "240.0.0.1"],
    *["255.255.255.255", "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:a9fe:a9fe"],
    *["64:ff9b::7f00:1", "64:ff9b::10.0.0.1", "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::"],
    *["3fff::1", "fc00::1", "fd12::1", "fe80::1", "fe80::1%eth0", "2606:4700::1%eth0", "fec0::1", "ff02::1", "5f00::1"],
    *["", "localhost", "0x7f.1", "127.1"],
]
PUBLIC = ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::1.1.1.1", "2a00:1450::1"]

# What a browser takes for 127.0.0.1, 169.254.169.254 or ::1.
LOOPBACK_SPELLINGS = [
    "http://127.0.0.1/",
    "http://127.1/",
    "http://127.0.1/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7f.0.0.1/",
    "http://0177.0.0.1/",
    "http://017700000001/",
    "http://0x7f.0.1/",
    "http://127.0.0.1./",
    "http://127.0.0.1:80/",
    "http://127%2e0%2e0%2e1/",
    "http://%31%32%37.0.0.1/",
    "http://１２７.０.０.１/",
    "http://127。0。0。1/",
    "http://①②⑦.⓪.⓪.①/",
    "http:127.0.0.1/",
    "http:\\\\127.0.0.1\\",
    "http:///127.0.0.1/",
    " http://127.0.0.1/\n",
    "http://127.\t0.0.1/",
    "http://[::1]/",
    "http://[0:0:0:0:0:0:0:1]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[::127.0.0.1]/",
    "http://[64:ff9b::127.0.0.1]/",
    "http://0/",
    "http://169.254.169.254/latest/meta-data/",
    "http://2852039166/",
    "http://0xa9fea9fe/",
    "http://[::ffff:a9fe:a9fe]/",
]
REFUSED_AS_URLS = {
    "http://user@127.0.0.1/": "userinfo",
    "http://example.org@127.0.0.1/": "userinfo",
    "http://a:b@example.org/": "userinfo",
    "http://[fe80::1%25eth0]/": "bad-url",
    "http://127.0.0.1%00.example.org/": "bad-url",
    "http://127.0.0.256/": "bad-url",
    "http://example.org:99999/": "bad-url",
    "http://": "bad-url",
    "file:///etc/passwd": "scheme",
    "ftp://example.org/": "scheme",
    "gopher://127.0.0.1:6379/_INFO": "scheme",
    "unix:///var/run/docker.sock": "scheme",
    "data:text/html,hi": "scheme",
}


def literal_or(addresses):
    """Numeric hosts resolve to themselves, as with the system's resolver; every name to the given addresses."""

    def resolve(host, port):
        try:
            return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, flags=socket.AI_NUMERICHOST)]
        except socket.gaierror:
            return addresses

    return resolve


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_are_not_of_the_public_internet(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_addresses_of_the_public_internet(address):
    assert is_public(address)


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_judged_alike_in_every_ipv6_wrapping(address):
    wrapped = [f"::ffff:{address}", f"64:ff9b::{address}"]
    assert [is_public(one) for one in wrapped] == [is_public(str(address))] * 2


@pytest.mark.parametrize("url", LOOPBACK_SPELLINGS)
def test_no_spelling_of_a_private_address_gets_through(url):
    target = parse_target(url)
    with pytest.raises(FetchRefused) as refusal:
        NetworkGuard(resolver=literal_or(["93.184.216.34"])).addresses(target.host, target.port)
    assert refusal.value.reason == "private-address"


@pytest.mark.parametrize(("url", "reason"), REFUSED_AS_URLS.items())
def test_addresses_that_mislead_are_refused_before_they_are_resolved(url, reason):
    with pytest.raises(FetchRefused) as refusal:
        parse_target(url)
    assert refusal.value.reason == reason


@pytest.mark.parametrize("address", [address for address in PRIVATE if address])
def test_one_private_address_among_public_ones_is_enough_to_refuse_a_name(address):
    with pytest.raises(FetchRefused, match="not a public address"):
        NetworkGuard(resolver=lambda host, port: ["93.184.216.34", address]).addresses("example.org", 443)


def test_a_public_name_keeps_all_its_addresses():
    guard = NetworkGuard(resolver=lambda host, port: ["1.1.1.1", "2606:4700::1111", "1.1.1.1"])
    assert guard.addresses("example.org", 443) == ["1.1.1.1", "2606:4700::1111"]


@pytest.mark.parametrize("found", [[], socket.gaierror(-2, "Name or service not known")])
def test_a_name_without_addresses_fails_as_dns(found):
    def resolve(host, port):
        if isinstance(found, Exception):
            raise found
        return found

    with pytest.raises(FetchFailed) as failure:
        NetworkGuard(resolver=resolve).addresses("nowhere.example", 443)
    assert failure.value.reason == "dns"


def test_a_name_too_long_for_dns_is_refused():
    with pytest.raises(FetchRefused) as refusal:
        NetworkGuard().addresses("a" * 70 + ".example", 443)
    assert refusal.value.reason == "bad-url"


@pytest.mark.parametrize(
    ("entry", "host", "port", "allowed"),
    [
        ("intranet.example", "intranet.example", 80, True),
        ("intranet.example", "intranet.example.", 80, True),
        ("Intranet.EXAMPLE", "intranet.example", 8443, True),
        ("intranet.example:80", "intranet.example", 80, True),
        ("intranet.example:80", "intranet.example", 81, False),
        ("intranet.example", "evil.intranet.example", 80, False),
        ("10.0.0.0/8", "anything.example", 80, True),
        ("10.0.0.7", "anything.example", 80, False),
        ("10.1.0.0/16", "anything.example", 80, False),
        ("::ffff:10.0.0.0/104", "anything.example", 80, False),
    ],
)
def test_exceptions_are_as_narrow_as_they_are_written(entry, host, port, allowed):
    guard = NetworkGuard([entry], resolver=lambda host, port: ["10.0.0.7"])
    if allowed:
        assert guard.addresses(host, port) == ["10.0.0.7"]
    else:
        with pytest.raises(FetchRefused):
            guard.addresses(host, port)


@pytest.mark.parametrize("entry", ["[::1]:8000", "::1", "[::1]", "::1/128"])
def test_ipv6_hosts_can_be_excepted(entry):
    assert NetworkGuard([entry], resolver=literal_or([])).addresses("::1", 8000) == ["::1"]


@pytest.mark.parametrize("entry", ["10.0.0.0/99", "a b", "http://x/y", "host:port", "", "host:123456"])
def test_a_bad_exception_is_a_usage_error_that_names_the_setting(entry):
    with pytest.raises(UsageError, match="CRAWL_ALLOW_PRIVATE"):
        NetworkGuard([entry])
