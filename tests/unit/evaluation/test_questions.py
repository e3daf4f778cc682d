"""Questions with known passages: what a file may say, and where its passages are found."""

import json

import pytest

from llm_engineering.domain.entities import TombstoneReason
from llm_engineering.domain.errors import UsageError
from llm_engineering.evaluation.questions import Origin, QuestionLine, Source, read_lines, resolve, to_other_authors
from tests.unit.evaluation.shelf import ADA, BOB, BREAD, LOGS


def line(question, *sources, author=None):
    return QuestionLine(
        question=question, sources=tuple(Source(document=d, quote=q) for d, q in sources), author=author
    )


def written(tmp_path, text):
    (tmp_path / "questions.jsonl").write_text(text, encoding="utf-8")
    return read_lines(tmp_path / "questions.jsonl")


def test_a_line_names_documents_and_quotes_or_nothing_for_an_unanswerable_question(tmp_path):
    full = {"question": "why?", "sources": [{"document": "posts/logs", "quote": "only grows"}], "author": "Ada Winter"}
    lines = written(tmp_path, f"{json.dumps(full)}\n\n{json.dumps({'question': 'who?'})}\n{json.dumps(full)}\n")
    assert lines == [line("why?", ("posts/logs", "only grows"), author="Ada Winter"), line("who?")]


@pytest.mark.parametrize(
    "bad",
    [
        "why?",
        "[1]",
        "{}",
        '{"question": ""}',
        '{"question": "a", "x": 1}',
        '{"question": "a", "sources": [{"quote": "b"}]}',
    ],
)
def test_a_line_that_is_no_question_is_named(tmp_path, bad):
    with pytest.raises(UsageError, match=r"Line 2 of .*questions\.jsonl"):
        written(tmp_path, f'{{"question": "a"}}\n{bad}\n')


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_a_file_without_a_question_is_refused(tmp_path, content):
    with pytest.raises(UsageError, match="holds no question"):
        written(tmp_path, content)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"none\.jsonl cannot be read"):
        read_lines(tmp_path / "none.jsonl")


@pytest.mark.parametrize("name", ["https://ada.example/posts/logs/", "posts/logs", "logs", "/posts/logs.md"])
def test_a_document_is_found_by_its_address_or_the_end_of_it(shelf, name):
    document = shelf.write("https://ada.example/posts/logs/", LOGS)
    shelf.write("https://ada.example/posts/catalogs/", BREAD)
    ((found,), left_out) = resolve([line("why?", (name, ""))], shelf.warehouse)
    assert found.documents == (frozenset({document}),) and not left_out


def test_a_document_is_found_by_its_id_and_a_file_without_its_suffix(shelf):
    document = shelf.write("file:///home/ada/posts/logs.md", LOGS)
    for name in (document, "posts/logs", "posts/logs.md"):
        ((found,), _) = resolve([line("why?", (name, ""))], shelf.warehouse)
        assert found.document_ids == {document}


def test_a_quote_is_found_with_its_white_space_as_it_may_be(shelf):
    shelf.write("https://ada.example/logs", LOGS)
    ((found,), _) = resolve([line("why?", ("logs", "Nobody may edit what stands in it."))], shelf.warehouse)
    (place,) = found.known[0].places
    assert LOGS[place.start : place.end] == "Nobody may edit\nwhat stands in it."


def test_copies_of_a_passage_are_one_passage_with_several_places(shelf):
    ids = {shelf.write(f"https://{host}.example/logs", LOGS) for host in ("one", "two")}
    ((found,), _) = resolve([line("why?", ("logs", "A log only grows."))], shelf.warehouse)
    assert len(found.known) == 1 and found.documents == (frozenset(ids),)


def test_what_is_not_there_any_more_is_left_out_with_the_reason(shelf):
    document = shelf.write("https://ada.example/logs", LOGS)
    shelf.write("https://ada.example/gone", BREAD)
    shelf.warehouse.bury([shelf.write("https://ada.example/gone", BREAD)], reason=TombstoneReason.WITHDRAWN)
    lines = [
        line("a", ("logs", "")),
        line("b", ("logs", "never said")),
        line("c", ("gone", "")),
        line("d", ("else", "")),
    ]
    found, left_out = resolve(lines, shelf.warehouse)
    assert [one.document_ids for one in found] == [{document}]
    assert [left.query for left in left_out] == ["b", "c", "d"]
    assert "no longer stands in logs" in left_out[0].reason and "no document else" in left_out[2].reason


def test_unanswerable_questions_are_asked_beside_answerable_ones_and_alone(shelf):
    shelf.write("https://ada.example/logs", LOGS)
    found, _ = resolve([line("a", ("logs", "")), line("b")], shelf.warehouse)
    assert [one.origin for one in found] == [Origin.KNOWN, Origin.ABSENT]
    assert [one.query for one in resolve([line("b")], shelf.warehouse)[0]] == ["b"]


def test_questions_about_another_corpus_say_nothing_about_this_one(shelf):
    found, left_out = resolve([line("a", ("logs", "")), line("b")], shelf.warehouse)
    assert found == [] and [left.query for left in left_out] == ["a", "b"]


def test_questions_are_put_to_every_author_who_wrote_none_of_their_passages(shelf):
    shelf.write("https://ada.example/logs", LOGS)
    shelf.write("https://bob.example/bread", BREAD, author=BOB)
    lines = [line("of Ada", ("logs", "")), line("of Bob", ("bread", "")), line("of nobody")]
    found, _ = resolve(lines, shelf.warehouse)
    negatives = to_other_authors(found, shelf.warehouse, limit=10, seed=1)
    assert {(one.query, one.author) for one in negatives} == {("of Ada", "Bob Ray"), ("of Bob", "Ada Winter")}
    assert {one.origin for one in negatives} == {Origin.OTHER_AUTHOR} and not any(one.known for one in negatives)


def test_an_author_alone_has_no_negatives_and_a_limit_is_kept_by_seed(shelf):
    shelf.write("https://ada.example/logs", LOGS)
    found, _ = resolve([line(str(number), ("logs", "")) for number in range(9)], shelf.warehouse)
    chosen = to_other_authors(found, shelf.warehouse, limit=4, seed=1)
    assert len(chosen) == 4 and chosen == to_other_authors(found, shelf.warehouse, limit=4, seed=1)
    assert ADA.full_name not in {one.author for one in chosen}
