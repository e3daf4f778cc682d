"""What the chat dialect makes of a conversation, and what a stream says of a reply that does not stand."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from llm_engineering.domain.answers import Answer, Citation
from llm_engineering.domain.chat import DO_NOT_KNOW, answer_prompt
from llm_engineering.rag.understand import understand
from llm_engineering.serving.dialect import CORRECTION, ChatRequest, chunks
from llm_engineering.serving.service import Event

SOURCE = Citation(
    marker=1, document_id="d", revision=1, title="On logs", url="https://ada.example/log", quote="A log.", start=0, end=6
)  # fmt: skip
FOOTNOTE = "\n\n[1] On logs: https://ada.example/log"


def asked(*said: tuple[str, str]) -> ChatRequest:
    return ChatRequest.model_validate({"messages": [{"role": role, "content": text} for role, text in said]})


def streamed(said: str, verified: str, *citations: Citation) -> str:
    """All text that a client of the stream reads."""
    answer = Answer(answer=verified, citations=citations, grounded=bool(citations), model="m", request_id="r")

    async def pieces() -> AsyncIterator[Event]:
        for piece in said.split(" "):
            yield f"{piece} "
        yield answer

    async def read() -> list[str]:
        sent = chunks(pieces(), request_id="r", model="m", created=0, retry_after=1, include_usage=False)
        return [event.removeprefix("data: ") async for event in sent]

    *told, done = asyncio.run(read())
    assert done == "[DONE]\n\n"
    return "".join(choice["delta"].get("content", "") for line in told for choice in json.loads(line)["choices"])


@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_front_ends_system_prompt_is_no_earlier_question_and_no_turn_of_the_conversation(role: str):
    first = asked((role, "You are a helpful assistant."), ("user", "What is there on it?")).question()
    meant = understand(first, authors=[], exists=lambda _: True, today=datetime(2026, 11, 21, tzinfo=UTC))
    assert meant.query == "What is there on it?"
    prompt = answer_prompt(first.query, author=None, passages=(), history=first.history)
    assert [message.role for message in prompt.messages] == ["system", "user"]
    assert not any("helpful assistant" in message.content for message in prompt.messages)


def test_the_question_before_is_found_behind_a_system_prompt():
    said = (
        ("system", "Be brief."),
        ("user", "Tell me about tea."),
        ("assistant", "Tea is hot."),
        ("user", "Why is it?"),
    )
    meant = understand(
        asked(*said).question(), authors=[], exists=lambda _: True, today=datetime(2026, 11, 21, tzinfo=UTC)
    )
    assert meant.query == "Tell me about tea. Why is it?"


def test_a_stream_whose_reply_is_not_known_to_be_true_says_that_it_does_not_know():
    text = streamed("I was born in 1950 on Mars [9].", DO_NOT_KNOW)
    assert text == f"I was born in 1950 on Mars [9]. \n\n{CORRECTION}\n\n{DO_NOT_KNOW}"


@pytest.mark.parametrize(
    ("said", "verified", "told"),
    [
        ("A log [1]. Mars [9].", "A log [1]. Mars.", "[9]"),
        ("A log [1][9]. Mars [12, 9].", "A log [1]. Mars.", "[9], [12]"),
        ("A log [1]. Mars [1].", "A log [1]. Mars.", "[1] in 1 of 2 places"),
    ],
)
def test_a_stream_names_the_markers_that_could_not_be_verified(said: str, verified: str, told: str):
    assert streamed(said, verified, SOURCE) == f"{said} \n\nCould not be verified: {told}.{FOOTNOTE}"


def test_a_stream_whose_sentence_was_taken_out_ends_with_the_verified_answer():
    text = streamed("A log [1]. Tea is gone [2].", "A log [1].", SOURCE)
    assert text.endswith(f"\n\n{CORRECTION}\n\nA log [1].{FOOTNOTE}")


@pytest.mark.parametrize("said", ["A log [1].", "\n A log [1].\n\n\n", "A  log [1] ."])
def test_a_stream_that_stands_but_for_white_space_says_nothing_more(said: str):
    assert streamed(said, "A log [1].", SOURCE) == f"{said} {FOOTNOTE}"


def test_markers_in_one_pair_of_brackets_are_the_same_as_in_several():
    assert streamed("A log [1, 2].", "A log [1][2].", SOURCE) == f"A log [1, 2]. {FOOTNOTE}"
