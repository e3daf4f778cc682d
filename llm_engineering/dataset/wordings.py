"""The words in which rules ask for a passage, by style: from its title, headings, kind and key phrases."""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from llm_engineering.dataset.phrases import key_phrases
from llm_engineering.dataset.pieces import word_set
from llm_engineering.dataset.topics import Form, Topic, Wording, cleaned_title, topic_of
from llm_engineering.dataset.words import count_words
from llm_engineering.domain.entities import Kind, fold
from llm_engineering.domain.samples import AuthorPassage, InstructionStyle

_SHORT_HEADING = 3
"""A heading of so few words is asked about together with the title that it stands under."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is known of a passage when one wants to ask for it."""

    passage: AuthorPassage
    title: Topic
    heading: Topic | None
    part: int
    """Which passage of its section it is, from 0."""
    phrases: tuple[str, ...]
    english: bool

    @classmethod
    def of(cls, passage: AuthorPassage, wording: Wording, *, part: int) -> "Subject":
        """Read title, last heading and key phrases of the passage; ``wording`` is that of its document."""
        where = passage.provenance
        title = topic_of(cleaned_title(where.title, where.author), wording)
        code = where.kind is Kind.REPOSITORY and _SIGNATURE.fullmatch(
            where.heading_path[-1] if where.heading_path else ""
        )
        heading = None if code or not where.heading_path else topic_of(where.heading_path[-1], wording)
        if heading is not None and fold(heading.text) == fold(title.text):
            heading = None
        avoid = " ".join((title.text, *(path for path in where.heading_path[-1:])))
        phrases = () if code else tuple(key_phrases(passage.text, avoid=avoid))
        return cls(passage, title, heading, part, phrases, _is_english(passage))

    @property
    def quoted_title(self) -> str:
        """The title as it stands in a sentence."""
        return f'"{self.title.text}"'

    @property
    def signature(self) -> str:
        """Of a documented function; empty for prose."""
        path = self.passage.provenance.heading_path
        code = self.passage.provenance.kind is Kind.REPOSITORY and path and _SIGNATURE.fullmatch(path[-1])
        return path[-1] if code else ""

    def choice(self, purpose: str, count: int) -> int:
        """A number below ``count`` that follows from the passage."""
        return self._hash(purpose) % count

    def point(self, purpose: str) -> float:
        """A number between 0 and 1, neither included, that follows from the passage."""
        return (self._hash(purpose) + 0.5) / 16**12

    def _hash(self, purpose: str) -> int:
        return int(hashlib.sha256(f"{purpose}\0{self.passage.key}".encode()).hexdigest()[:12], 16)


_SIGNATURE = re.compile(r".*[\w$]+\s*\(.*\).*", re.DOTALL)


def _ask(subject: Subject) -> Iterator[str]:
    """Questions, the plainest first."""
    if not subject.english:
        return
    if subject.signature:
        yield from _ask_for_code(subject)
        return
    heading, title = subject.heading, subject.quoted_title
    if subject.part == 0 and heading is not None:
        yield from _ask_about_heading(heading, subject)
    elif subject.part == 0:
        yield from _ask_about_title(subject)
    points = _listed(subject.phrases)
    if len(subject.phrases) >= 2:
        where = f'the part "{heading.text}" of {title}' if heading is not None else title
        yield f"In {where}, what do you say about {points}?"
        if heading is not None and heading.form in (Form.PHRASE, Form.DEFINITE) and _is_noun(heading):
            yield f"When it comes to {_spoken(heading)}, what should I know about {points}?"
        yield f"I'm reading {title}. Can you tell me more about {points}?"


def _ask_about_heading(heading: Topic, subject: Subject) -> Iterator[str]:
    title = subject.quoted_title
    short = (
        len(heading.text.split()) <= _SHORT_HEADING
        or re.search(r"\b(?:this|it|these|here|our)\b", heading.inside) is not None
    )
    match heading.form:
        case Form.CLOSING:
            yield f"What should readers take away from {title}?"
            yield f"How do you sum up {title}?"
        case Form.GENERIC:
            inside = heading.inside if heading.inside.startswith(("the ", "a ", "an ")) else f"the {heading.inside}"
            yield f"I have a question about {title}: can you go through {inside}?"
        case Form.STATEMENT:
            yield f'In {title} you have a part called "{heading.text}". What is it about?'
            if ":" not in heading.text and " - " not in heading.text and len(heading.text.split()) <= 12:
                yield f'What do you mean by "{heading.text}"?'
        case Form.PHRASE if not _is_noun(heading):
            yield f'In {title}, what is "{heading.text}" about?'
        case Form.PHRASE:
            yield f"In {title}, what do you say about {_spoken(heading)}?"
            if not short:
                yield f"What should I know about {_spoken(heading)}?"
                yield f"Can you tell me more about {_spoken(heading)}?"
        case _ if short or (heading.form is Form.QUESTION and len(heading.text.split()) < 5):
            yield f"I have a question about {title}: {_mid(heading.question)}"
            yield f"I'm reading {title}. {heading.question}"
        case _:
            yield heading.question
            yield f"I'm reading {title}. {heading.question}"


def _ask_about_title(subject: Subject) -> Iterator[str]:
    if subject.passage.provenance.kind in (Kind.POST, Kind.NOTE) and subject.title.question:
        yield subject.title.question
    yield f"What is {subject.quoted_title} about?"
    if subject.title.question and subject.title.form is not Form.STATEMENT:
        yield subject.title.question


def _ask_for_code(subject: Subject) -> Iterator[str]:
    path, signature = subject.passage.provenance.heading_path[0], subject.signature
    yield f"How would you write `{signature}` in `{path}`?"
    yield f"Can you show me your `{signature}` from `{path}`?"


def _brief(subject: Subject) -> Iterator[str]:
    """Writing tasks with the points to touch."""
    if not subject.english:
        return
    if subject.signature:
        path = subject.passage.provenance.heading_path[0]
        yield f"Write the documented function `{subject.signature}` for `{path}`."
        return
    heading, title = subject.heading, subject.quoted_title
    whole = _WHOLE.get(subject.passage.provenance.kind, "an article")
    points = _listed(subject.phrases)
    forms = ("Touch on", "Bring in", "It should mention")
    touch = f" {forms[subject.choice('touch', len(forms))]} {points}." if subject.phrases else ""
    if heading is None and subject.passage.provenance.kind in (Kind.POST, Kind.NOTE) and subject.part == 0:
        yield f"Write {whole} titled {title}.{touch}"
    elif heading is None and subject.part == 0:
        yield f"Write the opening of {whole} titled {title}.{touch}"
        yield f"How would you begin {whole} called {title}?{touch}"
    elif subject.part == 0 and heading is not None:
        if heading.form is Form.CLOSING:
            yield f"Write the conclusion of {whole} titled {title}.{touch}"
            yield f"Close {whole} titled {title}.{touch}"
        else:
            yield f'Write the section "{heading.text}" of {whole} titled {title}.{touch}'
            if heading.form is Form.PHRASE and _is_noun(heading) and len(heading.text.split()) >= 2:
                yield f"Write a section on {_spoken(heading)} for {whole} titled {title}.{touch}"
            yield f'Draft a section called "{heading.text}".{touch} It belongs to {whole} titled {title}.'
    elif subject.phrases and heading is not None:
        yield f'Write a passage for the section "{heading.text}" of {whole} titled {title}. Cover {points}.'
        yield f'I need more on {points} under the heading "{heading.text}", for {whole} titled {title}.'
    elif subject.phrases:
        yield f"Write a passage for {whole} titled {title}. Cover {points}."


_WHOLE = {Kind.ARTICLE: "an article", Kind.POST: "a post", Kind.NOTE: "a note", Kind.REPOSITORY: "a readme"}


def _title(subject: Subject) -> Iterator[str]:
    """The title or heading path alone, in any language."""
    if subject.signature:
        yield f"{subject.passage.provenance.heading_path[0]}: {subject.signature}"
    elif subject.part == 0 and subject.heading is not None:
        yield f"{subject.title.text}: {subject.heading.text}"
        yield f"{subject.heading.text} ({subject.title.text})"
    elif subject.part == 0:
        yield subject.title.text


def _continue(subject: Subject) -> Iterator[str]:
    """The author's words before the passage, in any language."""
    before = subject.passage.before
    if sum(count_words(line) for line in before.splitlines() if not line.startswith("#")) < _ENOUGH_BEFORE:
        return
    if not subject.english:
        yield before
        return
    lead = ("Continue this text:", "Go on from here:", "What comes next?")
    first = subject.choice("lead", len(lead))
    for number in range(len(lead)):
        yield f"{lead[(first + number) % len(lead)]}\n\n{before}"


_ENOUGH_BEFORE = 12


def _reply(subject: Subject) -> Iterator[str]:
    """What somebody else might write to the author."""
    if not subject.english or subject.signature:
        return
    heading, title = subject.heading, subject.quoted_title
    points = _listed(subject.phrases[:2])
    if len(subject.phrases) >= 2:
        yield f"I've just read {title} and I'm not sure I got everything about {points}. Could you explain that part once more?"
        yield f"A colleague asked me about {points}, and I didn't know what to say. You wrote {title}: what would you answer?"
    if subject.part == 0 and heading is not None and heading.form is Form.PHRASE and _is_noun(heading):
        yield f"Thanks for {title}! Could you say a bit more about {_spoken(heading)}?"
    elif subject.part == 0 and heading is not None and heading.question:
        yield f"Hi! I enjoyed {title}. One question: {_mid(heading.question)}"


WORDINGS: dict[InstructionStyle, Callable[[Subject], Iterator[str]]] = {
    InstructionStyle.ASK: _ask,
    InstructionStyle.BRIEF: _brief,
    InstructionStyle.TITLE: _title,
    InstructionStyle.CONTINUE: _continue,
    InstructionStyle.REPLY: _reply,
}
"""By style, the wordings that fit the passage, the best first; none if the style does not fit."""


def _mid(question: str) -> str:
    """A question inside a sentence."""
    first = question.split(maxsplit=1)[0]
    return question[:1].lower() + question[1:] if first[1:].islower() and first in _QUESTION_WORDS else question


_QUESTION_WORDS = word_set("What Why How When Where Who Which Can Is Are Do Does What's")


def _listed(phrases: Sequence[str]) -> str:
    """``a, b and c``."""
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}" if phrases else ""


def _is_noun(topic: Topic) -> bool:
    """Whether a heading can be spoken about as it stands."""
    return not re.search(r"[:!?()|#/]|\s-\s|\d$", topic.inside) and not _NO_NOUN.match(topic.inside)


def _spoken(topic: Topic) -> str:
    """A noun phrase with an article where it would be broken English without."""
    if topic.inside.split(maxsplit=1)[0] in _WITH_ARTICLE:
        return topic.inside
    head = re.split(r"\s(?:of|for|in|with|on|to|using|from|and|via|that)\s", topic.inside)[0].split()[-1]
    return f"the {topic.inside}" if head in _COUNTED else topic.inside


_WITH_ARTICLE = word_set("a an the my your our this that these some one two three all every")
_COUNTED = word_set(
    """
    agent aggregator algorithm application approach architecture benefits book bot bug challenge class client concept course
    dataset design engine example experiment flow format framework function handler implementation index infrastructure
    issue layer library list loop mechanism method model module network operator output package pattern pipeline platform
    problem process project prompt result rule server service setup solution stack step steps story strategy structure style
    system table task team technique test tool workflow
    """
)
_NO_NOUN = re.compile(r"(?:to|for|with|in|on|from|by|towards?|load|step|after|before|using|let['’]?s)\b", re.IGNORECASE)

_ENGLISH = word_set("the of and to in is that for it with as on are this be we you can by an or")


def _is_english(passage: AuthorPassage) -> bool:
    language = passage.provenance.language
    if language is not None:
        return language.startswith("en")
    words = re.findall(r"[^\W\d_]+", passage.text.casefold())[:400]
    return (
        bool(words) and sum(word in _ENGLISH for word in words) >= 0.1 * len(words)
    ) or passage.provenance.kind is Kind.REPOSITORY
