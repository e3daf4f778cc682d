"""A model with a small window is asked what it can read, whatever a conversation or a request holds."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_engineering.domain.answers import Answer, Message, Prompt, Question
from llm_engineering.domain.errors import PromptTooLong
from llm_engineering.rag.answer import CUT, Twin, answer
from llm_engineering.rag.window import Load, fit, size
from tests.doubles.models import NarrowModel
from tests.unit.rag.library import KAFKA, Library

TRUE = "Kafka keeps a log of every event [1]."
QUERY = "What does a consumer of the Kafka log remember?"


def ask(twin: Twin, query: str = QUERY, **question: object) -> Answer:
    asked = Question.model_validate({"query": query, **question})
    return asyncio.run(answer(asked, twin, request_id="r"))


def talk(turns: int, words: int) -> list[Message]:
    roles = ("user", "assistant")
    return [Message(role=roles[number % 2], content=f"turn{number} " * words) for number in range(turns)]  # type: ignore[arg-type]


def words(prompt: Prompt) -> int:
    return sum(len(message.content.split()) for message in prompt.messages)


def test_the_oldest_turns_are_left_out_and_the_latest_are_shown(library: Library):
    model = NarrowModel(500, TRUE)
    given_answer = ask(library.twin(model), history=talk(6, 50))
    shown = " ".join(message.content for message in model.prompts[0].messages)
    assert "turn5" in shown
    assert "turn0" not in shown
    assert given_answer.grounded
    assert CUT in given_answer.usage.notes


def test_a_conversation_that_fits_is_shown_whole(library: Library):
    model = NarrowModel(5000, TRUE)
    given_answer = ask(library.twin(model), history=talk(6, 50))
    assert len(model.prompts[0].messages) == 8
    assert CUT not in given_answer.usage.notes


def test_a_request_for_many_passages_gets_as_many_as_the_model_reads(own_library: Library):
    for number in range(20):
        own_library.write(f"log-{number}", f"{KAFKA} " + f"Log number {number} remembers what a consumer does. " * 20)
    own_library.sync()
    model = NarrowModel(600, TRUE)
    ask(own_library.twin(model, candidates=100), k=100, history=talk(6, 100))
    assert 1 <= len(model.prompts[0].passages) < 20
    assert words(model.prompts[0]) <= 450, "a quarter is left for the reply"


def test_a_question_that_no_cut_makes_fit_is_an_error_of_its_own(library: Library):
    with pytest.raises(PromptTooLong):
        ask(library.twin(NarrowModel(200, TRUE)), QUERY + " offset" * 280)


@given(
    window=st.integers(40, 2000),
    passages=st.integers(1, 100),
    tokens=st.integers(64, 4000),
    turns=st.lists(st.integers(0, 300), max_size=6),
)
def test_what_is_shown_fits_or_is_the_least_that_can_be(window: int, passages: int, tokens: int, turns: list[int]):
    def write(load: Load) -> Prompt:
        text = Message(role="user", content="word " * (load.tokens + 10 * load.passages + 100 * load.examples))
        return Prompt(messages=(*load.history, text), question="why")

    history = tuple(Message(role="user", content="word " * length) for length in turns)
    count = lambda text: len(text.split())  # noqa: E731  # one line says it
    prompt, load = fit(Load(passages, tokens, 3, history), write, window=window, count_tokens=count)
    assert size(prompt, count) <= window - window // 4 or load == Load(1, 48, 0, ())
    assert load.history == history[len(history) - len(load.history) :]
