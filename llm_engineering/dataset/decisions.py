"""What reviewers decided about samples, applied to a build."""

from collections.abc import Iterable

from llm_engineering.dataset.masking import mask
from llm_engineering.dataset.words import same_question
from llm_engineering.domain.samples import Decision, Refusal, Sample

REFUSED_IN_REVIEW = "refused-in-review"
REPEATED = "repeated-instruction"


def decide(
    samples: Iterable[Sample], decisions: Iterable[Decision], *, masking: bool = True
) -> tuple[list[Sample], list[Refusal]]:
    """What reviewers said: ``refuse`` takes a sample out, ``edit`` gives it a person's instruction under the id it had.

    With ``masking`` secrets and personal data of that instruction are masked like those of any other.

    Where an edited instruction is the same as another sample's, the other one gives way; of two edited ones the later.
    """
    verdicts = {decision.sample_id: decision for decision in decisions}
    kept, refusals = [], []
    for sample in samples:
        decision = verdicts.get(sample.id)
        if decision is not None and decision.verdict == "refuse":
            refusals.append(_refusal(REFUSED_IN_REVIEW, sample))
        elif decision is not None and decision.verdict == "edit" and decision.instruction:
            instruction = mask(decision.instruction).text if masking else decision.instruction
            kept.append(sample.model_copy(update={"instruction": instruction, "written_by": "person"}))
        else:
            kept.append(sample)
    first: dict[str, str] = {}
    for sample in sorted(kept, key=lambda each: each.written_by != "person"):
        first.setdefault(same_question(sample.instruction), sample.id)
    unique = set(first.values())
    refusals += [_refusal(REPEATED, sample) for sample in kept if sample.id not in unique]
    return [sample for sample in kept if sample.id in unique], refusals


def _refusal(reason: str, sample: Sample) -> Refusal:
    document = sample.provenance.document_id
    return Refusal(reason=reason, subject=sample.id, document_id=document, detail=sample.instruction[:120])
