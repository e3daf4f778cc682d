"""How many tokens a text has for a model whose tokenizer nobody told us: a careful over-estimate."""

import re

_PIECES = re.compile(r"[A-Za-z]{1,4}|[^\sA-Za-z]")
"""Four letters of a long word are a token: vocabularies of 30,000 pieces and more need fewer tokens than that."""
_BLANKS = re.compile(r"\s{4,}")
_BEYOND_ASCII = re.compile(r"[^\s\x00-\x7f]")
_BEYOND_PLANE = re.compile(r"[\U00010000-\U0010ffff]")


def estimated_tokens(text: str) -> int:
    """At least what common subword vocabularies need, for English prose about 1.4 times as many.

    Counted are: one per word of up to four Latin letters and one more for every further four begun; each digit; each
    line break, and indentation by fours; each other ASCII sign; two for any other character of the basic plane, and four
    (its bytes) beyond it.
    """
    tokens: int = len(_PIECES.findall(text)) + text.count("\n")
    tokens += sum((len(run) - run.count("\n")) // 4 for run in _BLANKS.findall(text))
    if not text.isascii():
        tokens += len(_BEYOND_ASCII.findall(text)) + 2 * len(_BEYOND_PLANE.findall(text))
    return tokens
