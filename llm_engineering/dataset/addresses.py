"""E-mail addresses in a text, as they stand there: escaped and emphasised by Markdown, linked, or spelt out."""

import re
from collections.abc import Iterator

from llm_engineering.dataset.top_level_domains import is_top_level_domain

_L = "A-Za-z0-9\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u0300-\u036f\u0370-\u03ff\u0400-\u052f"
"""Letters of addresses: Latin, Greek, Cyrillic. Others (a Chinese sentence) may stand right beside an address."""
_HOST = rf"(?P<host>(?:[{_L}](?:[{_L}-]{{0,61}}[{_L}])?\.)+(?P<top>[{_L}]{{2,24}}))"
_PLAIN = re.compile(
    rf"(?<![{_L}_.+%@/:=&-])_{{0,3}}(?P<user>[{_L}](?:(?:[{_L}_.+%-]|\\[_.+-]){{0,62}}[{_L}_+])?)"
    rf"\\?@{_HOST}(?!_*[{_L}-]|\.[{_L}_]|_*\()"
)
_LINKED = re.compile(rf"(?<=[:=&])(?P<user>[{_L}][{_L}_.+%-]{{0,63}})@{_HOST}(?![{_L}_/:-]|\.[{_L}_])")
_SPELT = re.compile(
    r"(?i)(?<![\w.])[a-z0-9][\w.+-]{1,40}(?:\s?[(\[{<]\s?at\s?[)\]}>]\s?|\sat\s(?=[\w-]{2,40}\sdot\s))"
    r"[a-z0-9-]{2,40}(?:(?:\s?[(\[{<]\s?dot\s?[)\]}>]\s?|\sdot\s|\.)[a-z0-9-]{2,40}){1,3}\b"
)
_SPOKEN_TOP = re.compile(r"(?i)com|org|net|edu|gov|info|biz|name|dev|app|tech|blog|online|[a-z]{2}")
"""Where ``at`` and ``dot`` are words of a sentence, a rarer end would be one, too: "look at this dot product"."""
_RESERVED_HOST = re.compile(
    r"(?i)(?:^|\.)(?:example\.(?:com|org|net|edu)|[\w-]+\.(?:test|invalid|example|localhost|local))$"
)
_LOGIN = re.compile(r"\b(?:ssh|scp|sftp|rsync|mosh|ssh-copy-id)(?: +-{1,2}[\w-]+(?:[ =][\w./~-]+)?)* +$")
_MACHINE = re.compile(
    r"(?i)(?:git|hg|svn|ssh|no-?reply|do-?not-?reply|actions|github-actions|(?:\w*[._-])?bot|dependabot|renovatebot"
    r"|root|ubuntu|ec2-user|postgres)"
)
_NOBODY = re.compile(
    r"(?i)(?:username|your[._-]?(?:name|e?-?mail|user(?:name)?|address|id|account))(?:[._-]?(?:address|here))?"
)
_ANYBODY = re.compile(r"(?i)(?:me|you|user|name|someone|somebody)")
_THING = (
    r"(?:company|domain|organi[sz]ation|org|site|website|server|host|blog|app|team|project|provider|e?-?mail)(?:name)?"
)
_ANYWHERE = re.compile(
    rf"(?i)(?:.+\.)?(?:(?:my|some|the)?[_-]?{_THING}|(?:google|hot|proton)?mail|gmail|outlook|yahoo|icloud)\.[a-z]{{2,5}}"
)
_YOURS = re.compile(rf"(?i)(?:.+\.)?your[_-]?{_THING}\.[a-z]{{2,12}}")
"""Names and hosts that stand for any other: ``your_email@gmail.com``, ``you@domain.com``, ``hello@yourcompany.com``."""


def e_mail_addresses(text: str) -> Iterator[tuple[int, int]]:
    """Addresses of people: no logins, no machines, no reserved hosts, no placeholders."""
    for match in (*_PLAIN.finditer(text), *_LINKED.finditer(text)):
        is_login = _LOGIN.search(text[max(0, match.start() - 60) : match.start()])
        if is_top_level_domain(match["top"]) and not is_login and not _stands_for_any(match["user"], match["host"]):
            yield match.start("user"), match.end("host")
    for match in _SPELT.finditer(text):
        top = re.split(r"\W+", match[0].rstrip(")]}>"))[-1]
        if is_top_level_domain(top) and (re.search(r"[(\[{<]", match[0]) or _SPOKEN_TOP.fullmatch(top)):
            yield match.span()


def _stands_for_any(user: str, host: str) -> bool:
    if _RESERVED_HOST.search(host) or _YOURS.fullmatch(host):
        return True
    if _MACHINE.fullmatch(user) or _NOBODY.fullmatch(user):
        return True
    return bool(_ANYBODY.fullmatch(user) and _ANYWHERE.fullmatch(host))
