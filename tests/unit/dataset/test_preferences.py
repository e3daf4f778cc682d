"""Preference pairs: the author's own words against what models write, balanced in length and format, and what people judged."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_engineering.adapters.openai import OpenAIChatModel
from llm_engineering.adapters.sqlite import SQLiteWarehouse
from llm_engineering.dataset.bias import balanced, bias_of, cut_to, in_the_format_of
from llm_engineering.dataset.preferences import Preferred, Rival, estimate_pairs, prefer
from llm_engineering.dataset.votes import from_feedback
from llm_engineering.domain.answers import Feedback
from llm_engineering.domain.chat import voice_prompt
from llm_engineering.domain.config import ChatConfig, Sampling
from llm_engineering.domain.dataset_config import PreferenceConfig, TeacherConfig
from llm_engineering.domain.ports import ChatModel
from llm_engineering.domain.samples import InstructionStyle, Pair, PairSource, Sample
from tests.doubles.chat_server import ChatServer, Turn, fails, says
from tests.doubles.teaching import Teacher, passages

BASE, TWIN, OTHER, JUDGE = PairSource.BASE, PairSource.TWIN, PairSource.OTHER, PairSource.JUDGE
GENERIC = (
    "There are many reasons why this matters to people all over the world today. It is important to keep in mind that every "
    "situation is different from the others. In the end, success depends on the right choices at the right time."
)
"""About as long as the passages of the double."""


@pytest.fixture
def warehouse(tmp_path: Path) -> Iterator[SQLiteWarehouse]:
    with closing(SQLiteWarehouse(tmp_path / "warehouse.sqlite")) as opened:
        yield opened


@pytest.fixture
def samples(warehouse) -> list[Sample]:
    return [
        Sample.of(passage, f"Subject {number}?", style=InstructionStyle.ASK, written_by="rules")
        for number, passage in enumerate(passages(8, warehouse))
    ]


def config(*sources: PairSource, **more) -> PreferenceConfig:
    return PreferenceConfig(sources=sources, **({"tolerance": 0.5} | more))


def preferred(samples: Sequence[Sample], warehouse, given: PreferenceConfig, *rivals: Rival, judge=None) -> Preferred:
    async def run() -> Preferred:
        try:
            async with asyncio.timeout(60):
                return await prefer(samples, rivals=rivals, warehouse=warehouse, config=given, judge=judge)
        finally:
            for rival in rivals:
                await rival.model.close()

    return asyncio.run(run())


def writer(reply: str | Callable[[str], str] = GENERIC, name: str = "base-model") -> Teacher:
    model = Teacher(reply if callable(reply) else lambda _: reply)
    model.name = name
    return model


def reasons(result: Preferred) -> dict[str, int]:
    return dict(Counter(refusal.reason for refusal in result.refusals))


# generated


def test_chosen_is_the_authors_passage_untouched_and_rejected_answers_the_same_instruction(samples, warehouse):
    result = preferred(samples, warehouse, config(BASE), Rival(BASE, writer()))
    assert [(pair.instruction, pair.chosen, pair.rejected) for pair in result.pairs] == [
        (sample.instruction, sample.answer, GENERIC) for sample in samples
    ]
    assert {(pair.source, pair.rejected_by) for pair in result.pairs} == {(BASE, "base-model")}
    assert [pair.provenance for pair in result.pairs] == [sample.provenance for sample in samples]


def test_the_twin_is_asked_in_the_words_that_it_is_trained_on_and_the_weaker_prompt_names_nobody(samples, warehouse):
    twin, other = writer(name="twin"), writer(name="other")
    preferred(samples[:1], warehouse, config(TWIN, OTHER), Rival(TWIN, twin), Rival(OTHER, other, weaker=True))
    expected = voice_prompt(samples[0].instruction, author="Ann Lee")
    assert twin.asked == ["\n\n".join(message.content for message in expected.messages)]
    assert "Ann Lee" not in other.asked[0]
    assert re.search(r"Write about \d+ words\.", other.asked[0])


def test_each_source_and_each_further_answer_makes_a_pair_of_its_own(samples, warehouse):
    numbers = iter(range(1000))
    rivals = [Rival(source, writer(lambda _: f"{GENERIC} {next(numbers)}.", source)) for source in (BASE, TWIN)]
    result = preferred(samples, warehouse, config(BASE, TWIN, per_sample=2), *rivals)
    assert Counter(pair.source for pair in result.pairs) == {BASE: 16, TWIN: 16}
    assert len({pair.id for pair in result.pairs}) == 32


def test_the_same_answer_of_two_rivals_is_one_pair_and_one_refusal(samples, warehouse):
    result = preferred(samples, warehouse, config(BASE, TWIN), Rival(BASE, writer()), Rival(TWIN, writer(name="twin")))
    assert (len(result.pairs), reasons(result)) == (8, {"duplicate": 8})


def test_a_rephrased_sample_gets_no_pair(samples, warehouse):
    passage = passages(1, warehouse)[0]
    rephrased = Sample.of(passage, "Why?", style=InstructionStyle.ASK, written_by="teacher", answer="Because of this.")
    assert preferred([rephrased], warehouse, config(BASE), Rival(BASE, writer())).pairs == ()


def test_a_second_run_is_free_and_a_budget_is_for_all_models_together(samples, warehouse):
    calls = TeacherConfig(max_calls=10, concurrency=1, sampling=Sampling(max_tokens=300))
    models = [writer(name="one"), writer(f"Lately: {GENERIC}", name="two")]
    rivals = [Rival(BASE, models[0]), Rival(TWIN, models[1])]
    first = preferred(samples, warehouse, config(BASE, TWIN, calls=calls), *rivals)
    assert (first.cost.calls, len(first.pairs), reasons(first)) == (10, 10, {"budget": 6})
    second = preferred(samples, warehouse, config(BASE, TWIN, calls=calls), *rivals)
    assert (second.cost.calls, second.cost.replayed, len(second.pairs)) == (6, 10, 16)
    assert sum(len(model.asked) for model in models) == 16


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("   ", "empty-reply"),
        ("I'm sorry, but I can't write that.", "model-refusal"),
        ('{"answer": "' + GENERIC + '"}', "malformed"),
        (GENERIC[:60], "length-ratio"),
        (GENERIC.removesuffix(".") + " and so", "cut-off"),
        (
            "Es gibt viele Gründe, warum das für Menschen auf der ganzen Welt heute wichtig ist, und jeder Fall ist anders als "
            "der andere. Am Ende hängt der Erfolg von den richtigen Entscheidungen zur richtigen Zeit ab, sagt man.",
            "other-language",
        ),
    ],
)
def test_an_answer_that_is_not_well_formed_is_refused_with_its_reason(samples, warehouse, reply, reason):
    result = preferred(samples, warehouse, config(BASE), Rival(BASE, writer(reply)))
    assert (result.pairs, reasons(result)) == ((), {reason: 8})


def test_an_answer_that_is_the_authors_own_is_refused(samples, warehouse):
    own = {sample.instruction: sample.answer for sample in samples}
    model = writer(lambda prompt: own[prompt.rpartition("Task: ")[2]].upper())
    assert reasons(preferred(samples, warehouse, config(TWIN), Rival(TWIN, model))) == {"chosen-equals-rejected": 8}


def test_a_rival_that_fails_costs_only_its_own_pairs(samples, warehouse):
    with ChatServer(says(GENERIC), fails(429, retry_after=3600), Turn(delay=60), says(GENERIC)) as server:
        model = OpenAIChatModel(server.url, "double", None, ChatConfig(retries=0, timeout=5))
        calls = TeacherConfig(concurrency=1)
        result = preferred(samples[:5], warehouse, config(BASE, calls=calls), Rival(BASE, model))
    assert (len(result.pairs), reasons(result)) == (3, {"rate-limited": 1, "timed-out": 1})


def test_a_dry_run_asks_nothing_counts_every_prompt_and_bounds_the_cost(samples, warehouse):
    calls = TeacherConfig(prompt_price=1e6, completion_price=1e6, sampling=Sampling(max_tokens=300))
    given = config(BASE, TWIN, JUDGE, calls=calls)
    rivals = two_writers()
    model = judge(lambda first, _: "first" if first.startswith("Lately") else "second")
    expected = estimate_pairs(samples, rivals=rivals, warehouse=warehouse, config=given, judge=model)
    assert (expected.prompts, expected.replayed, model.asked) == (8 + 8 + 16, 0, [])
    result = preferred(samples, warehouse, given, *rivals, judge=model)
    assert result.cost.calls == expected.prompts
    assert result.cost.money <= expected.most
    again = estimate_pairs(samples, rivals=rivals, warehouse=warehouse, config=given, judge=model)
    assert (again.prompts, again.replayed) == (16, 16)  # what a judge reads is not known before it is written


# length and format


def test_a_reply_that_is_too_long_ends_with_a_sentence(samples, warehouse):
    result = preferred(samples, warehouse, config(BASE, length_ratio=1.2), Rival(BASE, writer(f"{GENERIC} {GENERIC}")))
    assert len(result.pairs) == 8
    for pair in result.pairs:
        assert len(pair.rejected) <= 1.2 * len(pair.chosen)
        assert pair.rejected.endswith(".")


def test_longer_answers_of_a_model_are_cut_until_half_of_the_chosen_are_longer(samples, warehouse):
    longer = f"{GENERIC} That is why one should never forget it."
    result = preferred(samples, warehouse, config(BASE, tolerance=0.05), Rival(BASE, writer(longer)))
    assert result.bias_before.chosen_longer == 0
    assert 0.4 <= result.bias.chosen_longer <= 0.6
    assert (len(result.pairs), result.refusals) == (8, ())


def test_of_too_many_shorter_answers_the_most_unequal_go(samples, warehouse):
    lengths = {sample.instruction: number for number, sample in enumerate(samples)}

    def mixed(prompt: str) -> str:
        number = lengths[prompt.rpartition("Task: ")[2]]
        return f"{GENERIC} That is why one should never forget it." if number < 2 else GENERIC[: -20 * number] + "."

    result = preferred(samples, warehouse, config(BASE, length_ratio=3.0, tolerance=0.05), Rival(BASE, writer(mixed)))
    assert result.bias.chosen_longer <= 0.6
    assert reasons(result) == {"length-balance": 3}
    assert max(lengths[pair.instruction] for pair in result.pairs) < 5


def judged(number: int, chosen: int, rejected: int) -> Pair:
    """Answers of these lengths."""
    better, worse = "a" * chosen, "b " * (rejected // 2) + "." * (rejected % 2)
    return Pair.judged(f"{number}?", better, worse, source=BASE, rejected_by="m")


@settings(max_examples=60, derandomize=True, deadline=None)
@given(
    lengths=st.lists(st.tuples(st.integers(5, 60), st.integers(5, 60)), max_size=30),
    tolerance=st.sampled_from([0, 0.05, 0.2]),
)
def test_after_balancing_the_share_is_near_one_half_and_every_pair_is_accounted_for(lengths, tolerance):
    given_pairs = [judged(number, *sizes) for number, sizes in enumerate(lengths)]
    kept, dropped = balanced(given_pairs, tolerance=tolerance, length_ratio=2.0)
    assert sorted(each.id for each in (*kept, *dropped)) == sorted(each.id for each in given_pairs)
    allowed = max(1, int(2 * tolerance * len(kept)))
    assert abs(bias_of(kept).chosen_longer - 0.5) * 2 * len(kept) <= allowed + 1e-6
    assert balanced(kept, tolerance=tolerance, length_ratio=2.0) == (kept, [])


def test_what_a_person_or_a_judge_has_seen_is_never_cut():
    pairs = [judged(number, 20, 40) for number in range(9)]
    kept, dropped = balanced(pairs, tolerance=0.0, length_ratio=2.0)
    assert {len(each.rejected) for each in (*kept, *dropped)} == {40}


def test_bias_of_form_is_measured_on_both_sides():
    pairs = [
        Pair.judged("1?", "Plain words.", "# Heading\n\n- one\n- **two**", source=BASE, rejected_by="m"),
        Pair.judged("2?", "Longer than the other.", "Short.", source=BASE, rejected_by="m"),
    ]
    bias = bias_of(pairs)
    assert (bias.pairs, bias.chosen_longer) == (2, 0.5)
    assert bias.formats == {"headings": (0, 0.5), "lists": (0, 0.5), "bold": (0, 0.5), "code": (0, 0)}


def test_what_would_tell_a_model_from_the_author_at_a_glance_goes():
    reply = "<think>Hm.</think>Sure! Here is the text:\n\n# Title\n\n- **First**, this.\n- Then that."
    assert in_the_format_of("The author writes prose.", reply) == "Title\n\nFirst, this.\nThen that."


def test_format_that_the_author_uses_too_stays_and_the_authors_heading_is_put_before_the_reply():
    chosen = "## On logs\n\n- **They** grow."
    assert in_the_format_of(chosen, "- **One** thing.\n- Another.") == "## On logs\n\n- **One** thing.\n- Another."


@pytest.mark.parametrize(("most", "left"), [(100, "One. Two? Three!"), (11, "One. Two?"), (5, "One."), (3, "")])
def test_cutting_ends_with_a_sentence(most, left):
    assert cut_to("One. Two? Three!", most) == left


# judged by a model


def judge(prefers: Callable[[str, str], str]) -> Teacher:
    def verdict(prompt: str) -> str:
        first, second = re.findall(r'<example name="\w+">\n(.*?)\n</example>', prompt, re.DOTALL)
        return json.dumps({"better": prefers(first, second)})

    model = Teacher(verdict)
    model.name = "judge"
    return model


def two_writers() -> tuple[Rival, Rival]:
    return Rival(BASE, writer(GENERIC, "plain")), Rival(TWIN, writer(f"Lately: {GENERIC}", "twin"))


def test_a_judge_sees_both_orders_and_the_same_preference_in_both_makes_a_pair(samples, warehouse):
    model = judge(lambda first, second: "first" if first.startswith("Lately") else "second")
    result = preferred(samples, warehouse, config(JUDGE), *two_writers(), judge=model)
    assert len(model.asked) == 16
    assert {(pair.chosen, pair.rejected, pair.rejected_by, pair.source) for pair in result.pairs} == {
        (f"Lately: {GENERIC}", GENERIC, "plain", JUDGE)
    }
    assert [pair.document_ids for pair in result.pairs] == [(sample.provenance.document_id,) for sample in samples]
    assert {pair.provenance for pair in result.pairs} == {None}


@pytest.mark.parametrize(("answer", "reason"), [("first", "judge-turned"), ("neither", "judge-undecided")])
def test_a_judge_of_places_or_of_nothing_makes_no_pair(samples, warehouse, answer, reason):
    result = preferred(samples, warehouse, config(JUDGE), *two_writers(), judge=judge(lambda *_: answer))
    assert (result.pairs, reasons(result)) == ((), {reason: 8})


def test_answers_of_too_different_lengths_are_not_shown_to_a_judge(samples, warehouse):
    rivals = (
        Rival(BASE, writer(GENERIC[:150] + ".", "short")),
        Rival(TWIN, writer(f"{GENERIC} {GENERIC[:60]}.", "long")),
    )
    model = judge(lambda *_: "first")
    result = preferred(samples, warehouse, config(JUDGE, length_ratio=1.7), *rivals, judge=model)
    assert (model.asked, reasons(result)) == ([], {"length-ratio": 8})


def test_a_judge_without_a_verdict_costs_only_that_pair(samples, warehouse):
    broken = judge(lambda first, _: "first" if first.startswith("Lately") else "second")
    verdict = broken._replies
    broken._replies = lambda prompt: "hm" if "Subject 3?" in prompt else verdict(prompt)
    result = preferred(samples, warehouse, config(JUDGE), *two_writers(), judge=broken)
    assert (len(result.pairs), reasons(result)) == (7, {"malformed-reply": 1})


def test_one_model_may_compete_with_itself_and_judge(samples, warehouse):
    numbers = iter(range(100))
    verdict = judge(lambda first, second: "first" if first > second else "second")._replies
    model: ChatModel = writer(lambda prompt: verdict(prompt) if "<example" in prompt else f"{GENERIC} {next(numbers)}!")
    result = preferred(samples, warehouse, config(JUDGE), Rival(BASE, model), judge=model)
    assert len(result.pairs) == 8


# judged by people


def vote(request: str, direction: str, answer: str, better: str | None = None, query: str = "Why?") -> Feedback:
    return Feedback(
        request_id=request,
        vote=direction,
        query=query,
        answer=answer,
        better_answer=better,
        document_ids=("d", request),
    )


def test_a_better_answer_is_preferred_to_the_one_that_was_given_without_the_markers_of_either():
    (made,) = from_feedback([vote("r", "down", "It is old [1][2].", "It is new [1].")]).pairs
    assert (made.instruction, made.chosen, made.rejected) == ("Why?", "It is new.", "It is old.")
    assert (made.source, made.provenance, made.document_ids) == (PairSource.FEEDBACK, None, ("d", "r"))


def test_an_answer_voted_up_is_preferred_to_one_voted_down_on_the_same_question():
    votes = [vote("a", "up", "Good."), vote("b", "down", "Bad.", query="WHY?"), vote("c", "down", "Worse.")]
    result = from_feedback(votes)
    assert [(made.chosen, made.rejected, made.document_ids) for made in result.pairs] == [
        ("Good.", "Bad.", ("d", "a", "b"))
    ]
    assert [(refusal.subject, refusal.reason) for refusal in result.refusals] == [("c", "unpaired-vote")]


def test_a_better_answer_that_says_the_same_makes_no_pair():
    assert reasons(from_feedback([vote("a", "up", "Good [1].", "good")])) == {"chosen-equals-rejected": 1}


def test_every_vote_is_a_pair_or_a_refusal():
    votes = [vote(str(n), "up" if n % 3 else "down", f"Answer {n}.", query=f"{n % 4}?") for n in range(20)]
    result = from_feedback(votes)
    assert 2 * len(result.pairs) + len(result.refusals) == 20


def test_better_answers_that_are_mostly_the_longer_ones_are_balanced_by_leaving_some_out():
    votes = [
        vote(str(n), "down", "Short answer here.", f"A longer answer no {n}." if n < 9 else "A short one.")
        for n in range(12)
    ]
    votes = [each.model_copy(update={"query": f"{each.request_id}?"}) for each in votes]
    result = from_feedback(votes)
    assert (result.bias_before.pairs, result.bias_before.chosen_longer) == (12, 0.75)
    assert abs(result.bias.chosen_longer - 0.5) <= 0.1
    assert reasons(result) == {"length-balance": 12 - len(result.pairs)}
    assert len(from_feedback(votes, PreferenceConfig(tolerance=0.5)).pairs) == 12


def test_a_vote_whose_answers_differ_too_much_in_length_is_refused_before_the_others_are_balanced():
    votes = [vote("a", "down", "Bad.", "A very much longer and better answer.")]
    assert reasons(from_feedback(votes)) == {"length-ratio": 1}


def test_the_same_vote_twice_makes_one_pair_and_one_refusal():
    votes = [vote(name, "down", "Old.", "New.") for name in "ab"]
    result = from_feedback(votes)
    assert (len(result.pairs), reasons(result)) == (1, {"duplicate": 1})
