"""The index view: text as it is searched, every character traceable to the author's text.

Compatibility characters are unified (NFKC: "𝗯𝗼𝗹𝗱" is found as "bold"), typographic quotes and dashes become ASCII, what is
invisible goes, white space is folded, and Markdown marks that are no content are left out: the text of a link stays, its
target goes. Code stays as it is. The author's text itself is never changed: this is a second view of it.
"""

import bisect
import html
import re
import unicodedata
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from llm_engineering.domain.blocks import BlockKind
from llm_engineering.domain.entities import TextFormat
from llm_engineering.features.structure import Block, blocks, without_surrogates


@dataclass(frozen=True, slots=True)
class NormalisedText:
    """``text[i]`` comes from the original at ``offsets[i]``; offsets never decrease."""

    text: str
    offsets: Sequence[int]

    def between(self, start: int, end: int) -> str:
        """What the original's ``[start:end)`` looks like in the view, white space around it stripped."""
        return self.text[bisect.bisect_left(self.offsets, start) : bisect.bisect_left(self.offsets, end)].strip()


def normalise(
    text: str, *, format: TextFormat = TextFormat.MARKDOWN, structure: Sequence[Block] | None = None
) -> NormalisedText:
    """The index view of a text. ``structure``: its blocks, where the caller has them already. Takes linear time."""
    text = without_surrogates(text)
    if format is TextFormat.CODE or _NOTHING_TO_DO.fullmatch(text):
        return NormalisedText(text, range(len(text)))
    view = _View(text)
    if format is TextFormat.TEXT:
        view.prose(0, len(text))
    else:
        structure = structure if structure is not None else blocks(text, format=format)
        labels = _labels(text, structure)
        for block in structure:
            view.space(block.start, "\n")
            match block.kind:
                case BlockKind.CODE:
                    view.verbatim(*_code(text, block))
                case BlockKind.RULE | BlockKind.REFERENCE:
                    pass
                case _:
                    for start, end in _content(text, block):
                        _inline(view, start, end, labels=labels, table=block.kind is BlockKind.TABLE)
    return NormalisedText("".join(view.parts), view.offsets)


_NOTHING_TO_DO = re.compile(r"(?![-+])[A-Za-z0-9.,;:?!'\"()%/=@+-]++(?: [A-Za-z0-9.,;:?!'\"()%/=@+-]++)*+")

_FOLD = str.maketrans(dict.fromkeys("‘’‚‛′", "'") | dict.fromkeys("“”„‟«»″", '"') | dict.fromkeys("‐‑‒–—―−", "-"))
_INVISIBLE = dict.fromkeys(
    [  # zero width, soft hyphen, direction, variation; then controls
        *(0xAD, 0x34F, 0x180E, 0xFEFF, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2070)),
        *(*range(0xFE00, 0xFE10), *range(0x00, 0x09), *range(0x0E, 0x1C), 0x7F, *range(0x80, 0x85), *range(0x86, 0xA0)),
    ]
)
"""Zero-width characters, soft hyphens, direction marks, variation selectors, control characters."""

_PIECE = re.compile(r"(?P<ascii>[!-~]++(?: [!-~]++)*+)|(?P<space>\s++)|(?P<other>[^!-~\s]++)")


class _View:
    """The view while it is written, left to right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.parts: list[str] = []
        self.offsets = array("L")

    def verbatim(self, start: int, end: int) -> None:
        """Copy as it is."""
        if start < end:
            self.parts.append(self.text[start:end])
            self.offsets.extend(range(start, end))

    def character(self, character: str, offset: int) -> None:
        """One character of the view that stands for the place ``offset``."""
        if character.isspace():
            self.space(offset)
        else:
            self.parts.append(character)
            self.offsets.append(offset)

    def space(self, offset: int, mark: str = " ") -> None:
        """One blank or line break; two in a row are one, a line break wins, and the view never begins with one."""
        if self.parts and self.parts[-1] == " " and mark == "\n":
            self.parts[-1] = mark
        elif self.parts and not self.parts[-1][-1:].isspace():
            self.parts.append(mark)
            self.offsets.append(offset)

    def prose(self, start: int, end: int) -> None:
        """Copy with characters unified and white space folded."""
        for piece in _PIECE.finditer(self.text, start, end):
            match piece.lastgroup:
                case "ascii":
                    self.verbatim(*piece.span())
                case "space":
                    self.space(piece.start(), "\n" if len(_BREAK.findall(piece[0])) > 1 else " ")
                case _:
                    self._other(piece.start(), piece[0])

    def _other(self, start: int, characters: str) -> None:
        if _extends(characters[0]) and self.parts and self.offsets[-1] == start - 1 and self.parts[-1]:
            # An accent after a plain letter: both become one character.
            characters = self.parts[-1][-1] + characters
            self.parts[-1] = self.parts[-1][:-1]
            start = self.offsets.pop()
        for offset, cluster in _clusters(characters):
            for character in _unified(cluster):
                self.character(character, start + offset)


_BREAK = re.compile(r"\r\n|\r|\n|\u2029")


def _clusters(characters: str) -> Iterator[tuple[int, str]]:
    """A character with everything that may combine with it: NFKC of the whole is NFKC of these, one by one."""
    start = 0
    for position in range(1, len(characters) + 1):
        if position == len(characters) or not _extends(characters[position]):
            yield start, characters[start:position]
            start = position


@lru_cache(maxsize=65536)
def _extends(character: str) -> bool:
    """Whether a character may fuse with the one before it (accents, vowel signs, Hangul parts) or is invisible."""
    if ord(character) in _INVISIBLE:
        return True
    first = unicodedata.normalize("NFKD", character)[0]
    return unicodedata.category(first).startswith("M") or "\u1160" <= first <= "\u11ff"


@lru_cache(maxsize=65536)
def _unified(cluster: str) -> str:
    return unicodedata.normalize("NFKC", cluster.translate(_INVISIBLE)).translate(_FOLD)


# ---- Markdown -------------------------------------------------------------------------------------------------------

_STYLES = "a|abbr|b|cite|code|del|em|font|i|ins|kbd|mark|q|s|small|span|strong|sub|sup|u"
_TAGS = (
    "blockquote|br|center|dd|details|div|dl|dt|figcaption|figure|h[1-6]|hr|iframe|img|li|ol|p|picture|pre|source|"
    "summary|table|tbody|td|tfoot|th|thead|tr|ul|video"
)
# Possessive quantifiers and bounded lengths: no input makes this take more than linear time.
_SYNTAX = re.compile(
    rf"""
    (?P<escape>\\[!-/:-@\[-`{{-~])
    |(?P<code>(?<!`)(?P<tick>`{{1,2}})(?!`)(?P<inside>[^`]{{1,400}}+)(?P=tick)(?!`))
    |(?P<comment><!--)
    |(?P<style></?(?:{_STYLES})(?=[\s/>])[^<>]{{0,2000}}+>)
    |(?P<tag></?(?:{_TAGS})(?=[\s/>])[^<>]{{0,2000}}+>)
    |(?P<entity>&(?:\#\d{{1,7}}|\#[xX][0-9a-fA-F]{{1,6}}|[A-Za-z][A-Za-z0-9]{{1,31}});)
    |(?P<target>\]\([ \t]*+(?:<[^<>\n]{{0,4000}}+>|[^\s()<]*+(?:\([^\s()]*+\)[^\s()]*+)*+)
        (?:\s++(?:"[^"]{{0,1000}}+"|'[^']{{0,1000}}+'))?+\s*+\))
    |(?P<reference>\]\[(?P<label>[^\[\]]{{1,200}}+)\])
    |(?P<open>\[)
    |(?P<close>\])
    |(?P<star>\*++|~~++)
    |(?P<underscore>_++)
    |(?P<pipe>\|)
    """,
    re.VERBOSE,
)
_TRIGGER = re.compile(r"[\\`<&\[\]*~_|]")
"""What a mark begins with: found fast, then looked at closely."""
_LINE_MARK = re.compile(
    r"(?<![^\r\n])(?=[ \t>]|(?:[-+*]|#{1,6})(?:[ \t\r\n]|\Z))"
    r"[ \t]*+(?:>[ \t]?)*+[ \t]*+(?:(?:[-+*]|#{1,6})(?=[ \t\r\n]|\Z))?"
)
"""At the beginning of a line: indent, quote marks, then a list mark or the marks of a heading."""
_DEFINITION = re.compile(r"\[([^\[\]]{1,200}+)\]:")
_UNDERLINE = re.compile(r"[ \t]*(?:=+|-+)\s*")
_CLOSING_HASHES = re.compile(r"[ \t]#+\Z")
_DELIMITER_ROW = re.compile(r"(?<![^\r\n])[ \t>]*+[|:-][|: \t-]*+(?![^\r\n])")
_FENCE = re.compile(r"[ \t>]*(?:(?:[-+*]|\d{1,9}[.)])[ \t]+)*(?:`{3,}|~{3,})[^\r\n]*")


def _labels(text: str, structure: Sequence[Block]) -> frozenset[str]:
    """Names under which link targets are defined (``[name]: target``)."""
    definitions = (block for block in structure if block.kind is BlockKind.REFERENCE)
    return frozenset(
        label.casefold() for block in definitions for label in _DEFINITION.findall(text, block.start, block.end)
    )


def _code(text: str, block: Block) -> tuple[int, int]:
    """The span of the code without its fence lines."""
    start, end = block.start, block.end
    if block.fenced and (opening := _FENCE.match(text, start, end)):
        start = opening.end()
        body = text[start:end].rstrip()
        last_line = max(body.rfind("\n"), body.rfind("\r")) + 1
        if last_line and _FENCE.fullmatch(body, last_line):
            end = start + last_line
    return start, end


def _content(text: str, block: Block) -> list[tuple[int, int]]:
    """The spans of a block without setext underline, closing hashes or the delimiter row of a table."""
    if block.kind is BlockKind.HEADING:
        body = text[block.start : block.end].rstrip()
        last_line = max(body.rfind("\n"), body.rfind("\r")) + 1
        if last_line and _UNDERLINE.fullmatch(body, last_line):
            return [(block.start, block.start + last_line)]
        return [(block.start, block.start + len(_CLOSING_HASHES.sub("", body)))]
    if block.kind is BlockKind.TABLE and (row := _DELIMITER_ROW.search(text, block.start, block.end)):
        return [(block.start, row.start()), (row.end(), block.end)]
    return [(block.start, block.end)]


@dataclass(frozen=True, slots=True, order=True)
class _Mark:
    """A mark in the text, of which ``[keep_start:keep_end)`` is content."""

    start: int
    end: int
    what: str
    keep_start: int = 0
    keep_end: int = 0

    @classmethod
    def of(cls, match: re.Match[str]) -> "_Mark":
        start, end = match.span()
        match match.lastgroup:
            case "escape":
                return cls(start, end, "escape", end - 1, end)
            case "open" if match.string[start - 1 : start] == "!":
                return cls(start - 1, end, "open")
            case "code":
                return cls(start, end, "code", *match.span("inside"))
            case what:
                return cls(start, end, what or "")


def _inline(view: _View, start: int, end: int, *, labels: frozenset[str], table: bool) -> None:
    """Write the view's ``text[start:end)`` without its inline marks."""
    position = start
    for mark in _marks(view.text, start, end, labels=labels, table=table):
        if mark.start < position:
            continue  # inside a mark: a line that begins in the middle of code, say
        view.prose(position, mark.start)
        position = mark.end
        view.verbatim(mark.keep_start, mark.keep_end)
        if mark.what == "entity":
            for character in _unified(without_surrogates(html.unescape(view.text[mark.start : mark.end]))):
                view.character(character, mark.start)
        elif mark.what in ("tag", "comment", "pipe"):
            view.space(mark.start)
    view.prose(position, end)


def _marks(text: str, start: int, end: int, *, labels: frozenset[str], table: bool) -> list[_Mark]:
    """The marks that are no content, in order: brackets only where they make a link, ``_`` only in pairs."""
    marks = [_Mark(*match.span(), "line") for match in _LINE_MARK.finditer(text, start, end)]
    brackets: list[_Mark] = []
    underscores: list[_Mark] = []
    comment_end = start
    position = start
    while trigger := _TRIGGER.search(text, position, end):
        position = trigger.end()
        match = _SYNTAX.match(text, trigger.start(), end)
        if match is None:
            continue
        mark = _Mark.of(match)
        position = mark.end
        match mark.what:
            case "open":
                brackets.append(mark)
            case "close":
                del brackets[-1:]
            case "target" | "reference":
                linked = mark.what == "target" or match["label"].casefold() in labels
                if brackets and linked:
                    marks += (brackets.pop(), mark)
                else:  # only the bracket itself has been understood
                    del brackets[-1:]
                    position = mark.start + 1
            case "star" if not _inside_word_or_alone(text, mark):
                marks.append(mark)
            case "underscore" if not _inside_word_or_alone(text, mark):
                if underscores and _pair(text, underscores[-1], mark):
                    marks += (underscores.pop(), mark)
                else:
                    underscores.append(mark)
            case "comment" if comment_end >= 0:  # once no end was found, there is none for later ones either
                comment_end = text.find("-->", mark.end, end)
                if comment_end >= 0:
                    position = comment_end + 3
                    marks.append(_Mark(mark.start, position, "comment"))
            case "pipe" if table:
                marks.append(mark)
            case "escape" | "code" | "style" | "tag" | "entity":
                marks.append(mark)
    return sorted(marks)


def _pair(text: str, opening: _Mark, closing: _Mark) -> bool:
    return opening.end - opening.start == closing.end - closing.start and not text[closing.start - 1].isspace()


def _inside_word_or_alone(text: str, mark: _Mark) -> bool:
    before, after = text[mark.start - 1 : mark.start], text[mark.end : mark.end + 1]
    return (before.isalnum() and after.isalnum()) or ((before or " ").isspace() and (after or " ").isspace())
