"""A file of questions answered in batch: every question once, true citations, and a run that goes on where it stopped."""

import asyncio
import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from llm_engineering import bootstrap
from llm_engineering.domain.answers import Question
from llm_engineering.domain.config import EmbeddingConfig, FeatureConfig
from llm_engineering.domain.entities import Author, Draft, Kind
from llm_engineering.domain.errors import ModelUnavailable, StoreUnavailable, UsageError
from llm_engineering.features.sync import sync
from llm_engineering.rag.batch import answer_all, read_questions, state_of
from llm_engineering.settings import load_settings
from tests.doubles.chat_server import ChatServer, fails, says
from tests.doubles.models import FailingModel, LongestFirst, NarrowModel, ScriptedModel
from tests.unit.adapters.openai_calls import use
from tests.unit.rag.library import Library, three_articles

ROOT = Path(__file__).resolve().parents[2]
LOG, OFFSET, FLOUR = (Question(query=text) for text in ("what is a log?", "what is an offset?", "what eats flour?"))


@pytest.fixture
def library(tmp_path):
    library = three_articles(Library(tmp_path))
    yield library
    library.index.close()
    library.warehouse.close()


@pytest.fixture
def run(library, tmp_path):
    """Answers these questions into one file; a name of a state stands for the index's own."""

    def run_once(*questions, model=None, state=None, **options):
        twin = library.twin(model or ScriptedModel("Kafka keeps a log of every event [1]."))
        out = tmp_path / "answers.jsonl"
        return asyncio.run(answer_all(questions, twin, out, state=state or state_of(twin), **options))

    run_once.out = tmp_path / "answers.jsonl"
    return run_once


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def questions_in(tmp_path, text):
    (tmp_path / "questions.txt").write_text(text, encoding="utf-8")
    return read_questions(tmp_path / "questions.txt")


def test_each_question_gets_one_line_in_order_with_citations_and_cost(run):
    report = run(LOG, OFFSET, FLOUR, concurrency=3)
    assert [line["query"] for line in lines(run.out)] == [LOG.query, OFFSET.query, FLOUR.query]
    assert (report.questions, report.answered, report.kept, report.failed) == (3, 3, 0, ())
    first = lines(run.out)[0]
    assert first["grounded"] and first["citations"][0]["quote"] in "Kafka keeps a log of every event."
    assert report.grounded == sum(line["grounded"] for line in lines(run.out))
    assert report.prompt_tokens == sum(line["usage"]["prompt_tokens"] for line in lines(run.out)) > 0


def test_a_second_run_asks_nothing(run):
    run(LOG, OFFSET)
    before = run.out.read_bytes()
    model = ScriptedModel()
    report = run(LOG, OFFSET, model=model)
    assert (model.prompts, report.answered, report.kept, report.prompt_tokens) == ([], 0, 2, 0)
    assert run.out.read_bytes() == before


def test_a_new_question_alone_is_asked(run):
    run(LOG)
    model = ScriptedModel("Consumers remember an offset [1].")
    assert (run(OFFSET, LOG, model=model).kept, len(model.prompts)) == (1, 1)
    assert [line["query"] for line in lines(run.out)] == [OFFSET.query, LOG.query]


def test_a_changed_corpus_is_asked_anew(run, library):
    run(LOG)
    library.write("kafka", "Kafka keeps a log that nobody may edit.")
    library.sync()
    report = run(LOG, model=ScriptedModel("Kafka keeps a log that nobody may edit [1]."))
    assert (report.answered, report.kept) == (1, 0)
    assert [line["answer"] for line in lines(run.out)] == ["Kafka keeps a log that nobody may edit [1]."]


def test_a_sync_that_changes_nothing_keeps_every_answer(run, library):
    run(LOG)
    library.sync()
    assert run(LOG).kept == 1


def test_another_model_or_other_numbers_make_another_state(library):
    other = ScriptedModel()
    other.name = "another"
    twins = [library.twin(), library.twin(other), library.twin(k=2), library.twin(reranker=LongestFirst())]
    elsewhere = replace(library.twin(), endpoint="http://127.0.0.1:8000/v1")
    assert len({state_of(twin) for twin in (*twins, elsewhere)}) == 5


def test_a_new_wording_of_the_prompts_makes_another_state(library, monkeypatch):
    before = state_of(library.twin())
    monkeypatch.setattr("llm_engineering.rag.batch.PROMPTS", 99)
    assert state_of(library.twin()) != before


def test_answers_to_other_questions_stay_in_the_file(run):
    run(LOG)
    run(OFFSET)
    assert [line["query"] for line in lines(run.out)] == [LOG.query, OFFSET.query]


def test_a_run_that_was_killed_goes_on_behind_its_last_whole_line(run):
    run(LOG, OFFSET)
    whole = run.out.read_bytes().splitlines(keepends=True)
    run.out.write_bytes(whole[0] + whole[1][:40])
    report = run(LOG, OFFSET)
    assert (report.answered, report.kept) == (1, 1)
    assert [line["query"] for line in lines(run.out)] == [LOG.query, OFFSET.query]


def test_an_answer_is_on_disk_before_the_next_question_is_asked(run):
    seen = []
    model = ScriptedModel("A log [1].", meanwhile=lambda: seen.append(len(lines(run.out))))
    run(LOG, OFFSET, FLOUR, model=model, concurrency=1)
    assert seen == [0, 1, 2]


def test_a_question_that_is_too_long_for_the_model_is_reported_and_the_file_goes_on(run):
    endless = Question(query="what is a log? " + "a log " * 120)
    report = run(endless, LOG, model=NarrowModel(250, "Kafka keeps a log of every event [1]."))
    assert (report.answered, [one.query for one in report.failed]) == (1, [endless.query])
    assert [line["query"] for line in lines(run.out)] == [LOG.query]


def test_a_question_that_cannot_be_answered_costs_no_other_its_answer(run):
    report = run(Question(query="why?", author="Nobody Here"), LOG)
    assert [(one.query, "Nobody Here" in one.reason) for one in report.failed] == [("why?", True)]
    assert [line["query"] for line in lines(run.out)] == [LOG.query]


def test_a_question_that_a_content_filter_refuses_is_reported_and_the_file_goes_on(library, tmp_path):
    def work(model):
        return answer_all([FLOUR, LOG], library.twin(model), tmp_path / "answers.jsonl", state="s", concurrency=1)

    refusal = fails(400, "The prompt triggered a policy.", code="content_filter")
    with ChatServer(refusal, says("Kafka keeps a log of every event [1].")) as server:
        report = use(server, work)
    assert [(one.query, "content filter" in one.reason) for one in report.failed] == [(FLOUR.query, True)]
    assert [line["query"] for line in lines(tmp_path / "answers.jsonl")] == [LOG.query]


def test_a_model_that_is_down_ends_the_run_and_what_was_answered_stays(run):
    run(LOG)
    with pytest.raises(ModelUnavailable):
        run(LOG, OFFSET, FLOUR, model=FailingModel(), state=lines(run.out)[0]["state"])
    assert [line["query"] for line in lines(run.out)] == [LOG.query]


def cannot_be_opened(out):
    out.symlink_to(out.parent / "no folder" / "answers.jsonl")


def cannot_be_replaced(out):
    out.with_name(f".{out.name}.new").mkdir()


@pytest.mark.parametrize("spoil", [cannot_be_opened, cannot_be_replaced])
def test_answers_that_cannot_be_written_are_one_clear_error(run, spoil):
    spoil(run.out)
    with pytest.raises(StoreUnavailable, match=r"answers\.jsonl cannot be written: .*--out"):
        run(LOG)


def test_a_disk_that_fills_up_while_answering_ends_the_run_with_a_clear_error(run, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreUnavailable, match=r"answers\.jsonl cannot be written: No space left"):
        run(LOG)


def test_progress_counts_every_question(run):
    told = []
    run(LOG, OFFSET, concurrency=1, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]


def test_questions_are_lines_of_text_or_json_each_asked_once(tmp_path):
    text = (
        '\ufeffwhy tombstones?\n\n{"query": "who?", "author": "Ada Winter", "k": 3}\r\nwhy tombstones?\nline\u2028two\n'
    )
    assert questions_in(tmp_path, text) == [
        Question(query="why tombstones?"),
        Question(query="who?", author="Ada Winter", k=3),
        Question(query="line\u2028two"),
    ]


@pytest.mark.parametrize(
    "line",
    ["???", '{"query": "a", "x": 1}', '{"query": 3}', '{"author": "Ada"}', '{"query": "a"', '{"query": "a", "k": 0}'],
)
def test_a_line_that_is_no_question_is_named_and_nothing_is_asked(tmp_path, line):
    with pytest.raises(UsageError, match=r"Line 2 of .*questions\.txt"):
        questions_in(tmp_path, f"why?\n{line}\n")


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_a_file_without_a_question_is_refused(tmp_path, content):
    with pytest.raises(UsageError, match="holds no question"):
        questions_in(tmp_path, content)


@pytest.mark.parametrize("content", ["my notes\n", "my notes", '{"a": 1}\n', "[1]\n"])
def test_a_file_that_holds_something_else_is_never_written_over(run, content):
    run.out.write_text(content)
    with pytest.raises(UsageError, match="no file of answers"):
        run(LOG)
    assert run.out.read_text() == content


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home whose index holds two short articles, made with the product's own encoders."""
    settings = load_settings(twin_home=tmp_path_factory.mktemp("person") / "home")
    bootstrap.prepare_home(settings)
    config = FeatureConfig(embedding=EmbeddingConfig(backend="float32"))  # nothing to convert or to measure first
    ann = Author.named("Ann Lee")
    with bootstrap.open_warehouse(settings) as warehouse, bootstrap.open_index(settings) as index:
        warehouse.save_author(ann)
        for name, text in {
            "watermarks": "The watermark moves last. A sync that is killed before that repeats its work and loses nothing.",
            "bread": "Sourdough bread wants a warm kitchen. The starter eats flour every day.",
        }.items():
            url = f"https://ann.example/{name}"
            draft = Draft(author_id=ann.id, url=url, kind=Kind.ARTICLE, platform="ann", title=name, text=text)
            warehouse.record([draft])
        embedder, sparse = (
            bootstrap.open_embedder(settings, config.embedding),
            bootstrap.open_sparse_encoder(config.sparse),
        )
        sync(
            warehouse,
            index,
            recipe=bootstrap.recipe_for(settings, config, embedder, sparse),
            chunker=bootstrap.chunker_for(config, embedder),
            embedder=embedder,
            sparse=sparse,
            config=config.sync,
        )
    return settings.twin_home


def types(home, *arguments, status=0):
    environment = {
        **{
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("ZENML", "TWIN_HOME", "COV", "LLM", "OPENAI"))
        },
        "TWIN_HOME": str(home),
    }
    command = [sys.executable, "-m", "tools.run", "inference", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done


def test_the_pipeline_answers_a_file_with_the_offline_model(home, tmp_path):
    asked = tmp_path / "questions.txt"
    asked.write_text("What happens when a sync is killed before the watermark moves?\n")
    told = types(home, "--questions", asked).stdout
    assert "1 answered, 0 answered before, 0 failed" in told
    (answer,) = lines(tmp_path / "questions.answers.jsonl")
    assert answer["grounded"] and answer["model"].startswith("offline")
    assert {citation["url"] for citation in answer["citations"]} == {"https://ann.example/watermarks"}


def test_a_file_of_questions_that_is_not_there_is_one_clear_line(tmp_path):
    done = types(tmp_path / "home", "--questions", tmp_path / "none.txt", status=2)
    assert "none.txt cannot be read" in done.stderr.splitlines()[-1]


def test_an_answers_file_that_cannot_be_written_is_said_without_blaming_the_orchestrator(home, tmp_path):
    (tmp_path / "questions.txt").write_text("What happens when a sync is killed before the watermark moves?\n")
    cannot_be_opened(tmp_path / "out.jsonl")
    told = types(home, "--questions", tmp_path / "questions.txt", "--out", tmp_path / "out.jsonl", status=1).stderr
    assert "out.jsonl cannot be written" in told and "ZenML" not in told
