"""English prose that lies on every machine: the docstrings of Python's standard library."""

import ast
import hashlib
import sysconfig
from collections.abc import Iterator
from pathlib import Path

_FEWEST_CHARACTERS = 200
"""Shorter ones say little beyond a name."""
_LEFT_OUT = frozenset({"test", "tests", "idlelib", "site-packages", "lib2to3"})


def docstrings(characters: int, *, root: Path | None = None) -> list[str]:
    """Docstrings of at least so many characters in all, or all that there are, in an order that a hash decides.

    The same version of Python gives the same texts. ``root`` is the folder of the library, by default this Python's.
    """
    found: list[str] = []
    missing = characters
    for file in _modules(root or Path(sysconfig.get_path("stdlib"))):
        if missing <= 0:
            break
        texts = list(_of(file))
        found += texts
        missing -= sum(map(len, texts))
    return found


def _modules(root: Path) -> list[Path]:
    files = [
        file
        for file in root.rglob("*.py")
        if _LEFT_OUT.isdisjoint(part.lower() for part in file.relative_to(root).parts[:-1])
    ]
    return sorted(files, key=lambda file: hashlib.sha256(file.relative_to(root).as_posix().encode()).digest())


def _of(file: Path) -> Iterator[str]:
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):  # a file of another Python: its neighbours are enough
        return
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node)
            if text and len(text) >= _FEWEST_CHARACTERS:
                yield text
