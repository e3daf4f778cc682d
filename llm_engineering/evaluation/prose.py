"""What of a text is compared for style: its prose, in pieces of one length, with or without what it is about."""

import re
from collections.abc import Iterable, Sequence
from itertools import groupby

from llm_engineering.domain.entities import Frozen
from llm_engineering.domain.words import CHARACTER, letters
from llm_engineering.evaluation.function_words import FUNCTION_WORDS

_FENCED = re.compile(r"^[ \t]*(```|~~~).*?(?:^[ \t]*\1[^\n]*$|\Z)", re.DOTALL | re.MULTILINE)
_NO_PROSE = re.compile(
    r"^(?:(?: {4,}|\t+)(?![-*+] |\d+[.)] ).*|[ \t]*\|.*|[ \t]*<[^>\n]*>[ \t]*|[ \t]*[-=*_]{3,}[ \t]*)$", re.MULTILINE
)
"""Lines that are indented code, rows of a table, a tag alone, or a rule."""
_IMAGE, _LINK = re.compile(r"!\[[^\]]*\]\([^)\s]*[^)]*\)"), re.compile(r"\[([^\]]*)\]\([^)\s]*[^)]*\)")
_ADDRESS = re.compile(r"<?\b(?:https?|ftp|mailto):[^\s>)\]]+>?|\bwww\.[^\s>)\]]+", re.IGNORECASE)
_INLINE, _TAG = re.compile(r"`+[^`\n]*`+"), re.compile(r"</?[a-zA-Z][^>\n]{0,300}>")
_MARK = re.compile(r"^[ \t]*(?:#{1,6}[ \t]+|>+[ \t]?|[-*+][ \t]+|\d+[.)][ \t]+)", re.MULTILINE)
_EMPHASIS = re.compile(r"(?<![^\W_])[*_]{1,3}(?=\S)|(?<=\S)[*_]{1,3}(?![^\W_])|\\(?=[^\w\s])")
_TYPOGRAPHY = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "…": "...", "\u00a0": " "})
_LETTERS = letters(r"\d_")
_WORD = re.compile(rf"(?=[^\W\d_]){CHARACTER}|{_LETTERS}(?:'{_LETTERS})*")
_WORD_OR_NUMBER = re.compile(rf"(?P<word>{_WORD.pattern})|(?P<number>\d[\d.,]*)")
_KEPT = frozenset(FUNCTION_WORDS)


class StyleText(Frozen):
    """A text and the document that it belongs to; a twin's output belongs to the document that its instruction is from."""

    document_id: str
    text: str


def prose(text: str) -> str:
    """The sentences of a Markdown text: without code, tables, addresses and marks, on one line, with plain quotation marks.

    Those tell platforms and subjects apart, not writers.
    """
    text = _NO_PROSE.sub(" ", _FENCED.sub("\n", text.replace("\r\n", "\n")))
    text = _LINK.sub(r"\1", _IMAGE.sub(" ", _INLINE.sub(" ", text)))
    text = _EMPHASIS.sub("", _MARK.sub("", _TAG.sub(" ", _ADDRESS.sub(" ", text))))
    return " ".join(text.translate(_TYPOGRAPHY).split())


def words(text: str) -> list[str]:
    """The words of a prose text in lower case; numbers are none. A character of a script without spaces is one."""
    return _WORD.findall(text.lower())


def pieces(texts: Iterable[StyleText], *, words: int) -> list[StyleText]:
    """The prose of each document in pieces of exactly ``words`` words; what is left over at the end is not compared."""
    found = []
    ordered = sorted(texts, key=lambda each: each.document_id)
    for document_id, of_it in groupby(ordered, key=lambda each: each.document_id):
        whole = " ".join(prose(each.text) for each in of_it)
        starts = [match.start() for match in _WORD.finditer(whole)] + [len(whole)]
        for first in range(0, len(starts) - words, words):
            piece = whole[starts[first] : starts[first + words]].strip()
            found.append(StyleText(document_id=document_id, text=piece))
    return found


def documents(texts: Sequence[StyleText]) -> int:
    """How many documents the texts are of."""
    return len({each.document_id for each in texts})


def function_share(texts: Iterable[StyleText]) -> float | None:
    """Share of the words that are English function words; ``None`` of no words."""
    found = [word in _KEPT for each in texts for word in words(each.text)]
    return sum(found) / len(found) if found else None


def masked(text: str) -> str:
    """The text with every word that is no function word as ``*`` and every number as ``#``: what remains is not its subject.

    Text distortion with single asterisks (Stamatatos, 2017); the words kept are a list instead of the most frequent ones.
    """

    def mask(match: re.Match[str]) -> str:
        if match["number"]:
            return "#"
        return match["word"] if match["word"].lower() in _KEPT else "*"

    return _WORD_OR_NUMBER.sub(mask, text)
