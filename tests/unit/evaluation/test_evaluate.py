"""Questions through search and answers to findings; and the sample corpus's own file of questions."""

import asyncio
from pathlib import Path

import pytest

from examples.sample import posts
from llm_engineering.domain.evaluation_config import EvaluationConfig
from llm_engineering.evaluation.evaluate import evaluate
from llm_engineering.evaluation.questions import Origin, QuestionLine, Source, read_lines, resolve
from tests.unit.evaluation.shelf import BOB, BREAD, LOGS, answer, citation, hit

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
CONFIG = EvaluationConfig(resamples=100)


class Twin:
    """Finds what it is told to find and quotes the first sentence of Ada's article, whoever is asked."""

    def __init__(self, shelf):
        self.logs = shelf.write("https://ada.example/logs", LOGS)
        self.searched, self.asked = [], []

    def search(self, one):
        self.searched.append(one.query)
        return [hit("another"), hit(self.logs)]

    async def ask(self, one):
        self.asked.append((one.query, one.author))
        return answer(citation(self.logs, LOGS, "A log only grows."))


def run(shelf, *lines, twin=None, shown=2):
    twin = twin or Twin(shelf)
    return asyncio.run(
        evaluate(
            lines,
            warehouse=shelf.warehouse,
            search=twin.search,
            ask=twin.ask,
            shown=shown,
            config=CONFIG,
            facts={"model": "scripted"},
        )
    )


def line(question, *documents):
    return QuestionLine(question=question, sources=tuple(Source(document=document) for document in documents))


def figures(found):
    return {figure.name: figure.interval and figure.interval.mean for part in found.parts for figure in part.figures}


def test_every_question_is_searched_for_and_asked_and_negatives_are_only_asked(shelf):
    twin = Twin(shelf)
    shelf.write("https://bob.example/bread", BREAD, author=BOB)
    found = run(shelf, line("logs?", "logs"), line("who?"), twin=twin)
    assert twin.searched == ["logs?"]
    assert sorted(twin.asked, key=str) == [("logs?", "Bob Ray"), ("logs?", None), ("who?", None)]
    assert figures(found)["MRR@10, documents"] == 0.5
    assert figures(found)["cites a known document"] == 1
    assert figures(found)["declined: not in the corpus"] == figures(found)["declined: another author's question"] == 0
    assert found.facts == {"model": "scripted"}


def test_a_document_below_what_answering_starts_from_does_not_count_as_retrieved(shelf):
    assert figures(run(shelf, line("logs?", "logs"), shown=1))["cites a known document"] is None


def test_questions_about_another_corpus_are_nothing_to_evaluate(shelf):
    twin = Twin(shelf)
    found = run(shelf, line("a", "not here"), line("b"), twin=twin)
    assert all("none of the 2 questions" in part.missing and not part.figures for part in found.parts)
    assert [left.query for left in found.left_out] == ["a", "b"] and not twin.asked


@pytest.mark.parametrize("state", ["v1", "v2"])
def test_every_passage_of_the_sample_questions_stands_once_in_the_sample_corpus(shelf, state):
    for slug, post in posts(state).items():
        shelf.write(f"http://127.0.0.1:8000/posts/{slug}/", post.text)
    for file in (*EXAMPLES.glob("notes/*.md"), EXAMPLES / "repo" / "README.md"):
        shelf.write(file.as_uri(), file.read_text(encoding="utf-8"))
    asked, left_out = resolve(read_lines(EXAMPLES / "evaluation.jsonl"), shelf.warehouse)
    assert not left_out
    assert all(len(known.places) == 1 and known.quoted for one in asked for known in one.known)
    assert sum(one.origin is Origin.KNOWN for one in asked) >= 20
    assert sum(one.origin is Origin.ABSENT for one in asked) >= 8
