"""The promotion gate: what a candidate must show before it becomes the current twin."""

import math
from collections.abc import Callable, Sequence

from llm_engineering.domain.entities import Frozen
from llm_engineering.domain.twin_evaluation_config import GateConfig
from llm_engineering.evaluation.answers import NAME as ANSWERED
from llm_engineering.evaluation.answers import USABLE
from llm_engineering.evaluation.authorship import Trait
from llm_engineering.evaluation.memorisation import AUTHOR, TWIN
from llm_engineering.evaluation.memorisation import NAME as MEMORISATION
from llm_engineering.evaluation.perplexity import ANSWERS, SURPRISE
from llm_engineering.evaluation.replaced import NAME as REPLACED
from llm_engineering.evaluation.replaced import told_by
from llm_engineering.evaluation.report import Part
from llm_engineering.evaluation.style import NAME as STYLE

BASE, CURRENT = "base", "current"
"""Stages besides the judged model: what it was trained from, and the twin that it would replace."""
_TRAITS = (Trait.MASKED, Trait.CHARACTERS)
"""What style is compared by: the first that could be measured, the same for both twins, who write about the same subjects."""


class Measured(Frozen):
    """The figures of a model that its promotion depends on; ``None`` was not measured. All are over the same held-out texts."""

    usable: float | None = None
    """Share of the held-out instructions that it gave a usable answer to."""
    bits: float | None = None
    """Bits per character of the author's held-out answers: the logarithm of a perplexity that knows no tokenizer."""
    base_bits: float | None = None
    """The same of the base that it was trained from."""
    current_bits: float | None = None
    """The same of the twin that it would replace."""
    style: float | None = None
    """AUC of telling its output from the author's text with content words masked; 0.5 and less is indistinguishable."""
    current_style: float | None = None
    """The same of what the twin that it would replace writes to the same instructions."""
    style_possible: bool = True
    """Whether the author's held-out text is long enough for style to be measured."""
    memorised: float | None = None
    """Share of runs of words that stand in the training text."""
    author_memorised: float | None = None
    longest_run: float | None = None
    author_longest_run: float | None = None
    parity: float | None = None
    """Greatest difference of a log-probability between the adapter and what was exported from it."""

    def metrics(self) -> dict[str, float]:
        """The figures that were measured, as a registry keeps them: numbers. Of a model that has diverged some are none."""
        figures = {name: value for name, value in self if value is not None and name != "style_possible"}
        return {name: float(value) for name, value in figures.items() if math.isfinite(value)}


class Check(Frozen):
    """One condition, and what was found."""

    name: str
    passed: bool
    told: str


class Promotion(Frozen):
    """Whether a candidate may be promoted, and why or why not."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def lines(self) -> Sequence[str]:
        """For people, one per check."""
        return [f"{'passed' if check.passed else 'FAILED'}: {check.name}: {check.told}" for check in self.checks]


def measured(parts: Sequence[Part], *, parity: float | None = None, style_possible: bool = True) -> Measured:
    """What the gate needs, out of a report's parts and of what else is known of the model and of the author's texts."""
    means = {
        (part.name, figure.name): figure.interval.mean for part in parts for figure in part.figures if figure.interval
    }
    counts = {(part.name, name): float(count) for part in parts for name, count in part.counts.items()}

    def starting(part: str, beginning: str, ending: str) -> float | None:
        found = [
            value
            for (of, name), value in means.items()
            if of == part and name.startswith(beginning) and name.endswith(ending)
        ]
        return found[0] if found else None

    by = {trait: means.get((STYLE, f"twin against author, by {trait}")) for trait in _TRAITS}
    trait = next((trait for trait in _TRAITS if by[trait] is not None), Trait.MASKED)
    return Measured(
        usable=means.get((ANSWERED, USABLE)),
        bits=means.get((SURPRISE, _BITS)),
        base_bits=means.get((SURPRISE, f"{_BITS} ({BASE})")),
        current_bits=means.get((SURPRISE, f"{_BITS} ({CURRENT})")),
        style=by[trait],
        current_style=means.get((REPLACED, told_by(trait))),
        style_possible=style_possible,
        memorised=starting(MEMORISATION, "share of ", f", {TWIN}"),
        author_memorised=starting(MEMORISATION, "share of ", f", {AUTHOR}"),
        longest_run=counts.get((MEMORISATION, f"longest verbatim run, {TWIN} (words)")),
        author_longest_run=counts.get((MEMORISATION, f"longest verbatim run, {AUTHOR} (words)")),
        parity=parity,
    )


def promotion(candidate: Measured, *, current: str | None, config: GateConfig) -> Promotion:
    """Judge a candidate against ``current``, the reference of the twin that it would replace; ``None`` where there is none.

    Both have read and answered the same held-out instructions. What was to be measured and was not does not pass, save a style
    that no twin could be measured by: the author's held-out text is too short.
    """
    checks: dict[str, Callable[[], Result]] = {
        "usable answers": lambda: _usable(candidate, config.usable_share),
        "held-out perplexity": lambda: _perplexity(candidate, current, config.perplexity_ratio),
        "style": lambda: _style(candidate, current, config.style_difference),
        "memorised share": lambda: _memorised(candidate, config.memorised_share),
        "longest verbatim run": lambda: _longest(candidate, config.longest_run),
        "parity": lambda: _parity(candidate, config.parity),
    }
    found = [(name, check()) for name, check in checks.items()]
    return Promotion(
        checks=tuple(Check(name=name, passed=result[0], told=result[1]) for name, result in found if result is not None)
    )


_BITS = f"bits per character, {ANSWERS}"
_NOT_MEASURED = (False, "not measured")
_MOST_BITS = 1000
"""A difference beyond which two to its power is no float."""
Result = tuple[bool, str] | None


def _usable(candidate: Measured, least: float | None) -> Result:
    if least is None:
        return None
    if candidate.usable is None:
        return _NOT_MEASURED
    return candidate.usable >= least - 1e-12, f"{candidate.usable:.3f} of the instructions, at least {least:g}"


def _perplexity(candidate: Measured, current: str | None, limit: float | None) -> Result:
    if limit is None:
        return None
    other, name = (candidate.current_bits, current) if current else (candidate.base_bits, "the base")
    if candidate.bits is None:
        return _NOT_MEASURED
    if other is None:
        return False, f"not measured for {name} over the same texts"
    difference = candidate.bits - other
    ratio = math.inf if difference > _MOST_BITS else 2**difference
    return ratio <= limit, f"{ratio:.3f} times that of {name} per character, at most {limit:g}"


def _style(candidate: Measured, current: str | None, limit: float | None) -> Result:
    if limit is None:
        return None
    if candidate.style is None:
        if candidate.style_possible:
            return False, "not measured: the twin wrote too little"
        return True, "not measured: the author's held-out text is too short to tell any twin by"
    if current is None:
        return True, f"AUC {candidate.style:.3f}; there is no current twin's to be worse than"
    if candidate.current_style is None:
        return False, f"AUC {candidate.style:.3f}; not measured for {current} over the same texts"
    worse = _distance(candidate.style) - _distance(candidate.current_style)
    told = f"AUC {candidate.style:.3f}, that of {current} {candidate.current_style:.3f}; at most {limit:g} further above 0.5"
    return worse <= limit + 1e-12, told


def _distance(auc: float) -> float:
    """How far two writers are told apart; an AUC below one half tells them no better than one half."""
    return max(auc, 0.5) - 0.5


def _memorised(candidate: Measured, limit: float | None) -> Result:
    if limit is None:
        return None
    if candidate.memorised is None:
        return _NOT_MEASURED
    own = candidate.author_memorised or 0.0
    told = f"{candidate.memorised:.3f}, the author's own {own:.3f}; at most {limit:g} more"
    return candidate.memorised - own <= limit + 1e-12, told


def _longest(candidate: Measured, limit: int | None) -> Result:
    if limit is None:
        return None
    if candidate.longest_run is None:
        return _NOT_MEASURED
    allowed = max(limit, candidate.author_longest_run or 0)
    return candidate.longest_run <= allowed, f"{candidate.longest_run:.0f} words, at most {allowed:.0f}"


def _parity(candidate: Measured, limit: float | None) -> Result:
    if limit is None:
        return None
    if candidate.parity is None:
        return _NOT_MEASURED
    return candidate.parity <= limit, f"log-probabilities differ by {candidate.parity:.3g} at most, allowed {limit:g}"
