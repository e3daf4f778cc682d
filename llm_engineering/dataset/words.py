"""What the gates and limits of this stage see of a text. All of it ignores case, markup and spacing.

A word is what :mod:`llm_engineering.domain.words` says: every limit of the stage counts the same.
"""

import hashlib
import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from llm_engineering.dataset.masking import MASKS
from llm_engineering.domain.words import CHARACTER, UNSPACED, letters
from llm_engineering.domain.words import words as words

_PART = re.compile(rf"(?=\w){CHARACTER}|{letters()}")
_ALONE = re.compile(f"[{UNSPACED}]")
_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})")
_INDENTED = re.compile(r"(?: {4,}|\t)\S")
_LIST_ITEM = re.compile(r"\s*(?:[-*+]|\d{1,3}[.)])\s")
_NO_PROSE = re.compile(r"`[^`\n]+`|(?:https?://|www\.)\S+")
_FUNCTION_WORD = re.compile(
    r"(?:a|about|after|all|also|an|and|any|are|as|at|be|because|been|but|by|can|could|did|do|does|for|from|"
    r"get|had|has|have|he|her|his|how|i|if|in|into|is|it|its|just|like|may|me|more|most|my|no|not|of|on|"
    r"one|only|or|other|our|out|over|she|should|so|some|such|than|that|the|their|them|then|there|these|"
    r"they|this|those|through|to|too|up|us|use|used|using|very|was|we|well|were|what|when|where|which|"
    r"while|who|why|will|with|would|you|your)"
)


def parts_of_words(text: str) -> list[str]:
    """The finest reading of a text, ``we'll`` and ``top_k`` two words each: no other counts fewer where two texts agree."""
    return _PART.findall(unicodedata.normalize("NFKC", text).casefold())


def same_question(instruction: str) -> str:
    """The form in which two instructions are compared."""
    return " ".join(parts_of_words(instruction))


def count_words(text: str) -> int:
    """How many words a person reads in the text, as every limit of the stage counts them. What was masked is no word."""
    return len(words(MASKS.sub(" ", text)))


def content_words(text: str) -> list[str]:
    """Words that carry meaning: English function words and single letters are left out, plural and verb endings are cut."""
    return [
        _stem(word)
        for word in words(text)
        if not _FUNCTION_WORD.fullmatch(word) and (len(word) > 1 or not word.isascii() or word.isdigit())
    ]


def fingerprint(text: str) -> str:
    """Digest of the words alone: equal for texts that differ in case, punctuation, markup and white space only."""
    alone = " ".join(words(text)).replace("'", " ")
    return hashlib.sha256(alone.encode("utf-8", "surrogatepass")).hexdigest()


def runs(parts: Sequence[str], length: int) -> Iterator[tuple[str, ...]]:
    """From every part of words on, the shortest run as long as ``length`` words.

    Of a script without spaces two characters count as one word: a word of Chinese has about two.
    """
    if not any(map(_ALONE.match, parts)):
        yield from grams(parts, length)
        return
    reached = [0, *accumulate(1 if _ALONE.match(part) else 2 for part in parts)]
    for start, before in enumerate(reached):
        end = bisect_left(reached, before + 2 * length)
        if end == len(reached):
            return
        yield tuple(parts[start:end])


def grams(tokens: Sequence[str], length: int) -> Iterator[tuple[str, ...]]:
    """Every run of ``length`` words; none if there are fewer."""
    return zip(*(tokens[offset:] for offset in range(length)), strict=False)


def prose(text: str) -> str:
    """The text without fenced code, inline code, addresses and masks: what a person wrote in a natural language."""
    lines, fence = [], ""
    for line in text.splitlines():
        mark = _FENCE.match(line)
        if mark and (not fence or mark.group(1).startswith(fence)):
            fence = "" if fence else mark.group(1)
        elif not fence:
            lines.append(line)
    return MASKS.sub(" ", _NO_PROSE.sub(" ", "\n".join(lines)))


def code_share(text: str) -> float:
    """Share of the words that stand in code: fenced, or indented by four columns outside a list."""
    code, total, fence, in_list = 0, 0, "", False
    for line in text.splitlines():
        mark = _FENCE.match(line)
        if mark and (not fence or (mark.group(1).startswith(fence) and not line[mark.end() :].strip())):
            fence = "" if fence else mark.group(1)
            continue
        if not line.strip():
            continue
        in_list = not fence and (bool(_LIST_ITEM.match(line)) or (in_list and line[0] in " \t"))
        count = len(words(line))
        total += count
        code += count * (bool(fence) or (not in_list and bool(_INDENTED.match(line))))
    return code / total if total else 0.0


def _stem(word: str) -> str:
    for ending in ("ing", "ies", "es", "ed", "s", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word
