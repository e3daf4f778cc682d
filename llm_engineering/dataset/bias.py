"""What a preference set prefers beside the author: length and format. Measured, and balanced by matching the rejected side.

A model trained on pairs learns whatever tells the two sides apart. Where the chosen answers are mostly the longer ones it
learns to write long (Singhal et al., 2023); where only the rejected ones have bullets, it learns to avoid bullets.
"""

import hashlib
import re
from collections.abc import Sequence

from pydantic import Field

from llm_engineering.domain.entities import Frozen
from llm_engineering.domain.samples import Pair
from llm_engineering.domain.sentences import sentences

_HEADING = re.compile(r"^[ \t]{0,3}#{1,6}[ \t]+(.*?)[ \t#]*$", re.MULTILINE)
_ITEM = re.compile(r"^[ \t]*(?:[-*+•]|\d{1,3}[.)])[ \t]+", re.MULTILINE)
_BOLD = re.compile(r"(\*\*|__)(?=\S)(.+?)(?<=\S)\1")
_FENCE = re.compile(r"^[ \t]*(?:`{3,}|~{3,})", re.MULTILINE)
_MARKUP = {"headings": _HEADING, "lists": _ITEM, "bold": _BOLD, "code": _FENCE}
_LEAD_IN = re.compile(
    r"\A\s*(?:(?:sure|certainly|of course|absolutely|great|okay|ok)\b[^\n]{0,120}|here(?:'s| is| are)\b[^\n]{0,120}:)"
    r"\s*\n+(?=\S)",
    re.IGNORECASE,
)
_THOUGHT = re.compile(r"\A.*</think>\s*", re.DOTALL)


class Bias(Frozen):
    """How the two sides of a preference set differ in form. Shares are of all pairs."""

    pairs: int = 0
    chosen_longer: float = 0.5
    """Share of pairs whose chosen answer has more characters; equal lengths count half. One half is balanced."""
    length_ratio: float = 1.0
    """Characters of all chosen answers to those of all rejected ones."""
    formats: dict[str, tuple[float, float]] = Field(default_factory=dict)
    """By kind of markup the share of chosen and of rejected answers that have it."""


def bias_of(pairs: Sequence[Pair]) -> Bias:
    """Measure a set of pairs."""
    if not pairs:
        return Bias()
    longer = sum((_longer(pair) + 1) / 2 for pair in pairs)
    rejected = sum(len(pair.rejected) for pair in pairs)
    return Bias(
        pairs=len(pairs),
        chosen_longer=longer / len(pairs),
        length_ratio=sum(len(pair.chosen) for pair in pairs) / max(rejected, 1),
        formats={
            kind: (
                sum(bool(mark.search(pair.chosen)) for pair in pairs) / len(pairs),
                sum(bool(mark.search(pair.rejected)) for pair in pairs) / len(pairs),
            )
            for kind, mark in _MARKUP.items()
        },
    )


def in_the_format_of(chosen: str, reply: str) -> str:
    """A model's reply without what would tell it from the author at a glance.

    Thoughts and polite lead-ins go; headings, lists and bold type go where the chosen answer has none; where it begins with
    a heading, so does the reply.
    """
    text = _LEAD_IN.sub("", _THOUGHT.sub("", reply)).strip()
    if not _HEADING.search(chosen):
        text = _HEADING.sub(r"\1", text)
    if not _ITEM.search(chosen):
        text = _ITEM.sub("", text)
    if not _BOLD.search(chosen):
        text = _BOLD.sub(r"\2", text)
    heading = _HEADING.match(chosen)
    if heading and not _HEADING.match(text):
        text = f"{heading[0].strip()}\n\n{text}"
    return text.strip()


def cut_to(text: str, most: int) -> str:
    """The text up to the last sentence that ends within ``most`` characters; empty if the first one is longer."""
    ends = [end for _, end in sentences(text) if end <= most]
    return text[: ends[-1]].rstrip() if ends else ""


def balanced(pairs: Sequence[Pair], *, tolerance: float, length_ratio: float) -> tuple[list[Pair], list[Pair]]:
    """Pairs of which about half have the longer answer chosen, and those that had to go for it.

    Too many longer rejected answers are cut at the end of a sentence (of pairs with provenance: what was judged stays as it
    was judged). What is left over goes, the most unequal first. ``tolerance`` is how far from one half the share may be.
    """
    kept = {pair.id: pair for pair in pairs}
    surplus = sum(_longer(pair) for pair in pairs)
    for pair in sorted((pair for pair in pairs if _longer(pair) < 0 and pair.provenance), key=_order):
        if surplus >= -_allowed(len(kept), tolerance):
            break
        shorter = cut_to(pair.rejected, len(pair.chosen) - 1)
        if len(shorter) * length_ratio >= len(pair.chosen):
            kept[pair.id] = pair.model_copy(update={"rejected": shorter})
            surplus += 2
    side = 1 if surplus > 0 else -1
    too_many = (pair for pair in kept.values() if _longer(pair) == side)
    dropped: list[Pair] = []
    for pair in sorted(too_many, key=lambda pair: (-_inequality(pair), _order(pair))):
        if abs(surplus) <= _allowed(len(kept), tolerance):
            break
        dropped.append(kept.pop(pair.id))
        surplus -= side
    return list(kept.values()), dropped


def _allowed(pairs: int, tolerance: float) -> int:
    """By how many the pairs with the one side longer may outnumber the others. A single pair is never too many."""
    return max(1, int(2 * tolerance * pairs))


def _longer(pair: Pair) -> int:
    """1 if the chosen answer is the longer one, -1 if the rejected is, 0 if neither."""
    return (len(pair.chosen) > len(pair.rejected)) - (len(pair.chosen) < len(pair.rejected))


def _inequality(pair: Pair) -> float:
    return max(len(pair.chosen), len(pair.rejected)) / max(1, min(len(pair.chosen), len(pair.rejected)))


def _order(pair: Pair) -> bytes:
    """An order that has nothing to do with the content, and is the same in every build."""
    return hashlib.sha256(pair.id.encode()).digest()
