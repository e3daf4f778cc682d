"""What a build keeps apart by itself: no vote, edit or language makes it fail, or leak."""

from llm_engineering.dataset.build import MadePairs, decide
from llm_engineering.domain.dataset_config import InstructConfig
from llm_engineering.domain.samples import Decision, InstructionStyle, Pair, PairSource, Split
from tests.doubles.writing import HALVES, article, built, draft, everything, record


def judged(word, *documents):
    question = f"What do you say about {word} after all?"
    chosen, rejected = article(f"better{word}", sentences=4), article(f"worse{word}", sentences=4)
    return Pair.judged(
        question, chosen, rejected, source=PairSource.FEEDBACK, rejected_by="twin", document_ids=documents
    )


def test_edits_that_differ_by_a_hyphen_or_an_apostrophe_are_one_question(folder):
    first, second, *_ = everything(built(folder))
    for one, other in (("What is top_k?", "What is top-k?"), ("What's it?", "What s it?")):
        edits = [
            Decision(sample_id=each.id, verdict="edit", instruction=text)
            for each, text in ((first, one), (second, other))
        ]
        kept, refusals = decide([first, second], edits)
        assert [sample.instruction for sample in kept] == [one]
        assert [refusal.reason for refusal in refusals] == ["repeated-instruction"]


def test_votes_on_one_question_about_documents_of_two_sides_do_not_stop_a_build(folder):
    sides = built(folder, HALVES).dataset.card.sides
    one, other = (next(i for i, side in sides.items() if side is wanted) for wanted in (Split.TRAIN, Split.TEST))
    pairs = [
        judged("one", one),
        judged("one", other).model_copy(update={"id": "p2", "chosen": article("fineone", sentences=4)}),
    ]
    made = built(folder, HALVES, make_pairs=lambda samples: MadePairs(pairs))
    assert [pair.id for side in made.dataset.pairs.values() for pair in side] == ["p2"]
    assert [refusal.reason for refusal in made.refusals if refusal.subject == pairs[0].id] == ["held-out-elsewhere"]


def test_german_words_held_out_are_in_no_text_to_continue_that_is_trained_on(tmp_path):
    shared = " ".join(f"gemeinsam{letter}" for letter in "abcdefghijklmn")
    config = HALVES.model_copy(update={"instruct": InstructConfig(styles={InstructionStyle.CONTINUE: 1.0})})
    record(tmp_path, *(draft(f"d{n}", article(f"alpha{n}", sentences=4), language="de") for n in range(12)))
    sides = built(tmp_path, config, previous={}).dataset.card.sides
    urls = {draft(f"d{n}", "").document_id: n for n in range(12)}
    train, test = (
        next(urls[identity] for identity, side in sides.items() if side is wanted)
        for wanted in (Split.TRAIN, Split.TEST)
    )
    text = {n: article(f"alpha{n}", sentences=4) for n in (train, test)}
    record(
        tmp_path,
        draft(f"d{train}", f"Es {shared} hier.\n\n{text[train]}", language="de"),
        draft(f"d{test}", f"{text[test]}\n\nEs {shared} dort.", language="de"),
    )
    made = built(tmp_path, config, previous=sides)
    words = {
        split: " ".join(f"{s.instruction} {s.answer}" for s in side) for split, side in made.dataset.samples.items()
    }
    assert shared in words[Split.TEST] and shared not in words[Split.TRAIN]
