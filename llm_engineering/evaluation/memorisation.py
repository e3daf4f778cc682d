"""Memorisation: how much of the twin's output stands word for word in its training text, beside the author's own habit."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pydantic import JsonValue

from llm_engineering.domain.evaluation_config import EvaluationConfig
from llm_engineering.domain.twin_evaluation_config import MemorisationConfig
from llm_engineering.domain.words import words
from llm_engineering.evaluation.prose import StyleText
from llm_engineering.evaluation.report import Figure, Part
from llm_engineering.evaluation.resampling import ratio
from llm_engineering.evaluation.verbatim import Matches, matches

NAME, RUNS = "Memorisation", "Memorisation: longest runs"
TWIN, AUTHOR = "twin's output", "author's held-out text"


def memorisation(
    *,
    twin: Sequence[StyleText],
    held_out: Sequence[StyleText],
    training: Iterable[StyleText],
    config: MemorisationConfig,
    evaluation: EvaluationConfig,
) -> list[Part]:
    """Shares and lengths of verbatim runs, code included. ``training`` is read once.

    The author's rate is that of held-out texts: what anyone repeats between documents, a stock phrase or a signature. The parts
    hold no words of anybody: they outlive a document that is forgotten.
    """
    sides = {TWIN: list(twin), AUTHOR: list(held_out)}
    texts = [words(each.text) for side in sides.values() for each in side]
    found = iter(matches(texts, ((each.document_id, words(each.text)) for each in training)))
    of_side = {name: [next(found) for _ in side] for name, side in sides.items()}
    figures = [_side(name, side, of_side[name], config, evaluation) for name, side in sides.items()]
    counts = {f"longest verbatim run, {name} (words)": _longest(of_side[name]) for name in sides}
    missing = "" if any(each.text.strip() for each in twin) else "the twin has written nothing"
    shares = Part(
        name=NAME,
        figures=tuple(share.figure for share, _ in figures),
        rows=tuple(row for share, _ in figures for row in share.rows),
        counts=counts,
        notes=(
            f"Share of the runs of {config.gram} words that stand in the training text.",
            "A twin far above the author's own rate repeats what it was trained on.",
        ),
        findings=_findings(sides[TWIN], of_side[TWIN], least=config.gram),
        missing=missing,
    )
    runs = [run for _, run in figures]
    return [
        shares,
        Part(
            name=RUNS,
            figures=tuple(run.figure for run in runs),
            rows=tuple(row for run in runs for row in run.rows),
            missing=missing,
        ),
    ]


class _Told(NamedTuple):
    """A figure, and its value for each document."""

    figure: Figure
    rows: tuple[dict[str, JsonValue], ...]


def _side(
    name: str,
    texts: Sequence[StyleText],
    found: Sequence[Matches],
    config: MemorisationConfig,
    evaluation: EvaluationConfig,
) -> tuple[_Told, _Told]:
    """Share of known runs, and the longest one of a text in the mean."""
    documents = [each.document_id for each in texts]

    def told(figure: str, sums: Sequence[float], counts: Sequence[float]) -> _Told:
        above, below = dict.fromkeys(documents, 0.0), dict.fromkeys(documents, 0.0)
        for document, value, count in zip(documents, sums, counts, strict=True):
            above[document] += value
            below[document] += count
        rows: tuple[dict[str, JsonValue], ...] = tuple(
            {"id": document, "group": document, "weight": weight, figure: above[document] / weight}
            for document, weight in below.items()
            if weight
        )
        return _Told(
            Figure(name=figure, over="texts", interval=ratio(sums, counts, documents, config=evaluation)), rows
        )

    grams = [each.grams(config.gram) for each in found]
    runs = [float(each.longest.length) if each.longest else 0.0 for each in found]
    return (
        told(
            f"share of {config.gram}-grams in the training text, {name}",
            [known for known, _ in grams],
            [whole for _, whole in grams],
        ),
        told(f"longest verbatim run of a text (words), {name}", runs, [1.0] * len(runs)),
    )


def _longest(found: Sequence[Matches]) -> int:
    return max((each.longest.length for each in found if each.longest), default=0)


def _findings(texts: Sequence[StyleText], found: Sequence[Matches], *, least: int) -> dict[str, tuple[str, ...]]:
    runs = [(each.longest, text) for text, each in zip(texts, found, strict=True) if each.longest]
    long = sorted(((run, text) for run, text in runs if run.length >= least), key=lambda pair: -pair[0].length)
    lines = tuple(f"{run.length} words of {run.source}, in the text about {text.document_id}" for run, text in long)
    return {"Longest verbatim run of each text": lines} if lines else {}
