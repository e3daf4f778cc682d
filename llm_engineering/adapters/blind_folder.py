"""Blind pairs in a folder: a file of pairs per model, and one file of choices that only grows."""

import hashlib
import os
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from llm_engineering.domain.blind import BlindChoice, BlindPair
from llm_engineering.domain.errors import StoreUnavailable

_CHOICES, _PAIRS = "choices.jsonl", ".pairs.jsonl"


class BlindFolder:
    """The port :class:`~llm_engineering.domain.blind.BlindPairs` over JSON lines; the folder is made with its first file.

    ``hidden`` says which models are out of use: their pairs are kept and not shown.
    """

    def __init__(self, folder: Path, *, hidden: Callable[[], Collection[str]] = frozenset) -> None:
        self._folder, self._hidden = folder, hidden
        self._lock = threading.Lock()

    def replace(self, model: str, pairs: Sequence[BlindPair]) -> None:
        """Write the model's file anew, in one step."""
        name = f"{hashlib.sha256(model.encode()).hexdigest()[:16]}{_PAIRS}"
        with self._lock, _told(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            _write(self._folder / name, pairs)

    def pairs(self) -> list[BlindPair]:
        """All pairs of all models in use."""
        hidden = self._hidden()
        with self._lock, _told(self._folder):
            found = [pair for file in self._files() for pair in _read(file)]
        return sorted((pair for pair in found if pair.model not in hidden), key=lambda pair: pair.model)

    def choose(self, choice: BlindChoice) -> None:
        """Append one line and wait until it is on the disk."""
        line = f"{choice.model_dump_json()}\n".encode()
        with self._lock, _told(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            with (self._folder / _CHOICES).open("ab+") as file:
                if file.tell() and not _ends_a_line(file.fileno(), file.tell()):
                    line = b"\n" + line  # a process was killed in the middle of a line
                file.write(line)
                file.flush()
                os.fsync(file.fileno())

    def choices(self) -> list[BlindChoice]:
        """The last choice of each judge about each pair; a line that a killed process left unfinished is none."""
        standing: dict[tuple[str, str], BlindChoice] = {}
        with self._lock, _told(self._folder):
            file = self._folder / _CHOICES
            lines = file.read_bytes().split(b"\n") if file.exists() else []
        for line in lines:
            try:
                choice = BlindChoice.model_validate_json(line)
            except ValidationError:
                continue
            standing.pop((choice.pair_id, choice.judge), None)
            standing[choice.pair_id, choice.judge] = choice
        return list(standing.values())

    def forget(self, document_ids: Iterable[str]) -> int:
        """Write the files that name these documents anew, without those pairs."""
        gone, erased = set(document_ids), 0
        with self._lock, _told(self._folder):
            for file in self._files():
                pairs = _read(file)
                kept = [pair for pair in pairs if not gone & set(pair.document_ids)]
                if len(kept) < len(pairs):
                    _write(file, kept)
                    erased += len(pairs) - len(kept)
        return erased

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob(f"*{_PAIRS}"))


def _read(file: Path) -> list[BlindPair]:
    try:
        return [BlindPair.model_validate_json(line) for line in file.read_bytes().split(b"\n") if line]
    except ValidationError as error:
        raise StoreUnavailable(
            f"{file} holds a line that is no blind pair", hint="Remove the file and evaluate the model again."
        ) from error


def _write(file: Path, pairs: Sequence[BlindPair]) -> None:
    work = file.with_suffix(".partial")
    with work.open("wb") as out:
        out.writelines(f"{pair.model_dump_json()}\n".encode() for pair in pairs)
        out.flush()
        os.fsync(out.fileno())
    work.replace(file)


def _ends_a_line(descriptor: int, size: int) -> bool:
    return os.pread(descriptor, 1, size - 1) == b"\n"


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(
            f"The blind pairs in {folder} cannot be read or written: {error.strerror or error}",
            hint="See to the folder's permissions and the free space.",
        ) from error
