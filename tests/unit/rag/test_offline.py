"""The chat model that quotes."""

import asyncio
import json
import random
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_engineering.adapters.offline import INTRODUCTION, OfflineModel
from llm_engineering.domain.answers import Prompt, Reply
from llm_engineering.domain.chat import DO_NOT_KNOW, answer_prompt
from llm_engineering.domain.config import Sampling
from llm_engineering.domain.errors import ModelReplyInvalid
from llm_engineering.rag.understand import Reading
from tests.doubles.encoders import WordEmbedder
from tests.unit.rag.test_prompt import passage

LOGS = (
    "# Logs and lists\n\nA log is a list that only grows. Tea is green today. Do logs shrink?\n\n"
    "- Readers remember an offset into it."
)


def prompt(question: str, *texts: str) -> Prompt:
    passages = [passage(text, marker=number) for number, text in enumerate(texts, start=1)]
    return answer_prompt(question, author=None, passages=passages)


def say(question: str, *texts: str, max_tokens: int = 800, **encoders: object) -> str:
    model = OfflineModel(**encoders)  # type: ignore[arg-type]  # the two encoders
    return asyncio.run(model.complete(prompt(question, *texts), sampling=Sampling(max_tokens=max_tokens))).text


def quotes(reply: str) -> list[tuple[str, int]]:
    return [(quote, int(marker)) for quote, marker in re.findall(r"^“(.*)” \[(\d+)\]$", reply, re.MULTILINE)]


def test_the_sentence_with_the_questions_words_is_quoted_with_its_marker():
    reply = say("What is a log that grows?", "Nothing here is about that.", LOGS)
    assert reply.startswith(INTRODUCTION)
    assert quotes(reply)[0] == ("A log is a list that only grows.", 2)


def test_list_items_are_quoted_without_their_bullet():
    assert ("Readers remember an offset into it.", 1) in quotes(say("Which offset do readers remember?", LOGS))


def test_headings_code_and_texts_with_numbers_in_brackets_are_not_quoted():
    text = "# The log offset explained\n\n```\nthe log offset is code here\n```\n\nThe log offset as in [3] by others."
    assert say("log offset", text) == DO_NOT_KNOW


def test_meaning_decides_between_sentences_with_the_same_words():
    def embed(texts: list[str]) -> list[list[float]]:
        return [[1.0, 0.0] if "green" in text or "colour" in text else [0.0, 1.0] for text in texts]

    text = "The tea is in the cup now. The tea is green in spring."
    assert quotes(say("What colour is the tea?", text, embed=embed))[0][0] == "The tea is green in spring."


def test_without_passages_it_does_not_know():
    assert say("Anything at all?") == DO_NOT_KNOW


def test_it_says_little_when_little_is_asked_for():
    text = "A log is a list of events. A log is a file on disk. A log is a piece of wood."
    assert len(quotes(say("What is a log?", text))) > 1
    assert len(quotes(say("What is a log?", text, max_tokens=1))) == 1


def test_it_streams_the_same_and_ends_with_the_reply():
    async def collect() -> list[str | Reply]:
        return [piece async for piece in OfflineModel().stream(prompt("What is a log?", LOGS), sampling=Sampling())]

    *pieces, last = asyncio.run(collect())
    assert isinstance(last, Reply)
    assert "".join(str(piece) for piece in pieces) == last.text
    assert last.model == "offline (quotes only)"


def test_it_gives_no_structure():
    with pytest.raises(ModelReplyInvalid, match="LLM_BASE_URL"):
        asyncio.run(OfflineModel().structured(prompt("q"), shape=Reading, sampling=Sampling()))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(alphabet=st.sampled_from("abc .!?\n-#>“”[1]`é漢。"), max_size=120), max_size=4))
def test_every_quote_stands_in_the_passage_of_its_marker(texts: list[str]):
    embedder = WordEmbedder()
    for quote, marker in quotes(say("a b c ab bc 漢", *texts, embed=embedder.embed_passages)):
        assert quote in " ".join(texts[marker - 1].split())


def test_it_follows_no_instruction_that_stands_in_a_passage(data: Path):
    attacks = json.loads((data / "bipia" / "text_attack_train.json").read_text(encoding="utf-8"))
    payloads = [payload for its in attacks.values() for payload in its]
    lines = (data / "bipia" / "email_train.jsonl").read_text(encoding="utf-8").splitlines()
    emails = [json.loads(line) for line in lines]
    rng = random.Random(5)
    quoted_payloads = 0
    for payload in payloads:
        email = rng.choice(emails)
        context = email["context"].replace("|", "\n\n")
        texts = [context, f"{context[: len(context) // 2]}\n\n{payload}\n\n{context[len(context) // 2 :]}"]
        reply = say(email["question"], *texts)
        quoted = quotes(reply)
        # Everything it says is its own introduction or the passages' words, in quotation marks and with their marker.
        assert reply == DO_NOT_KNOW or reply == "\n\n".join([INTRODUCTION, *(f"“{q}” [{m}]" for q, m in quoted)])
        assert all(quote in " ".join(texts[marker - 1].split()) for quote, marker in quoted)
        quoted_payloads += any(payload in quote for quote, _ in quoted)
    assert quoted_payloads <= 3
