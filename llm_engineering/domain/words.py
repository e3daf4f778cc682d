"""What a word is in any script. Where nothing stands between words (Chinese, Japanese, Thai), a character counts as one."""

import re
import unicodedata

UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff"
)
"""For a character class: scripts that are written without spaces (Thai, Lao, Burmese, Khmer, kana, Han)."""
_ON_UNSPACED = (  # vowel signs and tones of these scripts
    "\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ece\u102b-\u103e\u1056-\u1059\u17b4-\u17d3\u17dd\u3099\u309a"
)
_MARKS = (
    "\u0300-\u036f\u0483-\u0487\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed\u0900-\u0963\u0966-\u0dff"
)
"""Accents and vowel signs, which Python's ``\\w`` leaves out. The South Asian blocks are taken whole."""
CHARACTER = rf"[{UNSPACED}][{_ON_UNSPACED}]*"
"""Pattern of one character of such a script, with its vowel signs."""


def letters(leaving_out: str = "_") -> str:
    """Pattern of a run of letters and digits of all other scripts, less those of a character class such as ``\\d_``."""
    return rf"(?:[^\W{leaving_out}{UNSPACED}]|[{_MARKS}])+"


_RUN = letters()
_WORD = re.compile(rf"(?=\w){CHARACTER}|{_RUN}(?:'{_RUN})*")
_PLAIN_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
"""The same where there is neither an unspaced script nor a mark, in half the time."""
_NOT_PLAIN = re.compile(f"[{UNSPACED}{_MARKS}]")
_AS_THEY_STAND = re.compile(rf"{CHARACTER}[^\w\s]*|[^\s{UNSPACED}]+")
_CHARACTER = re.compile(CHARACTER)


def words(text: str) -> list[str]:
    """The words and numbers of a text as they are compared (NFKC, case-folded, straight apostrophes), without punctuation."""
    compared = unicodedata.normalize("NFKC", text).replace("’", "'").casefold()
    return (_WORD if _NOT_PLAIN.search(compared) else _PLAIN_WORD).findall(compared)


def first_words(text: str, count: int) -> str:
    """The text up to its first so many words, as it stands, punctuation at a word being part of it."""
    ends = [match.end() for match in _AS_THEY_STAND.finditer(text)][: max(0, count)]
    return text[: ends[-1]].strip() if ends else ""


def length_in_words(text: str) -> int:
    """How many words :func:`first_words` can give."""
    return sum(1 for _ in _AS_THEY_STAND.finditer(text))


def spaced(text: str) -> str:
    """The text with blanks around each character that counts as a word, for tools that part words at blanks."""
    return _CHARACTER.sub(r" \g<0> ", text)
