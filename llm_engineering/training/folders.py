"""Nothing half-written is ever taken for whole: work goes on in ``NAME.partial`` and gets its name when it is complete."""

import shutil
from pathlib import Path

MARK = "complete"
"""A file in a checkpoint that was written after everything else of it."""


def unfinished(folder: Path, *, anew: bool = False) -> Path:
    """Where the work on ``folder`` goes on; with ``anew`` what lies there of an earlier attempt is removed first."""
    work = folder.with_name(f"{folder.name}.partial")
    if anew and work.exists():
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    return work


def finished(folder: Path) -> Path:
    """Give the finished work its name, in one step."""
    return folder.with_name(f"{folder.name}.partial").rename(folder)


def last_checkpoint(work: Path) -> Path | None:
    """The newest complete checkpoint of a run; those that a killed process left half-written are removed."""
    complete: list[tuple[int, Path]] = []
    for path in work.glob("checkpoint-*"):
        number = path.name.rpartition("-")[2]
        if (path / MARK).is_file() and number.isdecimal():
            complete.append((int(number), path))
        else:
            shutil.rmtree(path)
    return max(complete)[1] if complete else None


def remove_checkpoints(work: Path) -> None:
    """Remove every checkpoint; one that a kill leaves half removed counts as incomplete."""
    for checkpoint in work.glob("checkpoint-*"):
        (checkpoint / MARK).unlink(missing_ok=True)
        shutil.rmtree(checkpoint)
