"""What an evaluation found: parts with figures and intervals, as JSON, as Markdown, and as a chart beside them."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, JsonValue

from llm_engineering.domain.entities import Frozen, Moment
from llm_engineering.evaluation.intervals import Interval
from llm_engineering.evaluation.questions import LeftOut

JSON, MARKDOWN, CHART = "report.json", "report.md", "report.png"
UNIT, MEAN, GEOMETRIC = "unit", "mean", "geometric"
"""Keys of a row: its values are compared with those of the same unit alone; figures are weighted means, or geometric ones."""
_MOST_LINES = 20
"""Questions of one kind that the Markdown lists; the JSON has all."""


class Figure(Frozen):
    """One number: its name, what it is a mean over, and its interval; ``None`` where there was nothing to take a mean of."""

    name: str
    over: str
    interval: Interval | None


class Part(Frozen):
    """One subject of an evaluation, such as retrieval; each evaluating step returns one or several."""

    name: str
    figures: tuple[Figure, ...] = ()
    counts: dict[str, int] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()
    """Sentences a reader needs to read the figures rightly."""
    missing: str = ""
    """Why nothing could be evaluated; empty if something was."""
    findings: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Questions worth a look, by what happened to them."""
    rows: tuple[dict[str, JsonValue], ...] = ()
    """What became of each question; or a text's value of each figure, with ``id``, ``group`` (its document) and ``weight``."""


class Evaluated(Frozen):
    """What one evaluating step found."""

    parts: tuple[Part, ...]
    facts: dict[str, str] = Field(default_factory=dict)
    """What was judged and by which numbers: model, state of the index, seed."""
    left_out: tuple[LeftOut, ...] = ()


class EvaluationReport(Frozen):
    """Everything that one run found, and the folder where it was written."""

    title: str = "Evaluation"
    at: Moment
    out: str
    facts: dict[str, str]
    parts: tuple[Part, ...]
    left_out: tuple[LeftOut, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether nothing at all could be evaluated."""
        return not any(figure.interval for part in self.parts for figure in part.figures)


def combined(results: Sequence[Evaluated], *, out: Path, at: Moment) -> EvaluationReport:
    """The findings of several steps as one report."""
    return EvaluationReport(
        at=at,
        out=str(out),
        facts={name: value for one in results for name, value in one.facts.items()},
        parts=tuple(part for one in results for part in one.parts),
        left_out=tuple(left for one in results for left in one.left_out),
    )


def counted(reasons: Sequence[str], *, most: int = 5) -> list[str]:
    """Each reason once, the most frequent first, with how often it was given; the rest of a long list as a number."""
    found = Counter(reason.rstrip(".") for reason in reasons)
    frequent = sorted(found.items(), key=lambda each: (-each[1], each[0]))[:most]
    told = [reason if times == 1 else f"{reason} ({times} times)" for reason, times in frequent]
    return [*told, f"{len(found) - most} other reasons"] if len(found) > most else told


def markdown(report: EvaluationReport, *, level: float) -> str:
    """The report for people."""
    lines = [f"# {report.title}", "", f"{report.at:%Y-%m-%d %H:%M} UTC", ""]
    lines += [f"- {name}: {value}" for name, value in report.facts.items()]
    for part in report.parts:
        lines += ["", f"## {part.name}", ""]
        if part.missing:
            some = any(figure.interval for figure in part.figures)
            lines += [f"{'Not everything' if some else 'Nothing'} was evaluated: {part.missing}"]
        if part.figures:
            lines += [f"| figure | mean | {level:.0%} interval | over |", "|---|---:|---:|---|"]
            lines += [_row(figure) for figure in part.figures]
        if part.counts:
            lines += ["", "| count | |", "|---|---:|"]
            lines += [f"| {name} | {count:,} |" for name, count in part.counts.items()]
        if part.notes:
            lines += ["", " ".join(part.notes)]
        for happened, questions in part.findings.items():
            lines += ["", f"{happened}:", "", *(f"- {question}" for question in questions[:_MOST_LINES])]
            if len(questions) > _MOST_LINES:
                lines.append(f"- … and {len(questions) - _MOST_LINES} more, see {JSON}")
    if report.left_out:
        lines += ["", "## Not asked", ""]
        lines += [f"- {left.query} ({left.reason})" for left in report.left_out[:_MOST_LINES]]
        if len(report.left_out) > _MOST_LINES:
            lines.append(f"- … and {len(report.left_out) - _MOST_LINES} more, see {JSON}")
    if not report.empty:
        lines += ["", f"![Figures with their intervals]({CHART})"]
    return "\n".join(lines) + "\n"


def _row(figure: Figure) -> str:
    if figure.interval is None:
        return f"| {figure.name} | – | – | no {figure.over} |"
    found = figure.interval
    interval = "–" if found.documents == 1 else f"{found.low:.3f} – {found.high:.3f}"
    of = {None: "", 1: " of one document"}.get(found.documents, f" of {found.documents} documents")
    return f"| {figure.name} | {found.mean:.3f} | {interval} | {found.n} {figure.over}{of} |"
