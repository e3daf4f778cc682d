"""Two reports side by side: every figure that both have, and how sure the difference is."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import JsonValue, ValidationError

from llm_engineering.domain.entities import Frozen
from llm_engineering.domain.errors import UsageError
from llm_engineering.domain.evaluation_config import EvaluationConfig
from llm_engineering.evaluation.intervals import Interval
from llm_engineering.evaluation.report import GEOMETRIC, JSON, MEAN, UNIT, EvaluationReport, Figure, Part
from llm_engineering.evaluation.resampling import bounds, multiplicities

FEWEST_DOCUMENTS = 4
"""With fewer the bootstrap knows nothing of other documents: two runs always seem to differ."""
OTHER_TEXTS, OTHER_UNITS, TOO_FEW = "other texts", "other units", "too few documents"
SAME, DIFFERS, APART = "not told apart", "differs", "apart"
_HOW_TOLD = (
    f"Texts that both runs have are compared one by one: `{DIFFERS}` or `{SAME}`. Where a run kept no value for each text, "
    f"intervals that do not touch lie `{APART}`. Nothing is said of `{OTHER_TEXTS}`, `{OTHER_UNITS}` (other tokens), and "
    f"`{TOO_FEW}` (under {FEWEST_DOCUMENTS})."
)
_TEXTS = ("dataset", "author", "held-out instructions")
"""Facts by which two runs were over the same texts."""


class Difference(Frozen):
    """One figure of two runs."""

    part: str
    figure: str
    first: Interval
    second: Interval
    paired: Interval | None
    """Second less first over the same texts, whole documents drawn; ``None`` where no text has a value in both."""
    hindered: str = ""
    """Why the two cannot be compared: they are of other texts, or in other units."""

    @property
    def told(self) -> str:
        """Whether chance explains it; where the texts were not paired, only intervals that lie apart say that it does not."""
        if self.hindered:
            return self.hindered
        known = [each.documents for each in (self.paired or self.first, self.paired or self.second)]
        if any(count is not None and count < FEWEST_DOCUMENTS for count in known):
            return TOO_FEW
        if self.paired is None:
            return APART if self.first.high < self.second.low or self.second.high < self.first.low else SAME
        return SAME if self.paired.low <= 0 <= self.paired.high else DIFFERS


class Compared(Frozen):
    """What two runs have in common, and the facts in which they differ."""

    first: str
    second: str
    facts: dict[str, tuple[str, str]]
    differences: tuple[Difference, ...]


def read_report(folder: Path) -> EvaluationReport:
    """The report in a folder (or the JSON file itself); :class:`UsageError` if there is none."""
    file = folder / JSON if folder.is_dir() else folder
    try:
        return EvaluationReport.model_validate_json(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is none of this version of the product"
        raise UsageError(
            f"There is no evaluation report at {file}: {reason}", hint="Name the folder that an evaluation wrote."
        ) from error


def compare(first: EvaluationReport, second: EvaluationReport, *, config: EvaluationConfig) -> Compared:
    """Every figure that both have. Where both kept a value per text, texts of both are compared one by one."""
    parts = {part.name: part for part in second.parts}
    alike = all(first.facts.get(name) == second.facts.get(name) for name in _TEXTS)
    differences = [
        _difference(part, parts[part.name], figure, other, alike=alike, config=config)
        for part in first.parts
        if part.name in parts
        for figure in part.figures
        for other in parts[part.name].figures
        if figure.name == other.name
    ]
    names = {*first.facts, *second.facts}
    facts = {
        name: pair
        for name in sorted(names)
        if (pair := (first.facts.get(name, "–"), second.facts.get(name, "–")))[0] != pair[1]
    }
    found = tuple(each for each in differences if each is not None)
    return Compared(first=first.out, second=second.out, facts=facts, differences=found)


def markdown(compared: Compared) -> str:
    """The comparison for people."""
    lines = ["# Comparison", "", f"- first: {compared.first}", f"- second: {compared.second}"]
    lines += [f"- {name}: {one} → {other}" for name, (one, other) in compared.facts.items()]
    for part in dict.fromkeys(each.part for each in compared.differences):
        lines += ["", f"## {part}", "", "| figure | first | second | second less first | |", "|---|---:|---:|---:|---|"]
        lines += [_row(each) for each in compared.differences if each.part == part]
    lines += ["", _HOW_TOLD if compared.differences else "The two reports have no figure in common."]
    return "\n".join(lines) + "\n"


def _row(each: Difference) -> str:
    change = "–" if each.hindered else f"{each.second.mean - each.first.mean:+.3f}"
    if each.paired:
        change = f"{each.paired.mean:+.3f} ({each.paired.low:+.3f} – {each.paired.high:+.3f}, n={each.paired.n})"
    return f"| {each.figure} | {each.first.mean:.3f} | {each.second.mean:.3f} | {change} | {each.told} |"


class _Value(NamedTuple):
    """Of one text."""

    value: float
    document: str
    weight: float
    unit: JsonValue
    mean: JsonValue


def _difference(
    first: Part, second: Part, figure: Figure, other: Figure, *, alike: bool, config: EvaluationConfig
) -> Difference | None:
    if figure.interval is None or other.interval is None:
        return None
    ours, theirs = _values(figure.name, first), _values(figure.name, second)
    both = sorted(ours.keys() & theirs.keys())
    hindered, paired = "", None
    if any(ours[id_].unit != theirs[id_].unit for id_ in both):
        hindered = OTHER_UNITS
    elif both:
        paired = _paired([ours[id_] for id_ in both], [theirs[id_] for id_ in both], config=config)
    elif (ours and theirs) or not alike:
        hindered = OTHER_TEXTS
    return Difference(
        part=first.name,
        figure=figure.name,
        first=figure.interval,
        second=other.interval,
        paired=paired,
        hindered=hindered,
    )


def _paired(ours: Sequence[_Value], theirs: Sequence[_Value], *, config: EvaluationConfig) -> Interval:
    """Difference of the weighted means over the texts of both, resampled by document."""
    documents = {name: number for number, name in enumerate(sorted({each.document for each in ours}))}
    drawn = multiplicities(len(documents), config)[:, [documents[each.document] for each in ours]]
    means, plain = [], []
    for side in (ours, theirs):
        geometric = side[0].mean == GEOMETRIC
        values = np.array([each.value for each in side])
        weights = np.array([each.weight for each in side])
        products = weights * (np.log(values) if geometric else values)
        drawn_means, mean = (drawn @ products) / (drawn @ weights), products.sum() / weights.sum()
        means.append(np.exp(drawn_means) if geometric else drawn_means)
        plain.append(float(np.exp(mean) if geometric else mean))
    difference = plain[1] - plain[0]
    return bounds(means[1] - means[0], of=difference, n=len(ours), documents=len(documents), config=config)


def _values(figure: str, part: Part) -> Mapping[str, _Value]:
    """The figure's value of each text, by its id."""
    return {
        str(row["id"]): _Value(float(value), str(row["group"]), float(weight), row.get(UNIT), row.get(MEAN))
        for row in part.rows
        if "id" in row and "group" in row
        if isinstance(value := row.get(figure), int | float) and isinstance(weight := row.get("weight"), int | float)
    }
