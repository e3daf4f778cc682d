"""The files below a folder, and the one rule by which some are passed over."""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

SKIPPED_FOLDERS = {
    "node_modules": "vendored",
    "bower_components": "vendored",
    "vendor": "vendored",
    "third_party": "vendored",
    "third-party": "vendored",
    "site-packages": "vendored",
    "venv": "vendored",
    "dist": "generated",
    "build": "generated",
    "_build": "generated",
    "_site": "generated",
    "target": "generated",
    "__pycache__": "generated",
    "__MACOSX": "generated",
}
"""Folders that hold nobody's own writing, by name. Hidden ones are passed over too."""

_LOCK_FILES = frozenset(
    [
        "package-lock.json",
        "npm-shrinkwrap.json",
        "pnpm-lock.yaml",
        "go.sum",
        "packages.lock.json",
        "bun.lockb",
        "mix.lock",
        "flake.lock",
    ]
)
_GENERATED_NAMES = ("*.lock", "*.min.js", "*.min.css", "*.map", "*.pb.go", "*_pb2.py", "*_pb2_grpc.py", "*.pyc")
_DATA = frozenset([".csv", ".tsv", ".jsonl", ".ndjson", ".svg", ".log", ".geojson"])
_GENERATED_MARK = re.compile(rb"@generated\b|\bDO NOT EDIT\b|\bauto-?generated (file|by|from)\b", re.IGNORECASE)
_LONGEST_LINE = 5_000  # bytes; nobody writes longer lines of code by hand
_PROSE = frozenset([".md", ".markdown", ".mdx", ".rst", ".txt", ".org", ".adoc", ".html", ".htm"])


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file to read, or one file or folder that is passed over with a reason (``failed``: it could not be looked at)."""

    path: Path
    relative: str
    """Below the root, with forward slashes."""
    reason: str = ""
    failed: bool = False


def walk(root: Path) -> Iterator[FileEntry]:
    """Every file below a folder, sorted by path; what is passed over by name comes with its reason.

    Symbolic links are never followed: what they point to inside is found there, and what lies outside is not ours.
    """
    yield from _walk(root, "")


def _walk(folder: Path, prefix: str) -> Iterator[FileEntry]:
    try:
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError as error:
        yield FileEntry(folder, prefix.rstrip("/") or ".", reason=error.strerror or str(error), failed=True)
        return
    for entry in entries:
        path, relative = Path(entry.path), prefix + entry.name
        if entry.name == ".git":
            continue
        if entry.name.startswith("."):
            yield FileEntry(path, relative, reason="hidden")
        elif entry.is_symlink():
            yield FileEntry(path, relative, reason="symlink")
        elif entry.is_dir(follow_symlinks=False):
            if reason := SKIPPED_FOLDERS.get(entry.name):
                yield FileEntry(path, relative, reason=reason)
            else:
                yield from _walk(path, f"{relative}/")
        elif entry.is_file(follow_symlinks=False):
            yield FileEntry(path, relative)
        else:
            yield FileEntry(path, relative, reason="special-file")


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A file's name and content, for the rule."""

    relative: str
    content: bytes

    @property
    def name(self) -> str:
        """The last part of the path."""
        return PurePosixPath(self.relative).name

    @property
    def suffix(self) -> str:
        """In lower case, with its dot."""
        return PurePosixPath(self.relative).suffix.lower()


def _generated_by_name(file: _Candidate) -> bool:
    return file.name in _LOCK_FILES or any(fnmatchcase(file.name, pattern) for pattern in _GENERATED_NAMES)


def _generated_by_content(file: _Candidate) -> bool:
    if file.suffix in _PROSE:
        return False
    head = b"\n".join(file.content[:4_000].split(b"\n")[:5])
    return bool(_GENERATED_MARK.search(head)) or max(map(len, file.content.split(b"\n"))) > _LONGEST_LINE


SKIPPED_FILES: tuple[tuple[str, Callable[[_Candidate], bool]], ...] = (
    ("empty", lambda file: not file.content.strip()),
    ("binary", lambda file: is_binary(file.content)),
    ("generated", _generated_by_name),
    ("generated", _generated_by_content),
    ("data", lambda file: file.suffix in _DATA),
)
"""Why a file of a repository is passed over; the first row that holds names the reason."""


def skip_reason(relative: str, content: bytes) -> str | None:
    """The reason of the first row of :data:`SKIPPED_FILES` that holds, or ``None``."""
    file = _Candidate(relative, content)
    return next((reason for reason, holds in SKIPPED_FILES if holds(file)), None)


def is_binary(content: bytes) -> bool:
    """Whether there is a NUL byte in it and no byte order mark of UTF-16 or UTF-32 explains that."""
    return b"\0" in content and not content.startswith((b"\xff\xfe", b"\xfe\xff"))


def decode_exactly(content: bytes) -> tuple[str, str]:
    """Text and encoding such that ``text.encode(encoding) == content``: UTF-8, else UTF-16 with its mark, else an 8-bit one."""
    for encoding in ("utf-8", "utf-16-le", "utf-16-be", "cp1252"):
        marked = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}.get(encoding)
        if marked and not content.startswith(marked):
            continue
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if text.encode(encoding) == content:
            return text, encoding
    return content.decode("latin-1"), "latin-1"


_HEADING = re.compile(r"#{1,6}[ \t]+(.+?)[ \t]*#*[ \t]*$")
_UNDERLINE = re.compile(r"(={3,}|-{3,})[ \t]*$")


def first_heading(text: str) -> str | None:
    """The first heading of a Markdown or reStructuredText file, outside of fenced code."""
    fenced, before = False, ""
    for line in text.splitlines():
        if line.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
        elif not fenced:
            if match := _HEADING.match(line):
                return match[1].strip()
            if _UNDERLINE.match(line) and before.strip() and not before.startswith(("-", "*", ">", "|", " ", "\t")):
                return before.strip()
        before = line
    return None
