"""Money: nothing is spent that was not allowed, and what a run will cost is known before its first call."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from llm_engineering.adapters.openai import OpenAIChatModel
from llm_engineering.adapters.sqlite import SQLiteWarehouse
from llm_engineering.dataset.asking import Request
from llm_engineering.dataset.budget import Budget, Cost, price
from llm_engineering.dataset.teach import Instruction, Lesson, estimate
from llm_engineering.domain.config import ChatConfig, Sampling
from llm_engineering.domain.dataset_config import TeacherConfig
from llm_engineering.domain.ports import ChatModel
from llm_engineering.domain.samples import InstructionStyle
from tests.doubles.chat_server import ChatServer, fails, says
from tests.doubles.teaching import Teacher, from_request, lessons, passages, taught

DEAR = {"prompt_price": 1_000_000.0, "completion_price": 2_000_000.0}
"""A token read costs one, a token written two."""
SHORT = Sampling(max_tokens=100)


@pytest.fixture
def warehouse(tmp_path: Path) -> Iterator[SQLiteWarehouse]:
    with closing(SQLiteWarehouse(tmp_path / "warehouse.sqlite")) as opened:
        yield opened


def most_of_one(lesson: Lesson, teacher: ChatModel, config: TeacherConfig) -> float:
    documents = (lesson.passage.provenance.document_id,)
    request = Request(lesson.template, lesson.prompt(), Instruction, config.sampling, documents)
    return price(request.most_tokens(teacher.count_tokens), config)


def test_the_price_of_tokens_is_by_the_million():
    assert price((2_000_000, 500_000), TeacherConfig(prompt_price=0.5, completion_price=2)) == 2.0


def test_a_budget_that_nothing_could_reach_is_refused():
    with pytest.raises(ValidationError, match="prompt_price and completion_price"):
        TeacherConfig(budget=5)


def test_a_run_stops_before_the_call_that_would_exceed_the_budget_and_keeps_what_is_there(warehouse):
    planned, teacher = lessons(passages(10, warehouse)), Teacher(tokens=(100, 20))
    config = TeacherConfig(concurrency=1, sampling=SHORT, **DEAR)
    most = most_of_one(planned[0], teacher, config)
    result = taught(planned, teacher, warehouse, config.model_copy(update={"budget": most + 2 * 140}))
    assert (len(result.samples), result.cost.calls, result.cost.money) == (3, 3, 3 * 140)
    assert result.cost.stopped == "budget"
    assert Counter(refusal.reason for refusal in result.refusals) == {"budget": 7}


def test_more_money_goes_on_where_the_last_run_stopped(warehouse):
    planned, config = lessons(passages(6, warehouse)), TeacherConfig(concurrency=2)
    first = taught(planned, Teacher(), warehouse, config.model_copy(update={"max_calls": 4}))
    second = taught(planned, Teacher(), warehouse, config)
    assert (first.cost.calls, first.cost.stopped, len(first.samples)) == (4, "budget", 4)
    assert (second.cost.calls, second.cost.replayed, len(second.samples)) == (2, 4, 6)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(
    budget=st.floats(0, 20_000), read=st.integers(1, 900), written=st.integers(1, 200), concurrency=st.integers(1, 6)
)
def test_no_run_ever_spends_more_than_its_budget(tmp_path, budget, read, written, concurrency):
    with closing(SQLiteWarehouse(tmp_path / f"{budget}-{read}-{written}-{concurrency}.sqlite")) as warehouse:
        planned, teacher = lessons(passages(12, warehouse)), Teacher(tokens=(read, written))
        config = TeacherConfig(concurrency=concurrency, sampling=SHORT, budget=budget, **DEAR)
        result = taught(planned, teacher, warehouse, config)
    assert result.cost.money <= budget
    assert len(result.samples) + len(result.refusals) == 12


def test_calls_under_way_may_turn_out_cheaper_than_they_could_have_been():
    async def run() -> list[bool]:
        budget = Budget(TeacherConfig(budget=10, prompt_price=1))
        assert await budget.reserve(8)
        waiting = asyncio.create_task(budget.reserve(8))
        await asyncio.sleep(0)
        assert not waiting.done()
        await budget.settle(8, 2)
        return [await waiting, await asyncio.wait_for(settle_then_ask(budget), 5)]

    async def settle_then_ask(budget: Budget) -> bool:
        await budget.settle(8, 8)
        return await budget.reserve(1)

    assert asyncio.run(run()) == [True, False]


def test_a_reply_that_took_a_repair_round_or_was_of_no_use_is_paid_for(warehouse):
    config = TeacherConfig(concurrency=1, **DEAR)
    result = taught(lessons(passages(2, warehouse)), Teacher(lambda _: "no", tokens=(50, 5)), warehouse, config)
    assert (result.samples, result.cost.money) == ((), 2 * 60)


def test_a_server_that_gives_no_counts_is_charged_by_the_estimate(warehouse):
    result = taught(lessons(passages(1, warehouse)), Teacher(tokens=(0, 0)), warehouse, TeacherConfig(**DEAR))
    assert result.cost.prompt_tokens > 200
    assert result.cost.money == result.cost.prompt_tokens + 2 * result.cost.completion_tokens


@pytest.mark.parametrize(
    "replies",
    [
        pytest.param((says("no", usage=False),), id="never of use"),
        pytest.param((says("no", usage=False), says(from_request, usage=False)) * 9, id="of use when repaired"),
        pytest.param((says("", usage=False),), id="empty"),
        pytest.param((says("no", usage=False), fails(400, "maximum context length is 10 tokens")) * 9, id="no room"),
    ],
)
def test_a_server_that_gives_no_counts_reaches_the_budget_whatever_its_replies_are_worth(warehouse, replies):
    planned, config = lessons(passages(9, warehouse)), TeacherConfig(concurrency=1, sampling=SHORT, **DEAR)
    with ChatServer(*replies) as server:
        model = OpenAIChatModel(server.url, "double", None, ChatConfig(retries=0))
        budget = 2.5 * max(most_of_one(lesson, model, config) for lesson in planned)
        result = taught(planned, model, warehouse, config.model_copy(update={"budget": budget}))
    assert (result.cost.calls, result.cost.stopped) == (2, "budget")
    assert result.cost.money <= budget


def test_costs_add_up():
    one = Cost(calls=1, prompt_tokens=2, money=0.5)
    assert one + Cost(replayed=3, completion_tokens=4, money=1, stopped="budget") == Cost(
        calls=1, replayed=3, prompt_tokens=2, completion_tokens=4, money=1.5, stopped="budget"
    )


# the estimate


def test_a_dry_run_asks_nothing_and_bounds_what_the_run_costs(warehouse):
    planned = [*lessons(passages(4, warehouse)), *lessons(passages(4, warehouse), None)]
    teacher, config = Teacher(tokens=(250, 60)), TeacherConfig(sampling=SHORT, **DEAR)
    expected = estimate(planned, model=teacher, warehouse=warehouse, config=config)
    assert (teacher.asked, expected.prompts, expected.replayed) == ([], 8, 0)
    result = taught(planned, teacher, warehouse, config)
    assert result.cost.calls == expected.prompts
    assert result.cost.money <= expected.likely <= expected.most
    assert price((expected.prompt_tokens, expected.completion_tokens), config) == expected.likely


def test_a_dry_run_shows_one_prompt_of_each_wording(warehouse):
    (passage,) = passages(1, warehouse)
    planned = [Lesson(passage, InstructionStyle.ASK), Lesson(passage, None)]
    shown = estimate(planned, model=Teacher(), warehouse=warehouse, config=TeacherConfig()).examples
    assert list(shown) == ["ask-v1", "rephrase-v1"]
    assert all(passage.text in prompt for prompt in shown.values())


def test_a_dry_run_counts_what_the_journal_answers_as_free(warehouse):
    planned, config = lessons(passages(5, warehouse)), TeacherConfig(**DEAR)
    taught(planned[:3], Teacher(), warehouse, config)
    expected = estimate(planned, model=Teacher(), warehouse=warehouse, config=config)
    assert (expected.prompts, expected.replayed) == (2, 3)
    taught(planned, Teacher(), warehouse, config)
    assert estimate(planned, model=Teacher(), warehouse=warehouse, config=config).most == 0
