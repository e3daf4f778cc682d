"""What a crawl says it did: one line per link, totals, refusals by reason."""

from collections import Counter
from collections.abc import Sequence

from llm_engineering.domain.entities import Frozen, LinkOutcome

_ACHIEVED = frozenset(
    {LinkOutcome.STORED, LinkOutcome.UNCHANGED, LinkOutcome.REVISED, LinkOutcome.MOVED, LinkOutcome.GONE}
)


class LinkLine(Frozen):
    """What became of one link, or of a source that failed as a whole (``url`` is then the source's address)."""

    source: str
    """The source as it was configured."""
    url: str
    outcome: LinkOutcome
    detail: str = ""
    """For people: why it was refused, why it failed, where it moved."""
    reason: str = ""
    """The same as one short stable word, such as ``robots``, ``too-large`` or ``http-503``."""
    document_id: str | None = None


class CrawlReport(Frozen):
    """All lines of a run. ``totals`` counts them by outcome, ``refusals`` the refused and failed ones by reason."""

    lines: tuple[LinkLine, ...] = ()
    totals: dict[str, int]
    refusals: dict[str, int]
    seconds: float

    @classmethod
    def of(cls, lines: Sequence[LinkLine], *, seconds: float) -> "CrawlReport":
        """The report over these lines."""
        counted = Counter(line.outcome for line in lines)
        reasons = Counter(line.reason for line in lines if line.reason)
        return cls(
            lines=tuple(lines),
            totals={outcome.value: counted[outcome] for outcome in LinkOutcome if counted[outcome]},
            refusals=dict(sorted(reasons.items())),
            seconds=seconds,
        )

    @property
    def succeeded(self) -> bool:
        """False only if nothing at all succeeded: every link was missing, refused or failed, or there was none."""
        return any(line.outcome in _ACHIEVED for line in self.lines)
