"""Two reports side by side: every figure that both have, and how sure the difference is."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from llm_engineering.domain.entities import Frozen
from llm_engineering.domain.errors import UsageError
from llm_engineering.domain.evaluation_config import EvaluationConfig
from llm_engineering.evaluation.intervals import Interval
from llm_engineering.evaluation.report import JSON, EvaluationReport, Part
from llm_engineering.evaluation.resampling import bounds, multiplicities

_HOLD = ("id", "group", "weight")


class Difference(Frozen):
    """One figure of two runs."""

    part: str
    figure: str
    first: Interval
    second: Interval
    paired: Interval | None
    """Second less first over the same texts, whole documents drawn; ``None`` where the runs have no texts in common there."""

    @property
    def told(self) -> str:
        """Whether chance explains it."""
        if self.paired is None:
            apart = self.first.high < self.second.low or self.second.high < self.first.low
            return "apart" if apart else "not told apart"
        return "not told apart" if self.paired.low <= 0 <= self.paired.high else "differs"


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
    differences = [
        Difference(
            part=part.name,
            figure=figure.name,
            first=figure.interval,
            second=other.interval,
            paired=_paired(figure.name, part, parts[part.name], config=config),
        )
        for part in first.parts
        if part.name in parts
        for figure in part.figures
        for other in parts[part.name].figures
        if figure.name == other.name and figure.interval and other.interval
    ]
    names = {*first.facts, *second.facts}
    facts = {
        name: pair
        for name in sorted(names)
        if (pair := (first.facts.get(name, "–"), second.facts.get(name, "–")))[0] != pair[1]
    }
    return Compared(first=first.out, second=second.out, facts=facts, differences=tuple(differences))


def markdown(compared: Compared) -> str:
    """The comparison for people."""
    lines = ["# Comparison", "", f"- first: {compared.first}", f"- second: {compared.second}"]
    lines += [f"- {name}: {one} → {other}" for name, (one, other) in compared.facts.items()]
    for part in dict.fromkeys(each.part for each in compared.differences):
        lines += ["", f"## {part}", "", "| figure | first | second | second less first | |", "|---|---:|---:|---:|---|"]
        lines += [_row(each) for each in compared.differences if each.part == part]
    if not compared.differences:
        lines += ["", "The two reports have no figure in common."]
    return "\n".join(lines) + "\n"


def _row(each: Difference) -> str:
    change = f"{each.second.mean - each.first.mean:+.3f}"
    if each.paired:
        change = f"{each.paired.mean:+.3f} ({each.paired.low:+.3f} – {each.paired.high:+.3f}, n={each.paired.n})"
    return f"| {each.figure} | {each.first.mean:.3f} | {each.second.mean:.3f} | {change} | {each.told} |"


def _paired(figure: str, first: Part, second: Part, *, config: EvaluationConfig) -> Interval | None:
    """Difference of the weighted means over the texts of both, resampled by document."""
    ours, theirs = _values(figure, first), _values(figure, second)
    both = sorted(ours.keys() & theirs.keys())
    groups = {name: number for number, name in enumerate(sorted({ours[id_][1] for id_ in both}))}
    if not groups:
        return None
    drawn = multiplicities(len(groups), config)[:, [groups[ours[id_][1]] for id_ in both]]
    means, plain = [], []
    for side in (ours, theirs):
        values, weights = [side[id_][0] for id_ in both], [side[id_][2] for id_ in both]
        products = [value * weight for value, weight in zip(values, weights, strict=True)]
        means.append((drawn @ products) / (drawn @ weights))
        plain.append(sum(products) / sum(weights))
    return bounds(means[1] - means[0], of=plain[1] - plain[0], n=len(both), config=config)


def _values(figure: str, part: Part) -> Mapping[str, tuple[float, str, float]]:
    """By id of a text: the figure's value, the document, the weight."""
    return {
        str(row["id"]): (float(value), str(row["group"]), float(row["weight"]))  # type: ignore[arg-type]  # floats by key
        for row in part.rows
        if all(name in row for name in _HOLD) and isinstance(value := row.get(figure), int | float)
    }
