"""The twin that a candidate would replace: its style, measured by what it writes to the candidate's held-out instructions."""

from collections.abc import Sequence

from llm_engineering.domain.evaluation_config import EvaluationConfig
from llm_engineering.domain.twin_evaluation_config import StyleConfig
from llm_engineering.evaluation.authorship import Trait
from llm_engineering.evaluation.prose import StyleText, documents, pieces
from llm_engineering.evaluation.report import Figure, Part
from llm_engineering.evaluation.style import told_apart, traits_of

NAME = "Style: the current twin against the author"


def told_by(trait: Trait) -> str:
    """Name of the figure of one trait."""
    return f"current twin against author, by {trait}"


def current_style(
    current: Sequence[StyleText],
    *,
    held_out: Sequence[StyleText],
    known: Sequence[StyleText],
    config: StyleConfig,
    evaluation: EvaluationConfig,
) -> Part:
    """AUC of telling the current twin's output from the author's held-out texts, as it is measured of the candidate.

    ``known`` are the author's texts of the training split.
    """
    first, second = pieces(current, words=config.words), pieces(held_out, words=config.words)
    figures = tuple(
        Figure(
            name=told_by(trait),
            over="pieces of text",
            interval=told_apart(first, second, trait=trait, config=config, evaluation=evaluation),
        )
        for trait in traits_of([*pieces(known, words=config.words), *second])
    )
    return Part(
        name=NAME,
        figures=figures,
        counts={"pieces of the current twin's output": len(first)},
        notes=("The same instructions and the same texts of the author as for the candidate.",),
        missing=""
        if any(each.interval for each in figures)
        else "the current twin or the author wrote too little of these",
    )


def style_possible(held_out: Sequence[StyleText], config: StyleConfig) -> bool:
    """Whether the author's held-out texts are enough to tell any twin by."""
    return documents(pieces(held_out, words=config.words)) >= config.fewest_documents
