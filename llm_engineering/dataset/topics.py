"""What a heading or title speaks of, and how a person would ask about it in English.

A heading is read once into a :class:`Topic`: its cleaned text, its grammatical form, and the question that it turns into.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from llm_engineering.dataset.pieces import joined, word_set


class Form(StrEnum):
    """How a heading is built; decides how it is asked about."""

    QUESTION = "question"
    CLAUSE = "clause"
    """``How I generated …``, ``Why it matters``: a question that is not asked."""
    HOW_TO = "how to"
    IMPERATIVE = "imperative"
    GERUND = "gerund"
    INTRODUCTION = "introduction"
    COMPARISON = "comparison"
    COUNT = "count"
    """``4 key decoding strategies``."""
    DEFINITE = "definite"
    """``The architecture of …``."""
    STATEMENT = "statement"
    CLOSING = "closing"
    GENERIC = "generic"
    """``Implementation``: says nothing without the title."""
    PHRASE = "phrase"


@dataclass(frozen=True, slots=True)
class Topic:
    """A heading as one may speak about it."""

    text: str
    """Cleaned, in the author's own case: what is quoted."""
    form: Form
    inside: str
    """As it stands inside a sentence: ordinary words in lower case."""
    question: str
    """What a person would ask to be told it; empty where only a quotation would do."""


class Wording:
    """How a document writes its words: tells a name from an ordinary word that a heading capitalises."""

    def __init__(self, text: str) -> None:
        self._lower = Counter(re.findall(r"(?<![\w./@_-])[a-z][a-z'’]+(?![\w@_/]|\.\w)", text))
        self._names = Counter(re.findall(r"(?<=[a-z,] )[A-Z][a-z'’]+(?![\w@_/]|\.\w)", text))

    def is_ordinary(self, word: str, *, alone: bool) -> bool:
        """Whether a capitalised word is one of the language; ``alone``: no other word of its heading has a capital."""
        folded = word.casefold()
        if folded in _ALWAYS_LOWER:
            return True
        lower, name = self._lower[folded], self._names[word]
        return lower > max(name - 1, 0) or (alone and not name)


def topic_of(heading: str, wording: Wording) -> Topic:
    """Read a heading of a document that is worded so."""
    text = cleaned(heading)
    form = _form(text)
    inside = _lowered(text.rstrip("?.!"), wording)
    return Topic(text, form, inside, _QUESTIONS[form](text, inside))


def cleaned(heading: str) -> str:
    """Without emoji, numbering, labels such as ``Story:`` and decoration; never empty if the heading has a word."""
    heading = re.sub(r"[\d#*]\ufe0f?\u20e3", " ", heading)  # a digit drawn as a key
    text = joined("".join(" " if _is_symbol(character) else character for character in heading))
    text = text.replace("''", "'").replace("“", '"').replace("”", '"').replace('"', "'").strip()
    for _ in range(3):
        shorter = _LABEL.sub("", text, count=1).strip() if _LABEL.match(text) else text
        if not re.search(r"\w", shorter):
            break
        text = shorter
    text = re.sub(r"\s+([?!,:;]|\.(?=\s|$))", r"\1", text)
    text = text.strip(" *_:;,!-–—•→#|") or text
    return text if text.endswith("..") else text.rstrip(".") or text


def cleaned_title(title: str, author: str) -> str:
    """A title without the names of author and publication that a site puts beside it."""
    parts = [part.strip() for part in re.split(r"\s+[-–—|]\s+", joined(title)) if part.strip()]
    names = {author.casefold(), f"by {author.casefold()}"}
    while len(parts) > 1 and (parts[-1].casefold() in names or _SITE.fullmatch(parts[-1])):
        parts.pop()
    if len(parts) > 1 and parts[0].casefold() in names:
        parts.pop(0)
    return cleaned(_SERIES.sub("", " - ".join(parts)))


_SITE = re.compile(r"by [\w .]{1,40}|.{1,40} newsletter|medium|substack|.{1,30}(?:['’]s)? blog", re.IGNORECASE)
_SERIES = re.compile(r"^[A-Z]{2,5}: (?=\S+ \S+)")
_LABEL = re.compile(
    r"#\s?\d+(?:\.\d+)*[.):]?\s*|\d{1,2}(?:\.\d+)*\s?[.):]+(?=\s|[A-Za-z])\s*|\d{1,2}\.\d+\s+|(?:[IVX]{1,5}|[A-H])[.)]\s+|"
    r"#?(?:story(?:time)?|extra|bonus|tip|update|part|step|option|tier|lesson|phase|stage)\s?(?:\d{1,2}|[IVX]+)?\s?[:.]\s+|#",
    re.IGNORECASE,
)


def _is_symbol(character: str) -> bool:
    if character in "↓↑→←↳":
        return True
    category = unicodedata.category(character)
    return category in ("So", "Sk", "Cf", "Mn", "Me", "Co", "Cs") and character not in "^`°©®"


# ---- forms ----

_AUXILIARY = (
    r"(?:is|are|was|were|do|does|did|can|could|should|would|will|has|have|must|may|might|am|isn['’]t|aren['’]t|don['’]t"
    r"|doesn['’]t|didn['’]t|can['’]t|won['’]t|shouldn['’]t)"
)
_INTERROGATIVE = re.compile(
    rf"(?:what|why|how|when|where|who|which|whose)(?:\s+(?:&|and)\s+(?:what|why|how|when|where))?"
    rf"(?:['’]s\b|\s+{_AUXILIARY}\b|\s+(?:many|much|long|often|far|fast|big)\b.*\b{_AUXILIARY}\b)",
    re.IGNORECASE,
)
_CLAUSE = re.compile(r"(?:how|why|what|when|where|who|which)\s+\w", re.IGNORECASE)
_STATEMENT = re.compile(
    r"\w.*\s(?:is|are|was|were|isn['’]t|aren['’]t|has|have|had|don['’]t|doesn['’]t|does|do|can|can['’]t|cannot|will|won['’]t|"
    r"should|must|needs?|means?|makes?|comes?|goes|gets?|wants?|says?|knows?|never|always|stays?|moves?|becomes?)\s+\w",
    re.IGNORECASE,
)
_BEING = re.compile(
    r"\s(?:is|are|was|were|isn['’]t|aren['’]t|has|have|had|can|cannot|can['’]t|will|won['’]t|should|must)\s",
    re.IGNORECASE,
)
_CLOSING = re.compile(
    r"(?:the )?(?:conclusions?|summary|wrap(?:ping)?[- ]up|final (?:thoughts|words)|closing(?: thoughts| remarks)?|takeaways?|"
    r"key takeaways?|in (?:short|summary)|to sum(?: up|mari[sz]e)|epilogue|recap|outlook)",
    re.IGNORECASE,
)
_GENERIC = re.compile(
    r"(?:an? )?(?:introduction|intro|overview|background|implementation|the (?:problem|solution|idea|rule|code|setup|theory|"
    r"results?|data|method|model|approach)|problem|solution|motivation|context|set-?up|installation|usage|results?|evaluation|"
    r"examples?|theory|practice|method(?:ology|s)?|approach|architecture|discussion|limitations|experiments?|data(?:set)?|"
    r"preface|preamble|prerequisites|requirements|details|notes?|literature|objective|variables|constraints|solvers|design|"
    r"costs?|challenges?|optimi[sz]e)",
    re.IGNORECASE,
)
_INTRODUCTION = re.compile(
    r"(?:an? )?(?:\w+ )?(?:introduction|(?:beginner['’]?s?|gentle|quick|short|complete|practical|ultimate)?\s?guide|primer|"
    r"overview)\s+(?:to|on|of)\s+(?P<about>.+)",
    re.IGNORECASE,
)
_DETERMINER = r"(?:a|an|the|your|my|our|this|that|these|those|all|any|more|it|them|each|every|no|some|one|\d+)"
VERBS = word_set(
    "add adopt apply ask assemble avoid beat become begin boost break bring build calculate call catch choose clean collect "
    "combine compare compile compute configure connect convert count create crawl cut debug define deploy describe develop "
    "discover divide download eliminate embed enable ensure estimate evaluate explore export extract fail feed find fine-tune "
    "fix follow forget gather generate get give go grow handle implement import improve increase ingest initialize install "
    "integrate investigate keep launch learn let leverage limit load look make manage master maximize measure merge migrate "
    "minimize move normalize observe optimize orchestrate organize parse pick populate predict prepare preprocess present "
    "prevent prove publish push put quantize quantise read recognize reduce remember remove replace retire retrieve run save "
    "say scale secure select send serve share ship simplify solve speed spend stop store synthesize take talk teach tell "
    "train transform tune turn uncensor understand unlock upgrade upload upskill use validate visualize watch write"
)
_NOUNS_TOO = word_set(
    "ask beat boost break build call catch clean count crawl cut debug design export feed find fix import increase limit load "
    "look move practice process query read report run scale search ship spend speed start stop store talk test train tune "
    "turn use watch write"
)
_GERUNDS = {
    (
        verb[:-1] + "ing"
        if verb.endswith("e") and not verb.endswith("ee")
        else verb + verb[-1] + "ing"
        if verb in ("get", "put", "run", "cut", "stop", "ship", "forget", "begin", "let", "embed")
        else verb + "ing"
    )
    for verb in VERBS
} - {"embedding", "streaming", "training", "tuning", "fine-tuning", "crawling", "processing", "building", "reading"}
_GERUND_BEFORE_DETERMINER = {
    "training",
    "building",
    "reading",
    "fine-tuning",
    "embedding",
    "crawling",
    "testing",
    "tuning",
}


def _form(text: str) -> Form:
    first, _, rest = text.partition(" ")
    first = first.casefold()
    for form, pattern in ((Form.CLOSING, _CLOSING), (Form.GENERIC, _GENERIC)):
        if pattern.fullmatch(text.rstrip("!.:?")):
            return form
    if "|" in text or " - " in text or first.startswith("0"):
        return Form.STATEMENT if len(text.split()) > 3 else Form.PHRASE
    if re.match(r"how to\s", text, re.IGNORECASE):
        return Form.HOW_TO
    if text.endswith("?") or (_INTERROGATIVE.match(text) and ("?" in text or "." not in text)):
        return Form.QUESTION if re.match(r"\w+['’]?\w*\s+\w", text) else Form.PHRASE
    if _INTRODUCTION.fullmatch(text):
        return Form.INTRODUCTION
    if _CLAUSE.match(text):
        return Form.CLAUSE
    if re.search(r"\svs?\.?\s|\bversus\b|^the differences? between\b", text, re.IGNORECASE):
        return Form.COMPARISON
    if ":" in text or ". " in text or "," in text or "!" in text:
        return Form.STATEMENT if len(text.split()) > 3 else Form.PHRASE
    if re.match(r"(?:the )?(?:top )?[1-9]\d*[- ](?!\d)[\w-]+.*s\b", text, re.IGNORECASE) and not _BEING.search(
        re.split(r" (?:that|you|to) ", text, flags=re.IGNORECASE)[0]
    ):
        return Form.COUNT
    if _BEING.search(re.split(r" (?:that|which|who|you|we|I) ", text, flags=re.IGNORECASE)[0]):
        return Form.STATEMENT
    telegraphic = len(rest.split()) == 1 and rest.islower() and not rest.endswith("s")
    if telegraphic or rest.startswith("("):
        return Form.PHRASE
    determined = bool(re.match(rf"{_DETERMINER}\b|[A-Z]", rest))
    if first in VERBS and rest and (first not in _NOUNS_TOO or determined):
        return Form.IMPERATIVE
    if rest and (first in _GERUNDS or (first in _GERUND_BEFORE_DETERMINER and determined)):
        return Form.GERUND
    if _STATEMENT.search(text):
        return Form.STATEMENT
    return Form.DEFINITE if re.match(r"the\s\w", text, re.IGNORECASE) else Form.PHRASE


# ---- questions ----


def to_reader(text: str) -> str:
    """What the author says to the reader, said by the reader: ``your`` becomes ``my``, ``I`` becomes ``you``."""
    return _PERSON.sub(lambda match: _PERSONS[match.group().casefold()], text)


def to_author(text: str) -> str:
    """What the author says of himself, said to him; what he says to the reader stays."""
    text = re.sub(r"\bam I\b", "are you", text)
    return _FIRST_PERSON.sub(lambda match: _PERSONS[match.group().casefold()], text)


_PERSONS = {
    "your": "my",
    "yourself": "myself",
    "yours": "mine",
    "you": "I",
    "i": "you",
    "my": "your",
    "myself": "yourself",
    "we": "you",
    "our": "your",
    "us": "you",
    "ours": "yours",
}
_PERSON = re.compile(r"\b(?:yourself|yours|your|you|myself|my|we|ours|our|us|i(?!\.))\b(?!['’])", re.IGNORECASE)
_FIRST_PERSON = re.compile(r"\b(?:myself|my|we|ours|our|us|i(?!\.))\b(?!['’])", re.IGNORECASE)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _asked(text: str, inside: str) -> str:
    question = text[: text.rindex("?")] if "?" in text else text
    return f"{_capital(to_author(question.rstrip('?.! ').replace(' & ', ' and ')))}?"


def _clause(text: str, inside: str) -> str:
    return f"Can you tell me {to_reader(inside)}?"


def _how_to(text: str, inside: str) -> str:
    return f"How do I {to_reader(inside[7:])}?"


def _imperative(text: str, inside: str) -> str:
    return f"How do I {to_reader(inside)}?"


def _gerund(text: str, inside: str) -> str:
    first, _, rest = inside.partition(" ")
    if first in ("understanding", "exploring", "discovering", "learning", "exploring", "looking"):
        return f"Can you walk me through {to_reader(rest)}?"
    return f"How do I go about {to_reader(inside)}?"


def _introduction(text: str, inside: str) -> str:
    match = _INTRODUCTION.fullmatch(inside)
    return f"Can you give me an introduction to {to_reader(match['about'])}?" if match else ""


def _comparison(text: str, inside: str) -> str:
    if re.match(r"the differences between", inside, re.IGNORECASE):
        return f"What are {inside}?"
    if re.match(r"the difference between", inside, re.IGNORECASE):
        return f"What is {inside}?"
    sides = [side.strip() for side in re.split(r"\svs?\.?\s|\sversus\s", inside)]
    if all(len(side.split()) == 1 for side in sides):
        return f"How do {', '.join(sides[:-1])} and {sides[-1]} compare?"
    return f"{_capital(inside)}: what is the difference?"


def _count(text: str, inside: str) -> str:
    counted = re.sub(r"^((?:top )?\d+)-", r"\1 ", to_reader(inside.removeprefix("the ")))
    return f"What are the {counted}?"


def _definite(text: str, inside: str) -> str:
    return f"Can you tell me about {to_reader(inside)}?"


def _none(text: str, inside: str) -> str:
    return ""


_QUESTIONS: dict[Form, Callable[[str, str], str]] = {
    Form.QUESTION: _asked,
    Form.CLAUSE: _clause,
    Form.HOW_TO: _how_to,
    Form.IMPERATIVE: _imperative,
    Form.GERUND: _gerund,
    Form.INTRODUCTION: _introduction,
    Form.COMPARISON: _comparison,
    Form.COUNT: _count,
    Form.DEFINITE: _definite,
    Form.STATEMENT: _none,
    Form.CLOSING: _none,
    Form.GENERIC: _none,
    Form.PHRASE: _none,
}


_ALWAYS_LOWER = word_set(
    "a an and are as at by can do does for from how i in into is it its of on or the this that to using vs what when where why "
    "with without your my our key best most more all"
)


def _lowered(text: str, wording: Wording) -> str:
    """Ordinary words in lower case; names stay, and so does a run of capitals that holds one."""
    capitals = re.findall(r"\b[A-Z][a-z]+", text)

    def lower(match: re.Match[str]) -> str:
        run = match.group()
        if run == "A" and not (match.start() == 0 or re.match(r" (?!and\b|or\b|vs\b)[a-z]", text[match.end() :])):
            return run
        words = re.findall(r"[A-Z][a-z'’]*|[A-Z]\w+", run)
        ordinary = (len(run) > 1 or run == "A") and all(
            wording.is_ordinary(word, alone=len(capitals) == 1) for word in words
        )
        return run.lower() if ordinary else run

    text = _CAPITALS.sub(lower, text).replace(" & ", " and ")
    first = text.split(" ", 1)[0]
    if first.casefold() in {*VERBS, *_GERUNDS, "introduction", "formatting", "unwrapping", "overview"}:
        text = text[:1].lower() + text[1:]
    return text


_CAPITALS = re.compile(r"(?<![\w&])[A-Z](?:[a-z'’]+)?(?![\w.&])(?:[ -][A-Z][a-z'’]+(?![\w.&]))*")
