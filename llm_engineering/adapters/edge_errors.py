"""What the embedded engine and the disk under it raise, as errors that say what to do."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llm_engineering.domain.errors import StoreError, StoreUnavailable

_HEADROOM = 64_000_000
"""Bytes that must be free before a write: the engine maps files, and a full disk under a map would kill the process."""
_UNUSABLE = {
    errno.EACCES: "no permission",
    errno.EPERM: "no permission",
    errno.EROFS: "read-only",
    errno.ENOSPC: "disk full",
    errno.EDQUOT: "disk quota used up",
    errno.ENOTDIR: "not a folder",
}
_FULL = ("Not enough space", "No space left")
"""How the engine says in words that the disk is full."""
_FREE_SPACE = "Free space, or set INDEX_URL to a folder on another disk."


def require_space(folder: Path) -> None:
    """:class:`StoreUnavailable` if the disk of the folder is all but full."""
    with unusable_folder(folder):
        free = shutil.disk_usage(folder).free
    if free < _HEADROOM:
        raise StoreUnavailable(
            f"The disk of the index in {folder} is full ({free / 1e6:.0f} MB left)",
            hint=_FREE_SPACE,
        )


@contextmanager
def unusable_folder(folder: Path) -> Iterator[None]:
    """Turn an operating-system error about the index's files into :class:`StoreUnavailable`."""
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(
            f"The index in {folder} cannot be used: {error.strerror or error}",
            hint="Make the folder writable and see that its disk has space, or set INDEX_URL to another folder.",
        ) from error


class EngineErrors:
    """Turns whatever the engine raises into a :class:`StoreError`."""

    def __init__(self, failure: str) -> None:
        self._failure = failure

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        # The engine raises bare Exception; a panic of its Rust code is a BaseException of that name.
        if error is None or isinstance(error, StoreError):
            return
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise _mapped(self._failure, error) from error


def _mapped(failure: str, error: BaseException) -> StoreError:
    text = " ".join(str(error).split())[:300]
    for number, reason in _UNUSABLE.items():
        if f"(os error {number})" in text:
            hint = "Make the folder writable and see that its disk has space, or set INDEX_URL to another folder."
            return StoreUnavailable(f"{failure}: {reason}", hint=hint)
    if any(words in text for words in _FULL):
        return StoreUnavailable(f"{failure}: {text}", hint=_FREE_SPACE)
    return StoreError(f"{failure}: {text}", hint="If its files are damaged: poe run-sync-pipeline --rebuild")
