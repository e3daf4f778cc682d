"""Secrets and personal data in a text, replaced by a word that says what stood there: ``[e-mail]``, ``[API key]``.

Precision first: what has a checksum, a plan of numbers or an issuer's prefix is found anywhere; what only looks like a
secret needs the name of one in front of it. Reserved example domains, placeholders and fictional numbers stay. Nothing but
the found spans changes, and a masked text has nothing more to mask.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

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


Spans = Iterator[tuple[int, int]]

_PRIVATE_KEY = re.compile(
    r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----(?=[\s\\]*\S{20})"
    r"(?:.*?-----END (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----|(?:\s*[A-Za-z0-9+/=]{20,}){1,200})",
    re.DOTALL,
)

_ISSUED = {
    "AWS": r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}",
    "GitHub": r"gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{30,}",
    "GitLab": r"gl(?:pat|ptt|dt|rt|cbt)-[\w-]{20,}",
    "OpenAI and likewise": r"sk-(?:proj-|svcacct-|admin-|ant-|or-v1-|lf-)?[A-Za-z0-9_-]{20,}",
    "Groq, Replicate, xAI, Tavily, Pinecone": r"(?:gsk_|r8_|xai-|tvly-|pcsk_|lsv2_(?:pt|sk)_)[A-Za-z0-9_-]{24,}",
    "Hugging Face": r"(?:hf|api_org)_[A-Za-z0-9]{30,}",
    "Slack": r"xox[abeoprs]-[A-Za-z0-9-]{16,}",
    "Google": r"AIza[\w-]{35}|GOCSPX-[\w-]{28}|ya29\.[\w-]{30,}",
    "Stripe": r"[sr]k_(?:live|test)_[0-9A-Za-z]{16,}",
    "npm, PyPI": r"npm_[A-Za-z0-9]{36}|pypi-[A-Za-z0-9_-]{50,}",
    "SendGrid, Mailgun, Twilio": r"SG\.[\w-]{16,32}\.[\w-]{16,64}|key-[0-9a-f]{32}|SK[0-9a-f]{32}",
    "DigitalOcean, Databricks": r"do[opr]_v1_[a-f0-9]{64}|dapi[a-f0-9]{32}",
    "Telegram": r"\d{8,10}:AA[\w-]{33}",
    "JSON web token": r"eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}",
}
"""Shapes of keys that their issuers document, by issuer."""

_KEY = re.compile(rf"(?<![\w-])(?:{'|'.join(_ISSUED.values())})(?![\w-])")
_WEBHOOK = re.compile(
    r"(?<=hooks\.slack\.com/services/)T\w{6,}/B\w{6,}/\w{16,}|(?<=/api/webhooks/)\d{16,20}/[\w-]{50,}",
)
_NAMED = re.compile(
    r"""(?ix) (?<![a-z])(?: api[_-]?keys? | (?:access|secret|auth|private|client|account)[_-]?(?:key|token|secret) | secret
    | token | passw(?:or)?d | passphrase | pwd )
    (?:[_-]?(?:id|value))? ["'`\]]* \s* (?: [:=] | => | \bis\b ) \s* ["'`]? (?P<value> [^\s"'`,;<>()\[\]{}]{8,} )"""
)
_DOTTED_NAME = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")
_BEARER = re.compile(r"(?i)\bauthorization\W{1,5}(?:bearer|token|basic)\s+(?P<value>[\w.~+/=-]{16,})")
_IN_URL = re.compile(r"\b[a-z][a-z0-9+.-]{1,20}://(?P<user>[^\s:/@\[\]]{0,60}):(?P<value>[^\s:/@\[\]]{3,})@(?=[\w\[])")
_PLACEHOLDER = re.compile(
    r"(?i)your|example|placeholder|change|dummy|sample|insert|replace|redacted|password|secret|passwd|mysecret|xxx|\.\.\.|\*\*\*"
    r"|abc123|123456|test|fake|todo|none|null|[$%<{]"
)

_E_MAIL = re.compile(
    r"(?<![\w.+%@/:=&-])(?P<user>[A-Za-z0-9](?:[\w.+%-]{0,62}[A-Za-z0-9_+])?)"
    r"@(?P<host>(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+(?P<top>[A-Za-z]{2,12}))(?![\w-]|\.\w|\()"
)
_MAIL_LINK = re.compile(
    r"(?<=[:=&])(?P<user>[A-Za-z0-9][\w.+%-]{0,63})@(?P<host>(?:[A-Za-z0-9-]{1,63}\.)+(?P<top>[A-Za-z]{2,12}))(?![\w/:-]|\.\w)"
)
_SPELT_E_MAIL = re.compile(
    r"(?i)(?<![\w.])[a-z0-9][\w.+-]{1,40}(?:\s?[(\[{<]\s?at\s?[)\]}>]\s?|\sat\s(?=[\w-]{2,40}\sdot\s))"
    r"[a-z0-9-]{2,40}(?:(?:\s?[(\[{<]\s?dot\s?[)\]}>]\s?|\sdot\s|\.)[a-z0-9-]{2,40}){1,3}\b"
)
_GENERIC_TOP = re.compile(
    r"(?i)(?:com|org|net|edu|gov|mil|int|info|biz|name|pro|dev|app|tech|blog|email|mail|online|site|cloud|xyz|"
    r"academy|agency|club|codes|company|community|consulting|design|digital|engineering|expert|foundation|"
    r"fun|global|group|guru|health|home|institute|law|life|live|media|network|news|one|page|partners|"
    r"science|services|social|software|solutions|space|store|studio|systems|team|today|tools|training|"
    r"university|ventures|video|vip|website|wiki|work|works|world|zone)"
)
_RESERVED_HOST = re.compile(
    r"(?i)(?:^|\.)(?:example\.(?:com|org|net|edu)|[\w-]+\.(?:test|invalid|example|localhost|local))$"
)
_LOGIN = re.compile(r"\b(?:ssh|scp|sftp|rsync|mosh|ssh-copy-id)(?: +-{1,2}[\w-]+(?:[ =][\w./~-]+)?)* +$")
_MACHINE_USER = re.compile(
    r"(?i)^(?:git|hg|svn|ssh|no-?reply|do-?not-?reply|actions|github-actions|\w*bot|root|ubuntu|ec2-user|postgres|user(?:name)?"
    r"|me|you|your[._-]?\w*)$"
)

_IBAN = re.compile(r"(?<![\w-])[A-Z]{2}\d{2}(?:[A-Z0-9]{11,30}|(?: [A-Z0-9]{4}){2,7}(?: [A-Z0-9]{1,3})?)(?![\w-])")
_CARD = re.compile(
    r"(?<![\w.,+/=#-])(?:\d{14,16}|\d{4}(?P<gap>[ -])\d{4}(?P=gap)\d{4}(?P=gap)\d{4}"
    r"|\d{4}(?P<short>[ -])\d{6}(?P=short)\d{4,5})(?![\w/-]|[.,]\d)"
)


def _issued_keys(text: str) -> Spans:
    for match in (*_KEY.finditer(text), *_WEBHOOK.finditer(text)):
        if not match[0].startswith("sk-") or _looks_random(match[0]):  # sk- is a prefix of CSS classes too
            yield match.span()


def _named_secrets(text: str) -> Spans:
    for match in (*_NAMED.finditer(text), *_BEARER.finditer(text)):
        value = match["value"].rstrip(".:!?\\")
        is_code = text[match.end() : match.end() + 1] in {"(", "["} or _DOTTED_NAME.fullmatch(value)
        if len(value) >= 16 and not is_code and _looks_random(value) and not _PLACEHOLDER.search(value):
            yield match.start("value"), match.start("value") + len(value)


def _passwords(text: str) -> Spans:
    for match in _IN_URL.finditer(text):
        if match["value"] != match["user"] and not _PLACEHOLDER.search(match["value"]):
            yield match.span("value")
    for match in _NAMED.finditer(text):
        value = match["value"]
        quoted = text[match.start("value") - 1] in "\"'" and text[match.end("value") : match.end("value") + 1] in (
            "'",
            '"',
        )
        is_password = re.match(r"(?i)passw|pwd|passphrase", match[0])
        if is_password and quoted and _mixed(value) and not _PLACEHOLDER.search(value):
            yield match.span("value")


def _e_mails(text: str) -> Spans:
    for match in (*_E_MAIL.finditer(text), *_MAIL_LINK.finditer(text)):
        is_login = _LOGIN.search(text[max(0, match.start() - 60) : match.start()])
        if _is_mail_host(match["host"], match["top"]) and not is_login and not _MACHINE_USER.match(match["user"]):
            yield match.span()
    yield from (
        match.span() for match in _SPELT_E_MAIL.finditer(text) if _is_top(re.split(r"\W+", match[0].rstrip(")]}>"))[-1])
    )


def _is_mail_host(host: str, top: str) -> bool:
    return _is_top(top) and not _RESERVED_HOST.search(host)


def _is_top(top: str) -> bool:
    """Matrix products (``q@k.mT``, ``x@w.weight``) are no addresses: a top-level domain is of two letters or a known one."""
    return bool(_GENERIC_TOP.fullmatch(top)) or (
        len(top) == 2 and (top.islower() or top.isupper()) and top not in {"mT", "py"}
    )


def _looks_random(value: str) -> bool:
    """Letters and digits mixed, and at least three bits a character: no name, no path, no sentence with hyphens."""
    if not (re.search(r"\d", value) and re.search(r"[A-Za-z]", value)) or re.search(r"[/.]\w+[/.]\w+", value):
        return False
    entropy = -sum(n / len(value) * math.log2(n / len(value)) for n in Counter(value).values())
    return entropy >= 3.0 and sum(part.isalpha() and len(part) > 3 for part in re.split(r"[_-]", value)) < 2


def _mixed(value: str) -> bool:
    return bool(re.search(r"\d", value) and re.search(r"[A-Za-z]", value))


def _checked(pattern: re.Pattern[str], check: Callable[[str], bool]) -> Callable[[str], Spans]:
    return lambda text: (match.span() for match in pattern.finditer(text) if check(match[0]))


_DETECTORS: tuple[tuple[Mask, Callable[[str], Spans]], ...] = (
    (Mask.PRIVATE_KEY, lambda text: (match.span() for match in _PRIVATE_KEY.finditer(text))),
    (Mask.API_KEY, _issued_keys),
    (Mask.API_KEY, _named_secrets),
    (Mask.PASSWORD, _passwords),
    (Mask.E_MAIL, _e_mails),
    (Mask.IBAN, _checked(_IBAN, is_iban)),
    (Mask.CARD, _checked(_CARD, is_card_number)),
    (Mask.PHONE, phone_numbers),
)
"""Kinds and what finds them; the first that finds a span names it."""
