"""Replies as JSON of a shape, from servers that keep to a schema, ignore it or refuse it."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inline_snapshot import snapshot
from pydantic import BaseModel, Field

from llm_engineering.adapters.openai import OpenAIChatModel
from llm_engineering.adapters.openai_structured import asking_for, faults, read_json, repairing
from llm_engineering.domain.answers import Message
from llm_engineering.domain.errors import ModelReplyInvalid, ModelUnavailable
from tests.doubles.chat_server import ChatServer, Turn, fails, says
from tests.unit.adapters.openai_calls import PLAIN, PROMPT, use


class Plan(BaseModel):
    query: str
    days: int = Field(default=7, ge=1)


GOOD = '{"query": "kafka", "days": 3}'


async def plan(model: OpenAIChatModel) -> Plan:
    return (await model.structured(PROMPT, shape=Plan, sampling=PLAIN))[0]


async def plan_and_lacks(model: OpenAIChatModel) -> tuple[Plan, tuple[str, ...]]:
    return await plan(model), model.lacks


def test_a_server_is_bound_to_the_schema_in_its_strict_form() -> None:
    with ChatServer(says(GOOD)) as server:
        assert use(server, plan_and_lacks) == (Plan(query="kafka", days=3), ())
    asked = server.requests[0].body["response_format"]
    assert (asked["type"], asked["json_schema"]["name"], asked["json_schema"]["strict"]) == (
        "json_schema",
        "Plan",
        True,
    )
    assert asked["json_schema"]["schema"]["additionalProperties"] is False
    assert asked["json_schema"]["schema"]["required"] == ["query", "days"]


@pytest.mark.parametrize(
    "reply",
    [
        f"Sure! Here it is:\n```json\n{GOOD}\n```\nAnything else?",
        f'<think>{{"query": "a draft"}} or {{days}}?</think>\n{GOOD}',
        f'{{"other": 1}} {GOOD}',
    ],
)
def test_a_server_that_ignores_the_schema_is_read_all_the_same_and_named(reply: str) -> None:
    with ChatServer(says(reply)) as server:
        assert use(server, plan_and_lacks) == (Plan(query="kafka", days=3), ("json_schema",))
    assert len(server.requests) == 1


def test_a_server_that_refuses_the_schema_is_told_it_in_words_and_not_asked_for_it_again() -> None:
    async def twice(model: OpenAIChatModel) -> tuple[str, ...]:
        await plan(model)
        await plan(model)
        return model.lacks

    with ChatServer(Turn(text=GOOD, refuses=frozenset({"response_format"}))) as server:
        assert use(server, twice) == ("json_schema",)
    assert ["response_format" in request.body for request in server.requests] == [True, False, False]
    assert '"query"' in server.requests[1].body["messages"][-1]["content"]


def test_a_model_is_shown_its_mistake_once() -> None:
    with ChatServer(says('{"query": "kafka", "days": 0}'), says(GOOD)) as server:
        assert use(server, plan).days == 3
    shown = server.requests[1].body["messages"][-2:]
    assert shown[0] == {"role": "assistant", "content": '{"query": "kafka", "days": 0}'}
    assert "days: Input should be greater than or equal to 1" in shown[1]["content"]


def test_both_rounds_are_counted() -> None:
    async def counted(model: OpenAIChatModel) -> tuple[int, int]:
        _, reply = await model.structured(PROMPT, shape=Plan, sampling=PLAIN)
        return reply.prompt_tokens, reply.completion_tokens

    with ChatServer(says(GOOD)) as server:
        once = use(server, counted)
    with ChatServer(says("no"), says(GOOD)) as server:
        assert all(two > one > 0 for one, two in zip(once, use(server, counted), strict=True))
    with ChatServer(says("no")) as server, pytest.raises(ModelReplyInvalid) as refused:
        use(server, counted)
    assert min(refused.value.tokens) > 0


def test_two_mistakes_are_an_error_that_names_the_second() -> None:
    with (
        ChatServer(says("no"), says('{"days": 1}')) as server,
        pytest.raises(ModelReplyInvalid, match=r"no valid Plan in two tries: query: Field required") as refused,
    ):
        use(server, plan)
    assert len(server.requests) == 2
    assert refused.value.said == '{"days": 1}'


def test_the_tokens_of_a_first_try_are_not_forgotten_when_the_second_meets_a_closed_door() -> None:
    with (
        ChatServer(says("no"), fails(429, retry_after=3600)) as server,
        pytest.raises(ModelUnavailable) as refused,
    ):
        use(server, plan)
    assert refused.value.reason == "rate-limited"
    assert min(refused.value.tokens) > 0


def test_a_reply_that_was_cut_short_is_no_sign_of_an_ignored_schema() -> None:
    with ChatServer(says('{"query": "ka', finish_reason="length"), says(GOOD)) as server:
        assert use(server, plan_and_lacks)[1] == ()


def test_what_a_model_reads() -> None:
    messages = asking_for(Plan, (Message(role="system", content="Be brief."), Message(role="user", content="When?")))
    try:
        read_json('{"days": "x"}', Plan)
    except ValueError as fault:
        messages = repairing(messages, '{"days": "x"}', fault)
    schema = json.dumps(Plan.model_json_schema())
    shown = "\n\n".join(f"{message.role}: {message.content}" for message in messages)
    assert shown.replace(schema, "THE SCHEMA") == snapshot("""\
system: Be brief.

user: When?

Reply with one JSON object and nothing else. It must be valid for this JSON schema:
THE SCHEMA

assistant: {"days": "x"}

user: This reply is of no use:
- query: Field required
- days: Input should be a valid integer, unable to parse string as an integer
Reply again with the corrected JSON object and nothing else.\
""")


def test_a_conversation_that_ends_with_the_model_gets_the_wish_as_a_new_turn() -> None:
    assert [message.role for message in asking_for(Plan, (Message(role="assistant", content="Hm."),))] == [
        "assistant",
        "user",
    ]


@settings(max_examples=50)
@given(before=st.text(alphabet="ab {[\"'\n"), after=st.text(), query=st.text(), days=st.integers(1, 10**9))
def test_an_object_is_found_between_any_other_words(before: str, after: str, query: str, days: int) -> None:
    wanted = Plan(query=query.replace("</think>", ""), days=days)
    text = f"{before}\n{json.dumps(wanted.model_dump())}\n{after}".replace("</think>", "")
    try:
        assert read_json(text, Plan) == wanted
    except ValueError as fault:
        assert '"' in before or before.count("{") >= 50, faults(fault)  # an open quote swallows what follows


@pytest.mark.parametrize("text", ["", "{" * 5000, "[" * 100_000, '{"a":' * 3000, "null", "[1]"])
def test_rubbish_is_refused_quickly(text: str) -> None:
    with pytest.raises(ValueError, match="no JSON object"):
        read_json(text, Plan)
