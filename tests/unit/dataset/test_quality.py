"""What may become training data: every candidate is kept, or refused once for the right reason."""

import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_engineering.dataset.decontamination import EvaluationTexts, read_evaluation_sets
from llm_engineering.dataset.quality import Gated, Reason, gate_pairs, gate_passages, gate_samples
from llm_engineering.domain.dataset_config import QualityConfig
from llm_engineering.domain.entities import Kind
from llm_engineering.domain.errors import UsageError
from llm_engineering.domain.samples import AuthorPassage, InstructionStyle, Pair, PairSource, Sample
from tests.doubles.encoders import WordEmbedder
from tests.unit.dataset.shelf import Shelf

CONFIG = QualityConfig(min_answer_words=8)
BREAD = (
    "I bake bread with a long cold rise, because the yeast has time to make flavour. Two days in the fridge are enough, and"
    " the dough is easier to shape when it is cold. My oven is old, so I heat a stone for an hour before the loaf goes in."
)
VECTORS = (
    "A vector index answers one question: which of these million points lie near mine? I keep the graph out of it below a"
    " hundred thousand points, since scanning compressed vectors is quick and never misses. Above that the graph pays."
)
GERMAN = (
    "Ich backe mein Brot mit einer langen kalten Gare, weil die Hefe dann Zeit hat, Geschmack zu bilden. Zwei Tage im"
    " Kühlschrank genügen, und der Teig lässt sich kalt viel leichter formen als warm."
)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


def reasons(gated: Gated[Sample] | Gated[Pair] | Gated[AuthorPassage]) -> dict[str, int]:
    return gated.reasons


def gate(shelf: Shelf, *samples: Sample, config: QualityConfig = CONFIG) -> Gated[Sample]:
    return gate_samples(samples, config=config, revision_text=shelf.revision_text)


def only_reason(shelf: Shelf, sample: Sample, config: QualityConfig = CONFIG) -> str:
    gated = gate(shelf, sample, config=config)
    assert gated.kept == ()
    [refusal] = gated.refused
    assert (refusal.subject, refusal.document_id) == (sample.id, sample.provenance.document_id)
    return refusal.reason


# One candidate


def test_the_authors_own_words_are_kept_as_they_are(shelf: Shelf):
    sample = shelf.sample(BREAD, "How do you bake bread?")

    assert gate(shelf, sample) == Gated((sample,), ())


@pytest.mark.parametrize(
    "tampered",
    [
        BREAD.replace("two", "three"),
        BREAD.replace("cold", "warm", 1),
        BREAD[:-1],
        BREAD.lower(),
        BREAD + " ",
        f'"{BREAD}"',
    ],
)
def test_an_answer_that_is_not_the_authors_to_the_letter_is_refused(shelf: Shelf, tampered: str):
    sample = shelf.sample(BREAD).model_copy(update={"answer": tampered})

    assert (tampered == BREAD) or only_reason(shelf, sample) == Reason.NOT_VERBATIM


def test_a_shifted_span_is_refused(shelf: Shelf):
    sample = shelf.sample(BREAD)
    moved = sample.provenance.model_copy(update={"start": sample.provenance.start + 1})

    assert only_reason(shelf, sample.model_copy(update={"provenance": moved})) == Reason.NOT_VERBATIM


def test_a_revision_that_is_gone_supports_nothing(shelf: Shelf):
    sample = shelf.sample(BREAD)
    later = sample.provenance.model_copy(update={"revision": 2})

    assert only_reason(shelf, sample.model_copy(update={"provenance": later})) == Reason.SOURCE_GONE


def test_masks_are_the_one_difference_to_the_source_that_is_allowed(shelf: Shelf):
    sample = shelf.sample(f"{BREAD} Write to ann@bakery.io or call +49 30 901820.", "Where do I reach bob@web.de?")
    gated = gate(shelf, sample)

    [kept] = gated.kept
    assert kept.answer == f"{BREAD} Write to [e-mail] or call [phone number]."
    assert (kept.instruction, kept.masked, kept.id) == ("Where do I reach [e-mail]?", 2, sample.id)
    assert gated.masked == Counter({"[e-mail]": 2, "[phone number]": 1})


def test_a_mask_that_hides_no_secret_is_not_verbatim(shelf: Shelf):
    sample = shelf.sample(BREAD).model_copy(update={"answer": BREAD.replace("My oven is old", "[e-mail] is old")})

    assert only_reason(shelf, sample) == Reason.NOT_VERBATIM


def test_masking_can_be_switched_off(shelf: Shelf):
    sample = shelf.sample(f"{BREAD} Write to ann@bakery.io.")

    assert gate(shelf, sample, config=CONFIG.model_copy(update={"mask": False})).kept == (sample,)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Too short a text.", Reason.TOO_SHORT),
        ("[e-mail] " * 20, Reason.TOO_SHORT),
        (BREAD * 30, Reason.TOO_LONG),
        ("→ … — !!! ???", Reason.MALFORMED),
        (BREAD + "\ufffd\ufffd\ufffd\ufffd", Reason.MALFORMED),
        ("Look:\n\n```python\n" + "value = compute(value, other=3)\n" * 9 + "```", Reason.CODE_ONLY),
        ("    value = compute(value, other=3)\n" * 9, Reason.CODE_ONLY),
        ("Thanks for reading! Subscribe to my newsletter, and follow me on Mastodon for more.", Reason.BOILERPLATE),
        ("[One good page](https://a.example)\n" * 5, Reason.BOILERPLATE),
        ("| 0.51 | 0.52 | 12 | 13 | 0.77 |\n" * 5, Reason.BOILERPLATE),
    ],
)
def test_an_answer_of_no_use_is_refused(shelf: Shelf, text: str, reason: Reason):
    assert only_reason(shelf, shelf.sample(text)) == reason


def test_a_long_address_does_not_make_a_note_a_list_of_links(shelf: Shelf):
    address = "https://sql.example/?sql=" + "+".join(["select", "name", "from", "bakers"] * 40)

    assert gate(shelf, shelf.sample(f"{BREAD}\n\n[Try it here]({address})\n\n{address}")).reasons == {}


def test_a_paragraph_with_more_lines_of_code_than_prose_is_kept(shelf: Shelf):
    note = f"{BREAD}\n\n```python\n" + "rise(dough, hours=48)\n" * 9 + "```"

    assert gate(shelf, shelf.sample(note)).reasons == {}


def test_code_of_a_repository_may_stand_alone(shelf: Shelf):
    code = "def rise(dough: Dough) -> Dough:\n" + "    dough = fold(dough, times=4)\n" * 5

    assert gate(shelf, shelf.sample(code, kind=Kind.REPOSITORY)).reasons == {}


@pytest.mark.parametrize(
    ("instruction", "reason"),
    [
        ("Bread?", Reason.INSTRUCTION_TOO_SHORT),
        ("Bread and butter. " * 80, Reason.INSTRUCTION_TOO_LONG),
        ("What does the passage say about bread?", Reason.POINTS_AT_SOURCE),
        ("According to the article, how is bread made?", Reason.POINTS_AT_SOURCE),
        ("I'm sorry, but I cannot write a question about that.", Reason.MODEL_REFUSAL),
        ("As an AI language model, how do I bake?", Reason.MODEL_REFUSAL),
        ('{"instruction": "How do you bake bread?"}', Reason.MALFORMED),
        ("Write about {{passage}} in my voice", Reason.MALFORMED),
        ("<|im_start|>user How do you bake bread?", Reason.MALFORMED),
        ("??? !!!", Reason.MALFORMED),
        ("Here is the text. " + BREAD, Reason.GIVES_ANSWER_AWAY),
        ("Warum ist eine lange kalte Gare für den Geschmack eines Brotes so wichtig?", Reason.OTHER_LANGUAGE),
    ],
)
def test_an_instruction_that_nobody_would_ask_is_refused(shelf: Shelf, instruction: str, reason: Reason):
    assert only_reason(shelf, shelf.sample(BREAD, instruction)) == reason


@pytest.mark.parametrize(
    "instruction",
    [
        "Why does cold dough taste better?",
        "How do you define a passage in a novel?",
        "Write a section on shaping cold dough, and mention your old oven.",
        "Sorry to bother you: how do you bake bread in an old oven?",
    ],
)
def test_an_instruction_that_a_person_could_ask_is_kept(shelf: Shelf, instruction: str):
    assert gate(shelf, shelf.sample(BREAD, instruction)).reasons == {}


def test_a_title_may_be_quoted_in_full_and_a_person_may_speak_of_the_text(shelf: Shelf):
    title = "Why I bake bread with a long cold rise and not with a short warm one"
    passage = shelf.passage(f"{title}\n\n{BREAD}", title=title)
    quoted = Sample.of(passage, f'Write "{title}".', style=InstructionStyle.BRIEF, written_by="rules")
    edited = shelf.sample(VECTORS, "Sum up the passage on vector indexes.", written_by="person")

    assert gate(shelf, quoted, edited).reasons == {}


def test_only_the_named_languages_pass(shelf: Shelf):
    english = CONFIG.model_copy(update={"languages": ("en",)})
    german = shelf.sample(GERMAN, "Wie backst du dein Brot, und warum so langsam?")

    assert only_reason(shelf, german, english) == Reason.OTHER_LANGUAGE
    assert gate(shelf, german).reasons == {}
    assert gate(shelf, shelf.sample(BREAD), config=english).reasons == {}


# Rephrased answers


def test_a_rephrased_answer_that_its_passage_supports_is_kept(shelf: Shelf):
    answer = "The yeast makes flavour during a long cold rise; two days in the fridge are enough for the dough."

    assert gate(shelf, shelf.sample(BREAD, answer=answer)).reasons == {}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (
            "Sourdough was invented in Egypt about four thousand years ago by bakers who forgot a bowl.",
            Reason.UNSUPPORTED,
        ),
        ("Bread stone yeast oven fridge hour old rise shape cold days dough loaf flavour.", Reason.UNSUPPORTED),
        ("The passage says that a long cold rise gives the yeast time to make flavour.", Reason.POINTS_AT_SOURCE),
        ("A long cold rise gives the yeast time to make flavour in the dough and the", Reason.MALFORMED),
        ("I'm sorry, but I am not able to answer that from a long cold rise of the dough.", Reason.MODEL_REFUSAL),
    ],
)
def test_a_rephrased_answer_of_no_use_is_refused(shelf: Shelf, answer: str, reason: Reason):
    assert only_reason(shelf, shelf.sample(BREAD, answer=answer)) == reason


def test_a_rephrased_answer_far_from_its_passage_in_meaning_is_refused(shelf: Shelf):
    answer = "The yeast makes flavour during a long cold rise; two days in the fridge are enough for the dough."
    sample = shelf.sample(BREAD, answer=answer)

    def far(texts: Sequence[str]) -> list[list[float]]:
        return [[float(text == BREAD), float(text != BREAD)] for text in texts]

    gated = gate_samples([sample], config=CONFIG, revision_text=shelf.revision_text, embed=far)

    assert gated.reasons == {"unsupported": 1}
    assert "cosine 0.00" in gated.refused[0].detail


# Candidates that are alike


def test_of_equal_answers_the_one_published_first_is_kept(shelf: Shelf):
    early, late = shelf.sample(BREAD), shelf.sample(BREAD)

    assert gate(shelf, late, early).kept == (early,)
    assert reasons(gate(shelf, late, early)) == {"duplicate": 1}


def test_of_nearly_equal_answers_the_one_published_first_is_kept(shelf: Shelf):
    early, late = shelf.sample(BREAD), shelf.sample(BREAD.replace("stone", "plate"))
    gated = gate(shelf, late, early)

    assert (gated.kept, gated.reasons) == ((early,), {"near-duplicate": 1})
    assert early.id in gated.refused[0].detail


def test_the_author_stands_before_a_teacher_who_copied(shelf: Shelf):
    copied = shelf.sample(BREAD, answer=BREAD)
    written = shelf.sample(BREAD.replace("stone", "plate"))

    assert gate(shelf, copied, written).kept == (written,)


def test_several_instructions_for_one_passage_are_no_duplicates(shelf: Shelf):
    passage = shelf.passage(BREAD)
    samples = [
        Sample.of(passage, instruction, style=InstructionStyle.ASK, written_by="rules")
        for instruction in ("How do you bake?", "Why do you heat a stone?")
    ]

    assert gate(shelf, *samples).kept == tuple(samples)


def test_a_repeated_instruction_is_refused_whatever_its_case_and_marks(shelf: Shelf):
    first, second = shelf.sample(BREAD, "How do you do it?"), shelf.sample(VECTORS, "how do YOU do it")

    assert (gate(shelf, second, first).kept, reasons(gate(shelf, second, first))) == (
        (first,),
        {"repeated-instruction": 1},
    )


def test_an_instruction_that_means_the_same_is_refused(shelf: Shelf):
    first = shelf.sample(BREAD, "How do you bake bread in an old oven?")
    second = shelf.sample(VECTORS, "In an old oven, how do you bake bread?")
    gated = gate_samples(
        [second, first],
        config=CONFIG,
        revision_text=shelf.revision_text,
        embed=WordEmbedder(dimensions=64).embed_passages,
    )

    assert (gated.kept, gated.reasons) == ((first,), {"similar-instruction": 1})


def test_a_refused_twin_takes_nothing_with_it(shelf: Shelf):
    early = shelf.sample(BREAD, "What does the passage say about bread?")
    late = shelf.sample(BREAD, "How do you bake bread?")

    assert gate(shelf, early, late).kept == (late,)


def test_passages_are_gated_before_a_teacher_is_paid(shelf: Shelf):
    good, copy, code = shelf.passage(BREAD), shelf.passage(BREAD.upper()), shelf.passage("    x = compute(1)\n" * 9)
    short = shelf.passage("Too short.")
    gated = gate_passages([short, code, copy, good], config=CONFIG)

    assert gated.kept == (good,)
    assert gated.reasons == {"duplicate": 1, "too-short": 1, "code-only": 1}


# Evaluation sets


def test_thirteen_words_of_an_evaluation_set_are_too_many(shelf: Shelf):
    leaked = " ".join(BREAD.split()[3:16]).upper()
    evaluation = EvaluationTexts.of([f"Somebody wrote: {leaked}?"])
    twelve = EvaluationTexts.of(
        ["Somebody else wrote in another place: " + " ".join(BREAD.split()[3:15]) + " perhaps."]
    )
    sample = shelf.sample(BREAD)

    def gated(texts: EvaluationTexts) -> Gated[Sample]:
        return gate_samples([sample], config=CONFIG, revision_text=shelf.revision_text, evaluation=texts)

    assert gated(evaluation).reasons == {"contaminated": 1}
    assert gated(twelve).reasons == {}


def test_a_short_evaluation_question_is_no_instruction(shelf: Shelf):
    evaluation = EvaluationTexts.of(["How do you bake bread?"])
    samples = [shelf.sample(BREAD, "how do you bake BREAD"), shelf.sample(VECTORS, "How do you bake bread today?")]
    gated = gate_samples(samples, config=CONFIG, revision_text=shelf.revision_text, evaluation=evaluation)

    assert [refusal.subject for refusal in gated.refused] == [samples[0].id]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("set.jsonl", json.dumps({"question": BREAD, "n": 1}) + "\n\n"),
        ("set.json", json.dumps([{"turns": [{"content": BREAD}]}])),
        ("set.txt", f"Something else\n\n{BREAD}"),
    ],
)
def test_evaluation_sets_are_read_whatever_their_keys(tmp_path: Path, name: str, content: str):
    (tmp_path / name).write_text(content, encoding="utf-8")

    assert read_evaluation_sets([tmp_path / name]).shared_with(BREAD)


def test_a_broken_evaluation_set_says_where(tmp_path: Path):
    (tmp_path / "set.jsonl").write_text('{"question": "fine"}\n{broken\n', encoding="utf-8")

    with pytest.raises(UsageError, match=r"set\.jsonl, line 2"):
        read_evaluation_sets([tmp_path / "set.jsonl"])
    with pytest.raises(UsageError, match="cannot be read"):
        read_evaluation_sets([tmp_path / "absent.jsonl"])


# Pairs

WEAK = (
    "Bread is a staple food that is prepared from flour and water. There are many kinds of bread all over the world, and it"
    " is usually baked in an oven. It is important to follow the recipe in order to get good results every time."
)


def gate_one(shelf: Shelf, pair: Pair) -> dict[str, int]:
    return gate_pairs([pair], config=CONFIG, revision_text=shelf.revision_text).reasons


def test_the_authors_answer_against_another_is_kept(shelf: Shelf):
    pair = shelf.pair(BREAD, WEAK)

    assert gate_pairs([pair], config=CONFIG, revision_text=shelf.revision_text).kept == (pair,)


@pytest.mark.parametrize(
    ("rejected", "reason"),
    [
        (BREAD, Reason.CHOSEN_EQUALS_REJECTED),
        (BREAD.upper().replace(",", ""), Reason.CHOSEN_EQUALS_REJECTED),
        (BREAD.replace("stone", "plate"), Reason.CHOSEN_LIKE_REJECTED),
        ("", Reason.MALFORMED),
        ('{"answer": "Bread is baked in an oven."}', Reason.MALFORMED),
        ("Bread is baked.", Reason.TOO_SHORT),
        ("Bread is baked in an oven that is hot.", Reason.LENGTH_RATIO),
        (WEAK * 3, Reason.LENGTH_RATIO),
        (GERMAN + " Der Ofen ist alt.", Reason.OTHER_LANGUAGE),
        ("I'm sorry, but I can't bake. " + WEAK, Reason.MODEL_REFUSAL),
    ],
)
def test_a_pair_that_teaches_the_wrong_thing_is_refused(shelf: Shelf, rejected: str, reason: Reason):
    assert gate_one(shelf, shelf.pair(BREAD, rejected)) == {reason: 1}


def test_a_chosen_answer_that_is_not_the_authors_is_refused(shelf: Shelf):
    pair = shelf.pair(BREAD, WEAK).model_copy(update={"chosen": BREAD.replace("cold", "warm")})

    assert gate_one(shelf, pair) == {Reason.NOT_VERBATIM: 1}


def test_a_pair_that_a_person_judged_needs_no_source(shelf: Shelf):
    pair = Pair(
        id="1",
        instruction="What does the article say?",
        chosen=BREAD,
        rejected=WEAK,
        source=PairSource.FEEDBACK,
        rejected_by="twin",
    )

    assert gate_one(shelf, pair) == {}


def test_secrets_of_all_three_texts_of_a_pair_are_masked(shelf: Shelf):
    pair = shelf.pair(f"{BREAD} ann@bakery.io", f"{WEAK} bob@web.de", "Is eve@web.de right?")
    gated = gate_pairs([pair], config=CONFIG, revision_text=shelf.revision_text)

    assert gated.masked == Counter({"[e-mail]": 3})
    assert all("[e-mail]" in text for text in (gated.kept[0].instruction, gated.kept[0].chosen, gated.kept[0].rejected))


# The sets that were generated for the LLM Engineer's Handbook and lie in its repository


def handbook_records(data: Path, name: str) -> list[dict[str, str]]:
    content = json.loads((data / "ft_formats" / name).read_text(encoding="utf-8"))
    return [record for split in ("train", "test") for record in content[split]["articles"]["samples"]]


def pieces_of_articles(data: Path) -> list[str]:
    """The articles that the Handbook's sets were made from, in pieces of three hundred words, which overlap by half."""
    articles = json.loads((data / "handbook_warehouse" / "ArticleDocument.json").read_text(encoding="utf-8"))
    written = [article["content"]["Content"].split(" ") for article in articles]
    return [" ".join(words[start : start + 300]) for words in written for start in range(0, len(words), 150)]


def claimed(shelf: Shelf, record: dict[str, str], pieces: Sequence[str], *, rephrased: bool) -> list[Sample]:
    """The record's answer as if it were the text of each piece, or were told from it."""
    answer = record.get("answer", record.get("chosen", ""))
    samples = [shelf.sample(piece, record["instruction"], answer=answer if rephrased else None) for piece in pieces]
    return [sample.model_copy(update={"answer": answer}) for sample in samples]


def nearest(record: dict[str, str], pieces: Sequence[str]) -> list[str]:
    """The twenty pieces with the most words of the answer."""
    answer = set(record["answer"].casefold().split())
    return sorted(pieces, key=lambda piece: -len(answer & set(piece.casefold().split())))[:20]


def test_no_answer_of_the_handbooks_instruction_set_passes_for_the_authors_words(data: Path, shelf: Shelf):
    pieces = pieces_of_articles(data)[::40]
    records = handbook_records(data, "packt_instruct_sample.json")
    samples = [sample for record in records for sample in claimed(shelf, record, pieces, rephrased=False)]

    assert gate(shelf, *samples).reasons == {"not-verbatim": len(samples)}


def test_no_answer_of_the_handbooks_instruction_set_is_supported_by_the_articles_it_was_made_from(
    data: Path, shelf: Shelf
):
    pieces = pieces_of_articles(data)
    for record in handbook_records(data, "packt_instruct_sample.json"):
        samples = claimed(shelf, record, nearest(record, pieces), rephrased=True)

        assert gate(shelf, *samples).reasons == {"unsupported": len(samples)}


def test_the_handbooks_preference_rows_are_refused_each_for_its_own_reason(data: Path):
    pairs = [
        Pair(id=record["id"], instruction=record["instruction"], chosen=record["chosen"], rejected=record["rejected"],
             source=PairSource.JUDGE, rejected_by="gpt")
        for record in handbook_records(data, "packt_preference_sample.json")
    ]  # fmt: skip
    gated = gate_pairs(pairs, config=QualityConfig(min_answer_words=5), revision_text=lambda document, revision: None)
    by_id = {refusal.subject: refusal.reason for refusal in gated.refused}

    [same] = [pair for pair in pairs if pair.chosen == pair.rejected]
    assert by_id[same.id] == Reason.CHOSEN_EQUALS_REJECTED
    assert all(
        by_id[pair.id] == Reason.POINTS_AT_SOURCE for pair in pairs if "extract" in pair.instruction and pair != same
    )
    assert gate_pairs(pairs, config=QualityConfig(), revision_text=lambda document, revision: None).kept == ()


def test_the_handbooks_chosen_answers_are_no_excerpts(data: Path, shelf: Shelf):
    pieces = pieces_of_articles(data)[::40]
    pairs = [
        Pair.of(sample, record["rejected"], source=PairSource.OTHER, rejected_by="gpt")
        for record in handbook_records(data, "packt_preference_sample.json")
        for sample in claimed(shelf, record, pieces, rephrased=False)
    ]

    gated = gate_pairs(pairs, config=CONFIG, revision_text=shelf.revision_text)
    assert gated.reasons == {"not-verbatim": len(pairs)}


# What holds whatever comes

SENTENCES = [
    "I bake bread with a long cold rise, because the yeast has time.",
    "A vector index answers one question about a million points.",
    "Write to ann@bakery.io if you like it.",
    "Thanks for reading, subscribe to my newsletter.",
    "```\nx = 1\n```",
    "My oven is old, so I heat a stone for an hour.",
    "The graph pays above a hundred thousand points.",
]
ANSWERS = st.lists(st.sampled_from(SENTENCES), max_size=5).map("\n\n".join)
INSTRUCTIONS = st.sampled_from(
    [
        "How do you bake?",
        "how do you BAKE",
        "Why?",
        "What does the passage say?",
        "Which index do you use?",
        "Tell me of bread.",
    ]
)
CANDIDATES = st.lists(st.tuples(ANSWERS, INSTRUCTIONS, st.booleans(), st.integers(0, 3)), max_size=8)


def drawn(shelf: Shelf, candidates: list[tuple[str, str, bool, int]]) -> list[Sample]:
    return [
        shelf.sample(
            text, instruction, answer=f"{text} It is so." if rephrased else None, document=f"document-{number}"
        )
        for text, instruction, rephrased, number in candidates
    ]


@settings(deadline=None, max_examples=60)
@given(CANDIDATES, st.randoms(use_true_random=False))
def test_every_sample_is_kept_or_refused_once_and_the_order_does_not_matter(
    candidates: list[tuple[str, str, bool, int]], chance: random.Random
):
    shelf = Shelf()
    samples = drawn(shelf, candidates)
    gated = gate(shelf, *samples)

    assert Counter([*(sample.id for sample in gated.kept), *(refusal.subject for refusal in gated.refused)]) == Counter(
        {sample.id for sample in samples}
    )
    chance.shuffle(samples)
    again = gate(shelf, *samples, *samples[:2])
    assert {sample.id for sample in again.kept} == {sample.id for sample in gated.kept}
    assert {(refusal.subject, refusal.reason) for refusal in again.refused} == {
        (refusal.subject, refusal.reason) for refusal in gated.refused
    }


@settings(deadline=None, max_examples=60)
@given(CANDIDATES)
def test_what_was_kept_is_kept_again_unchanged(candidates: list[tuple[str, str, bool, int]]):
    shelf = Shelf()
    kept = gate(shelf, *drawn(shelf, candidates)).kept

    assert gate(shelf, *kept).kept == kept
    assert gate(shelf, *kept).masked == Counter()


@settings(deadline=None, max_examples=60)
@given(CANDIDATES, st.integers(0, 7))
def test_what_is_published_later_takes_no_earlier_ones_place(candidates: list[tuple[str, str, bool, int]], cut: int):
    shelf = Shelf()
    samples = [shelf.sample(text, instruction) for text, instruction, _, _ in candidates]

    before = {sample.id for sample in gate(shelf, *samples[:cut]).kept}
    after = {sample.id for sample in gate(shelf, *samples).kept}

    assert before <= after


@settings(deadline=None, max_examples=40)
@given(CANDIDATES, st.randoms(use_true_random=False))
def test_every_passage_is_kept_or_refused_once_and_the_order_does_not_matter(
    candidates: list[tuple[str, str, bool, int]], chance: random.Random
):
    shelf = Shelf()
    given_passages = [shelf.passage(text, document=f"document-{number}") for text, _, _, number in candidates]
    gated = gate_passages(given_passages, config=CONFIG)

    assert Counter([*(one.key for one in gated.kept), *(refusal.subject for refusal in gated.refused)]) == Counter(
        {one.key for one in given_passages}
    )
    assert gate_passages(gated.kept, config=CONFIG).kept == gated.kept
    chance.shuffle(given_passages)
    assert set(gate_passages(given_passages, config=CONFIG).kept) == set(gated.kept)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(ANSWERS, ANSWERS, INSTRUCTIONS), max_size=6), st.randoms(use_true_random=False))
def test_every_pair_is_kept_or_refused_once_and_no_kept_one_is_equal(
    candidates: list[tuple[str, str, str]], chance: random.Random
):
    shelf = Shelf()
    pairs = [shelf.pair(chosen, rejected, instruction) for chosen, rejected, instruction in candidates]
    gated = gate_pairs(pairs, config=CONFIG, revision_text=shelf.revision_text)

    assert Counter([*(one.id for one in gated.kept), *(refusal.subject for refusal in gated.refused)]) == Counter(
        {one.id for one in pairs}
    )
    assert all(one.chosen.casefold() != one.rejected.casefold() for one in gated.kept)
    assert gate_pairs(gated.kept, config=CONFIG, revision_text=shelf.revision_text).kept == gated.kept
    chance.shuffle(pairs)
    assert set(gate_pairs(pairs, config=CONFIG, revision_text=shelf.revision_text).kept) == set(gated.kept)
