"""Passages in a warehouse, and teachers that write instructions for them as they are told: well, badly, slowly, or not at all.

``python -m tests.doubles.teaching WAREHOUSE URL COUNT CONCURRENCY`` has COUNT passages taught by the endpoint at URL, in a
process that can be killed; it prints a line for each that is done.
"""

import asyncio
import json
import re
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from llm_engineering.adapters.openai import OpenAIChatModel
from llm_engineering.adapters.sqlite import SQLiteWarehouse
from llm_engineering.dataset.calls import Progress
from llm_engineering.dataset.teach import Lesson, Taught, teach
from llm_engineering.domain.answers import Prompt, Reply
from llm_engineering.domain.config import ChatConfig, Sampling
from llm_engineering.domain.dataset_config import TeacherConfig
from llm_engineering.domain.entities import Author, Draft, Kind
from llm_engineering.domain.errors import ModelReplyInvalid
from llm_engineering.domain.ports import ChatModel, Warehouse
from llm_engineering.domain.samples import AuthorPassage, InstructionStyle, Provenance

ANN = Author.named("Ann Lee")
SUBJECTS = (
    "kafka", "rivers", "bread", "chess", "ships", "clocks", "maps", "tides", "bees", "glass",
    "salt", "wool", "ink", "steel", "rain", "moss",
)  # fmt: skip
Shape = TypeVar("Shape", bound=BaseModel)


def written(number: int) -> Draft:
    """A document with one passage."""
    subject = f"{SUBJECTS[number % len(SUBJECTS)]} {number}"
    text = (
        f"I have thought about {subject} for many years, and I still find it hard to say what makes it work so well. "
        f"The first thing that I tell people about {subject} is that nobody needs to be an expert to begin."
    )
    return Draft(
        author_id=ANN.id,
        url=f"https://x.org/{number}",
        kind=Kind.ARTICLE,
        platform="x",
        title=f"On {subject}",
        text=text,
    )


def passages(count: int, warehouse: Warehouse) -> list[AuthorPassage]:
    """Recorded in the warehouse, one to a document."""
    warehouse.save_author(ANN)
    drafts = [written(number) for number in range(count)]
    warehouse.record(drafts)
    return [
        AuthorPassage(
            provenance=Provenance(
                author_id=ANN.id, author=ANN.full_name, document_id=draft.document_id, revision=1, start=0,
                end=len(draft.text), title=draft.title, url=draft.url, kind=draft.kind, language="en",
            ),
            text=draft.text,
        )
        for draft in drafts
    ]  # fmt: skip


def lessons(passages: list[AuthorPassage], style: InstructionStyle | None = InstructionStyle.ASK) -> list[Lesson]:
    """One of a style for each."""
    return [Lesson(passage, style) for passage in passages]


def good_reply(prompt: str, **other: Any) -> str:
    """What a good teacher replies to a prompt."""
    opening, closing = re.findall(r"\[mark ([A-Z]+)\]", prompt)
    title = re.search(r'title="On ([^"]*)"', prompt)
    assert title
    reply = {
        "opening_mark": opening,
        "closing_mark": closing,
        "instruction": f"What do you tell people who want to begin with {title[1]}?",
        "answer": f"I tell them that nobody needs to be an expert to begin with {title[1]}.",
    }
    return json.dumps(reply | other)


def from_request(asked: dict[str, Any]) -> str:
    """The same, for the scripted endpoint."""
    return good_reply(asked["messages"][1]["content"])


class Teacher:
    """A chat model in process. ``replies`` makes the text from the prompt; ``meanwhile`` is awaited while it writes."""

    name = "teacher"

    def __init__(
        self,
        replies: Callable[[str], str] = good_reply,
        *,
        tokens: tuple[int, int] = (100, 20),
        meanwhile: Callable[[str], Any] | None = None,
    ) -> None:
        self._replies, self._tokens, self._meanwhile = replies, tokens, meanwhile
        self.asked: list[str] = []
        self.under_way = self.most_at_once = 0

    async def complete(self, prompt: Prompt, *, sampling: Sampling) -> Reply:
        said = "\n\n".join(message.content for message in prompt.messages)
        self.asked.append(said)
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        try:
            await asyncio.sleep(0)
            if self._meanwhile is not None:
                await self._meanwhile(said)
            text = self._replies(said)
        finally:
            self.under_way -= 1
        return Reply(text=text, model=self.name, prompt_tokens=self._tokens[0], completion_tokens=self._tokens[1])

    async def structured(self, prompt: Prompt, *, shape: type[Shape], sampling: Sampling) -> tuple[Shape, Reply]:
        reply = await self.complete(prompt, sampling=sampling)
        try:
            return shape.model_validate_json(reply.text), reply
        except ValidationError as error:
            raise ModelReplyInvalid("no such structure", tokens=self._tokens, said=reply.text) from error

    def stream(self, prompt: Prompt, *, sampling: Sampling) -> Any:
        raise NotImplementedError("teachers are not streamed")

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    async def check(self) -> None:
        return None

    async def close(self) -> None:
        return None


def taught(
    given: list[Lesson],
    model: ChatModel,
    warehouse: Warehouse,
    config: TeacherConfig | None = None,
    progress: Progress | None = None,
) -> Taught:
    """One run in an event loop of its own."""

    async def run() -> Taught:
        try:
            async with asyncio.timeout(60):
                return await teach(
                    given, model=model, warehouse=warehouse, config=config or TeacherConfig(), progress=progress
                )
        finally:
            await model.close()

    return asyncio.run(run())


def main(path: str, url: str, count: str, concurrency: str) -> None:
    with closing(SQLiteWarehouse(Path(path))) as warehouse:
        model = OpenAIChatModel(url, "double", None, ChatConfig(concurrency=int(concurrency)))
        config = TeacherConfig(concurrency=int(concurrency))

        def say(done: int, total: int, line: str) -> None:
            sys.stdout.write(f"{done}\n")
            sys.stdout.flush()

        taught(lessons(passages(int(count), warehouse)), model, warehouse, config, say)


if __name__ == "__main__":
    main(*sys.argv[1:])
