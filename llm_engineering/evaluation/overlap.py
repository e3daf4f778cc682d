"""Overlap of the twin's answers with what the author wrote to the same held-out instructions: ROUGE-L and BLEU."""

from collections.abc import Sequence

import numpy as np
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer
from sacrebleu.metrics.bleu import BLEU

from llm_engineering.domain.entities import Frozen
from llm_engineering.domain.evaluation_config import EvaluationConfig
from llm_engineering.domain.words import spaced, words
from llm_engineering.evaluation.report import Figure, Part
from llm_engineering.evaluation.resampling import Numbers, bounds, multiplicities, ratio

NAME = "Overlap with the author's answers"


class Answered(Frozen):
    """A held-out instruction, the author's answer, and what the twin wrote."""

    id: str
    document_id: str
    instruction: str
    author: str
    twin: str


def overlap(answered: Sequence[Answered], *, evaluation: EvaluationConfig) -> Part:
    """ROUGE-L (Lin, 2004; F of the longest common subsequence, English words stemmed) and BLEU of the corpus (Papineni et al.,
    2002). A character of a script without spaces counts as a word.

    Both between 0 and 1; BLEU by sacrebleu, whose signature is in the notes. A twin may answer well in other words: read both as
    a direction, never as a grade.
    """
    scorer = RougeScorer(["rougeL"], tokenizer=_Words())
    rouge = [float(scorer.score(each.author, each.twin)["rougeL"].fmeasure) for each in answered]
    groups = [each.document_id for each in answered]
    bleu = BLEU(effective_order=False)
    figures = (
        Figure(
            name="ROUGE-L",
            over="held-out instructions",
            interval=ratio(rouge, [1.0] * len(rouge), groups, config=evaluation),
        ),
        _bleu(answered, groups, bleu, evaluation),
    )
    return Part(
        name=NAME,
        figures=figures,
        notes=(f"BLEU: {bleu.get_signature()}.",) if answered else (),
        missing="" if answered else "there is no held-out instruction",
        rows=tuple(
            {"id": each.id, "group": each.document_id, "weight": 1.0, "ROUGE-L": score}
            for each, score in zip(answered, rouge, strict=True)
        ),
    )


class _Words:
    """ROUGE's own tokens for English; the words of any other script are not lost."""

    def __init__(self) -> None:
        self._english = DefaultTokenizer(use_stemmer=True)

    def tokenize(self, text: str) -> list[str]:
        """Words without punctuation, parted at apostrophes."""
        found: list[str] = []
        for word in words(text):
            found += self._english.tokenize(word) if word.isascii() else word.split("'")
        return found


def _bleu(answered: Sequence[Answered], groups: Sequence[str], bleu: BLEU, evaluation: EvaluationConfig) -> Figure:
    """BLEU over all, and over resampled documents: sums of each document's n-gram counts and lengths."""
    name, over = "BLEU", "held-out instructions"
    if not answered:
        return Figure(name=name, over=over, interval=None)
    scores = [bleu.corpus_score([spaced(each.twin)], [[spaced(each.author)]]) for each in answered]
    counted = np.array([[*each.counts, *each.totals, each.sys_len, each.ref_len] for each in scores], dtype=np.float64)
    names = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    of_group = np.zeros((len(names), counted.shape[1]))
    np.add.at(of_group, [names[group] for group in groups], counted)
    drawn = multiplicities(len(names), evaluation) @ of_group
    values: Numbers = np.array([_score(bleu, each) for each in drawn])
    return Figure(
        name=name,
        over=over,
        interval=bounds(
            values, of=_score(bleu, counted.sum(0)), n=len(answered), documents=len(names), config=evaluation
        ),
    )


def _score(bleu: BLEU, sums: Numbers) -> float:
    order = bleu.max_ngram_order
    numbers = [int(value) for value in sums]
    found = BLEU.compute_bleu(
        correct=numbers[:order],
        total=numbers[order : 2 * order],
        sys_len=numbers[-2],
        ref_len=numbers[-1],
        smooth_method=bleu.smooth_method,
        smooth_value=bleu.smooth_value,
        effective_order=bleu.effective_order,
        max_ngram_order=order,
    )
    return float(found.score) / 100
