"""The files of an export, in a folder or in a zip file: nothing is unpacked to disk, and no entry is trusted.

Neither its name (a path that leads out of the archive is refused) nor its size (what it unpacks to is counted).
"""

import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Protocol

from llm_engineering.domain.entities import Frozen

MAX_FILE_BYTES = 20_000_000
MAX_TOTAL_BYTES = 2_000_000_000
MAX_FILES = 200_000


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
        self.names: list[str] = []
        for path in sorted(self._root.rglob("*")):
            name = path.relative_to(self._root).as_posix()
            if not path.resolve().is_relative_to(self._root):
                self.problems.append(ExportProblem(path=name, reason="links to outside of the folder"))
            elif path.is_file():
                self.names.append(name)

    def read(self, name: str) -> bytes:
        """The bytes of one file; raises :class:`Unreadable`."""
        path = self._root / name
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                raise Unreadable(f"larger than {MAX_FILE_BYTES:,} bytes")
            return path.read_bytes()
        except OSError as error:
            raise Unreadable(f"cannot be read: {error.strerror}") from error


class ZipFiles:
    """An export as it was downloaded."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._left = MAX_TOTAL_BYTES
        self._infos: dict[str, zipfile.ZipInfo] = {}
        self.problems: list[ExportProblem] = []
        for info in archive.infolist()[:MAX_FILES]:
            parts = PurePosixPath(info.filename.replace("\\", "/")).parts
            if info.is_dir():
                continue
            if ".." in parts or info.filename.startswith(("/", "\\")) or ":" in parts[0]:
                self.problems.append(ExportProblem(path=info.filename, reason="its path leads out of the archive"))
            else:
                self._infos["/".join(parts)] = info
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
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError) as error:
            raise Unreadable(f"damaged ({error})") from error
        self._left -= len(content)
        if len(content) > MAX_FILE_BYTES or self._left < 0:
            raise Unreadable("unpacks to more than the archive may hold")
        return content
