"""The reading view: the author's text without the furniture of the page around it.

Only deletions, given as the spans that stay: punctuation, case, paragraphs and code survive as they were written. What is
dropped is one table of whole paragraphs below; when in doubt a paragraph stays, because losing the author's words is far
worse than keeping a button.
"""

import re
from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

from llm_engineering.domain.blocks import BlockKind
from llm_engineering.domain.config import CleanConfig
from llm_engineering.domain.entities import TextFormat
from llm_engineering.domain.errors import UsageError
from llm_engineering.features.normalise import NormalisedText, normalise
from llm_engineering.features.structure import Block, blocks, line_starts


class Span(NamedTuple):
    """``text[start:end)`` of a revision's text."""

    start: int
    end: int


# Paragraphs are matched as a whole, in their index view: markup, links and typographic quotes play no part.
_ON = r"(?:facebook|twitter|x|x/twitter|linkedin|medium|github|mastodon|bluesky|threads|instagram|youtube|reddit|hugging face)"

_ANCHORS: dict[str, tuple[str, ...]] = {
    "share buttons": (
        r"share this(?: post| article| story| page)?:?",
        r"copy link",
        r"click to (?:share|email|print)\b.{0,60}\(opens in new window\)",
        rf"(?:share|tweet|post|pin|email)(?: this)? (?:on|via|to) {_ON}",
    ),
    "subscribe boxes": (
        r"subscribe(?: now| here| ?sign in)?",
        r"(?:subscribe|sign up) (?:to|for) (?:my|our|the|this) (?:[\w ]{1,40} )?(?:newsletter|mailing list|blog)\W*",
        r".{1,60} is a reader-supported publication\. .{1,120}\bsubscriber\.",
        r"thanks for reading\b.{0,80}[!.] subscribe for free to receive new posts and support (?:my|our) work\.",
        r"(?:type your email|enter your email(?: address)?)[. …]*(?:subscribe)?",
    ),
    "cookie notices": (
        r"(?:this (?:web)?site|this blog|we) uses? cookies to (?:improve|enhance|ensure|give|provide|personali[sz]e|offer)"
        r"(?: that)? (?:your?|our)\b.{0,200}\b(?:experience|ads|content|traffic|preferences)\b.{0,100}",
        r"by (?:continuing|using) (?:to (?:use|browse) )?(?:this|our|the) (?:web)?site,?"
        r" you (?:agree|consent) to .{0,60}cookies?.{0,60}",
        r"to make medium work, we log user data\. by using medium, you agree to our privacy policy, including cookie policy\.",
        r"(?:accept|reject|allow)(?: all)? cookies|cookie (?:settings|preferences)",
    ),
    "follow and join": (
        rf"(?:please )?follow (?:me|us) on {_ON}(?: @\w{{1,40}})?(?:(?:,| and| or|, and) {_ON}(?: @\w{{1,40}})?){{0,4}}\W*",
        r"join medium with my referral link\b.{0,40}(?:as a medium member, .{0,160})?",
        r"as a medium member, a portion of your membership fee .{0,120}",
        r"learn more about .{1,40} and support my work with one click - become a medium member here:",
        r"if you're already a member, you can ?follow me on medium\.",
        r"sign up to discover human stories that deepen your understanding of the world\.",
    ),
    "page furniture": (
        r"listen to this article.{0,40}",
        r"open in app|start writing ?get the app",
        r"\d+ claps?",
        r"substack is the home for great (?:culture|writing)",
        r"privacy ∙ terms(?: ∙ collection notice)?",
        r"previous ?next",
        r"this site requires javascript to run correctly\. please turn on javascript or unblock scripts",
        r"\d+ more comments?\.*",
    ),
}
"""Boilerplate wherever it stands."""

_COMPANIONS = (
    r"\d{1,5}(?:\.\d)?k?",
    rf"share|tweet|email|e-mail|print|pin(?: it)?|note|other|more|whatsapp|telegram|pocket|{_ON}",
    r"comments?|restacks?|notes?|likes?|top|latest|discussions?|no posts|reply|1 reply by .{1,40}|\d+ replies",
    r"sign (?:in|up)|log in|follow|listen|clap|ready for more\?",
    r"© ?\d{4}.{0,60}|[\w-]+\.substack\.com|(?:privacy|terms)(?: policy| of (?:use|service))?",
)
"""Boilerplate only in unbroken company of an anchor: alone, each could be the author's."""

_BOXES = (
    (r"share this(?: post| article| podcast)?", r"other", 9, 200),
    (r"discussion about this (?:post|podcast|video|article)", r"ready for more\?", 2000, 10_000),
)
"""All between an opening and a closing paragraph (a repeated title; readers' comments): at most so many, so long each."""

_LONGEST_ANCHOR = 400
_LONGEST_COMPANION = 80

_CODES = "ar|cs|da|de|el|en|es|fi|fr|hu|it|ja|ko|nl|no|pl|pt|ro|ru|sv|tr|uk|zh"
_NAMES = (
    "english|german|deutsch|french|français|spanish|español|italian|italiano|portuguese|português|dutch|nederlands|polish|"
    "polski|russian|русский|romanian|română|chinese|中文|japanese|日本語|korean|한국어|turkish|türkçe|ukrainian|українська"
)
_LANGUAGE_TAG = rf"(?:{_NAMES}|ar|de|en|es|fr|ja|ko|pt|ru|zh|(?:{_CODES}|{_NAMES})(?: ?[|/·,] ?(?:{_CODES}|{_NAMES}))+)"


def _any_of(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns), re.IGNORECASE | re.DOTALL)


_ANCHOR = _any_of(*(pattern for group in _ANCHORS.values() for pattern in group))
_COMPANION = _any_of(*_COMPANIONS)
_BOX = [(_any_of(opening), _any_of(closing), most, longest) for opening, closing, most, longest in _BOXES]
_LANGUAGE = _any_of(_LANGUAGE_TAG)
_UNDER_MASTHEAD = _any_of(r"subscribe ?sign in|open in app")
_WORD = re.compile(r"\w")


def reading_spans(
    text: str,
    *,
    format: TextFormat,
    config: CleanConfig,
    structure: Sequence[Block] | None = None,
    view: NormalisedText | None = None,
) -> list[Span]:
    """The parts of a revision's text that are the author's: in order, apart from each other, none of white space alone.

    Code is never touched, and a text that would be nothing but boilerplate is kept whole. ``structure`` and ``view`` are
    the text's blocks and index view, where the caller has them. Raises :class:`UsageError` for a bad pattern in ``config``.
    """
    patterns = _compiled(config.patterns)
    if not text or format is TextFormat.CODE or not (config.boilerplate or patterns):
        return [Span(0, len(text))] if text else []
    structure = blocks(text, format=format) if structure is None else structure
    view = normalise(text, format=format, structure=structure) if view is None else view
    paragraphs = [_read(view, block) for block in structure]
    boilerplate = _boilerplate(structure, paragraphs) if config.boilerplate else [False] * len(structure)
    dropped: list[Span] = []
    for block, paragraph, is_boilerplate in zip(structure, paragraphs, boilerplate, strict=True):
        if is_boilerplate or any(pattern.fullmatch(paragraph) for pattern in patterns):
            dropped.append(Span(block.start, block.end))
        elif patterns and block.kind is not BlockKind.CODE:
            dropped += _matching_lines(text, block, view, patterns)
    kept = [span for span in _between(dropped, len(text)) if not text[span.start : span.end].isspace()]
    return kept if any(_WORD.search(view.between(*span)) for span in kept) else [Span(0, len(text))]


def reading_text(text: str, spans: Sequence[Span]) -> str:
    """What the reading view shows of a text: the kept spans, joined."""
    return "".join(text[start:end] for start, end in spans)


def _compiled(patterns: Sequence[str]) -> list[re.Pattern[str]]:
    compiled = []
    for pattern in patterns:
        try:
            compiled.append(re.compile(pattern))
        except re.error as error:
            raise UsageError(
                f"clean.patterns: {pattern!r} is not a regular expression: {error}",
                hint="Correct it in the configuration.",
            ) from error
    return compiled


def _read(view: NormalisedText, block: Block) -> str:
    """A paragraph on one line, as it is compared; of code nothing, so that it matches nothing."""
    return "" if block.kind is BlockKind.CODE else view.between(block.start, block.end).replace("\n", " ")


def _boilerplate(structure: Sequence[Block], paragraphs: Sequence[str]) -> list[bool]:
    """For every block whether it is dropped: anchors, boxes, and the companions beside them."""
    sure = [len(paragraph) <= _LONGEST_ANCHOR and bool(_ANCHOR.fullmatch(paragraph)) for paragraph in paragraphs]
    for opening, closing, most, longest in _BOX:
        for first, paragraph in enumerate(paragraphs):
            if opening.fullmatch(paragraph):
                for last in range(first + 1, min(first + most + 1, len(paragraphs))):
                    if not paragraphs[last] or len(paragraphs[last]) > longest:
                        break
                    if closing.fullmatch(paragraphs[last]):
                        sure[first : last + 1] = [True] * (last + 1 - first)
                        break
    if len(structure) > 1 and structure[0].kind is BlockKind.HEADING and _UNDER_MASTHEAD.fullmatch(paragraphs[1]):
        sure[0] = True
    dropped = list(sure)

    def in_company(index: int) -> bool:
        return sure[index] or structure[index].kind is BlockKind.RULE or _is_companion(paragraphs[index])

    for candidates, run in groupby(range(len(sure)), in_company):
        members = list(run)
        if candidates and any(sure[index] for index in members):
            for index in members:
                dropped[index] = True
    remaining = [index for index, gone in enumerate(dropped) if not gone]
    if len(remaining) > 1 and _LANGUAGE.fullmatch(paragraphs[remaining[-1]]):
        dropped[remaining[-1]] = True
    return dropped


def _is_companion(paragraph: str) -> bool:
    return len(paragraph) <= _LONGEST_COMPANION and bool(_COMPANION.fullmatch(paragraph))


def _matching_lines(text: str, block: Block, view: NormalisedText, patterns: Sequence[re.Pattern[str]]) -> list[Span]:
    starts = [block.start + start for start in line_starts(text[block.start : block.end])]
    lines = [Span(start, end) for start, end in pairwise(starts)]
    return [line for line in lines if any(pattern.fullmatch(view.between(*line)) for pattern in patterns)]


def _between(dropped: Sequence[Span], length: int) -> list[Span]:
    """The gaps that the dropped spans leave."""
    edges = [0, *(edge for span in dropped for edge in span), length]
    return [Span(start, end) for start, end in zip(edges[::2], edges[1::2], strict=True) if start < end]
