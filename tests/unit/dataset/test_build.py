"""A build: verbatim answers, provenance, no leak; the same again changes nothing; what is forgotten leaves."""

import json
from contextlib import closing

import pyarrow.parquet as pq
import pytest

from llm_engineering.dataset import store
from llm_engineering.dataset.build import MadePairs, draw, in_order_of_arrival, write_instructions
from llm_engineering.dataset.decisions import decide
from llm_engineering.dataset.mixture import place
from llm_engineering.domain.dataset_config import AuthorTerms, DatasetConfig, PassageConfig, SplitConfig
from llm_engineering.domain.entities import Author
from llm_engineering.domain.errors import DatasetError, DatasetLeak, UnknownAuthor
from llm_engineering.domain.samples import Decision, Pair, PairSource, Split
from tests.doubles.writing import HALVES, READ, SMALL, article, built, draft, everything, record, warehouse_at


def test_every_answer_is_what_the_revision_says_at_its_span(folder):
    made = built(folder)
    with closing(warehouse_at(folder)) as warehouse:
        for sample in everything(made):
            where = sample.provenance
            revision = warehouse.revision(where.document_id, where.revision)
            assert revision.text[where.start : where.end] == sample.answer


def test_a_document_is_on_one_side_and_the_audit_finds_nothing(folder):
    made = built(folder, HALVES)
    sides = {split: {s.provenance.document_id for s in side} for split, side in made.dataset.samples.items()}
    assert all(sides.values())
    assert sum(map(len, sides.values())) == len(set.union(*sides.values())) == 12
    assert made.dataset.card.audit.leaks == 0


def test_every_passage_became_a_sample_or_was_refused(folder):
    refused_by_hand = everything(built(folder))[0]
    document = refused_by_hand.provenance.document_id
    record(folder, draft("again", article("alpha3", "own")), draft("short", "Too short."))
    with closing(warehouse_at(folder)) as warehouse:
        warehouse.save_decision(Decision(sample_id=refused_by_hand.id, verdict="refuse", document_ids=(document,)))
        drawn = draw(warehouse, HALVES, read=READ)
    made = built(folder, HALVES)
    asked = {sample.id: place(sample) for sample in write_instructions(drawn, HALVES)[0]}
    assert drawn.candidates == made.dataset.card.passages == 26
    assert made.dataset.card.refusals == {"duplicate": 1, "too-short": 1, "refused-in-review": 1}
    assert len(drawn.passages) == 25 and set(asked.values()) == {place(passage) for passage in drawn.passages}
    assert set(asked.values()) - spans(made) == {asked[each.subject] for each in made.refusals if each.subject in asked}


def test_the_same_warehouse_gives_the_same_bytes_and_version(folder, tmp_path):
    one, two = built(folder), built(folder)
    assert one.dataset.card == two.dataset.card
    for number, made in enumerate((one, two)):
        store.write(made.dataset, tmp_path / str(number))
    files = [
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (tmp_path / "0", tmp_path / "1")
    ]
    assert files[0] == files[1] and len(files[0]) > 10


def test_a_build_after_a_build_keeps_every_side_and_every_sample(folder):
    one = built(folder, HALVES)
    record(folder, *(draft(f"new{n}", article(f"gamma{n}", f"delta{n}")) for n in range(6)))
    two = built(folder, HALVES, previous=one.dataset.card.sides)
    sides = two.dataset.card.sides
    assert {identity: sides[identity] for identity in one.dataset.card.sides} == one.dataset.card.sides
    assert {sample.id for sample in everything(one)} <= {sample.id for sample in everything(two)}
    assert two.dataset.card.version != one.dataset.card.version


def test_an_author_is_built_alone_and_an_unknown_one_is_named(folder):
    with pytest.raises(UnknownAuthor, match=r"Nobody.*Ann Lee"):
        built(folder, DatasetConfig(author="Nobody"))
    assert everything(built(folder, DatasetConfig(author="ann lee", passages=SMALL)))


def test_an_empty_warehouse_is_an_error_that_says_what_to_do(tmp_path):
    record(tmp_path)
    with pytest.raises(DatasetError, match="feature pipeline"):
        built(tmp_path)


def test_nothing_left_says_why(folder):
    with pytest.raises(DatasetError, match="too-short"):
        built(folder, DatasetConfig(passages=PassageConfig(min_words=500, max_words=600)))


def test_terms_stand_in_card_and_samples(folder):
    config = HALVES.model_copy(update={"terms": {"ANN LEE": AuthorTerms(licence="cc-by-4.0", consent=True)}})
    made = built(folder, config)
    assert {(s.provenance.licence, s.provenance.consent) for s in everything(made)} == {("cc-by-4.0", True)}
    assert [(line.name, line.licence, line.consent) for line in made.dataset.card.authors] == [
        ("Ann Lee", "cc-by-4.0", True)
    ]


def test_an_author_who_does_not_agree_is_left_out_and_the_card_says_so(folder, tmp_path):
    bob = Author.named("Bob Hill", "bobby")
    with closing(warehouse_at(folder)) as warehouse:
        warehouse.save_author(bob)
        warehouse.record([draft("e", article("gamma")).model_copy(update={"author_id": bob.id})])
    refusing = HALVES.model_copy(update={"terms": {"Bobby": AuthorTerms(licence="mine alone", consent=False)}})
    made = built(folder, refusing)
    assert {sample.provenance.author for sample in everything(made)} == {"Ann Lee"}
    assert made.dataset.card.refusals == {"no-consent": 1}
    store.write(made.dataset, tmp_path / "root")
    (text,) = (file.read_text() for file in (tmp_path / "root").rglob("README.md"))
    assert "| Ann Lee | not stated | not stated | 12 |" in text and "| Bob Hill | mine alone | no | 0 | 0 | 0 |" in text
    assert "license" not in text.split("---")[1]
    with pytest.raises(DatasetError, match="1 no-consent"):
        built(folder, refusing.model_copy(update={"author": "Bob Hill"}))


def test_documents_come_in_the_order_in_which_they_arrived(tmp_path):
    names = ["zebra", "apple", "mango"]
    record(tmp_path, *(draft(name, article(name)) for name in names), draft("zebra", article("zebra", "again")))
    with closing(warehouse_at(tmp_path)) as warehouse:
        found = [state.document.url.rsplit("/", 1)[1] for state in in_order_of_arrival(warehouse).values()]
    assert found == names


def test_reviewed_samples_keep_their_verdict_through_a_rebuild(folder):
    first, second, *_ = everything(built(folder))
    with closing(warehouse_at(folder)) as warehouse:
        warehouse.save_decision(
            Decision(sample_id=first.id, verdict="refuse", document_ids=(first.provenance.document_id,))
        )
        edited = Decision(
            sample_id=second.id, verdict="edit", instruction="Tell me.", document_ids=(second.provenance.document_id,)
        )
        warehouse.save_decision(edited)
    made = built(folder)
    samples = {sample.id: sample for sample in everything(made)}
    assert first.id not in samples
    assert (samples[second.id].instruction, samples[second.id].written_by) == ("Tell me.", "person")
    assert samples[second.id].answer == second.answer
    assert made.dataset.card.decisions == {"edit": 1, "refuse": 1}


def test_what_a_reviewer_writes_is_masked_like_everything_else(folder):
    first, *_ = everything(built(folder))
    edit = Decision(sample_id=first.id, verdict="edit", instruction="Write to ada.lee@posteo.de about tea.")
    assert decide([first], [edit])[0][0].instruction == "Write to [e-mail] about tea."
    assert decide([first], [edit], masking=False)[0][0].instruction == edit.instruction


def test_an_edit_that_repeats_another_instruction_takes_its_place(folder):
    first, second, *rest = everything(built(folder))
    edit = Decision(sample_id=second.id, verdict="edit", instruction=first.instruction.upper())
    kept, refusals = decide([first, second, *rest], [edit])
    assert [sample.id for sample in kept] == [second.id, *(sample.id for sample in rest)]
    assert [(refusal.reason, refusal.subject) for refusal in refusals] == [("repeated-instruction", first.id)]


def test_a_leak_that_the_splitter_lets_through_fails_the_build(folder, monkeypatch):
    # no input gets past the splitter, so the splitter is taken away
    monkeypatch.setattr("llm_engineering.dataset.build.apart", lambda samples, sides: (list(samples), []))
    shared = "The very same eight words in a row stand here and over there in"
    record(folder, *(draft(f"s{n}", f"{article(f'own{n}')}\n\n{shared} place{n}.") for n in range(12)))
    found = built_sides(folder)
    assert len(set(found.values())) > 1
    with pytest.raises(DatasetLeak, match="8 words in a row"):
        built(folder, HALVES)


def built_sides(folder):
    with closing(warehouse_at(folder)) as warehouse:
        drawn = draw(warehouse, HALVES, read=READ)
    names = {identity: state.document.url for identity, state in drawn.states.items()}
    return {names[identity]: side for identity, side in drawn.sides.of.items() if "/s" in names[identity]}


WRONG = " ".join(
    f"Nobody knows about number {n}, and it would take a while to find out what it says." for n in range(4)
)


def rejected_for(samples):
    return MadePairs([Pair.of(each, WRONG, source=PairSource.OTHER, rejected_by="weak") for each in samples])


def test_pairs_stand_on_the_side_of_their_document(folder):
    made = built(folder, HALVES, make_pairs=rejected_for)
    pairs = made.dataset.pairs
    assert sum(map(len, pairs.values())) > 12
    for split, side in pairs.items():
        assert {made.dataset.card.sides[pair.provenance.document_id] for pair in side} <= {split}


def test_a_judged_pair_that_quotes_held_out_text_is_refused(folder):
    plain = built(folder, HALVES)
    held_out, trained_on = (plain.dataset.samples[split][0] for split in (Split.TEST, Split.TRAIN))
    pair = Pair(
        id="p1",
        instruction="What do you think of it all?",
        chosen=held_out.answer,
        rejected=WRONG,
        source=PairSource.FEEDBACK,
        rejected_by="twin",
        document_ids=(trained_on.provenance.document_id,),
    )
    made = built(folder, HALVES, make_pairs=lambda samples: MadePairs([pair]))
    assert not any(made.dataset.pairs.values())
    assert [refusal.reason for refusal in made.refusals if refusal.subject == "p1"] == ["held-out-elsewhere"]


def test_feedback_on_another_authors_document_is_refused_and_what_is_kept_stands_in_the_card(folder):
    bob = Author.named("Bob Hill")
    with closing(warehouse_at(folder)) as warehouse:
        warehouse.save_author(bob)
        warehouse.record([draft("e", article("gamma")).model_copy(update={"author_id": bob.id})])
    of_ann = HALVES.model_copy(update={"author": "Ann Lee"})
    own = built(folder, of_ann).dataset.samples[Split.TRAIN][0].provenance.document_id
    (foreign,) = {line.id for line in built(folder, HALVES).dataset.card.documents if line.author == "Bob Hill"}
    pairs = [judged("one", own), judged("two", foreign), judged("three", own, foreign), judged("four")]
    made = built(folder, of_ann, make_pairs=lambda samples: MadePairs(pairs))
    refused = {r.subject: r.reason for r in made.refusals if r.subject in {pair.id for pair in pairs}}
    assert refused == {pairs[1].id: "document-not-in-the-build", pairs[2].id: "document-not-in-the-build"}
    kept = [pair for side in made.dataset.pairs.values() for pair in side]
    assert {pair.id for pair in kept} == {pairs[0].id, pairs[3].id}
    assert {i for pair in kept for i in pair.document_ids} == {
        line.id for line in made.dataset.card.documents if line.pairs
    }


def test_a_judged_pair_is_asked_for_in_the_voice_that_its_documents_have(folder, tmp_path):
    bob = Author.named("Bob Hill")
    alone = built(folder, HALVES, make_pairs=lambda samples: MadePairs([judged("four")]))
    with closing(warehouse_at(folder)) as warehouse:
        warehouse.save_author(bob)
        warehouse.record([draft("e", article("gamma")).model_copy(update={"author_id": bob.id})])
    card = built(folder, HALVES).dataset.card
    of = {line.author: line.id for line in card.documents}
    pairs = [judged("one", of["Ann Lee"]), judged("two", of["Bob Hill"]), judged("three")]
    made = built(
        folder, HALVES, previous=dict.fromkeys(card.sides, Split.TRAIN), make_pairs=lambda samples: MadePairs(pairs)
    )
    store.write(made.dataset, tmp_path / "root")
    (file,) = (tmp_path / "root").rglob("preference/train.parquet")
    rows = {row["id"]: row for row in pq.read_table(file).to_pylist()}
    assert [rows[pair.id]["author"] for pair in pairs] == ["Ann Lee", "Bob Hill", None]
    assert "Bob Hill" in rows[pairs[1].id]["prompt"][0]["content"]
    assert [pair.author for side in alone.dataset.pairs.values() for pair in side] == ["Ann Lee"]


def judged(word, *documents):
    question = f"What do you say about {word} after all?"
    chosen, rejected = article(f"better{word}", sentences=4), article(f"worse{word}", sentences=4)
    return Pair.judged(
        question, chosen, rejected, source=PairSource.FEEDBACK, rejected_by="twin", document_ids=documents
    )


def spans(made):
    return {place(sample) for sample in everything(made)}


def test_a_reviewer_who_refuses_all_that_is_trained_on_is_told_so(folder):
    first = built(folder, HALVES).dataset.samples[Split.TRAIN]
    with closing(warehouse_at(folder)) as warehouse:
        for sample in first:
            document = sample.provenance.document_id
            warehouse.save_decision(Decision(sample_id=sample.id, verdict="refuse", document_ids=(document,)))
    with pytest.raises(DatasetError, match=f"{len(first)} refused-in-review"):
        built(folder, HALVES)


def test_real_articles_are_built_without_leak_or_repetition(data, tmp_path):
    records = json.loads((data / "handbook_warehouse" / "ArticleDocument.json").read_text(encoding="utf-8"))
    texts = {number: record["content"] for number, record in enumerate(records[:75:3])}
    record(tmp_path, *(draft(f"a{n}", text["Content"], title=text["Title"]) for n, text in texts.items()))
    config = DatasetConfig(passages=PassageConfig(max_words=400), split=SplitConfig(validation=0.1, test=0.2))
    made = built(tmp_path, config)
    card = made.dataset.card
    assert (card.audit.leaks, card.audit.repeated_instructions) == (0, 0)
    assert sum(card.samples.values()) > 100 and card.samples[Split.TEST] > 0
