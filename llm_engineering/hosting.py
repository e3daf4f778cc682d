"""The twin as the service needs it: opened once, lasting, and level with an index that changes underneath."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any

from llm_engineering import bootstrap, telemetry
from llm_engineering.domain.answers import Answer, Feedback, Question
from llm_engineering.domain.config import AnswerConfig, IndexRecipe, Sampling, SearchConfig, ServiceConfig
from llm_engineering.domain.entities import IndexQuery
from llm_engineering.domain.errors import TwinError
from llm_engineering.domain.ports import ChatModel, Index, Warehouse
from llm_engineering.rag.answer import Done, Sources, Text, answer, stream
from llm_engineering.rag.retrieve import author_filter, checked_query, hit_json, hybrid_query
from llm_engineering.rag.twin import Twin
from llm_engineering.rag.window import fitted
from llm_engineering.serving.batching import QueryBatcher
from llm_engineering.serving.passage import passage
from llm_engineering.serving.service import Event, Review, Service

if TYPE_CHECKING:
    from llm_engineering.settings import Settings

_FRESH = 1.0
"""Seconds for which an index is taken to have the recipe that it had."""


@asynccontextmanager
async def open_service(settings: "Settings", config: AnswerConfig, limits: ServiceConfig) -> AsyncIterator[Service]:
    """The twin for :func:`~llm_engineering.serving.app.create_app`, closed with the context.

    It opens without an index, too: questions then raise :class:`IndexMissing` until there is one. A new state of the
    index is used at once, one of another recipe within a second (or :class:`IndexMismatch` says what to change); what
    fitted the one before is closed when its last request is done.
    """
    with bootstrap.open_warehouse(settings) as warehouse, bootstrap.open_index(settings) as index:
        twins = _Twins(settings, config, limits, warehouse, index)
        try:
            yield _service(twins, settings, config, warehouse)
        finally:
            await twins.close()


class _Twins:
    """The twin that fits the index as it is now."""

    def __init__(
        self, settings: "Settings", config: AnswerConfig, limits: ServiceConfig, warehouse: Warehouse, index: Index
    ) -> None:
        self._settings, self._config, self._limits = settings, config, limits
        self._warehouse, self._index = warehouse, index
        self._recipe: IndexRecipe | None = None
        self._opened: _Opened | None = None
        self._failure: TwinError | None = None
        self._until = 0.0
        self._model: ChatModel | None = None
        self._finding: asyncio.Task[_Opened] | None = None
        self._opening = asyncio.Lock()

    @asynccontextmanager
    async def use(self) -> AsyncIterator[Twin]:
        """The twin, which stays open for the length of the context; raises :class:`IndexMissing`, :class:`IndexMismatch`."""
        async with (await self._current()).used() as twin:
            yield twin

    async def _current(self) -> "_Opened":
        if (known := self._known()) is not None:
            return known
        if self._finding is None or self._finding.done():
            self._finding = asyncio.create_task(self._find())
            self._finding.add_done_callback(_heard)
        # whoever has no time for it leaves it at work: the next one finds it done
        return await asyncio.shield(self._finding)

    async def _find(self) -> "_Opened":
        recipe = await asyncio.to_thread(self._index.recipe)
        outdated = self._opened
        if outdated is None or recipe != self._recipe:
            try:
                self._opened, self._recipe, self._failure = await self._open(), recipe, None
            except TwinError as error:
                if recipe is not None:  # without an index nothing was loaded, and one may come at any time
                    self._failure, self._until = error, time.monotonic() + _FRESH
                raise
            if outdated is not None:
                await outdated.retire()
        self._failure, self._until = None, time.monotonic() + _FRESH
        assert self._opened is not None
        return self._opened

    def _known(self) -> "_Opened | None":
        """What was found within the last second; raises what it failed with."""
        if time.monotonic() >= self._until:
            return None
        if self._failure is not None:
            raise self._failure.with_traceback(None)
        return self._opened

    async def check_model(self) -> None:
        """Ask the chat model's server whether it is there, index or none; raises :class:`ModelUnavailable`."""
        if self._settings.llm_model != bootstrap.OFFLINE:
            await (await self._endpoint()).check()

    async def close(self) -> None:
        """Close everything that was opened."""
        if self._finding is not None:
            await asyncio.wait({self._finding})
        if self._opened is not None:
            await self._opened.close()
        if self._model is not None:
            await self._model.close()

    async def _open(self) -> "_Opened":
        embedder, sparse = await asyncio.to_thread(bootstrap.open_encoders, self._settings, self._index, _threads())
        await asyncio.to_thread(bootstrap.check_threshold, self._index, self._config)

        def terms(text: str) -> Sequence[int]:
            return sparse.encode_query(text).indices

        is_offline = self._settings.llm_model == bootstrap.OFFLINE
        model = (
            await self._open_model(embed=embedder.embed_passages, terms=terms) if is_offline else await self._endpoint()
        )
        batcher = QueryBatcher(embedder.embed_queries, size=self._limits.batch_size, delay=self._limits.batch_delay)
        endings = [batcher.close, model.close] if is_offline else [batcher.close]
        twin = Twin(
            warehouse=self._warehouse,
            index=self._index,
            embedder=embedder,
            sparse=sparse,
            model=model,
            planner=model if bootstrap.plans(self._settings) else None,
            reranker=await asyncio.to_thread(bootstrap.open_reranker, self._settings),
            config=fitted(self._config, model),
            embed=batcher,
            span=telemetry.span,
        )
        return _Opened(twin, endings)

    async def _endpoint(self) -> ChatModel:
        """The model at an endpoint, which is the same whatever the index holds."""
        async with self._opening:
            if self._model is None:
                self._model = await self._open_model()
            return self._model

    async def _open_model(self, **encoders: Any) -> ChatModel:  # noqa: ANN401  # those of open_chat_model
        chat = self._config.chat
        # in a thread: the modules of a client take a second to load
        return await asyncio.to_thread(bootstrap.open_chat_model, self._settings, chat, **encoders)


def _heard(finding: "asyncio.Task[_Opened]") -> None:
    """Its failure was for those who waited, where there still were any."""
    if not finding.cancelled():
        finding.exception()


class _Opened:
    """One twin, and what is closed when nobody needs it any more. Belongs to one event loop."""

    def __init__(self, twin: Twin, endings: Sequence[Callable[[], Awaitable[None]]]) -> None:
        self._twin, self._endings = twin, list(endings)
        self._users, self._retired = 0, False

    @asynccontextmanager
    async def used(self) -> AsyncIterator[Twin]:
        """The twin, kept open."""
        self._users += 1
        try:
            yield self._twin
        finally:
            self._users -= 1
            if self._retired and not self._users:
                await self.close()

    async def retire(self) -> None:
        """Close it when its last request is done."""
        self._retired = True
        if not self._users:
            await self.close()

    async def close(self) -> None:
        """Close it now; once is enough."""
        while self._endings:
            await self._endings.pop()()


def _threads() -> int:
    """Processor threads for encoding: one core is left to whoever answers the clients."""
    return max(1, (os.cpu_count() or 1) - 1)


def _service(twins: _Twins, settings: "Settings", config: AnswerConfig, warehouse: Warehouse) -> Service:
    async def whole(question: Question, *, request_id: str, sampling: Sampling | None) -> Answer:
        async with twins.use() as twin:
            return await answer(question, twin, request_id=request_id, sampling=sampling)

    async def pieces(question: Question, *, request_id: str, sampling: Sampling | None) -> AsyncIterator[Event]:
        async with (
            twins.use() as twin,
            aclosing(stream(question, twin, request_id=request_id, sampling=sampling)) as events,  # type: ignore[type-var]
        ):
            async for event in events:
                match event:
                    case Sources():
                        yield event.passages
                    case Text():
                        yield event.piece
                    case Done():
                        yield event.answer

    async def search(question: Question) -> list[dict[str, object]]:
        async with twins.use() as twin:
            return await _search(question, twin, config.search)

    async def around(document_id: str, revision: int, start: int, end: int) -> dict[str, object]:
        return await asyncio.to_thread(passage, warehouse, document_id, revision, start, end)

    async def save_feedback(feedback: Feedback) -> None:
        await asyncio.to_thread(warehouse.save_feedback, feedback)

    async def warehouse_is_there() -> None:
        await asyncio.to_thread(warehouse.head)

    async def index_is_there() -> None:
        async with twins.use() as twin:
            anywhere = [1.0, *[0.0] * (twin.embedder.dimensions - 1)]
            await asyncio.to_thread(twin.index.search, IndexQuery(dense=anywhere, limit=1))

    return Service(
        model=settings.llm_model,
        answer=whole,
        stream=pieces,
        search=search,
        passage=around,
        save_feedback=save_feedback,
        checks={"warehouse": warehouse_is_there, "index": index_is_there, "model": twins.check_model},
        sampling=config.sampling,
        blind=bootstrap.open_blind_pairs(settings),
        review=Review(bootstrap.open_review_samples(settings), warehouse),
    )


async def _search(question: Question, twin: Twin, usual: SearchConfig) -> list[dict[str, object]]:
    """What ``retrieve`` does, with the query embedded together with others."""
    text = checked_query(question.query)
    author_id = await asyncio.to_thread(author_filter, twin.warehouse, question.author)
    dense = await (twin.embed(text) if twin.embed else asyncio.to_thread(twin.embedder.embed_query, text))
    filters = question.filters.model_copy(update={"author_id": author_id}) if author_id else question.filters
    terms = twin.sparse.encode_query(text)
    wanted = hybrid_query(dense, terms, filters=filters, limit=question.k or usual.k, config=usual)
    return [hit_json(hit) for hit in await asyncio.to_thread(twin.index.search, wanted)]
