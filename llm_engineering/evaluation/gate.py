"""The promotion gate: what a candidate must show before it becomes the current twin."""

from collections.abc import Callable, Mapping, Sequence

from llm_engineering.domain.entities import Frozen
from llm_engineering.domain.twin_evaluation_config import GateConfig
from llm_engineering.evaluation.authorship import Trait
from llm_engineering.evaluation.memorisation import AUTHOR, TWIN
from llm_engineering.evaluation.memorisation import NAME as MEMORISATION
from llm_engineering.evaluation.perplexity import ANSWERS, SURPRISE
from llm_engineering.evaluation.report import Part
from llm_engineering.evaluation.style import NAME as STYLE

BASE, CURRENT = "base", "current"
"""Stages besides the judged model: what it was trained from, and the twin that it would replace."""


class Measured(Frozen):
    """The figures of a model that its promotion depends on; ``None`` was not measured."""

    bits: float | None = None
    """Bits per character of the author's held-out answers: the logarithm of a perplexity that knows no tokenizer."""
    base_bits: float | None = None
    """The same of the base that it was trained from."""
    current_bits: float | None = None
    """The same of the twin that it would replace."""
    style: float | None = None
    """AUC of telling its output from the author's text with content words masked; 0.5 is indistinguishable."""
    memorised: float | None = None
    """Share of runs of words that stand in the training text."""
    author_memorised: float | None = None
    longest_run: float | None = None
    author_longest_run: float | None = None
    parity: float | None = None
    """Greatest difference of a log-probability between the adapter and what was exported from it."""

    def metrics(self) -> dict[str, float]:
        """Those that were measured, as a registry keeps them."""
        return {name: float(value) for name, value in self if value is not None}

    @classmethod
    def of_metrics(cls, metrics: Mapping[str, float]) -> "Measured":
        """The inverse of :meth:`metrics`; other names are passed over."""
        return cls(**{name: value for name, value in metrics.items() if name in cls.model_fields})


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


def measured(parts: Sequence[Part], *, parity: float | None = None) -> Measured:
    """What the gate needs, out of a report's parts."""
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

    return Measured(
        bits=means.get((SURPRISE, _BITS)),
        base_bits=means.get((SURPRISE, f"{_BITS} ({BASE})")),
        current_bits=means.get((SURPRISE, f"{_BITS} ({CURRENT})")),
        style=means.get((STYLE, f"twin against author, by {Trait.MASKED}")),
        memorised=starting(MEMORISATION, "share of ", f", {TWIN}"),
        author_memorised=starting(MEMORISATION, "share of ", f", {AUTHOR}"),
        longest_run=counts.get((MEMORISATION, f"longest verbatim run, {TWIN} (words)")),
        author_longest_run=counts.get((MEMORISATION, f"longest verbatim run, {AUTHOR} (words)")),
        parity=parity,
    )


def promotion(candidate: Measured, *, current: Measured | None, config: GateConfig) -> Promotion:
    """Judge a candidate against the figures of the current twin; ``None`` where there is none.

    Perplexity is compared over the candidate's own held-out texts, which the current twin reads too.

    What was to be measured and was not does not pass, save style where the current twin has no figure to be worse than.
    """
    checks: dict[str, Callable[[], tuple[bool, str] | None]] = {
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
Result = tuple[bool, str] | None


def _perplexity(candidate: Measured, current: Measured | None, limit: float | None) -> Result:
    if limit is None:
        return None
    other, name = (candidate.current_bits, "current twin's") if current else (candidate.base_bits, "base's")
    if candidate.bits is None or other is None:
        return _NOT_MEASURED
    ratio = 2 ** (candidate.bits - other)
    return ratio <= limit, f"{ratio:.3f} times the {name} per character, at most {limit:g}"


def _style(candidate: Measured, current: Measured | None, limit: float | None) -> Result:
    if limit is None:
        return None
    if candidate.style is None:
        if current is None or current.style is None:
            return True, "not measured, and there is no current twin's to be worse than"
        return _NOT_MEASURED
    if current is None or current.style is None:
        return True, f"AUC {candidate.style:.3f}; there is no current twin's to be worse than"
    worse = abs(candidate.style - 0.5) - abs(current.style - 0.5)
    told = f"AUC {candidate.style:.3f}, the current twin's {current.style:.3f}; at most {limit:g} further from 0.5"
    return worse <= limit + 1e-12, told


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
