"""Style fidelity: whether the twin's output can be told from the author's held-out writing, and whose it would be taken for."""

from collections.abc import Mapping, Sequence

from llm_engineering.domain.evaluation_config import EvaluationConfig
from llm_engineering.domain.twin_evaluation_config import StyleConfig
from llm_engineering.evaluation.authorship import Trait, cross_fitted
from llm_engineering.evaluation.delta import delta_from
from llm_engineering.evaluation.intervals import Interval
from llm_engineering.evaluation.prose import StyleText, documents, function_share, pieces
from llm_engineering.evaluation.report import Figure, Part
from llm_engineering.evaluation.resampling import auc, ratio

NAME = "Style: twin against the author"
VERIFICATION = "Style: whose the output is taken for"
DELTA = "Style: Burrows's Delta"
ENGLISH = 0.2
"""Share of an author's words that are English function words where these tell anything; of English prose it is nearly half."""
DISTRACTORS = 2
"""Other authors without whom nothing can be verified: one alone may differ from the author in anything."""


def style(
    *,
    twin: Sequence[StyleText],
    held_out: Sequence[StyleText],
    known: Sequence[StyleText],
    distractors: Mapping[str, Sequence[StyleText]],
    config: StyleConfig,
    evaluation: EvaluationConfig,
) -> list[Part]:
    """Compare the twin's output with the author's held-out texts about the same instructions.

    ``known`` are the author's texts of the training split, ``distractors`` other authors' texts. All are cut to pieces of one
    length first, and no classifier scores a piece of a document it has seen.
    """
    cut = {
        name: pieces(texts, words=config.words)
        for name, texts in (("twin", twin), ("held", held_out), ("known", known))
    }
    others = {name: pieces(texts, words=config.words) for name, texts in sorted(distractors.items())}
    counts = {
        "pieces of the twin's output": len(cut["twin"]),
        "pieces of the author's held-out texts": len(cut["held"]),
        "pieces of the author's training texts": len(cut["known"]),
        **{f"pieces of {name}": len(texts) for name, texts in others.items()},
    }
    short = {name: documents(texts) for name, texts in others.items() if documents(texts) < config.fewest_documents}
    others = {name: texts for name, texts in others.items() if name not in short}
    author = [*cut["known"], *cut["held"]]
    traits = traits_of(author)
    missing = _missing_direct(cut, config)
    figures = () if missing else _direct(cut["twin"], cut["held"], author, others, traits, config, evaluation)
    of_language, of_short = _language_notes(author, traits), _short_notes(short, config)
    parts = [
        Part(name=NAME, figures=figures, counts=counts, notes=_DIRECT_NOTES, missing=missing),
        *_verified(cut, others, traits, config, evaluation),
    ]
    return [
        part.model_copy(update={"notes": (*part.notes, *(() if part.name == DELTA else of_language), *of_short)})
        for part in parts
    ]


def traits_of(author: Sequence[StyleText]) -> tuple[Trait, ...]:
    """What the author can be told by. The list of function words is English: of another language it would hide every word."""
    share = function_share(author)
    return tuple(Trait) if share is None or share >= ENGLISH else (Trait.CHARACTERS,)


def told_apart(
    first: Sequence[StyleText],
    second: Sequence[StyleText],
    *,
    trait: Trait,
    config: StyleConfig,
    evaluation: EvaluationConfig,
) -> Interval | None:
    """AUC by which pieces of two writers are told apart: 0.5 cannot, 1 always. ``None`` where one has too few documents."""
    blocks = cross_fitted(first, second, trait=trait, config=config, seed=evaluation.seed)
    return auc(blocks, n=len(first) + len(second), config=evaluation)


_DIRECT_NOTES = (
    "AUC of telling the two apart: 0.5 is indistinguishable, 1 is always told apart; below 0.5 is chance, as good as 0.5.",
    "The author against themselves shows what chance does with as few texts; the distractors show what the method can tell.",
    "Masked means that every word but function words is hidden, so that the subject cannot tell.",
)


def _language_notes(author: Sequence[StyleText], traits: Sequence[Trait]) -> tuple[str, ...]:
    if len(traits) == len(Trait):
        return ()
    return (
        f"By function words, and with content words masked, nothing is measured: the list of function words is English, and "
        f"{function_share(author):.0%} of the author's words are in it, not {ENGLISH:.0%}. Character n-grams see subjects, too.",
    )


def _short_notes(short: Mapping[str, int], config: StyleConfig) -> tuple[str, ...]:
    few = ", ".join(f"{name} ({count})" for name, count in short.items())
    needed = f"{config.fewest_documents} documents of {config.words} words"
    return (f"Left out as a control, with fewer than {needed}: {few}.",) if few else ()


def _direct(
    twin: Sequence[StyleText],
    held_out: Sequence[StyleText],
    author: Sequence[StyleText],
    others: Mapping[str, Sequence[StyleText]],
    traits: Sequence[Trait],
    config: StyleConfig,
    evaluation: EvaluationConfig,
) -> tuple[Figure, ...]:
    odd, even = _halves(author)
    sides = [("twin against author", twin, held_out), ("author against themselves", odd, even)]
    sides += [(f"author against {name}", author, texts) for name, texts in others.items()]
    return tuple(
        Figure(
            name=f"{name}, by {trait}",
            over="pieces of text",
            interval=told_apart(first, second, trait=trait, config=config, evaluation=evaluation),
        )
        for name, first, second in sides
        for trait in traits
    )


def _missing_direct(cut: Mapping[str, Sequence[StyleText]], config: StyleConfig) -> str:
    for side, words in (("twin", "the twin's output"), ("held", "the author's held-out text")):
        if documents(cut[side]) < config.fewest_documents:
            return (
                f"{words} about {config.fewest_documents} documents with {config.words} words each is needed, "
                f"and there is that of {documents(cut[side])}"
            )
    return ""


def _verified(
    cut: Mapping[str, Sequence[StyleText]],
    others: Mapping[str, Sequence[StyleText]],
    traits: Sequence[Trait],
    config: StyleConfig,
    evaluation: EvaluationConfig,
) -> list[Part]:
    """Verifiers that know the author's training texts and each distractor, and Delta from the author's profile."""
    if len(others) < DISTRACTORS or documents(cut["known"]) < config.fewest_documents:
        missing = (
            f"the author and {DISTRACTORS} other authors are needed, each with {config.fewest_documents} documents of "
            f"{config.words} words; there are {len(others)} others"
        )
        return [Part(name=VERIFICATION, missing=missing), Part(name=DELTA, missing=missing)]
    figures = []
    for name, texts in others.items():
        for trait in traits:
            for who, scored in (("twin's output", cut["twin"]), ("author's held-out text", cut["held"])):
                blocks = cross_fitted(
                    cut["known"], texts, trait=trait, config=config, seed=evaluation.seed, strangers=scored
                )
                found = auc(blocks, n=len(scored), config=evaluation)
                figures.append(Figure(name=f"{who} rather than {name}'s, by {trait}", over="pieces", interval=found))
    notes = (
        "A verifier learns the author from the training texts against a distractor; AUC of its scores against those of the "
        "distractor's own texts that it has not seen: 1 is taken for the author, 0 for the distractor.",
        "What the author's held-out text reaches is the most that the twin can.",
    )
    return [Part(name=VERIFICATION, figures=tuple(figures), notes=notes), _delta(cut, others, config, evaluation)]


def _delta(
    cut: Mapping[str, Sequence[StyleText]],
    others: Mapping[str, Sequence[StyleText]],
    config: StyleConfig,
    evaluation: EvaluationConfig,
) -> Part:
    reference = [*cut["known"], *(each for texts in others.values() for each in texts)]
    measure = delta_from(cut["known"], reference, frequent_words=config.frequent_words)
    sides = {"twin's output": cut["twin"], "author's held-out text": cut["held"], **others}
    figures = [
        Figure(
            name=name,
            over="pieces",
            interval=ratio(
                [measure(each) for each in texts],
                [1.0] * len(texts),
                [each.document_id for each in texts],
                config=evaluation,
            ),
        )
        for name, texts in sides.items()
    ]
    return Part(
        name=DELTA,
        figures=tuple(figures),
        notes=("Distance from the author's training texts in the use of the most frequent words; lower is closer.",),
    )


def _halves(texts: Sequence[StyleText]) -> tuple[list[StyleText], list[StyleText]]:
    """Every other document of one writer: two sides between which there is nothing to tell."""
    order = {name: number for number, name in enumerate(sorted({each.document_id for each in texts}))}
    return (
        [each for each in texts if order[each.document_id] % 2],
        [each for each in texts if not order[each.document_id] % 2],
    )
