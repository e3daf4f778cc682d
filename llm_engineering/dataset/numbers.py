"""Numbers that a checksum or a numbering plan proves: bank accounts, payment cards, telephones."""

import re
from collections.abc import Iterator

import phonenumbers
from phonenumbers import Leniency, PhoneNumberMatcher

_IBAN_LENGTHS = {
    country: int(length)
    for length, countries in {
        "15": "NO", "16": "BE", "18": "DK FO FI GL NL SD", "19": "MK SI", "20": "AT BA EE KZ LT LU XK",
        "21": "CH HR LI LV", "22": "BG BH CR DE GB GE IE ME RS VA", "23": "AE GI IL IQ TL",
        "24": "AD CZ ES MD PK RO SA SE SK TN VG", "25": "PT ST", "26": "IS TR", "27": "BI DJ FR GR IT MC MR SM",
        "28": "AL AZ BY CY DO GT HU LB NI PL SV", "29": "BR EG PS QA UA", "30": "JO KW MU", "31": "MT SC", "32": "LC",
    }.items()
    for country in countries.split()
}  # fmt: skip
"""ISO 13616: every country has one length."""

_CARD_PREFIX = re.compile(
    r"4\d{12}(?:\d{3}){0,2}$|5[1-5]\d{14}$|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}$|3[47]\d{13}$"
    r"|6(?:011|5\d\d|4[4-9]\d)\d{12}$|35(?:2[89]|[3-8]\d)\d{12}$|3(?:0[0-5]|[68]\d)\d{11}$"
)
"""Visa, Mastercard (both ranges), American Express, Discover, JCB, Diners: prefix and length."""

_INTERNATIONAL = re.compile(r"\+\s?\(?\d")
_NATIONAL = re.compile(r"(?<![\w.+/#=-])(?:\(\d{3}\) ?\d{3}[-. ]\d{4}|\d{3}-\d{3}-\d{4})(?![\w-]|\.\d)")
_AFTER_CUE = re.compile(
    r"(?i)\b(?:tel(?:ephone|efon|efono|\.)?|phone|mobile|mobil|handy|cell|fax|whatsapp|sms|text me"
    r"|call (?:me|us|him|her)(?: (?:at|on))?)(?: (?:number|no\.?|nr\.?))?(?: is)?[\s:.–-]{1,4}"
    r"(?P<number>\(?0?\d[\d ()/.-]{5,18}\d)(?![\w-]|\.\d)"
)
_REGIONS = ("US", "GB", "DE", "FR", "ES", "IT", "NL", "CH", "AT", "PL", "RO", "IN", "AU", "BR")


def is_iban(text: str) -> bool:
    """Whether the number has its country's length and ISO 7064's remainder (MOD 97-10)."""
    number = text.replace(" ", "")
    if _IBAN_LENGTHS.get(number[:2]) != len(number):
        return False
    return int("".join(str(int(character, 36)) for character in number[4:] + number[:4])) % 97 == 1


def is_card_number(text: str) -> bool:
    """Whether the number has an issuer's prefix and length and passes Luhn's check."""
    digits = re.sub(r"[ -]", "", text)
    if not digits.isascii() or not _CARD_PREFIX.match(digits) or len(set(digits)) < 3:
        return False
    doubled = (int(digit) * (1 + position % 2) for position, digit in enumerate(reversed(digits)))
    return sum(number - 9 * (number > 9) for number in doubled) % 10 == 0


def phone_numbers(text: str) -> Iterator[tuple[int, int]]:
    """Spans of numbers that a country has given out: with ``+`` anywhere, otherwise in North American form or after a cue."""
    if _INTERNATIONAL.search(text):
        for found in PhoneNumberMatcher(text, None, leniency=Leniency.VALID):
            unopened = found.raw_string.startswith("(") and found.raw_string.count("(") > found.raw_string.count(")")
            yield found.start + unopened, found.end
    for match in _NATIONAL.finditer(text):
        if _is_given_out(match[0], "US"):
            yield match.span()
    for match in _AFTER_CUE.finditer(text):
        if any(_is_given_out(match["number"], region) for region in _REGIONS):
            yield match.span("number")


def _is_given_out(number: str, region: str) -> bool:
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(number, region))
    except phonenumbers.NumberParseException:
        return False
