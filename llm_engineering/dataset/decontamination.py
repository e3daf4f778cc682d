"""Keeping evaluation sets out of training data: no run of thirteen words may stand in both (as for GPT-3, Brown et al., 2020)."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from llm_engineering.dataset.words import grams, words
from llm_engineering.domain.errors import UsageError

LENGTH = 13
_SHORTEST = 4
"""An evaluation text of fewer words is no question that anything could leak from."""


@dataclass(frozen=True, slots=True)
class EvaluationTexts:
    """What the evaluation sets say: their runs of thirteen words, and their shorter texts as a whole."""

    runs: frozenset[tuple[str, ...]] = frozenset()
    short: frozenset[tuple[str, ...]] = frozenset()

    @classmethod
    def of(cls, texts: Iterable[str]) -> "EvaluationTexts":
        """From texts."""
        runs: set[tuple[str, ...]] = set()
        short: set[tuple[str, ...]] = set()
        for text in texts:
            tokens = words(text)
            if len(tokens) >= LENGTH:
                runs.update(grams(tokens, LENGTH))
            elif len(tokens) >= _SHORTEST:
                short.add(tuple(tokens))
        return cls(frozenset(runs), frozenset(short))

    def shared_with(self, text: str) -> str | None:
        """The first run of words that the text shares with an evaluation set, or the whole text if it equals a short one."""
        if not (self.runs or self.short):
            return None
        tokens = words(text)
        if tuple(tokens) in self.short:
            return " ".join(tokens)
        return next((" ".join(run) for run in grams(tokens, LENGTH) if run in self.runs), None)


def read_evaluation_sets(paths: Iterable[Path]) -> EvaluationTexts:
    """The texts of these files: every string value of JSON and JSON lines, every paragraph of anything else.

    Raises :class:`UsageError` for a file that cannot be read.
    """
    return EvaluationTexts.of(text for path in paths for text in _texts(path))


def _texts(path: Path) -> Iterator[str]:
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"The evaluation set {path} cannot be read: {error}",
            hint="Correct quality.evaluation_sets in the configuration",
        ) from error
    if path.suffix == ".json":
        yield from _strings(_parsed(content, path, 1))
    elif path.suffix in {".jsonl", ".ndjson"}:
        for number, line in enumerate(content.splitlines(), start=1):
            if line.strip():
                yield from _strings(_parsed(line, path, number))
    else:
        yield from content.split("\n\n")


def _parsed(content: str, path: Path, line: int) -> object:
    try:
        parsed: object = json.loads(content)
    except json.JSONDecodeError as error:
        raise UsageError(
            f"The evaluation set {path}, line {line + error.lineno - 1}, is not JSON: {error.msg}",
            hint="Name it .txt if it is plain text",
        ) from error
    return parsed


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)
