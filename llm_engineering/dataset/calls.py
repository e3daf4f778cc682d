"""Asking a model many things at once: nothing asked twice, nothing past the budget, nothing lost when the run is killed.

Each request has a key. A reply is in the warehouse's journal before anybody builds on it, so the same request is answered
from there for ever after: a second run is free, and a killed one goes on with those calls that had not come back.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from pydantic import BaseModel

from llm_engineering.dataset.asking import Missing, NoReply, Plain, Request, Shape, read
from llm_engineering.dataset.budget import Budget, Cost, price
from llm_engineering.dataset.scribe import Scribe
from llm_engineering.domain.answers import Reply
from llm_engineering.domain.dataset_config import TeacherConfig
from llm_engineering.domain.errors import ModelError, ModelReplyInvalid, ModelUnavailable, PromptTooLong
from llm_engineering.domain.ports import ChatModel, Warehouse
from llm_engineering.domain.samples import JournalEntry

_SEVERAL = 2
"""Failures in a row, in units of the concurrency, after which a model counts as gone."""

Item = TypeVar("Item")
Result = TypeVar("Result")
Progress = Callable[[int, int, str], None]
"""Called with how many are done, of how many, and a line about rate, refusals and cost."""


class Calls:
    """Asks one model, at most ``config.concurrency`` requests at a time. Use as an asynchronous context manager.

    A reply that is of no use is kept in the journal like a good one; what met a closed door (no connection, no answer in
    time, too many requests, too small a window) is not, and is asked again by the next run. When a model is gone, the rest is
    not asked (``cost.stopped``), and the failure is raised if it never answered at all. Several models may share a ``budget``.
    """

    def __init__(
        self, model: ChatModel, warehouse: Warehouse, config: TeacherConfig, *, budget: Budget | None = None
    ) -> None:
        self._model, self._config = model, config
        self._warehouse = warehouse
        self._scribe = Scribe(warehouse)
        self._slots = asyncio.Semaphore(config.concurrency)
        self._budget = budget or Budget(config)
        self._under_way: dict[str, asyncio.Future[Any]] = {}
        self._failures = 0
        self._stopped: Missing | None = None
        self.cost = Cost()

    async def __aenter__(self) -> Self:
        """Nothing is opened before the first question."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for what is being written down."""
        await self._scribe.finish()  # replies that were paid for are kept, however the run ends

    @property
    def workers(self) -> int:
        """How many may wait for :meth:`ask` at once so that the model is never idle while a reply is written down."""
        return 2 * self._config.concurrency + 2

    async def ask(self, request: Request[Shape]) -> Shape | Missing:
        """The reply, from the journal or from the model; what is asked twice at once is sent once."""
        key = request.key(self._model.name)
        if (other := self._under_way.get(key)) is not None:
            return cast(Shape | Missing, await asyncio.shield(other))  # the key holds the shape
        mine = self._under_way[key] = asyncio.get_running_loop().create_future()
        try:
            answer = await self._answer(request, key)
        except BaseException:
            mine.cancel()
            raise
        finally:
            del self._under_way[key]
        mine.set_result(answer)
        return answer

    async def _answer(self, request: Request[Shape], key: str) -> Shape | Missing:
        kept = await asyncio.to_thread(self._warehouse.journal, [key])
        if (known := request.replayed(kept.get(key))) is not None:
            self._count(replayed=1)
            return known
        entry = None
        async with self._slots:
            if self._stopped is None:
                entry = await self._send(request, key)
        if entry is None:
            return self._stopped or Missing(NoReply.UNAVAILABLE)
        if isinstance(entry, Missing):
            return entry
        reply = read(entry, request.shape)
        if request.replayed(entry) is not None and not await self._scribe.write(entry):
            return Missing(NoReply.SOURCE_GONE)
        return reply

    async def _send(self, request: Request[Shape], key: str) -> JournalEntry | Missing | None:
        """What is to be kept of one call; ``None`` if it may not begin."""
        most = request.most_tokens(self._model.count_tokens)
        if not await self._budget.reserve(price(most, self._config)):
            self._stop(Missing(NoReply.BUDGET))
            return None
        tokens = (0, 0)
        reply, error = "", ""
        try:
            reply, tokens = await self._spoken(request)
        except ModelReplyInvalid as invalid:
            reply, error, tokens = invalid.said, invalid.message, _paid(invalid, most)
            if not any(tokens):  # a web page, a wrong address: no model has spoken
                return self._failed(ModelUnavailable(invalid.message, hint=invalid.hint))
        except PromptTooLong as long:
            tokens = _paid(long, most)
            return Missing(NoReply.PROMPT_TOO_LONG, long.message)  # the server is well, and the others may fit
        except ModelUnavailable as failure:
            tokens = most if failure.reason == NoReply.TIMED_OUT else _paid(failure, most)  # it may have been paid for
            return self._failed(failure)
        finally:
            self._count(calls=1, prompt_tokens=tokens[0], completion_tokens=tokens[1])
            await self._budget.settle(price(most, self._config), price(tokens, self._config))
        self._failures = 0
        return JournalEntry(
            key=key,
            purpose=request.purpose,
            model=self._model.name,
            reply=reply,
            error=error,
            prompt_tokens=tokens[0],
            completion_tokens=tokens[1],
            document_ids=request.document_ids,
        )

    async def _spoken(self, request: Request[Shape]) -> tuple[str, tuple[int, int]]:
        """The reply as JSON of the shape, and its tokens: the server's own, or an over-estimate where it gives none."""
        value: BaseModel
        if request.shape is Plain:
            reply = await self._model.complete(request.prompt, sampling=request.sampling)
            value = Plain(text=reply.text, finish_reason=reply.finish_reason)
        else:
            value, reply = await self._model.structured(request.prompt, shape=request.shape, sampling=request.sampling)
        return value.model_dump_json(), self._tokens(request, reply)

    def _tokens(self, request: Request[Shape], reply: Reply) -> tuple[int, int]:
        count = self._model.count_tokens
        if reply.rounds > 1:  # what was said before the repair is not known
            read, written = request.most_tokens(count)
        else:
            read, written = request.tokens(count), count(reply.text)
        return (reply.prompt_tokens or read, reply.completion_tokens or written)

    def _failed(self, failure: ModelUnavailable) -> Missing:
        self._failures += 1
        missing = Missing(NoReply(failure.reason), failure.message)
        if self._failures >= _SEVERAL * self._config.concurrency + 1:
            if self.cost.calls - self._failures + 1 <= 0 and not self.cost.replayed:
                raise failure
            self._stop(missing)
        return missing

    def _stop(self, missing: Missing) -> None:
        self._stopped = self._stopped or missing
        self.cost = self.cost.model_copy(update={"stopped": self._stopped.reason.value})

    def _count(self, **more: int) -> None:
        tokens = (more.get("prompt_tokens", 0), more.get("completion_tokens", 0))
        self.cost += Cost(money=price(tokens, self._config), **more)


class Told:
    """Tells a progress display how far a run has come, how fast, and what it cost."""

    def __init__(self, cost: Callable[[], Cost], total: int, progress: Progress | None) -> None:
        self._cost, self._total, self._progress = cost, total, progress
        self._done = self._refused = 0
        self._began = time.monotonic()

    def __call__(self, *, refused: bool) -> None:
        """One more is done."""
        self._done += 1
        self._refused += refused
        if self._progress is not None:
            cost = self._cost()
            rate = self._done / max(time.monotonic() - self._began, 1e-3)
            line = f"{rate:.1f}/s, {self._refused} refused, {cost.calls} calls, {cost.money:.4f} spent"
            self._progress(self._done, self._total, line)


async def for_each(items: Sequence[Item], work: Callable[[Item], Awaitable[Result]], *, workers: int) -> list[Result]:
    """The results in the order of the items; the first error ends all.

    Each worker takes the next item as soon as it is done with one: nobody waits for a batch to end.
    """
    results: dict[int, Result] = {}
    rest = iter(enumerate(items))

    async def worker() -> None:
        for index, item in rest:
            results[index] = await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(workers, len(items))):
                group.create_task(worker())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [results[index] for index in range(len(items))]


def _paid(error: ModelError, most: tuple[int, int]) -> tuple[int, int]:
    """What was read and written before an error: by the server's counts, or the most where a model spoke and none came."""
    return most if error.rounds and not any(error.tokens) else error.tokens
