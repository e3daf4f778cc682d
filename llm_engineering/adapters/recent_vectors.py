"""The vectors that the last writing session published, beside the state that it made visible.

The side that the next session writes on lacks exactly these. Reading them from one small file saves it the loading of the whole
visible side, which every sync would otherwise do to learn that a new text is new.
"""

import logging
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

logger = logging.getLogger(__name__)

_FILE = "recent.npz"
_MOST = 2_000
"""Vectors up to which a file is written: a larger session is rare, and costs more than a loading in any case."""


class RecentVectors:
    """Collects what a session publishes. ``beside``: the state that readers had meanwhile, as :func:`state_name` says it."""

    def __init__(self, beside: str | None) -> None:
        self._beside = beside
        self._vectors: dict[str, list[float]] | None = {}

    def add(self, vectors: Mapping[str, list[float]]) -> None:
        """Remember vectors by their key; from too many on, none."""
        if self._vectors is not None:
            self._vectors |= vectors
            if len(self._vectors) > _MOST:
                self._vectors = None

    def save(self, folder: Path) -> None:
        """Write them beside the state that holds them, or leave no file there."""
        file = folder / _FILE
        file.unlink(missing_ok=True)
        if self._beside is None or self._vectors is None:
            return
        keys = np.array(list(self._vectors), dtype=str)
        vectors = np.array(list(self._vectors.values()), dtype=np.float32)
        np.savez(file, beside=np.array(self._beside), keys=keys, vectors=vectors)


def state_name(replica_id: str, generation: int) -> str:
    """Name of what a replica held after one of its commits."""
    return f"{replica_id}:{generation}"


def recent_vectors(folder: Path, *, beside: str) -> dict[str, list[float]] | None:
    """What the state in this folder holds and the one named ``beside`` does not; ``None`` if that is not known."""
    file = folder / _FILE
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as stored:
            if str(stored["beside"]) != beside:
                return None
            return dict(zip(map(str, stored["keys"]), stored["vectors"].tolist(), strict=True))
    except FileNotFoundError:
        return None
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        logger.warning("%s cannot be read, so the visible index is: %s", file, error)
        return None
