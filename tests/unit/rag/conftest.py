"""A library of three articles."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.rag.library import BREAD, INDEX, KAFKA, Library, opened


@pytest.fixture(scope="session")
def shelves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a library that is copied for each test: making its index takes far longer."""
    folder = tmp_path_factory.mktemp("shelves")
    with opened(folder) as library:
        for name, text in (("kafka", KAFKA), ("bread", BREAD), ("chunks", INDEX)):
            library.write(name, text)
        library.sync()
    return folder


@pytest.fixture
def library(shelves: Path, tmp_path: Path) -> Iterator[Library]:
    folder = tmp_path / "library"
    shutil.copytree(shelves, folder)
    with opened(folder) as library:
        yield library
