"""Temporary folders in memory: an index syncs every write, and a test need not wait for a disk."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEMORY = Path("/dev/shm")
ENOUGH = 500_000_000


@contextmanager
def quick_folder(otherwise: Path) -> Iterator[Path]:
    """A folder in memory, removed afterwards; where there is no room for one, the folder given."""
    if not MEMORY.is_dir() or shutil.disk_usage(MEMORY).free < ENOUGH:
        yield otherwise
        return
    with tempfile.TemporaryDirectory(prefix="llm-twin-", dir=MEMORY) as folder:
        yield Path(folder)
