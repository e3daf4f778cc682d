"""The figures of a report as one picture: a point and an interval each, part below part."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Picture

from llm_engineering.evaluation.human import NAME as PEOPLE
from llm_engineering.evaluation.report import EvaluationReport, Part

_ROW, _HEAD, _WIDTH = 0.32, 0.9, 8.0
"""Inches of a figure's line and of a part's frame, and of the whole picture's width."""


def draw(report: EvaluationReport, file: Path, *, level: float) -> None:
    """Write the picture as PNG. Shares lie on one scale from 0 to 1 for every part."""
    parts = [part for part in report.parts if any(figure.interval for figure in part.figures)]
    rows = [sum(figure.interval is not None for figure in part.figures) for part in parts]
    heights = [_HEAD + _ROW * count for count in rows]
    picture = Picture(figsize=(_WIDTH, sum(heights)), layout="constrained")
    FigureCanvasAgg(picture)
    axes = picture.subplots(len(parts), 1, squeeze=False, height_ratios=heights)[:, 0]
    for part, axis in zip(parts, axes, strict=True):
        found = [(figure.name, figure.interval) for figure in part.figures if figure.interval]
        places = range(len(found))
        means = [interval.mean for _, interval in found]
        lower = [max(0.0, interval.mean - interval.low) for _, interval in found]
        upper = [max(0.0, interval.high - interval.mean) for _, interval in found]
        axis.errorbar(means, places, xerr=[lower, upper], fmt="o", capsize=3, color="#1f4e79", markersize=5)
        for place, (_, interval) in zip(places, found, strict=True):
            axis.annotate(f"{interval.mean:.2f}", (interval.mean, place), xytext=(0, 5), textcoords="offset points",
                          ha="center", fontsize=7)  # fmt: skip
        axis.set_yticks(list(places), [f"{name} (n={interval.n})" for name, interval in found], fontsize=8)
        axis.set_ylim(len(found) - 0.5, -0.7)
        axis.set_xlim(min(-0.03, *(mean - low for mean, low in zip(means, lower, strict=True))),
                      max(1.03, *(mean + high for mean, high in zip(means, upper, strict=True))))  # fmt: skip
        axis.set_title(part.name, loc="left", fontsize=10)
        axis.grid(axis="x", alpha=0.3)
    picture.supxlabel(caption(parts, level=level), fontsize=8)
    picture.savefig(file, format="png", dpi=120, metadata={"Software": None})


def caption(parts: Sequence[Part], *, level: float) -> str:
    """What the intervals of these parts are: a share of people's choices has Wilson's, every other figure a bootstrap one."""
    people = [part.name == PEOPLE for part in parts]
    if any(people) and not all(people):
        return f"mean and {level:.0%} interval: bootstrap, and Wilson's for the choices of people"
    kind = "Wilson's" if any(people) else "bootstrap"
    return f"mean and {level:.0%} {kind} interval"
