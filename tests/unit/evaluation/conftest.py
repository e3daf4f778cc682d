"""A warehouse with the writings of two authors."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_engineering.adapters.sqlite import SQLiteWarehouse
from tests.unit.evaluation.shelf import Shelf


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    warehouse = SQLiteWarehouse(tmp_path / "warehouse.sqlite")
    yield Shelf(warehouse)
    warehouse.close()
