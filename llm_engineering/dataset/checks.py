"""What can be wrong with one text. Each check says what it found in a few words, or ``None``."""

import json
import re
from collections.abc import Iterable

from llm_engineering.dataset.language import language_of
from llm_engineering.dataset.words import code_share, content_words, count_words, fingerprint, grams, prose, words

_CALL_TO_ACTION = re.compile(
    r"(?i)\b(?:"
    r"subscribe (?:to|now|for|here)|sign up (?:for|to)|newsletter|become a (?:paid )?(?:member|subscriber)|referral link"
    r"|follow (?:me|us) (?:on|at)|connect with me|share this|join (?:my|our|the) (?:\w+ )?(?:community|discord|slack|list)"
    r"|thank(?:s| you) for reading|if you (?:enjoyed|liked) (?:this|the|reading)|leave a comment|see you (?:next|in the next)"
    r"|hit the (?:like|clap)|clap(?:s)? (?:for|button)|give (?:it|this) a (?:clap|like|star)|buy me a coffee"
    r"|support (?:my|our) work|originally published|all rights reserved|cookie(?:s| policy)"
    r"|privacy policy|terms of (?:use|service)|read more:?$|(?:next|previous) (?:article|lesson|post)"
    r")\b"
)
_LINK_LINE = re.compile(
    r"\s*(?:[-*+>]|\d{1,3}[.)]|\[\d+\]:?)?\s*(?:!?\[[^\]\n]*\]\([^)\n]*\)|<?(?:https?://|www\.)\S+|[|\s,;:·•–-])+\s*$"
)
_ADDRESS = re.compile(r"\]\([^)\n]*\)|<?(?:https?://|www\.)\S+")
_SENTENCE_END = re.compile(r"(?<=[.!?…])\s+|\n+")
_MODEL_REFUSAL = re.compile(
    r"(?i)\bas an? (?:ai|artificial intelligence)(?: language)? (?:model|assistant)\b"
    r"|^\W*(?:(?:i'm|i am) (?:very )?sorry|sorry|i apologi[sz]e|unfortunately)\b"
    r".{0,40}\b(?:can't|cannot|can not|unable|not able|don't have|do not have)\b"
    r"|^\W*i (?:can't|cannot|am unable to|'m unable to|won't)"
    r" (?:help|assist|fulfil|comply|provide|answer|write|generate|create)\b"
)
_PIECE = r"(?:extracts?|excerpts?|passages?|snippets?|fragments?)"
_TEXT = r"(?:text|article|post|section|document|paragraph|chapter|context|content|essay|paper|note)"
_SAYS = (
    r"(?:says?|states?|mentions?|describes?|discuss(?:es)?|explains?|suggests?|argues?|claims?|concludes?|proposes?|refers?"
    r"|recommend(?:s|ed)?|addresses|present(?:s|ed)?|provides?|outlines?|highlights?|emphasi[sz]es?|covers?)"
)
_POINTS_AT_SOURCE = re.compile(
    rf"(?i)\b(?:the|this|that|these|those|given|provided|above|following) {_PIECE}\b"
    rf"|\b(?:the|this) (?:given|provided|above|following|source) {_TEXT}\b|\b{_TEXT} (?:above|below|provided|given)\b"
    rf"|\b(?:according to|based on|in|from|as per|mentioned in|described in) (?:the|this) {_TEXT}\b"
    rf"|\b(?:the|this) (?:{_TEXT}|authors?|writer) {_SAYS}\b|\b(?:do|does|did) the (?:authors?|writer)\b"
    r"|\bthe authors?(?:'s?)? (?:concluded|suggested|mentioned|described|argued|claimed|proposed|make|draw)\b"
)
_CHAT_MARK = re.compile(
    r"(?i)<\|[a-z_]+\|>|\[/?INST\]|</?(?:passage|source|document|instruction|answer|think)>"
    r"|\{\{?\s*(?:passage|text|instruction|answer|question|title)\s*\}?\}"
)
_NO_CHARACTER = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffd]")
_LETTER = re.compile(r"[^\W\d_]")
_GIVEN_AWAY = 12


def broken(text: str) -> str | None:
    """No words at all, or characters that no text has."""
    if not words(text):
        return "no words"
    wrong = len(_NO_CHARACTER.findall(text))
    return f"{wrong} broken characters" if wrong > max(2, len(text) // 200) else None


def broken_reply(text: str) -> str | None:
    """What a model leaves when it did not do as it was told: control marks, placeholders, unpacked JSON."""
    mark = _CHAT_MARK.search(text)
    if mark:
        return f"holds {mark[0]}"
    if text.lstrip().startswith(("{", "[{", '["', "```json")):
        try:
            json.loads(text.strip().removeprefix("```json").removesuffix("```"))
        except json.JSONDecodeError:
            return None
        return "is JSON"
    return None


def cut_off(text: str) -> str | None:
    """A reply that stops in the middle of a sentence."""
    last = text.rstrip()[-1:]
    return "ends in the middle of a sentence" if last.isalnum() or last in {",", "(", "-", "–", "/"} else None


def too_short(text: str, least: int) -> str | None:
    """Fewer words than ``least``."""
    count = count_words(text)
    return f"{count} words" if count < least else None


def too_long(text: str, most: int) -> str | None:
    """More words than ``most``."""
    count = count_words(text)
    return f"{count} words" if count > most else None


def other_language(text: str, allowed: tuple[str, ...]) -> str | None:
    """Surely in a language that is not allowed."""
    language = language_of(prose(text)) if allowed else None
    return language if language and language not in allowed else None


def languages_differ(instruction: str, answer: str) -> str | None:
    """Instruction and answer are surely in different languages."""
    first = language_of(prose(instruction))
    second = language_of(prose(answer)) if first else None
    return f"{first} for {second}" if first and second and first != second else None


def boilerplate(text: str) -> str | None:
    """Half of the words call to action or are bare links, or most of the characters are no letters."""
    spoken = prose(text)
    lines = [line for line in text.splitlines() if line.strip()]
    lengths = [count_words(_ADDRESS.sub("] ", line)) + 1 for line in lines]  # a long address weighs no more than a word
    linked = sum(length for line, length in zip(lines, lengths, strict=True) if _LINK_LINE.match(line))
    if lines and linked * 2 >= sum(lengths):
        return "mostly links"
    sentences = [sentence for sentence in _SENTENCE_END.split(spoken) if sentence.strip()]
    calling = sum(count_words(sentence) for sentence in sentences if _CALL_TO_ACTION.search(sentence))
    if calling * 2 >= count_words(spoken) > 0:
        return "mostly calls to action"
    if len(_LETTER.findall(spoken)) * 2 < len("".join(spoken.split())):
        return "mostly digits and signs"
    return None


def code_only(text: str, most: float) -> str | None:
    """A larger share of the words is code than ``most``."""
    share = code_share(text)
    return f"{share:.0%} code" if share > most else None


def model_refusal(text: str) -> str | None:
    """A model that says that it cannot or will not."""
    found = _MODEL_REFUSAL.search(text[:400])
    return found[0].strip()[:80] if found else None


def points_at_source(text: str) -> str | None:
    """Speaks of a text that the reader will not have."""
    found = _POINTS_AT_SOURCE.search(text)
    return found[0] if found else None


def gives_answer_away(instruction: str, answer: str, *, known: Iterable[str] = ()) -> str | None:
    """The instruction quotes twelve words of the answer in a row, or all of it. Titles and headings (``known``) may be quoted."""
    if fingerprint(instruction) == fingerprint(answer):
        return "they are the same"
    told = set(grams(words(instruction), _GIVEN_AWAY))
    if not told:
        return None
    named = words("\n".join(known))
    told.difference_update(grams(named, _GIVEN_AWAY))
    shared = next((run for run in grams(words(answer), _GIVEN_AWAY) if run in told), None)
    return " ".join(shared) if shared else None


def support(answer: str, passage: str) -> tuple[float, float]:
    """How much of the answer stands in the passage: share of its content words, share of its pairs of neighbouring ones."""
    own, known = content_words(answer), content_words(passage)
    pairs = list(grams(own, 2))
    vocabulary, neighbours = set(known), set(grams(known, 2))
    return (
        sum(word in vocabulary for word in own) / len(own) if own else 0.0,
        sum(pair in neighbours for pair in pairs) / len(pairs) if pairs else 0.0,
    )
