"""What robots.txt allows (RFC 9309), remembered per site."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from protego import Protego

from llm_engineering.adapters.network_guard import Target
from llm_engineering.domain.errors import FetchFailed, FetchRefused, SourceError

MAX_BYTES = 512 * 1024
"""RFC 9309 asks for at least 500 KiB; what comes after is ignored."""
_KEEP = 24 * 3600.0
_KEEP_FAILURE = 300.0
_UNREACHABLE = frozenset({"dns", "connection", "timeout", "tls"})


@dataclass
class _Site:
    lock: threading.Lock = field(default_factory=threading.Lock)
    rules: Protego | None = None
    failure: SourceError | None = None
    until: float = float("-inf")


class Robots:
    """The rules of each site, read once a day. Thread-safe; remembers at most ``capacity`` sites.

    ``read`` gets the text of a robots.txt (empty if the site has none, which allows everything) or raises
    :class:`FetchFailed` or :class:`FetchRefused`.
    """

    def __init__(
        self,
        read: Callable[[str], str],
        *,
        user_agent: str,
        clock: Callable[[], float] = time.monotonic,
        capacity: int = 1_000,
    ) -> None:
        self._read = read
        self._name = user_agent.split("/")[0].split()[0] if user_agent.strip() else "*"
        self._clock = clock
        self._capacity = capacity
        self._sites: OrderedDict[str, _Site] = OrderedDict()
        self._guard = threading.Lock()

    def __len__(self) -> int:
        return len(self._sites)

    def delay(self, target: Target) -> float:
        """Seconds that the site wants between requests, 0 if it does not say, for an address that it allows.

        Raises :class:`FetchRefused`: ``robots`` where the site forbids it, ``robots-unreachable`` where its server
        cannot tell (5xx), which forbids everything; a site that cannot be contacted at all raises what was in the way.
        """
        rules = self._rules(target.origin)
        if not rules.can_fetch(target.url, self._name):
            raise FetchRefused(f"{target.url} is forbidden by {target.origin}/robots.txt", reason="robots")
        pause = rules.crawl_delay(self._name) or 0.0
        rate = rules.request_rate(self._name)
        if rate and rate.requests:
            pause = max(pause, rate.seconds / rate.requests)
        return max(0.0, float(pause))

    def _rules(self, origin: str) -> Protego:
        with self._guard:
            site = self._sites.setdefault(origin, _Site())
            self._sites.move_to_end(origin)
            while len(self._sites) > self._capacity:
                self._sites.popitem(last=False)
        with site.lock:
            if self._clock() >= site.until:
                self._refresh(site, origin)
            if site.rules is None:
                raise _again(site.failure, origin)
            return site.rules

    def _refresh(self, site: _Site, origin: str) -> None:
        try:
            site.rules, site.failure = Protego.parse(self._read(f"{origin}/robots.txt")), None
            site.until = self._clock() + _KEEP
        except SourceError as error:
            site.rules, site.failure = None, error
            site.until = self._clock() + _KEEP_FAILURE


def _again(failure: SourceError | None, origin: str) -> SourceError:
    """A fresh error for each page that asks: one exception raised in several threads mixes up their traces."""
    message = f"{origin}/robots.txt could not be read, which forbids everything: {failure}"
    if isinstance(failure, FetchFailed) and failure.reason in _UNREACHABLE:
        fresh: SourceError = FetchFailed(failure.message, reason=failure.reason, hint=failure.hint)
    elif isinstance(failure, FetchRefused) and failure.reason in {"private-address", "bad-url"}:
        fresh = FetchRefused(failure.message, reason=failure.reason, hint=failure.hint)
    else:
        fresh = FetchRefused(message, reason="robots-unreachable")
    fresh.__cause__ = failure
    return fresh
