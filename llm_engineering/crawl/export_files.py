"""The files of an export, in a folder or in a zip file: nothing is unpacked to disk, and no entry is trusted.

Neither its name (a path that leads out of the archive is refused) nor its size (what it unpacks to is counted).
"""

import lzma
import os
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Protocol

from llm_engineering.domain.entities import Frozen

MAX_FILE_BYTES = 20_000_000
MAX_TOTAL_BYTES = 2_000_000_000
MAX_FILES = 200_000

BROKEN_ARCHIVE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError,
    RuntimeError,  # a kind of compression that this Python lacks, or that zipfile knows no more of than its number
    ValueError,  # a name that is not in the encoding that it claims
    LookupError,  # a field that ends in the midst of itself
)  # fmt: skip
"""What zipfile and its decompressors raise over a damaged archive."""


class ExportProblem(Frozen):
    """Something in an archive that could not be read as a text."""

    path: str
    reason: str


class ExportFiles(Protocol):
    """Files by their path inside the archive, in order; ``problems`` are entries that are left out, with the reason."""

    problems: list[ExportProblem]
    names: list[str]

    def read(self, name: str) -> bytes:
        """The bytes of one file; raises :class:`Unreadable`."""
        ...


class Unreadable(Exception):
    """One file of an archive cannot be read; the others can."""


class FolderFiles:
    """An unpacked export. A link that leads out of the folder is left out."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self.problems: list[ExportProblem] = []
        self._paths: dict[str, Path] = {}
        for path in sorted(self._root.rglob("*")):
            # A name that is not UTF-8 is told by its bytes: it has to be written down, and stay the only one of its kind.
            name = os.fsencode(path.relative_to(self._root).as_posix()).decode("utf-8", "backslashreplace")
            if not _stays_inside(path, self._root):
                self.problems.append(ExportProblem(path=name, reason="links to outside of the folder"))
            elif path.is_file():
                self._paths[name] = path
        self.names = list(self._paths)

    def read(self, name: str) -> bytes:
        """The bytes of one file; raises :class:`Unreadable`."""
        path = self._paths[name]
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                raise Unreadable(f"larger than {MAX_FILE_BYTES:,} bytes")
            return path.read_bytes()
        except OSError as error:
            raise Unreadable(f"cannot be read: {error.strerror}") from error


def _stays_inside(path: Path, root: Path) -> bool:
    try:
        return path.resolve().is_relative_to(root)
    except (OSError, RuntimeError):  # links that lead in a circle lead nowhere
        return False


class ZipFiles:
    """An export as it was downloaded."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._left = MAX_TOTAL_BYTES
        self._infos: dict[str, zipfile.ZipInfo] = {}
        self.problems: list[ExportProblem] = []
        infos = archive.infolist()
        for info in infos[:MAX_FILES]:
            parts = PurePosixPath(info.filename.replace("\\", "/")).parts
            if info.filename.endswith("/"):  # a folder; is_dir() fails on an empty name
                continue
            if not parts:
                self.problems.append(ExportProblem(path=info.filename, reason="its path names no file"))
            elif ".." in parts or info.filename.startswith(("/", "\\")) or ":" in parts[0]:
                self.problems.append(ExportProblem(path=info.filename, reason="its path leads out of the archive"))
            else:
                self._infos["/".join(parts)] = info
        if len(infos) > MAX_FILES:
            left = f"{len(infos) - MAX_FILES:,} further files were not read past the limit of {MAX_FILES:,}"
            self.problems.append(ExportProblem(path="", reason=left))
        self.names = sorted(self._infos)

    def read(self, name: str) -> bytes:
        """The bytes of one file; raises :class:`Unreadable`."""
        info = self._infos[name]
        if info.flag_bits & 1:
            raise Unreadable("encrypted")
        if info.file_size > MAX_FILE_BYTES:
            raise Unreadable(f"larger than {MAX_FILE_BYTES:,} bytes")
        try:
            with self._archive.open(info) as file:
                content = file.read(MAX_FILE_BYTES + 1)
        except BROKEN_ARCHIVE as error:
            raise Unreadable(f"damaged ({error})") from error
        self._left -= len(content)
        if len(content) > MAX_FILE_BYTES or self._left < 0:
            raise Unreadable("unpacks to more than the archive may hold")
        return content
