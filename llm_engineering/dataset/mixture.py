"""What of a teacher's work goes into a build, once the gates have spoken.

Where its instruction for a passage falls, the one by rules stands in for it: no passage is lost because a teacher asked
badly. Answers in the teacher's words stay within their share, on the side that is trained on.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence

from llm_engineering.dataset.refusals import Gated, Reason, refuse
from llm_engineering.dataset.words import same_question
from llm_engineering.domain.samples import AuthorPassage, InstructionStyle, Origin, Refusal, Sample, Split

Gate = Callable[[Sequence[Sample]], Gated[Sample]]


def place(item: AuthorPassage | Sample) -> tuple[str, int, int]:
    """Where the author's text stands."""
    where = item.provenance
    return where.document_id, where.start, where.end


def taken_over(by_rules: Sequence[Sample], taught: Sequence[Sample]) -> list[Sample]:
    """The samples by rules, each replaced by the teacher's for its passage and style where there is one; then the rephrased."""
    better = {_task(sample): sample for sample in taught if sample.origin is Origin.AUTHOR}
    kept = [better.get(_task(sample), sample) for sample in by_rules]
    return kept + [sample for sample in taught if sample.origin is Origin.REPHRASED]


def gated_or_by_rules(samples: Sequence[Sample], by_rules: Sequence[Sample], gate: Gate) -> Gated[Sample]:
    """Gate the samples; for a teacher's that is refused, gate the one by rules in its place. Every refusal is told.

    One that is put back may be too like another of the teacher's: this is done again until none of the teacher's falls.
    """
    stand_in = {_task(sample): sample for sample in by_rules}
    refused: list[Refusal] = []
    fallen = _in_words_of_another(samples, by_rules)
    found: Gated[Sample] | None = None
    while True:
        put_back = {
            sample.id: other
            for sample in samples
            if sample.id in fallen and sample.origin is Origin.AUTHOR
            if (other := stand_in.get(_task(sample), sample)).id != sample.id
        }
        if found is not None and not put_back:
            return Gated(found.kept, (*refused, *found.refused), found.masked)
        refused += [fallen[identity] for identity in put_back]
        samples = [put_back.get(sample.id, sample) for sample in samples]
        found = gate(samples)
        fallen = {refusal.subject: refusal for refusal in found.refused}


def _in_words_of_another(samples: Sequence[Sample], by_rules: Sequence[Sample]) -> dict[str, Refusal]:
    """What asks for its passage as the rules ask for another one, which could then not be put back."""
    tasks = {same_question(sample.instruction): _task(sample) for sample in by_rules}
    return {
        sample.id: refuse(Reason.REPEATED_INSTRUCTION, sample, "as the rules ask for another passage")
        for sample in samples
        if tasks.get(same_question(sample.instruction), _task(sample)) != _task(sample)
    }


def most_rephrased(own: int, share: float) -> int:
    """How many rephrased samples may stand beside so many of the author's own."""
    return math.floor(own * share / (1 - share))


def within_share(
    samples: Sequence[Sample], sides: Mapping[str, Split], share: float
) -> tuple[list[Sample], list[Refusal]]:
    """The samples, without rephrased ones that are held out or beyond their share of those that are trained on.

    Which ones stay follows from a hash of each, save that those which a person edited come first.
    """
    trained_on = [sample for sample in samples if sides[sample.provenance.document_id] is Split.TRAIN]
    rephrased = [sample for sample in trained_on if sample.origin is Origin.REPHRASED]
    ranked = sorted(rephrased, key=lambda sample: (sample.written_by != "person", _hash(sample.id)))
    kept = {sample.id for sample in ranked[: most_rephrased(len(trained_on) - len(rephrased), share)]}
    left, refusals = [], []
    for sample in samples:
        if sample.origin is Origin.AUTHOR or sample.id in kept:
            left.append(sample)
        else:
            refusals.append(refuse(Reason.REPHRASED_SHARE, sample))
    return left, refusals


def _task(sample: Sample) -> tuple[tuple[str, int, int], InstructionStyle]:
    return place(sample), sample.style


def _hash(identity: str) -> bytes:
    return hashlib.sha256(identity.encode()).digest()
