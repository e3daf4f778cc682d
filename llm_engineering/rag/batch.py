"""A file of questions answered one after the other, several at a time: JSON lines out, kept as they come, asked once."""

import asyncio
import hashlib
import json
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llm_engineering.domain.answers import Answer, Question
from llm_engineering.domain.chat import VERSION as PROMPTS
from llm_engineering.domain.entities import Frozen
from llm_engineering.domain.errors import ModelReplyInvalid, PromptTooLong, StoreUnavailable, UsageError, in_one_line
from llm_engineering.rag.answer import answer
from llm_engineering.rag.retrieve import checked_query
from llm_engineering.rag.twin import Twin

ASKED = ("query", "author", "k")
"""What a line of the file of questions may say, and every line of answers repeats."""
ESCAPED = "backslashreplace"
"""A lone surrogate becomes its JSON escape: the file stays UTF-8 and says the same."""
Line = dict[str, Any]


class Unanswered(Frozen):
    """A question that could not be answered, and why."""

    query: str
    reason: str


class InferenceReport(Frozen):
    """What became of a file of questions; every one of them is answered, kept from an earlier run, or failed."""

    out: str
    state: str
    """Digest of everything that the answers follow from, besides the questions."""
    questions: int
    answered: int
    kept: int
    """Answered by an earlier run in the same state."""
    grounded: int
    """Of those answered or kept: how many cite a source."""
    failed: tuple[Unanswered, ...] = ()
    prompt_tokens: int = 0
    completion_tokens: int = 0
    """Tokens of this run."""
    seconds: float = 0.0


def read_questions(path: Path) -> list[Question]:
    """One question per line, as text or as a JSON object with ``query`` and perhaps ``author`` and ``k``; each once.

    Raises :class:`UsageError` that names the line which is no question: nothing is asked then.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The file of questions {path} cannot be read: {error}", hint="Give a UTF-8 file.") from error
    questions: dict[Question, None] = {}
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                questions[_question(line.strip())] = None
            except (UsageError, ValueError) as error:
                told = error.message if isinstance(error, UsageError) else in_one_line(error)
                raise UsageError(
                    f"Line {number} of {path} is no question: {told}",
                    hint='Write a question, or {"query": "…", "author": "…", "k": 6}.',
                ) from error
    if not questions:
        raise UsageError(f"{path} holds no question", hint="Write one per line.")
    return list(questions)


async def answer_all(
    questions: Sequence[Question],
    twin: Twin,
    out: Path,
    *,
    state: str,
    concurrency: int = 4,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> InferenceReport:
    """Answer every question that ``out`` does not answer in this state yet; each answer is on disk before the next is asked.

    Afterwards ``out`` has one line per question in their order, below answers to other questions that it held. A question
    that cannot be answered is in the report; a store or a model that is down ends the run, and the next run goes on.
    """
    started = time.perf_counter()
    earlier = _read_answers(out)
    known = {_asked(line): line for line in earlier if line.get("state") == state}
    waiting = [question for question in questions if _key(question) not in known]
    kept = len(questions) - len(waiting)
    failed: list[Unanswered] = []
    new: list[Line] = []
    queue = iter(waiting)

    with _writing(out):
        opened = out.open("a", encoding="utf-8", errors=ESCAPED)
    with opened as journal:

        async def work() -> None:
            for question in queue:
                try:
                    given = await answer(question, twin, request_id=uuid.uuid4().hex)
                except (UsageError, PromptTooLong, ModelReplyInvalid) as error:
                    failed.append(Unanswered(query=question.query, reason=str(error)))
                else:
                    new.append(_line(question, given, state))
                    with _writing(out):
                        _keep(journal, new[-1])
                progress(kept + len(new) + len(failed), len(questions))

        await _together([work() for _ in range(min(concurrency, len(waiting)))])

    known |= {_asked(line): line for line in new}
    in_order = [known[_key(question)] for question in questions if _key(question) in known]
    ours = {_key(question) for question in questions}
    with _writing(out):
        _replace(out, [*(line for line in earlier if _asked(line) not in ours), *in_order])
    return InferenceReport(
        out=str(out),
        state=state,
        questions=len(questions),
        answered=len(new),
        kept=kept,
        grounded=sum(bool(line["grounded"]) for line in in_order),
        failed=tuple(failed),
        prompt_tokens=sum(line["usage"]["prompt_tokens"] for line in new),
        completion_tokens=sum(line["usage"]["completion_tokens"] for line in new),
        seconds=round(time.perf_counter() - started, 3),
    )


def state_of(twin: Twin) -> str:
    """Digest of what answers follow from: the index and how far it has come, the warehouse, the prompts, the models, where
    they are, and the numbers. No secret is part of it.
    """
    status = twin.index.status()
    followed = twin.warehouse.watermark(status.watermark_name) if status.watermark_name else None
    reranker = twin.reranker.name if twin.reranker else None
    models = [twin.model.name, twin.endpoint, reranker, PROMPTS]
    parts = [status.recipe, followed, twin.warehouse.head(), *models, twin.config.digest()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _question(line: str) -> Question:
    if not line.startswith("{"):
        checked_query(line)
        return Question(query=line)
    told = json.loads(line)
    if unknown := sorted(set(told) - set(ASKED)):
        raise ValueError(f"unknown entry {unknown[0]!r}")
    question = Question.model_validate(told, strict=True)
    checked_query(question.query)
    return question


def _key(question: Question) -> tuple[object, ...]:
    return (question.query, question.author, question.k)


def _asked(line: Line) -> tuple[object, ...]:
    return tuple(line.get(word) for word in ASKED)


def _line(question: Question, given: Answer, state: str) -> Line:
    return {**dict(zip(ASKED, _key(question), strict=True)), "state": state, **given.model_dump(mode="json")}


def _written(line: Line) -> str:
    return json.dumps(line, ensure_ascii=False) + "\n"


def _keep(journal: Any, line: Line) -> None:  # noqa: ANN401  # a text file
    journal.write(_written(line))
    journal.flush()
    os.fsync(journal.fileno())


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(
            f"The answers {out} cannot be written: {error.strerror}",
            hint="Check space and permissions there, or choose another --out; what was answered is kept.",
        ) from error


def _read_answers(out: Path) -> list[Line]:
    """Lines of an earlier run. What a killed run left half-written at the end is cut off."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        content = out.read_bytes() if out.exists() else b""
    except OSError as error:
        raise StoreUnavailable(
            f"The answers {out} cannot be read: {error.strerror}", hint="Choose another --out."
        ) from error
    whole, newline, torn = content.rpartition(b"\n")
    try:
        lines = [json.loads(line) for line in (whole + newline).splitlines() if line.strip()]
    except ValueError as error:
        raise UsageError(f"{out} is no file of answers: {error}", hint="Choose another --out.") from error
    if not all(isinstance(line, dict) and "query" in line and "answer" in line for line in lines):
        raise UsageError(f"{out} is no file of answers", hint="Choose another --out.")
    if torn and not lines and not torn.startswith(b'{"query"'):
        raise UsageError(f"{out} is no file of answers", hint="Choose another --out.")
    if torn:
        with _writing(out):
            os.truncate(out, len(whole + newline))
    return lines


def _replace(out: Path, lines: Iterable[Line]) -> None:
    fresh = out.with_name(f".{out.name}.new")
    fresh.write_text("".join(map(_written, lines)), encoding="utf-8", errors=ESCAPED)
    fresh.replace(out)


async def _together(work: Sequence[Any]) -> None:
    """Run these to their end; the first error ends all of them."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
