"""The gates: what may become training data. Pure functions; every candidate is kept or refused exactly once, with a reason.

A candidate given twice counts once. One table per kind, read from top to bottom: the first gate that finds something refuses.
Gates that look at one candidate come before those that compare candidates, so that no duplicate falls for a twin that falls
itself.

Of candidates that are alike the one that stands first is kept: an author's answer before a rephrased one, then the one
published earliest, then the lower document id, then the earlier span, then the lower id. So a rebuild keeps the same ones
whatever order they come in, and what is published later takes no earlier one's place.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from llm_engineering.dataset import checks
from llm_engineering.dataset.alike import near, refuse_alike, refuse_answers, repeats
from llm_engineering.dataset.decontamination import EvaluationTexts
from llm_engineering.dataset.masking import mask, masked_source
from llm_engineering.dataset.near_duplicates import jaccard, shingles
from llm_engineering.dataset.refusals import (
    Candidate,
    Gated,
    Reason,
    gated,
    identity,
    pair_rank,
    passage_rank,
    refuse,
    sample_rank,
)
from llm_engineering.dataset.semantic_duplicates import semantic_duplicates
from llm_engineering.dataset.words import fingerprint
from llm_engineering.domain.dataset_config import QualityConfig
from llm_engineering.domain.entities import Kind
from llm_engineering.domain.samples import (
    AuthorPassage,
    InstructionStyle,
    Origin,
    Pair,
    PairSource,
    Provenance,
    Refusal,
    Sample,
)

__all__ = ["Embed", "Gated", "Reason", "RevisionText", "gate_pairs", "gate_passages", "gate_samples"]

RevisionText = Callable[[str, int], str | None]
"""Text of a document's revision by its number; ``None`` if it is not there (any more)."""

NO_EVALUATION = EvaluationTexts()

Embed = Callable[[Sequence[str]], Sequence[Sequence[float]]]
"""Unit vectors of texts, in order: ``Embedder.embed_passages``."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the gates know besides the candidate."""

    config: QualityConfig
    revision_text: RevisionText = lambda document_id, revision: None
    evaluation: EvaluationTexts = NO_EVALUATION
    cosines: Mapping[str, float] = field(default_factory=dict)
    """Cosine of a rephrased answer and its passage, by sample id; empty without an embedder."""
    length_ratio: float = 1.6

    def passage(self, where: Provenance) -> str | None:
        """The author's text of the span."""
        text = self.revision_text(where.document_id, where.revision)
        return None if text is None else text[where.start : where.end]


def gate_passages(
    passages: Iterable[AuthorPassage], *, config: QualityConfig, evaluation: EvaluationTexts = NO_EVALUATION
) -> Gated[AuthorPassage]:
    """Passages that are worth an instruction. Run before a teacher is asked: what falls here costs nothing."""
    given = tuple({passage.key: passage for passage in passages}.values())
    around = Surroundings(config, evaluation=evaluation)
    refused = _one_by_one(given, _PASSAGE_GATES, around)
    left = sorted((passage for passage in given if passage.key not in refused), key=passage_rank)
    refused |= refuse_alike(left, Reason.DUPLICATE, repeats([fingerprint(passage.text) for passage in left]))
    left = [passage for passage in left if passage.key not in refused]
    refused |= refuse_alike(left, Reason.NEAR_DUPLICATE, near([passage.text for passage in left], config))
    return gated(given, refused, {})


def gate_samples(
    samples: Iterable[Sample],
    *,
    config: QualityConfig,
    revision_text: RevisionText,
    embed: Embed | None = None,
    evaluation: EvaluationTexts = NO_EVALUATION,
) -> Gated[Sample]:
    """Samples that may be trained on, secrets and personal data masked (ids stay as they were).

    Several samples of one passage share its answer and are no duplicates of each other; their instructions may not repeat.
    Without ``embed``, answers are supported by words alone and instructions are compared by words alone.
    """
    given, masked = _masked_samples(samples, config)
    rephrased = [sample for sample in given if sample.origin is Origin.REPHRASED]
    around = Surroundings(config, revision_text, evaluation)
    around = Surroundings(config, revision_text, evaluation, _cosines(rephrased, around, embed))
    refused = _one_by_one(given, _SAMPLE_GATES, around)
    left = sorted((sample for sample in given if sample.id not in refused), key=sample_rank)
    refused |= refuse_answers(left, Reason.DUPLICATE, lambda texts: repeats([fingerprint(text) for text in texts]))
    left = [sample for sample in left if sample.id not in refused]
    refused |= refuse_answers(left, Reason.NEAR_DUPLICATE, lambda texts: near(texts, config))
    left = [sample for sample in left if sample.id not in refused]
    refused |= refuse_alike(
        left, Reason.REPEATED_INSTRUCTION, repeats([fingerprint(sample.instruction) for sample in left])
    )
    left = [sample for sample in left if sample.id not in refused]
    if embed and left:
        vectors = embed([sample.instruction for sample in left])
        alike = semantic_duplicates(vectors, threshold=config.semantic_duplicate)
        refused |= refuse_alike(left, Reason.SIMILAR_INSTRUCTION, alike)
    return gated(given, refused, masked)


def gate_pairs(
    pairs: Iterable[Pair],
    *,
    config: QualityConfig,
    revision_text: RevisionText,
    length_ratio: float = 1.6,
    evaluation: EvaluationTexts = NO_EVALUATION,
) -> Gated[Pair]:
    """Pairs that may be trained on, secrets and personal data masked (ids stay as they were)."""
    given, masked = _masked_pairs(pairs, config)
    around = Surroundings(config, revision_text, evaluation, length_ratio=length_ratio)
    refused = _one_by_one(given, _PAIR_GATES, around)
    left = sorted((pair for pair in given if pair.id not in refused), key=pair_rank)
    same = [fingerprint("\n".join((pair.instruction, pair.chosen, pair.rejected))) for pair in left]
    refused |= refuse_alike(left, Reason.DUPLICATE, repeats(same))
    return gated(given, refused, masked)


Check = Callable[[Candidate, Surroundings], str | None]
"""Says what is wrong with a candidate in a few words, or ``None``."""

_PASSAGE_GATES: dict[Reason, Check[AuthorPassage]] = {
    Reason.MALFORMED: lambda passage, _: checks.broken(passage.text),
    Reason.TOO_SHORT: lambda passage, around: checks.too_short(passage.text, around.config.min_answer_words),
    Reason.TOO_LONG: lambda passage, around: checks.too_long(passage.text, around.config.max_answer_words),
    Reason.CODE_ONLY: lambda passage, around: _code_only(passage.provenance, passage.text, around),
    Reason.BOILERPLATE: lambda passage, _: checks.boilerplate(passage.text),
    Reason.OTHER_LANGUAGE: lambda passage, around: checks.other_language(passage.text, around.config.languages),
    Reason.CONTAMINATED: lambda passage, around: around.evaluation.shared_with(passage.text),
}

_SAMPLE_GATES: dict[Reason, Check[Sample]] = {
    Reason.SOURCE_GONE: lambda sample, around: _source_gone(sample.provenance, around),
    Reason.NOT_VERBATIM: lambda sample, around: _not_verbatim(sample, around),
    Reason.MALFORMED: lambda sample, _: _malformed(sample),
    Reason.TOO_SHORT: lambda sample, around: checks.too_short(sample.answer, around.config.min_answer_words),
    Reason.TOO_LONG: lambda sample, around: checks.too_long(sample.answer, around.config.max_answer_words),
    Reason.INSTRUCTION_TOO_SHORT: lambda sample, around: checks.too_short(
        sample.instruction, around.config.min_instruction_words
    ),
    Reason.INSTRUCTION_TOO_LONG: lambda sample, around: checks.too_long(
        sample.instruction, around.config.max_instruction_words
    ),
    Reason.MODEL_REFUSAL: lambda sample, _: _first(checks.model_refusal, _by_model(sample)),
    Reason.POINTS_AT_SOURCE: lambda sample, _: _first(checks.points_at_source, _seen_alone(sample)),
    Reason.GIVES_ANSWER_AWAY: lambda sample, _: _gives_answer_away(sample),
    Reason.CODE_ONLY: lambda sample, around: _code_only(sample.provenance, sample.answer, around),
    Reason.BOILERPLATE: lambda sample, _: checks.boilerplate(sample.answer),
    Reason.OTHER_LANGUAGE: lambda sample, around: _wrong_language(sample, around),
    Reason.UNSUPPORTED: lambda sample, around: _unsupported(sample, around),
    Reason.CONTAMINATED: lambda sample, around: _first(
        around.evaluation.shared_with, (sample.instruction, sample.answer)
    ),
}

_PAIR_GATES: dict[Reason, Check[Pair]] = {
    Reason.SOURCE_GONE: lambda pair, around: _source_gone(pair.provenance, around),
    Reason.NOT_VERBATIM: lambda pair, around: _chosen_not_verbatim(pair, around),
    Reason.MALFORMED: lambda pair, _: _malformed_pair(pair),
    Reason.CHOSEN_EQUALS_REJECTED: lambda pair, _: (
        "same words" if fingerprint(pair.chosen) == fingerprint(pair.rejected) else None
    ),
    Reason.CHOSEN_LIKE_REJECTED: lambda pair, around: _near_equal(pair, around.config.near_duplicate),
    Reason.TOO_SHORT: lambda pair, around: _first(
        lambda text: checks.too_short(text, around.config.min_answer_words), (pair.chosen, pair.rejected)
    ),
    Reason.TOO_LONG: lambda pair, around: _first(
        lambda text: checks.too_long(text, around.config.max_answer_words), (pair.chosen, pair.rejected)
    ),
    Reason.INSTRUCTION_TOO_SHORT: lambda pair, around: checks.too_short(
        pair.instruction, around.config.min_instruction_words
    ),
    Reason.INSTRUCTION_TOO_LONG: lambda pair, around: checks.too_long(
        pair.instruction, around.config.max_instruction_words
    ),
    Reason.MODEL_REFUSAL: lambda pair, _: _first(
        checks.model_refusal, (pair.rejected,) if pair.provenance else (pair.chosen, pair.rejected)
    ),
    Reason.POINTS_AT_SOURCE: lambda pair, _: (
        None if pair.source is PairSource.FEEDBACK else checks.points_at_source(pair.instruction)
    ),
    Reason.LENGTH_RATIO: lambda pair, around: _length_ratio(pair, around.length_ratio),
    Reason.OTHER_LANGUAGE: lambda pair, around: (
        checks.other_language(pair.chosen, around.config.languages)
        or checks.languages_differ(pair.rejected, pair.chosen)
    ),
    Reason.CONTAMINATED: lambda pair, around: _first(around.evaluation.shared_with, (pair.instruction, pair.chosen)),
}


def _first(check: Callable[[str], str | None], texts: Iterable[str]) -> str | None:
    return next((found for text in texts if (found := check(text))), None)


def _source_gone(where: Provenance | None, around: Surroundings) -> str | None:
    return "no such revision" if where and around.passage(where) is None else None


def _not_verbatim(sample: Sample, around: Surroundings) -> str | None:
    return _differs(sample.answer, sample.provenance, around) if sample.origin is Origin.AUTHOR else None


def _chosen_not_verbatim(pair: Pair, around: Surroundings) -> str | None:
    return _differs(pair.chosen, pair.provenance, around) if pair.provenance else None


def _differs(text: str, where: Provenance, around: Surroundings) -> str | None:
    """Compares with the revision's span: as it is, or masked as the text was."""
    written = around.passage(where) or ""
    if text == written or (around.config.mask and text == mask(written).text):
        return None
    return f"not what characters {where.start} to {where.end} of revision {where.revision} say"


def _malformed(sample: Sample) -> str | None:
    found = _first(checks.broken, (sample.instruction, sample.answer)) or _first(checks.broken_reply, _by_model(sample))
    return found or (checks.cut_off(sample.answer) if sample.origin is Origin.REPHRASED else None)


def _malformed_pair(pair: Pair) -> str | None:
    texts = (pair.instruction, pair.chosen, pair.rejected)
    return _first(checks.broken, texts) or _first(checks.broken_reply, texts[2:] if pair.provenance else texts[1:])


def _by_model(sample: Sample) -> tuple[str, ...]:
    """The texts that a model wrote."""
    instruction = () if sample.written_by in {"rules", "person"} else (sample.instruction,)
    return (*instruction, *((sample.answer,) if sample.origin is Origin.REPHRASED else ()))


def _seen_alone(sample: Sample) -> tuple[str, ...]:
    """The texts that must make sense without their source; titles and the author's own words may speak of a passage."""
    own_words = sample.written_by == "person" or sample.style in {InstructionStyle.TITLE, InstructionStyle.CONTINUE}
    return (
        *(() if own_words else (sample.instruction,)),
        *((sample.answer,) if sample.origin is Origin.REPHRASED else ()),
    )


def _gives_answer_away(sample: Sample) -> str | None:
    where = sample.provenance
    return checks.gives_answer_away(sample.instruction, sample.answer, known=(where.title, *where.heading_path))


def _code_only(where: Provenance, text: str, around: Surroundings) -> str | None:
    return None if where.kind is Kind.REPOSITORY else checks.code_only(text, around.config.max_code_share)


def _wrong_language(sample: Sample, around: Surroundings) -> str | None:
    return checks.other_language(sample.answer, around.config.languages) or checks.languages_differ(
        sample.instruction, sample.answer
    )


def _unsupported(sample: Sample, around: Surroundings) -> str | None:
    if sample.origin is not Origin.REPHRASED:
        return None
    shared, neighbours = checks.support(sample.answer, around.passage(sample.provenance) or "")
    cosine = around.cosines.get(sample.id, 1.0)
    config = around.config
    if shared >= config.support and neighbours >= config.support_pairs and cosine >= config.support_cosine:
        return None
    return f"words {shared:.2f}, pairs {neighbours:.2f}" + (
        f", cosine {cosine:.2f}" if sample.id in around.cosines else ""
    )


def _near_equal(pair: Pair, threshold: float) -> str | None:
    similarity = jaccard(shingles(pair.chosen), shingles(pair.rejected))
    return f"similarity {similarity:.2f}" if similarity >= threshold else None


def _length_ratio(pair: Pair, most: float) -> str | None:
    chosen, rejected = len(pair.chosen), len(pair.rejected)
    return f"{chosen} against {rejected} characters" if max(chosen, rejected) > most * min(chosen, rejected) else None


def _one_by_one(
    candidates: Sequence[Candidate], gates: Mapping[Reason, Check[Candidate]], around: Surroundings
) -> dict[str, Refusal]:
    refused: dict[str, Refusal] = {}
    for candidate in candidates:
        for reason, check in gates.items():
            found = check(candidate, around)
            if found is not None:
                refused[identity(candidate)] = refuse(reason, candidate, found)
                break
    return refused


def _cosines(rephrased: Sequence[Sample], around: Surroundings, embed: Embed | None) -> dict[str, float]:
    if not embed or not rephrased:
        return {}
    answers = np.asarray(embed([sample.answer for sample in rephrased]))
    passages = np.asarray(embed([around.passage(sample.provenance) or "" for sample in rephrased]))
    return {
        sample.id: float(cosine) for sample, cosine in zip(rephrased, (answers * passages).sum(axis=1), strict=True)
    }


def _masked_samples(samples: Iterable[Sample], config: QualityConfig) -> tuple[list[Sample], dict[str, Counter[str]]]:
    kept, found = [], {}
    for sample in {sample.id: sample for sample in samples}.values():
        if config.mask:
            sample = sample.model_copy(update={"provenance": masked_source(sample.provenance)})
            instruction, answer = mask(sample.instruction), mask(sample.answer)
            found[sample.id] = instruction.found + answer.found
            if found[sample.id]:
                changed = {"instruction": instruction.text, "answer": answer.text}
                sample = sample.model_copy(update={**changed, "masked": sample.masked + answer.found.total()})
        kept.append(sample)
    return kept, found


def _masked_pairs(pairs: Iterable[Pair], config: QualityConfig) -> tuple[list[Pair], dict[str, Counter[str]]]:
    kept, found = [], {}
    for pair in {pair.id: pair for pair in pairs}.values():
        if config.mask:
            if pair.provenance:
                pair = pair.model_copy(update={"provenance": masked_source(pair.provenance)})
            texts = {name: mask(getattr(pair, name)) for name in ("instruction", "chosen", "rejected")}
            found[pair.id] = sum((text.found for text in texts.values()), Counter())
            if found[pair.id]:
                pair = pair.model_copy(update={name: text.text for name, text in texts.items()})
        kept.append(pair)
    return kept, found
