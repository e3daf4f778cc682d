"""An answer is judged by what it cites and when it stays silent; each citation by the warehouse as it is now."""

import asyncio

import pytest

from llm_engineering.domain.entities import TombstoneReason
from llm_engineering.domain.errors import ModelUnavailable, PromptTooLong, UnknownAuthor
from llm_engineering.domain.evaluation_config import EvaluationConfig
from llm_engineering.evaluation.groundedness import ask_all, groundedness, judge
from llm_engineering.evaluation.questions import Origin
from tests.unit.evaluation.shelf import BREAD, LOGS, answer, asked, citation, known

CONFIG = EvaluationConfig(resamples=100)


@pytest.fixture
def logs(shelf):
    return shelf.write("https://ada.example/logs", LOGS)


@pytest.fixture
def bread(shelf):
    return shelf.write("https://ada.example/bread", BREAD)


def summary(*judged):
    part = groundedness(judged, config=CONFIG)
    return part, {figure.name: figure.interval and round(figure.interval.mean, 3) for figure in part.figures}


def test_citations_are_compared_with_the_known_documents_and_passages(shelf, logs, bread):
    one = asked(known(logs, start=0, end=6), known(logs, start=8, end=25), known(bread, start=0, end=9))
    given = answer(citation(logs, LOGS, "A log only grows."), citation(logs, LOGS, "Nobody may edit", marker=2))
    judged = judge(one, given, warehouse=shelf.warehouse)
    assert (judged.citations, judged.relevant, judged.wrong) == (2, 2, ())
    assert judged.documents == 0.5 and judged.passages == pytest.approx(1 / 3)


def test_a_citation_beside_every_known_document_costs_precision_and_is_not_wrong(shelf, logs, bread):
    given = answer(citation(logs, LOGS, "A log only grows."), citation(bread, BREAD, "Sourdough", marker=2))
    judged = judge(asked(known(logs)), given, warehouse=shelf.warehouse)
    part, figures = summary(judged)
    assert figures["citation precision"] == 0.5 and figures["citation recall, documents"] == 1
    assert part.counts["wrong or invented citations"] == 0


def test_a_citation_is_true_only_of_words_that_stand_there_now(shelf, logs):
    right = citation(logs, LOGS, "A log only grows.")
    for changed, reason in (
        ({"quote": "A log only shrinks"}, "do not stand there"),
        ({"start": right.start + 1, "end": right.end + 1}, "do not stand there"),
        ({"quote": " ", "start": right.start + 1, "end": right.start + 2}, "do not stand there"),
        ({"revision": 2}, "another revision"),
        ({"document_id": "0f0c6b1e-0000-5000-8000-000000000000"}, "no such document"),
    ):
        judged = judge(asked(known(logs)), answer(right.model_copy(update=changed)), warehouse=shelf.warehouse)
        assert [reason in told for told in judged.wrong] == [True]


def test_a_source_that_was_edited_or_deleted_since_is_counted_as_wrong(shelf, logs, bread):
    shelf.write("https://ada.example/logs", "A log only grows. Or does it?")
    shelf.warehouse.bury([bread], reason=TombstoneReason.WITHDRAWN)
    given = answer(citation(logs, LOGS, "A log only grows."), citation(bread, BREAD, "Sourdough", marker=2))
    wrong = judge(asked(known(logs)), given, warehouse=shelf.warehouse).wrong
    assert "another revision" in wrong[0] and "deleted" in wrong[1]


def test_a_marker_without_a_citation_is_invented_unless_it_is_code_or_a_link(shelf, logs):
    quoted = citation(logs, LOGS, "A log only grows.")
    told = answer(quoted, text="It grows [1][7]. See `row[3]` and [4](https://ada.example).")
    assert judge(asked(known(logs)), told, warehouse=shelf.warehouse).wrong == ("[7] has no citation",)


def test_citations_that_answering_took_out_itself_are_counted_apart(shelf, logs):
    given = answer(citation(logs, LOGS, "A log only grows.")).model_copy(update={"removed_markers": 2})
    part, _ = summary(judge(asked(known(logs)), given, warehouse=shelf.warehouse))
    assert part.counts["citations taken out before the answer was given"] == 2
    assert part.counts["wrong or invented citations"] == 0


def test_silence_is_right_for_negatives_and_counts_against_known_questions(shelf, logs):
    quoted = answer(citation(logs, LOGS, "A log only grows."))
    questions = [
        (asked(known(logs), query="answered"), quoted, True),
        (asked(known(logs), query="declined"), answer(), True),
        (asked(known(logs), query="not found"), answer(), False),
        (asked(origin=Origin.ABSENT, query="absent"), answer(), None),
        (asked(origin=Origin.OTHER_AUTHOR, query="of Bob", author="Ada Winter"), quoted, None),
    ]
    part, figures = summary(
        *(judge(one, given, warehouse=shelf.warehouse, retrieved=found) for one, given, found in questions)
    )
    assert figures["cites a known document"] == 0.5
    assert figures["answered"] == pytest.approx(1 / 3, abs=1e-3)
    assert figures["declined: not in the corpus"] == 1 and figures["declined: another author's question"] == 0
    assert part.findings["Retrieved, and nothing of it cited"] == ("declined (declined)",)
    assert part.findings["Answered, although nothing is known to answer it"] == (
        "of Bob (another author's question, asked of Ada Winter)",
    )


@pytest.mark.parametrize("error", [UnknownAuthor("No author named 'X'"), PromptTooLong("It reads 64 tokens")])
def test_every_question_is_asked_and_one_that_cannot_be_is_told(shelf, logs, error):
    async def ask(one):
        if one.query == "bad":
            raise error
        return answer(citation(logs, LOGS, "A log only grows."))

    questions = [asked(known(logs), query=query) for query in ("a", "bad", "c")]
    told = []
    judged = asyncio.run(
        ask_all(
            questions,
            ask,
            warehouse=shelf.warehouse,
            retrieved=[True] * 3,
            progress=lambda done, total: told.append((done, total)),
        )
    )
    assert [one.query for one in judged] == ["a", "bad", "c"] and sorted(told) == [(1, 3), (2, 3), (3, 3)]
    part, figures = summary(*judged)
    assert figures["answered"] == 1 and part.counts["failed"] == 1
    assert part.findings["Failed"] == (f"bad: {error}",)


def test_a_model_that_is_down_ends_the_evaluation(shelf, logs):
    async def ask(one):
        raise ModelUnavailable("The model is down")

    with pytest.raises(ModelUnavailable):
        asyncio.run(ask_all([asked(known(logs))], ask, warehouse=shelf.warehouse, retrieved=[True]))


def test_nothing_asked_gives_no_figure(shelf):
    assert asyncio.run(ask_all([], None, warehouse=shelf.warehouse, retrieved=[])) == []
    assert set(summary()[1].values()) == {None}
