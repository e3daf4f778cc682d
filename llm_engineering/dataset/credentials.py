"""Keys and passwords in a text: by the shape that an issuer documents, or by a name in front of what looks like one."""

import math
import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

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
_PASSWORD = re.compile(r"(?i)passw(?:or)?d|pwd|passphrase")
_KEY_OF_A_LINE = re.compile(r"[ \t\w.-]*")
_CHANGES = 3
"""Between letter and digit, from which an unquoted word is no name: ``sha256_crypt`` has two."""
_BASE64 = re.compile(r"[A-Za-z0-9+/]{32,}={0,2}")
_DOTTED_NAME = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")
_BEARER = re.compile(r"(?i)\bauthorization\W{1,5}(?:bearer|token|basic)\s+(?P<value>[\w.~+/=-]{16,})")
_IN_URL = re.compile(r"\b[a-z][a-z0-9+.-]{1,20}://(?P<user>[^\s:/@\[\]]{0,60}):(?P<value>[^\s:/@\[\]]{3,})@(?=[\w\[])")
_PLACEHOLDER = re.compile(
    r"(?i)your|example|placeholder|change|dummy|sample|insert|replace|redacted|password|secret|passwd|mysecret|xxx|\.\.\.|\*\*\*"
    r"|abc123|123456|test|fake|todo|none|null|[$%<{]"
)


def private_keys(text: str) -> Iterator[tuple[int, int]]:
    """Whole blocks."""
    yield from (match.span() for match in _PRIVATE_KEY.finditer(text))


def issued_keys(text: str) -> Iterator[tuple[int, int]]:
    """What has the shape that its issuer documents."""
    for match in (*_KEY.finditer(text), *_WEBHOOK.finditer(text)):
        if not match[0].startswith("sk-") or _looks_random(match[0]):  # sk- is a prefix of CSS classes too
            yield match.span()


def named_secrets(text: str) -> Iterator[tuple[int, int]]:
    """What looks random after the name of a key, and what an ``Authorization`` header holds."""
    for match in (*_NAMED.finditer(text), *_BEARER.finditer(text)):
        value = match["value"].rstrip(".:!?\\")
        if len(value) >= 16 and not _is_code(text, match) and _looks_random(value) and not _PLACEHOLDER.search(value):
            yield match.start("value"), match.start("value") + len(value)


def passwords(text: str) -> Iterator[tuple[int, int]]:
    """Of addresses (``user:password@host``), and what stands after the name of one."""
    for match in _IN_URL.finditer(text):
        if match["value"] != match["user"] and not _PLACEHOLDER.search(match["value"]):
            yield match.span("value")
    for match in _NAMED.finditer(text):
        value = match["value"]
        if not _PASSWORD.match(match[0]) or _PLACEHOLDER.search(value) or not _mixed(value):
            continue
        if _is_quoted(text, match) or (_is_assigned(text, match) and not _is_code(text, match)):
            yield match.span("value")


def _is_quoted(text: str, match: re.Match[str]) -> bool:
    before, after = text[match.start("value") - 1], text[match.end("value") : match.end("value") + 1]
    return before in "\"'" and after in ("'", '"')


def _is_assigned(text: str, match: re.Match[str]) -> bool:
    """``DB_PASSWORD=…`` or ``password: …`` on a line of its own, and a value that nobody would name anything."""
    value, key = match["value"], _PASSWORD.match(match[0])
    changes = sum(
        one.isdigit() != other.isdigit() for one, other in pairwise(value) if one.isalnum() and other.isalnum()
    )
    if "/" in value or changes < _CHANGES or key is None:
        return False
    if key[0].isupper():
        return True
    line = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]
    ends = text[match.end("value") : match.end("value") + 1] in ("", "\n", "\r")
    return (
        ends and bool(_KEY_OF_A_LINE.fullmatch(line)) and any(map(str.isupper, value)) and any(map(str.islower, value))
    )


def _is_code(text: str, match: re.Match[str]) -> bool:
    """A call, an index or an attribute."""
    value = match["value"].rstrip(".:!?\\")
    return text[match.end() : match.end() + 1] in {"(", "["} or bool(_DOTTED_NAME.fullmatch(value))


def _looks_random(value: str) -> bool:
    """Letters and digits mixed, and at least three bits a character: no name, no path, no sentence with hyphens."""
    if not _mixed(value) or (re.search(r"[/.]\w+[/.]\w+", value) and not _is_base64(value)):
        return False
    entropy = -sum(n / len(value) * math.log2(n / len(value)) for n in Counter(value).values())
    return entropy >= 3.0 and sum(part.isalpha() and len(part) > 3 for part in re.split(r"[_-]", value)) < 2


def _is_base64(value: str) -> bool:
    """Slashes and all: small and capital letters and digits follow each other as they do in no path."""
    if not _BASE64.fullmatch(value):
        return False
    kinds = [(character.isupper(), character.isdigit()) for character in value if character.isalnum()]
    return sum(one != other for one, other in pairwise(kinds)) >= 0.3 * len(kinds)


def _mixed(value: str) -> bool:
    return bool(re.search(r"\d", value) and re.search(r"[A-Za-z]", value))
