"""What a twin writes to the held-out instructions, and how much of it is of any use."""

import asyncio
from collections.abc import Callable, Sequence

from llm_engineering.domain.chat import voice_prompt
from llm_engineering.domain.config import Sampling
from llm_engineering.domain.errors import ModelReplyInvalid
from llm_engineering.domain.evaluation_config import EvaluationConfig
from llm_engineering.domain.ports import ChatModel
from llm_engineering.domain.samples import JournalEntry, request_key
from llm_engineering.domain.words import words
from llm_engineering.evaluation.at_once import for_each
from llm_engineering.evaluation.held_out import HeldOut, Task
from llm_engineering.evaluation.judge import Journal
from llm_engineering.evaluation.overlap import Answered
from llm_engineering.evaluation.report import Figure, Part, counted
from llm_engineering.evaluation.resampling import ratio

NAME, USABLE = "Answers to held-out instructions", "usable answers"
PURPOSE = "twin-v1"
Progress = Callable[[int, int], None]


async def write_answers(
    held_out: HeldOut,
    model: ChatModel,
    *,
    journal: Journal,
    sampling: Sampling,
    concurrency: int,
    progress: Progress = lambda done, total: None,
) -> tuple[list[Answered], list[str]]:
    """What the model writes to each task in the author's voice, and why replies were of no use: each is an empty answer.

    The model's name says which weights: answers are journalled under it, and asked for once.
    """
    keys = {task.id: _key(task, held_out.author, model.name, sampling) for task in held_out.tasks}
    kept = await asyncio.to_thread(journal.journal, list(keys.values()))
    entries = dict(kept)

    async def write(task: Task) -> None:
        try:
            reply = await model.complete(voice_prompt(task.instruction, author=held_out.author), sampling=sampling)
            text, error, tokens = reply.text, "", (reply.prompt_tokens, reply.completion_tokens)
        except ModelReplyInvalid as invalid:
            text, error, tokens = "", str(invalid), invalid.tokens
        entry = JournalEntry(
            key=keys[task.id],
            purpose=PURPOSE,
            model=model.name,
            reply=text,
            error=error,
            prompt_tokens=tokens[0],
            completion_tokens=tokens[1],
            document_ids=(task.document_id,),
        )
        entries[entry.key] = entry
        if not error or any(tokens):  # else no model has spoken: ask again next time
            await asyncio.to_thread(journal.save_journal, [entry])

    new = [task for task in held_out.tasks if keys[task.id] not in kept]
    await for_each(new, write, concurrency=concurrency, progress=progress)
    written = [entries[keys[task.id]] for task in held_out.tasks]
    answered = [
        Answered(
            id=task.id,
            document_id=task.document_id,
            instruction=task.instruction,
            author=task.answer,
            twin=entry.reply,
        )
        for task, entry in zip(held_out.tasks, written, strict=True)
    ]
    return answered, [entry.error for entry in written if entry.error]


def answers(answered: Sequence[Answered], useless: Sequence[str], *, fewest: int, evaluation: EvaluationConfig) -> Part:
    """Share of the instructions with an answer of at least ``fewest`` words; ``useless`` says why replies were of no use."""
    usable = [float(len(words(one.twin)) >= fewest) for one in answered]
    groups = [one.document_id for one in answered]
    interval = ratio(usable, [1.0] * len(usable), groups, config=evaluation)
    return Part(
        name=NAME,
        figures=(Figure(name=USABLE, over="held-out instructions", interval=interval),),
        notes=(f"An answer with fewer than {fewest} words is none.",),
        findings={"Of no use": tuple(counted(useless))} if useless else {},
        missing="" if answered else "there is no held-out instruction",
        rows=tuple(
            {"id": one.id, "group": one.document_id, "weight": 1.0, USABLE: value}
            for one, value in zip(answered, usable, strict=True)
        ),
    )


def _key(task: Task, author: str, model: str, sampling: Sampling) -> str:
    prompt = voice_prompt(task.instruction, author=author)
    said = [(message.role, message.content) for message in prompt.messages]
    return request_key(PURPOSE, model, said, sampling.model_dump(mode="json"))
