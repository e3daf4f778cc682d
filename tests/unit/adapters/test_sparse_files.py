import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_engineering.adapters.sparse_files import copy_file, copy_folder, replace_file

PAGE = 4096


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    spans=st.lists(st.tuples(st.integers(0, 300), st.binary(max_size=2 * PAGE)), max_size=4),
    length=st.integers(0, 300),
)
def test_a_copy_has_the_same_bytes(tmp_path: Path, spans: list[tuple[int, bytes]], length: int) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    with source.open("wb") as file:
        file.truncate(length * PAGE)
        for page, content in spans:
            file.seek(page * PAGE)
            file.write(content)
    target.unlink(missing_ok=True)
    copy_file(source, target)
    assert target.read_bytes() == source.read_bytes()


def test_a_copy_of_a_mostly_empty_file_takes_the_space_of_its_data(tmp_path: Path) -> None:
    source = tmp_path / "source"
    with source.open("wb") as file:
        file.truncate(50_000_000)
        file.seek(30_000_000)
        file.write(b"data")
    copy_file(source, tmp_path / "target")
    copied = (tmp_path / "target").stat()
    assert copied.st_size == 50_000_000
    assert copied.st_blocks * 512 < 2_000_000


def test_a_folder_is_copied_with_its_folders(tmp_path: Path) -> None:
    (tmp_path / "source" / "deep").mkdir(parents=True)
    (tmp_path / "source" / "deep" / "file").write_bytes(b"content")
    copy_folder(tmp_path / "source", tmp_path / "target")
    assert (tmp_path / "target" / "deep" / "file").read_bytes() == b"content"


def test_a_replaced_file_is_whole_or_untouched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "pointer"
    replace_file(file, b"first")
    monkeypatch.setattr(os, "fsync", _fail)
    with pytest.raises(OSError, match="disk"):
        replace_file(file, b"second")
    assert file.read_bytes() == b"first"


def _fail(_: int) -> None:
    raise OSError("disk")
