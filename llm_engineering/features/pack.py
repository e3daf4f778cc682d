"""Packing units of text into chunks: the division that costs least, found by dynamic programming."""

from collections.abc import Sequence
from dataclasses import dataclass

_CHUNK = 1.0
"""Every chunk costs this, so that few are made."""
_UNEVEN = 0.3
"""Times the square of the unused share: two even chunks are better than a full one and a rest."""
_TINY = 2.0
"""For a chunk of a few words, which is worse than crossing into the neighbouring section."""
_TINY_SHARE = 10
_LONE_HEADING = 100.0
"""For a heading that is separated from what it heads."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A span that stays in one chunk, with its length in tokens."""

    start: int
    end: int
    tokens: int
    reluctance: float
    """Cost of beginning a chunk here."""
    crossing: float = 0.0
    """Cost of a chunk that reaches from before into this unit: set where a section begins."""
    heading: bool = False


def pack(units: Sequence[Unit], limits: Sequence[int]) -> list[tuple[int, int]]:
    """Divide the units into runs ``[first:last)`` of least cost; ``limits[first]`` tokens is the most of a run.

    A unit that is longer than its limit becomes a run of its own. Takes time proportional to the number of units and to
    how many fit into a run.
    """
    longest = max(limits, default=0)
    best: list[float] = [0.0]
    previous: list[int] = [0]
    for last in range(1, len(units) + 1):
        lowest, choice = float("inf"), last - 1
        tokens, crossings = 0, 0.0
        ending = _LONE_HEADING if units[last - 1].heading and last < len(units) else 0.0
        for first in range(last - 1, -1, -1):
            unit = units[first]
            tokens += unit.tokens
            if tokens > longest and first < last - 1:
                break
            if tokens <= limits[first] or first == last - 1:
                unused = max(0.0, 1 - tokens / max(1, limits[first]))
                cost = best[first] + _CHUNK + unit.reluctance + crossings + ending + _UNEVEN * unused * unused
                if tokens * _TINY_SHARE < limits[first]:
                    cost += _TINY
                if cost < lowest:
                    lowest, choice = cost, first
            crossings += unit.crossing
        best.append(lowest)
        previous.append(choice)
    runs: list[tuple[int, int]] = []
    last = len(units)
    while last > 0:
        runs.append((previous[last], last))
        last = previous[last]
    return runs[::-1]
