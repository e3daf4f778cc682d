"""What an error advises can be done: the configuration keys and the extras that it names exist."""

import ast
import importlib
import pkgutil
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from llm_engineering import domain
from llm_engineering.domain.config import Configuration

ROOT = Path(__file__).resolve().parents[2]
KEY = re.compile(r"(?<![\w./`@-])([a-z_]+)\.([a-z_]+)(?![\w./(])")
NO_KEYS = frozenset({"txt", "toml", "yaml", "json", "jsonl", "md", "org", "com", "example", "save", "cpp"})
"""What stands behind the dot of a file, an address, a function or a program."""


def strings(argument: str) -> Iterator[tuple[Path, str]]:
    """The texts that our code passes under this keyword."""
    for folder in ("llm_engineering", "steps", "tools"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.keyword) and node.arg == argument:
                    parts = [part for part in ast.walk(node.value) if isinstance(part, ast.Constant)]
                    yield from ((file, part.value) for part in parts if isinstance(part.value, str))


def sections() -> dict[str, set[str]]:
    """The keys in every section of a configuration."""
    for module in pkgutil.iter_modules(domain.__path__):
        importlib.import_module(f"{domain.__name__}.{module.name}")
    found: dict[str, set[str]] = {}
    for config in Configuration.__subclasses__():
        for name, field in config.model_fields.items():
            if isinstance(field.annotation, type) and issubclass(field.annotation, Configuration):
                found.setdefault(name, set()).update(field.annotation.model_fields)
    return found


def test_configuration_keys_named_by_a_hint_exist():
    known = sections()
    named = [(file.name, *match.groups()) for file, text in strings("hint") for match in KEY.finditer(text)]
    keys = [(file, section, key) for file, section, key in named if key not in NO_KEYS]
    assert ("openai.py", "chat", "timeout") in keys, "the pattern finds what it is for"
    assert [each for each in keys if each[2] not in known.get(each[1], set())] == []


def test_extras_named_by_an_error_exist():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    named = {name for _, name in strings("extra")} - {"ignore", "forbid"}
    assert "browser" in named
    assert named <= extras.keys()
