"""What of a teacher's work gets into a build: no passage is lost to it, and what is held out is the author's own."""

from collections import Counter

import pytest

from llm_engineering.dataset.mixture import place
from llm_engineering.dataset.split import side_of
from llm_engineering.domain.chat import TAUGHT
from llm_engineering.domain.dataset_config import SplitConfig
from llm_engineering.domain.errors import DatasetError
from llm_engineering.domain.samples import InstructionStyle, Sample, Split
from tests.doubles.writing import HALVES, article, built, draft, everything, record
from tests.unit.dataset.test_build import spans

ALPHA = article("alpha", "beta")


def test_a_teacher_is_given_the_passages_and_what_the_rules_made(folder):
    seen = []

    def teach(passages, samples, sides):
        seen.append((len(passages), len(samples)))
        return [sample.model_copy(update={"written_by": "teacher"}) for sample in samples], []

    made = built(folder, teach=teach, writer="teacher")
    assert len(seen) == 1
    assert made.dataset.card.written_by == {"teacher": len(everything(made))}


def writing(instruction):
    """A teacher that writes this instruction for the sample of that number, where its style is taught."""

    def teach(passages, samples, sides):
        written = [{"instruction": instruction(n), "written_by": "teacher", "id": f"t{n}"} for n in range(len(samples))]
        changed = [each.model_copy(update=change) for each, change in zip(samples, written, strict=True)]
        return [new if new.style in TAUGHT else old for old, new in zip(samples, changed, strict=True)], []

    return teach


@pytest.mark.parametrize(
    ("instruction", "reason", "fallen"),
    [
        (lambda n: f"What does the passage say about matter number {n}?", "points-at-source", 22),
        (lambda n: "What do you make of all this today?", "repeated-instruction", 21),
        (lambda n: " ", "malformed", 22),
        (lambda n: f"How would you explain matter number {n}?" if n % 2 else " ", "malformed", 12),
    ],
)
def test_a_passage_outlives_a_teacher_whose_instruction_is_refused(folder, instruction, reason, fallen):
    by_rules, made = built(folder), built(folder, teach=writing(instruction), writer="teacher")
    assert spans(made) == spans(by_rules) and len(everything(made)) == 24
    assert made.dataset.card.refusals == {reason: fallen}
    assert made.dataset.card.written_by.get("teacher", 0) == 22 - fallen


def test_no_passage_is_lost_to_a_teacher_that_asks_as_the_rules_do_for_another(folder):
    asked = {place(sample): sample.instruction for sample in everything(built(folder))}
    in_order = []

    def teach(passages, samples, sides):
        in_order.extend(asked[place(sample)] for sample in samples)
        return writing(lambda n: in_order[n - 1] if n % 3 else " ")(passages, samples, sides)

    made = built(folder, teach=teach, writer="teacher")
    assert {place(sample): sample.instruction for sample in everything(made)} == asked


def rephrasing(passages, samples, sides):
    """A teacher that says something about every passage in other words, whatever it is asked for."""
    own = []
    for n, passage in enumerate(passages):
        first, *_, last = passage.text.split("\n\n")[1:]
        question = f"What would you answer about matter number {n}?"
        style, said = InstructionStyle.ASK, f"{last}\n\n{first}"
        own.append(Sample.of(passage, question, style=style, written_by="teacher", answer=said))
    return [*samples, *own], []


def test_what_is_held_out_is_the_authors_own_and_rephrased_answers_stay_within_their_share(folder):
    dataset = built(folder, HALVES, teach=rephrasing, writer="teacher").dataset
    origins = {split: Counter(sample.origin.value for sample in side) for split, side in dataset.samples.items()}
    own = origins[Split.TRAIN]["author"]
    assert origins[Split.TRAIN]["rephrased"] == own // 9 > 0
    assert set(origins[Split.VALIDATION]) == set(origins[Split.TEST]) == {"author"}
    assert dataset.card.refusals == {"rephrased-share": 24 - own // 9}


@pytest.mark.parametrize("side", [Split.VALIDATION, Split.TEST])
def test_one_document_that_is_held_out_is_no_training_data_and_nobody_is_paid(tmp_path, side):
    one = next(each for n in range(99) if side_of((each := draft(f"o{n}", ALPHA)).document_id, SplitConfig()) is side)
    record(tmp_path, one)
    with pytest.raises(DatasetError, match=rf"only what is held out .*[12] {side}.* Bring in more documents"):
        built(tmp_path, teach=lambda *_: pytest.fail("the teacher was asked"))
    record(tmp_path, *(draft(f"more{n}", article(f"gamma{n}")) for n in range(6)))
    made = built(tmp_path, previous={one.document_id: side})
    assert made.dataset.samples[Split.TRAIN] and made.dataset.card.sides[one.document_id] is side
