"""Documented functions of a source file: what a programmer wrote in prose and code at once."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

_DOC_COMMENT = re.compile(r"^(?P<indent>[ \t]*)/\*\*.*?\*/[ \t]*\n", re.DOTALL | re.MULTILINE)
_BRACES = {
    ".js",
    ".jsx",
    ".ts",
    ".tsx",
    ".java",
    ".c",
    ".h",
    ".cc",
    ".cpp",
    ".hpp",
    ".cs",
    ".php",
    ".scala",
    ".kt",
    ".swift",
}


@dataclass(frozen=True, slots=True)
class Function:
    """``text[start:end)``: a function, or a class, with its documentation."""

    start: int
    end: int
    name: str
    signature: str
    """On one line, without its body."""
    summary: str
    """First sentence of the documentation."""


class CannotBeParsed(Exception):
    """Functions of the file cannot be told apart; says why."""


def documented_functions(text: str, path: str) -> list[Function]:
    """The documented functions and methods of a file, in order, none inside another.

    Raises :class:`CannotBeParsed` for a language that is not read here, or another dialect of one that is.
    """
    suffix = PurePosixPath(path).suffix.lower()
    if suffix == ".py":
        return list(_python(text))
    if suffix in _BRACES:
        return list(_braced(text))
    raise CannotBeParsed(f"functions are not told apart in {suffix or 'such'} files")


def _python(text: str) -> Iterator[Function]:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError) as error:
        where = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        raise CannotBeParsed(f"no Python of today{where}") from error
    lines = text.splitlines(keepends=True)
    if "".join(lines) != text or any(mark in text for mark in "\f\v\x1c\x1d\x1e\x85\u2028\u2029"):
        lines = re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+\Z", text)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    yield from _documented(tree.body, text, starts, outer="")


def _documented(body: list[ast.stmt], text: str, starts: list[int], *, outer: str) -> Iterator[Function]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from _documented(node.body, text, starts, outer=f"{outer}{node.name}.")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (documentation := ast.get_docstring(node)):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            start = starts[first - 1]
            end = starts[min(node.end_lineno or node.lineno, len(starts) - 1)]
            while start < end and text[start] in " \t":
                start += 1
            end = start + len(text[start:end].rstrip())
            name = f"{outer}{node.name}"
            yield Function(start, end, name, f"{name}({ast.unparse(node.args)})", _summary(documentation))


def _braced(text: str) -> Iterator[Function]:
    """A ``/** … */`` comment and the braced block that follows it."""
    reached = 0
    for comment in _DOC_COMMENT.finditer(text):
        if comment.start() < reached:
            continue
        opening = text.find("{", comment.end())
        head = text[comment.end() : opening] if opening >= 0 else ""
        if opening < 0 or "(" not in head or ";" in head or len(head) > 400:
            continue
        end = _closing(text, opening)
        name = re.search(r"([\w$]+)\s*[(=<]", head)
        if end and name:
            reached = end
            start = comment.start() + len(comment["indent"])
            yield Function(start, end, name[1], " ".join(head.split()), _summary(_stripped(comment.group())))


def _closing(text: str, opening: int) -> int:
    """End of the block that opens here; 0 if it never closes. Braces in strings and comments are passed over."""
    depth = 0
    for token in _TOKENS.finditer(text, opening):
        if token.group() == "{":
            depth += 1
        elif token.group() == "}":
            depth -= 1
            if depth == 0:
                return token.end()
    return 0


_TOKENS = re.compile(r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`|[{}]", re.DOTALL)


def _stripped(comment: str) -> str:
    return " ".join(re.sub(r"^\s*(?:/\*\*|\*/|\*)\s?|\*/\s*$", "", line) for line in comment.splitlines())


def _summary(documentation: str) -> str:
    paragraph = " ".join(documentation.strip().split("\n\n")[0].split())
    sentence = re.match(r".+?[.!?](?=\s|$)", paragraph)
    return sentence.group() if sentence else paragraph
