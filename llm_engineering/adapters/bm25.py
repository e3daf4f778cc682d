"""BM25 as sparse vectors: term weights here, inverse document frequency in the index.

Score of a passage d for a query q (Robertson and Zaragoza, 2009):
sum over the terms of q of idf(t) · tf(t, d) · (k1 + 1) / (tf(t, d) + k1 · (1 - b + b · |d| / average length)).
"""

import hashlib
import json
import re
import threading
import unicodedata
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from itertools import chain

from llm_engineering.domain.config import SparseConfig
from llm_engineering.domain.entities import SparseVector
from llm_engineering.domain.errors import UsageError

VERSION = 2
"""Raise it when the same text gets other terms."""

_ENGLISH = """
a an and are as at be but by can could did do does for from had has have how i if in into is it its me my no not of on or
our should so than that the their them then there these they this to was we were what when where which who whom whose why
will with would you your
"""

STOP_WORDS = {"english": frozenset(_ENGLISH.split())}
"""Words that say how something is asked, not what. Other languages leave them to the inverse document frequency."""

# Vowel signs and accents are part of words; Python's \w leaves them out. The South Asian blocks are taken whole.
_MARKS = (
    "\u0300-\u036f\u0483-\u0487\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed\u0900-\u0963\u0966-\u0dff"
)
_LETTERS = rf"(?:[^\W_]|[{_MARKS}])+"
# Written without spaces between words: Han, kana, Thai, Lao, Khmer, Burmese.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff"
)

_CLITIC = re.compile(r"(?<=\w)['’](?:s|t|d|m|ll|re|ve)\b|\b(?:[cdjlmnst]|qu)['’](?=\w)", re.IGNORECASE)
_WORD = re.compile(rf"{_LETTERS}(?:(?:_+|[.‐‑-]){_LETTERS})*(?:\+\+|\#)?")
_RUN = re.compile(_LETTERS)
_HUMP = re.compile(r"[a-z][A-Z]")
_CAMEL = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_SCRIPT = re.compile(rf"[{_UNSPACED}]+|[^{_UNSPACED}]+")
_PAIRED = re.compile(rf"[{_UNSPACED}]")
_DIGIT = re.compile(r"\d")
_SEPARATOR = re.compile(r"(?<!\d)[._‐‑-]+|[._‐‑-]+(?!\d)")


class Bm25Encoder:
    """Words in any Snowball language, identifiers whole and in parts, unspaced scripts in pairs of characters.

    Deterministic and thread-safe. Two terms with the same 32-bit id count as one.
    Raises :class:`UsageError` for a language that has no stemmer.
    """

    def __init__(self, config: SparseConfig) -> None:
        import mmh3
        import Stemmer

        language = config.language.casefold()
        if language != "none" and language not in Stemmer.algorithms():
            raise UsageError(
                f"There is no stemmer for the language {config.language!r}",
                hint=f"sparse.language is one of: none, {', '.join(sorted(Stemmer.algorithms()))}.",
            )
        identity = json.dumps([VERSION, config.model_dump(mode="json") | {"language": language}], sort_keys=True)
        self.fingerprint = hashlib.sha256(identity.encode()).hexdigest()[:32]
        self._config = config
        self._stop_words = STOP_WORDS.get(language, frozenset())
        stemmers = threading.local()  # a stemmer keeps state while it works

        @lru_cache(maxsize=100_000)
        def term_id(word: str) -> int:
            if language != "none" and not _DIGIT.search(word):
                if not hasattr(stemmers, "own"):
                    stemmers.own = Stemmer.Stemmer(language, 0)
                word = stemmers.own.stemWord(word)
            return abs(mmh3.hash(word))

        @lru_cache(maxsize=100_000)
        def term_ids(whole: str) -> tuple[int, ...]:
            return tuple(term_id(word) for word in _folded(whole) if word not in self._stop_words)

        self._term_ids = term_ids

    def encode_passage(self, text: str) -> SparseVector:
        """Saturated and length-normalised term frequencies, by ascending term id; empty for a text without words."""
        counts = Counter(self._terms(text))
        k1, b = self._config.k1, self._config.b
        length = counts.total() / self._config.average_length
        damping = k1 * (1 - b + b * length)
        indices = sorted(counts)
        return SparseVector(
            indices=indices, values=[counts[index] * (k1 + 1) / (counts[index] + damping) for index in indices]
        )

    def encode_query(self, text: str) -> SparseVector:
        """Weight 1 per distinct term, by ascending term id."""
        indices = sorted(set(self._terms(text)))
        return SparseVector(indices=indices, values=[1.0] * len(indices))

    def _terms(self, text: str) -> Iterator[int]:
        return chain.from_iterable(map(self._term_ids, _wholes(text)))


def words(text: str) -> Iterator[str]:
    """The folded words of a text before stemming.

    ``getUserName``, ``foo_bar``, ``e-mail`` and ``v1.2.3`` give their parts and the whole without its separators
    (those between digits stay), so that each spelling finds the others.
    """
    return chain.from_iterable(map(_folded, _wholes(text)))


def _wholes(text: str) -> list[str]:
    """The words and identifiers of a text as they stand there."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text.encode("utf-8", "replace").decode("utf-8"))
    return _WORD.findall(_CLITIC.sub(" ", text))


def _folded(whole: str) -> tuple[str, ...]:
    parts = [part.casefold() for run in _RUN.findall(whole) for part in _parts(run)]
    joined = _SEPARATOR.sub("", whole).casefold()
    return (*parts, joined) if parts != [joined] and not _PAIRED.search(whole) else tuple(parts)


def _parts(run: str) -> Iterator[str]:
    for piece in _SCRIPT.findall(run):
        if _PAIRED.match(piece):
            yield from (piece[at : at + 2] for at in range(max(1, len(piece) - 1)))
        elif _HUMP.search(piece) and piece.isascii():
            yield from _CAMEL.findall(piece)
        else:
            yield piece
