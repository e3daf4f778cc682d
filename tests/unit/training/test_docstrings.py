"""Prose that lies on every machine: enough of it, always the same, and never lost to one bad file."""

from pathlib import Path

from llm_engineering.training.docstrings import docstrings

LONG = "It explains at length what it does, and why it does so. " * 6 + "That is all."


def library(root: Path) -> Path:
    (root / "email").mkdir()
    (root / "test").mkdir()
    (root / "one.py").write_text(f'"""{LONG}"""\ndef f():\n    """Short."""\n', encoding="utf-8")
    (root / "email" / "two.py").write_text(f'class C:\n    """{LONG} Two."""\n', encoding="utf-8")
    (root / "test" / "three.py").write_text(f'"""{LONG} Three."""\n', encoding="utf-8")
    (root / "bad.py").write_bytes(b"def broken(:\n")
    return root


def test_every_docstring_of_substance_is_found_save_those_of_tests(tmp_path: Path):
    assert sorted(docstrings(10_000, root=library(tmp_path))) == [LONG, f"{LONG} Two."]


def test_no_more_is_read_than_was_asked_for(tmp_path: Path):
    assert len(docstrings(1, root=library(tmp_path))) == 1
    assert docstrings(0, root=tmp_path) == []


def test_this_python_has_plenty_and_says_the_same_each_time():
    found = docstrings(20_000)
    assert sum(map(len, found)) >= 20_000
    assert found == docstrings(20_000)
