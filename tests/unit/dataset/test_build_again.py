"""An edit around a passage changes nothing about it: its samples, what was decided of them, what a teacher was asked."""

from contextlib import closing

import pytest

from llm_engineering.dataset.readme import readme
from llm_engineering.dataset.teach import Lesson
from llm_engineering.domain.entities import Author
from llm_engineering.domain.samples import Decision, InstructionStyle
from tests.doubles.writing import (
    HALVES,
    article,
    built,
    draft,
    everything,
    passages_of,
    record,
    sentence,
    state_of,
    warehouse_at,
)


def answers(made):
    return {sample.answer for sample in everything(made)}


def decided(folder, sample, document=None):
    documents = (document or sample.provenance.document_id,)
    with closing(warehouse_at(folder)) as warehouse:
        warehouse.save_decision(Decision(sample_id=sample.id, verdict="refuse", document_ids=documents))


@pytest.fixture
def folder(tmp_path):
    record(tmp_path, *(draft(f"d{n}", article(f"alpha{n}", f"beta{n}")) for n in range(4)))
    return tmp_path


def test_what_was_refused_in_review_stays_out_when_something_is_written_above_it(folder):
    last = [sample for sample in everything(built(folder)) if sample.provenance.document_id == id_of("d0")][-1]
    decided(folder, last)
    for above in ("One sentence more.", f"{sentence('above')}\n\n{sentence('above', 1)}"):
        record(folder, draft("d0", f"{above}\n\n{article('alpha0', 'beta0')}"))
        made = built(folder)
        assert last.answer not in answers(made)
        assert (made.dataset.card.decisions, made.dataset.card.decisions_unmatched) == ({"refuse": 1}, 0)


def test_the_card_counts_decisions_that_match_nothing_and_none_about_other_documents(folder):
    bob = Author.named("Bob Hill")
    foreign = draft("e", article("gamma")).model_copy(update={"author_id": bob.id})
    with closing(warehouse_at(folder)) as warehouse:
        warehouse.save_author(bob)
        warehouse.record([foreign])
    of_ann = HALVES.model_copy(update={"author": "Ann Lee"})
    first, *_ = everything(built(folder, of_ann))
    decided(folder, first.model_copy(update={"id": "of-long-ago"}))
    decided(folder, first.model_copy(update={"id": "of-bob"}), document=foreign.document_id)
    card = built(folder, of_ann).dataset.card
    assert (card.decisions, card.decisions_unmatched) == ({}, 1)
    assert "1 further decisions of reviewers match no sample" in readme(card)


def test_a_passage_that_moves_keeps_its_key_and_what_a_teacher_is_asked(tmp_path):
    text = article("alpha", "beta", "gamma", sentences=2)
    before, _ = passages_of(state_of(tmp_path, text))
    after, _ = passages_of(state_of(tmp_path, f".\n\n{text}"))
    assert [each.provenance.start + 3 for each in before] == [each.provenance.start for each in after]
    assert [each.key for each in before] == [each.key for each in after]
    asked = [[Lesson(each, InstructionStyle.ASK).prompt() for each in found] for found in (before, after)]
    assert asked[0] == asked[1]


def test_the_same_text_twice_in_a_document_has_two_keys_and_makes_one_sample(tmp_path):
    twice = f"{sentence('same')} {sentence('same', 1)}"
    text = f"## One\n\n{twice}\n\n## Two\n\n{twice}"
    found, _ = passages_of(state_of(tmp_path, text))
    assert [each.occurrence for each in found] == [0, 1]
    assert len({each.key for each in found}) == 2
    made = built(tmp_path)
    assert len(everything(made)) == 1 and made.dataset.card.refusals["duplicate"] == 1


def id_of(name):
    return draft(name, "text").document_id
