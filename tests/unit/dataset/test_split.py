"""The wall between the sides: by document, by hash, never moved, near-duplicates on one side."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from llm_engineering.dataset.split import FEWEST, Sides, Writing, apart, assign, pairs_apart, side_of
from llm_engineering.domain.dataset_config import SplitConfig
from llm_engineering.domain.entities import Kind
from llm_engineering.domain.samples import AuthorPassage, InstructionStyle, Pair, PairSource, Provenance, Sample, Split
from tests.doubles.writing import article

HALVES = SplitConfig(validation=0.25, test=0.25)


def writing(name, text=None):
    return Writing(name, text or article(name, sentences=6))


def named(side, start=0):
    """The first document id from ``start`` on that the hash puts on a side."""
    return next(f"d{n}" for n in range(start, 1000) if side_of(f"d{n}", HALVES) is side)


def sample(document, answer, *, instruction="Say it", style=InstructionStyle.ASK):
    where = Provenance(
        author_id="a", author="Ann", document_id=document, revision=1, start=0, end=len(answer), title="T",
        url="https://x.org", kind=Kind.ARTICLE,
    )  # fmt: skip
    return Sample.of(AuthorPassage(provenance=where, text=answer), instruction, style=style, written_by="rules")


def test_sides_follow_the_shares():
    sides = [side_of(f"d{n}", SplitConfig(validation=0.1, test=0.2)) for n in range(4000)]
    assert 700 < sides.count(Split.TEST) < 900
    assert 320 < sides.count(Split.VALIDATION) < 480


def test_another_salt_deals_anew():
    dealt = {tuple(side_of(f"d{n}", SplitConfig(test=0.5, salt=salt)) for n in range(50)) for salt in "123"}
    assert len(dealt) == 3


@given(st.lists(st.integers(0, 30), unique=True, max_size=12), st.integers(0, 12), st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_new_document_never_moves_an_old_one(numbers, known, kept):
    # every third writing repeats the one before it
    texts = {n: article(f"subject{n - n % 3 // 2}", sentences=4) for n in numbers}
    writings = [writing(f"d{n}", texts[n]) for n in numbers]
    before = assign(writings[:known], HALVES)
    after = assign(writings, HALVES, previous=before.of if kept else None)
    if kept or len(writings) < FEWEST:
        assert {name: after.of[name] for name in before.of} == before.of


def test_no_side_of_a_small_corpus_stays_empty():
    rare = SplitConfig(validation=0.001, test=0.001)
    names = [f"d{n}" for n in range(FEWEST)]
    assert {side_of(name, rare) for name in names} == {Split.TRAIN}
    sides = assign([writing(name) for name in names], rare).of
    assert sorted(Counter(sides.values()).values()) == [1, 1, FEWEST - 2]
    more = assign([writing(name) for name in [*names, "later"]], rare, previous=sides).of
    assert {name: more[name] for name in names} == sides


def test_a_side_without_a_share_and_a_tiny_corpus_stay_as_the_hash_says():
    none = SplitConfig(validation=0, test=0)
    assert set(assign([writing(f"d{n}") for n in range(FEWEST)], none).of.values()) == {Split.TRAIN}
    rare = SplitConfig(validation=0.001, test=0.001)
    assert set(assign([writing(f"d{n}") for n in range(FEWEST - 1)], rare).of.values()) == {Split.TRAIN}


def test_a_small_corpus_gives_a_side_as_many_long_documents_as_it_is_to_have():
    config = SplitConfig(validation=0.001, test=0.001, fewest_validation=2, fewest_test=5)
    short, long = [f"s{n}" for n in range(10)], [f"l{n}" for n in range(12)]
    writings = [writing(name) for name in short] + [writing(name, article(name, sentences=60)) for name in long]
    sides = assign(writings, config).of
    found = {side: {name for name in sides if sides[name] is side} for side in Split}
    assert (len(found[Split.TEST]), len(found[Split.VALIDATION])) == (5, 2)
    assert found[Split.TEST] | found[Split.VALIDATION] <= set(long)
    more = assign([*writings, writing("later", article("later", sentences=60))], config, previous=sides).of
    assert {name: more[name] for name in sides} == sides


def test_short_documents_do_not_count_among_those_that_a_side_is_to_have():
    config = SplitConfig(validation=0, test=0.001, fewest_test=3)
    writings = [writing(f"s{n}") for n in range(12)] + [writing("l", article("l", sentences=60))]
    sides = assign(writings, config).of
    assert [name for name in sides if sides[name] is Split.TEST] == ["l"]


def test_short_documents_on_a_side_take_no_room_from_long_ones():
    config = SplitConfig(validation=0.3, test=0.3, fewest_validation=2, fewest_test=5)
    long = [name for name in (f"l{n}" for n in range(100)) if side_of(name, config) is Split.TRAIN][:12]
    writings = [writing(f"s{n}") for n in range(10)] + [writing(name, article(name, sentences=60)) for name in long]
    sides = assign(writings, config).of
    assert sum(sides[f"s{n}"] is not Split.TRAIN for n in range(10)) > 3  # as the hash says
    assert Counter(sides[name] for name in long) == {Split.TRAIN: 5, Split.TEST: 5, Split.VALIDATION: 2}


def test_sides_that_are_filled_leave_two_thirds_to_learn_from():
    config = SplitConfig(validation=0.001, test=0.001, fewest_validation=5, fewest_test=5)
    names = [f"d{n}" for n in range(FEWEST + 2)]
    sides = assign([writing(name, article(name, sentences=60)) for name in names], config).of
    assert Counter(sides.values()) == {Split.TRAIN: 8, Split.TEST: 3, Split.VALIDATION: 1}


def test_a_near_duplicate_goes_with_the_document_that_fills_an_empty_side():
    rare = SplitConfig(validation=0, test=0.001)
    names = [f"d{n}" for n in range(FEWEST)]
    chosen = next(
        name for name, side in assign([writing(name) for name in names], rare).of.items() if side is Split.TEST
    )
    copy = Writing("copy", f"{writing(chosen).text}\n\nOne more line.")
    sides = assign([*(writing(name) for name in names), copy], rare)
    assert sides.of[sides.like["copy"]] is sides.of["copy"]
    assert Split.TEST in sides.of.values()


def test_a_near_duplicate_takes_the_side_of_the_older_one():
    for side in Split:
        old = named(side)
        new = next(f"n{n}" for n in range(1000) if side_of(f"n{n}", HALVES) is not side)
        text = article("kafka", "bread")
        sides = assign([writing(old, text), writing(new, f"{text}\n\nOne more line.")], HALVES)
        assert sides.of == {old: side, new: side}
        assert sides.like == {new: old}


def test_an_excerpt_counts_as_a_near_duplicate_of_the_whole():
    whole = article(*"abcdefgh", sentences=5)
    sides = assign([writing("whole", whole), writing("part", whole[: len(whole) // 6])], HALVES)
    assert sides.like == {"part": "whole"}


def test_unrelated_writings_are_not_alike():
    assert assign([writing(f"d{n}") for n in range(20)], HALVES).like == {}


def test_a_newcomer_like_documents_on_two_sides_is_refused_and_moves_nobody():
    train, test = named(Split.TRAIN), named(Split.TEST)
    one, two = article("kafka", sentences=6), article("bread", sentences=6)
    both = Writing("both", f"{one}\n\n{two}")
    sides = assign([writing(train, one), writing(test, two), both], HALVES)
    assert sides.of == {train: Split.TRAIN, test: Split.TEST}
    assert [(refusal.reason, refusal.subject) for refusal in sides.refusals] == [("between-sides", "both")]


def test_an_old_document_that_became_like_one_on_another_side_keeps_its_side_and_gives_no_samples():
    train, test = named(Split.TRAIN), named(Split.TEST)
    previous = {train: Split.TRAIN, test: Split.TEST}
    text = article("kafka", sentences=6)
    sides = assign([writing(train, text), writing(test, text)], HALVES, previous=previous)
    assert sides.of == previous
    assert sides.torn == {test}


def test_a_side_once_taken_outlives_the_document_that_it_was_taken_from():
    old, new = named(Split.TEST), named(Split.TRAIN)
    text = article("kafka", sentences=6)
    before = assign([writing(old, text), writing(new, text)], HALVES)
    assert assign([writing(new, text)], HALVES, previous=before.of).of == {new: Split.TEST}


def test_no_torn_document_is_one_that_others_are_compared_with():
    assert Sides({}).torn == frozenset()


def test_a_training_sample_that_shares_eight_words_with_held_out_text_gives_way():
    shared = "these eight words in a row are shared"
    sides = {"a": Split.TRAIN, "b": Split.TEST, "c": Split.TRAIN}
    samples = [
        sample("a", f"Mine, and {shared}."),
        sample("b", f"Hers: {shared}!"),
        sample("c", "Something else entirely"),
    ]
    kept, refused = apart(samples, sides)
    assert kept == samples[1:]
    assert [(refusal.reason, refusal.subject) for refusal in refused] == [("held-out-elsewhere", samples[0].id)]


def test_validation_gives_way_to_test_and_train_to_validation():
    text = "one two three four five six seven eight"
    sides = {"a": Split.TRAIN, "b": Split.VALIDATION, "c": Split.TEST}
    kept, _ = apart([sample(document, text) for document in "abc"], sides)
    assert [each.provenance.document_id for each in kept] == ["c"]
    kept, _ = apart([sample(document, text) for document in "ab"], sides)
    assert [each.provenance.document_id for each in kept] == ["b"]


def test_the_authors_words_in_an_instruction_to_continue_count_too():
    text = "one two three four five six seven eight"
    own = sample("a", "Something else", instruction=f"Continue this text:\n\n{text}", style=InstructionStyle.CONTINUE)
    kept, _ = apart([own, sample("b", text)], {"a": Split.TRAIN, "b": Split.TEST})
    assert [each.provenance.document_id for each in kept] == ["b"]


def test_samples_of_one_side_may_share_words():
    text = "one two three four five six seven eight"
    assert len(apart([sample("a", text), sample("b", text)], {"a": Split.TRAIN, "b": Split.TRAIN})[0]) == 2


def test_a_text_to_continue_counts_whole_where_no_lead_line_stands_over_it():
    text = "eins zwei drei vier fünf sechs sieben acht"
    own = sample("a", "Etwas anderes", instruction=text, style=InstructionStyle.CONTINUE)
    kept, _ = apart([own, sample("b", text)], {"a": Split.TRAIN, "b": Split.TEST})
    assert [each.provenance.document_id for each in kept] == ["b"]


def test_held_out_words_in_a_further_line_of_any_instruction_count():
    text = "one two three four five six seven eight"
    own = sample("a", "Something else", instruction=f"What of this?\n{text}")
    kept, _ = apart([own, sample("b", text)], {"a": Split.TRAIN, "b": Split.TEST})
    assert [each.provenance.document_id for each in kept] == ["b"]


def vote(question, better, *documents):
    return Pair.judged(
        question, better, "Worse.", source=PairSource.FEEDBACK, rejected_by="twin", document_ids=documents
    )


def test_of_votes_on_one_question_that_stand_on_two_sides_the_one_to_train_on_gives_way():
    sides = {"a": Split.TRAIN, "b": Split.TEST, "c": Split.VALIDATION}
    pairs = [vote("What is top_k?", "Good.", "a"), vote("what is TOP-K", "Fine.", "b"), vote("Why?", "So.", "a")]
    kept, refused = pairs_apart(pairs, [], sides)
    assert kept == pairs[1:]
    assert [(refusal.reason, refusal.subject) for refusal in refused] == [("held-out-elsewhere", pairs[0].id)]
    kept, _ = pairs_apart([vote("Why?", "So.", "c"), vote("Why?", "Thus.", "b")], [], sides)
    assert [pair.document_ids for pair in kept] == [("b",)]


def test_votes_on_one_question_may_stand_on_one_side():
    pairs = [vote("Why?", "Good.", "a"), vote("Why?", "Fine.", "a")]
    assert pairs_apart(pairs, [], {"a": Split.TRAIN}) == (pairs, [])
