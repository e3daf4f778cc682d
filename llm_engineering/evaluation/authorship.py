"""Telling writers apart: classifiers over function words and character n-grams; none judges a document that it saw."""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, Normalizer

from llm_engineering.domain.twin_evaluation_config import StyleConfig
from llm_engineering.evaluation.function_words import FUNCTION_WORDS
from llm_engineering.evaluation.prose import StyleText, documents, masked, words
from llm_engineering.evaluation.resampling import Block


class Trait(StrEnum):
    """What writers are told apart by."""

    FUNCTION_WORDS = "function words"
    CHARACTERS = "character n-grams"
    MASKED = "character n-grams, content words masked"
    """The subject is gone: what tells these apart is no difference of topic."""


def cross_fitted(
    positive: Sequence[StyleText],
    negative: Sequence[StyleText],
    *,
    trait: Trait,
    config: StyleConfig,
    seed: int,
    strangers: Sequence[StyleText] | None = None,
) -> list[Block]:
    """Scores for being positive, from classifiers that saw no text of the scored document, one block per fold of documents.

    With ``strangers`` these are scored in the place of the positives: texts of documents that no classifier saw, such as a
    twin's output and held-out writing, against the negatives of each fold. No block where a side has too few documents.
    """
    few = min(documents(positive), documents(negative))
    if few < config.fewest_documents or (strangers is not None and not strangers):
        return []
    seen = [*positive, *negative]
    labels = np.array([1] * len(positive) + [0] * len(negative))
    groups = np.array([each.document_id for each in seen])
    counts, count = _counted(seen, trait=trait, config=config)
    others = None if strangers is None else count(strangers)
    blocks = []
    split = StratifiedGroupKFold(min(config.folds, few), shuffle=True, random_state=seed)
    for train, test in split.split(counts, labels, groups):
        if len(set(labels[train])) < 2:
            continue
        classifier = _classifier(trait, seed).fit(counts[train], labels[train])
        mine, foreign = test[labels[test] == 1], test[labels[test] == 0]
        if not len(foreign) or (strangers is None and not len(mine)):
            continue
        scored = others if others is not None else counts[mine]
        of_scored = groups[mine].tolist() if strangers is None else [each.document_id for each in strangers]
        blocks.append(
            Block(
                classifier.decision_function(scored),
                of_scored,
                classifier.decision_function(counts[foreign]),
                groups[foreign].tolist(),
            )
        )
    return blocks


def _counted(
    texts: Sequence[StyleText], *, trait: Trait, config: StyleConfig
) -> tuple[Any, Callable[[Sequence[StyleText]], Any]]:
    """Counts of the trait in each text as a sparse matrix, and what counts the same in others. No label is looked at."""
    if trait is Trait.FUNCTION_WORDS:
        vectorizer = CountVectorizer(analyzer=words, vocabulary=FUNCTION_WORDS)
    else:
        vectorizer = CountVectorizer(
            analyzer="char", ngram_range=(2, 4), max_features=config.character_grams, lowercase=False
        )

    def read(given: Sequence[StyleText]) -> list[str]:
        return [masked(each.text) if trait is Trait.MASKED else each.text for each in given]

    counts = vectorizer.fit_transform(read(texts))
    return counts, lambda given: vectorizer.transform(read(given))


def _classifier(trait: Trait, seed: int) -> Any:  # noqa: ANN401  # scikit-learn has no types
    """Logistic regression in which both sides weigh the same. Function words as shares, each scaled to the largest seen."""
    weigh = (
        [Normalizer("l1"), MaxAbsScaler()] if trait is Trait.FUNCTION_WORDS else [TfidfTransformer(sublinear_tf=True)]
    )
    return make_pipeline(
        *weigh, LogisticRegression(C=10.0, class_weight="balanced", solver="liblinear", random_state=seed)
    )
