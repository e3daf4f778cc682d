"""A library of three articles."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.rag.library import Library, three_articles


@pytest.fixture(scope="session")
def shelves(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Library]]:
    """One index for all tests, because making it takes longer than most of them; and the folder of its warehouse."""
    folder = tmp_path_factory.mktemp("shelves")
    library = three_articles(Library(folder))
    library.warehouse.close()
    yield folder, library
    library.index.close()


@pytest.fixture
def library(shelves: tuple[Path, Library], tmp_path: Path) -> Iterator[Library]:
    """A warehouse to write to, and an index that is only searched."""
    folder, shared = shelves
    shutil.copy(folder / "warehouse.sqlite", tmp_path)
    library = Library(tmp_path, shared.index)
    yield library
    library.warehouse.close()


@pytest.fixture
def own_library(tmp_path: Path) -> Iterator[Library]:
    """The same three articles with an index of their own, for tests that sync."""
    library = three_articles(Library(tmp_path))
    yield library
    library.index.close()
    library.warehouse.close()
