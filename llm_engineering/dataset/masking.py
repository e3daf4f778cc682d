"""Secrets and personal data in a text, replaced by a word that says what stood there: ``[e-mail]``, ``[API key]``.

Precision first: what has a checksum, a plan of numbers or an issuer's prefix is found anywhere; what only looks like a
secret needs the name of one in front of it. Reserved example domains, placeholders and fictional numbers stay. Nothing but
the found spans changes, and a masked text has nothing more to mask.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from llm_engineering.dataset.addresses import e_mail_addresses
from llm_engineering.dataset.credentials import issued_keys, named_secrets, passwords, private_keys
from llm_engineering.dataset.numbers import is_card_number, is_iban, phone_numbers
from llm_engineering.domain.samples import Provenance


class Mask(StrEnum):
    """What stands in the place of something masked."""

    PRIVATE_KEY = "[private key]"
    API_KEY = "[API key]"
    PASSWORD = "[password]"
    E_MAIL = "[e-mail]"
    IBAN = "[account number]"
    CARD = "[card number]"
    PHONE = "[phone number]"


MASKS = re.compile("|".join(re.escape(mask) for mask in Mask))
"""Every mask, as it stands in a text."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to mask: ``text[start:end)``."""

    mask: Mask
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Masked:
    """A text without secrets and personal data, and how many of each were in it."""

    text: str
    found: Counter[str] = field(default_factory=Counter)


def mask(text: str) -> Masked:
    """The text with everything masked that :func:`findings` knows; masking twice changes nothing."""
    found: Counter[str] = Counter()
    while spans := findings(text):  # a mask can free what it hid; each round leaves less, so this ends
        found.update(span.mask.value for span in spans)
        text = _replaced(text, spans)
    return Masked(text, found)


def masked_source(where: Provenance) -> Provenance:
    """Where a text stands, title and headings masked: they are the author's words, too."""
    title, path = mask(where.title).text, tuple(mask(heading).text for heading in where.heading_path)
    return where.model_copy(update={"title": title, "heading_path": path})


def findings(text: str) -> list[Finding]:
    """What there is to mask, by position, without overlaps: the detector that stands higher in the table wins."""
    taken: list[Finding] = []
    for kind, detect in _DETECTORS:
        for start, end in detect(text):
            if start < end and not any(start < other.end and other.start < end for other in taken):
                taken.append(Finding(kind, start, end))
    return sorted(taken, key=lambda finding: finding.start)


def _replaced(text: str, spans: list[Finding]) -> str:
    parts, position = [], 0
    for span in spans:
        parts += [text[position : span.start], span.mask.value]
        position = span.end
    return "".join([*parts, text[position:]])


_IBAN = re.compile(r"(?<![\w-])[A-Z]{2}\d{2}(?:[A-Z0-9]{11,30}|(?: [A-Z0-9]{4}){2,7}(?: [A-Z0-9]{1,3})?)(?![\w-])")
_CARD = re.compile(
    r"(?<![\w.,+/=#-])(?:\d{14,16}|\d{4}(?P<gap>[ -])\d{4}(?P=gap)\d{4}(?P=gap)\d{4}"
    r"|\d{4}(?P<short>[ -])\d{6}(?P=short)\d{4,5})(?![\w/-]|[.,]\d)"
)


def _checked(pattern: re.Pattern[str], check: Callable[[str], bool]) -> Callable[[str], Iterator[tuple[int, int]]]:
    return lambda text: (match.span() for match in pattern.finditer(text) if check(match[0]))


_DETECTORS: tuple[tuple[Mask, Callable[[str], Iterator[tuple[int, int]]]], ...] = (
    (Mask.PRIVATE_KEY, private_keys),
    (Mask.API_KEY, issued_keys),
    (Mask.API_KEY, named_secrets),
    (Mask.PASSWORD, passwords),
    (Mask.E_MAIL, e_mail_addresses),
    (Mask.IBAN, _checked(_IBAN, is_iban)),
    (Mask.CARD, _checked(_CARD, is_card_number)),
    (Mask.PHONE, phone_numbers),
)
"""Kinds and what finds them; the first that finds a span names it."""
