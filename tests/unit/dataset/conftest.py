"""What several tests of builds begin with."""

from pathlib import Path

import pytest

from tests.doubles.writing import article, draft, record


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a warehouse with twelve documents, which have two passages each."""
    record(tmp_path, *(draft(f"d{n}", article(f"alpha{n}", f"beta{n}")) for n in range(12)))
    return tmp_path
