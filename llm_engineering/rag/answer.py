"""From a question to a verified answer: understand, expand, retrieve, rerank, assemble, write, verify."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass

from llm_engineering.domain.answers import Answer, Message, Passage, Prompt, Question, Reply, Route
from llm_engineering.domain.chat import DECLINED, DO_NOT_KNOW, EARLIER_TURNS, GREETING, answer_prompt, writing_prompt
from llm_engineering.domain.config import Sampling
from llm_engineering.domain.entities import Author, Filters, Hit, IndexQuery, now
from llm_engineering.domain.errors import ModelReplyInvalid
from llm_engineering.rag.assemble import Assembled, assemble
from llm_engineering.rag.candidates import capped, fused, recent_first
from llm_engineering.rag.confidence import confidence
from llm_engineering.rag.expand import expand
from llm_engineering.rag.ledger import Ledger
from llm_engineering.rag.rerank import diversified, reranked
from llm_engineering.rag.retrieve import author_filter, checked_query, hybrid_query
from llm_engineering.rag.twin import Done, Event, Remarks, Sources, Text, Twin
from llm_engineering.rag.understand import Understanding, understand, understand_with_model
from llm_engineering.rag.verify import verify
from llm_engineering.rag.window import Load, fit

__all__ = ["Done", "Event", "Sources", "Text", "Twin", "answer", "stream"]

FIXED = {Route.SMALL_TALK: GREETING, Route.REFUSE: DECLINED}
"""Replies that need neither passages nor a model."""
CUT = "assemble: passages or earlier turns were cut to what the model reads"
_DEPTH = 3
"""Hits asked of the index per candidate, so that the cap per document leaves enough."""
_MOST_HITS = 1000


@dataclass(frozen=True)
class _Material:
    """What an answer is written from; without a prompt the fixed text is the answer."""

    route: Route
    prompt: Prompt | None
    fixed: str = DO_NOT_KNOW


async def answer(question: Question, twin: Twin, *, request_id: str, sampling: Sampling | None = None) -> Answer:
    """Answer from the author's writings with citations that were verified against the warehouse as it is now.

    Where the writings hold no answer the text is :data:`~llm_engineering.domain.chat.DO_NOT_KNOW` and ``grounded`` false.
    ``sampling`` takes the place of the configuration's. Nothing is written anywhere. Raises :class:`UsageError`
    (:class:`UnknownAuthor`) for a question that cannot be asked, :class:`StoreError`, :class:`ModelError`.
    """
    ledger = Ledger(twin.span)
    with twin.span("answer", operation="invoke_agent", agent="llm-twin") as whole:
        material = await _gather(question, twin, ledger)
        if material.prompt is None:
            given = _settled(material, twin, ledger, request_id)
        else:
            with ledger.stage("write"):
                reply = await twin.model.complete(material.prompt, sampling=sampling or twin.config.sampling)
            given = await _verified(reply, material, twin, ledger, request_id)
        _tell(whole, given)
    return given


async def stream(
    question: Question, twin: Twin, *, request_id: str, sampling: Sampling | None = None
) -> AsyncIterator[Event]:
    """The same answer as it comes: :class:`Sources`, :class:`Text` piece by piece, and :class:`Done` with the verified answer.

    The pieces are the model's own words; what could not be verified in them is gone from the answer in ``Done``.
    """
    ledger = Ledger(twin.span)
    with twin.span("answer", operation="invoke_agent", agent="llm-twin") as whole:
        material = await _gather(question, twin, ledger)
        if material.prompt is None:
            given = _settled(material, twin, ledger, request_id)
            yield Sources(())
            yield Text(given.answer)
        else:
            yield Sources(material.prompt.passages)
            reply: Reply | None = None
            with ledger.stage("write"):
                pieces = twin.model.stream(material.prompt, sampling=sampling or twin.config.sampling)
                try:
                    async for piece in pieces:
                        if isinstance(piece, Reply):
                            reply = piece
                        elif piece:
                            yield Text(piece)
                finally:
                    if isinstance(pieces, AsyncGenerator):  # whoever stops listening stops the model too
                        await pieces.aclose()
            if reply is None:
                raise ModelReplyInvalid(f"{twin.model.name} ended its stream without a reply", hint="Ask again.")
            given = await _verified(reply, material, twin, ledger, request_id)
        _tell(whole, given)
    yield Done(given)


def _tell(whole: Remarks, given: Answer) -> None:
    """What became of the question, for its span."""
    whole.set(route=given.route.value, grounded=given.grounded, citations=len(given.citations))
    whole.set(input_tokens=given.usage.prompt_tokens, output_tokens=given.usage.completion_tokens)


async def _gather(question: Question, twin: Twin, ledger: Ledger) -> _Material:
    """Every stage before a model writes."""
    asked = checked_query(question.query)
    with ledger.stage("understand") as remarks:
        meant, authors = await _understand(question, twin, ledger)
        remarks.set(route=meant.route.value, filtered=meant.filters != Filters())
    if meant.route in FIXED:
        return _Material(meant.route, None, FIXED[meant.route])
    with ledger.stage("expand") as remarks:
        queries = [meant.query, *await _expand(meant.query, twin, ledger)]
        remarks.set(queries=len(queries))
    with ledger.stage("retrieve", operation="retrieval") as remarks:
        hits = await _retrieve(queries, meant.filters, question, twin)
        remarks.set(hits=len(hits))
    with ledger.stage("rerank") as remarks:
        best = await _rerank(meant.query, hits, question, twin, ledger)
        remarks.set(hits=len(best))
    with ledger.stage("assemble") as remarks:
        sure = await asyncio.to_thread(confidence, meant.query, [*best, *hits], terms=twin.terms)
        assembled, prompt, notes = await asyncio.to_thread(_prepared, asked, question, meant, authors, best, twin)
        remarks.set(passages=len(assembled.passages), stale=assembled.stale, confidence=round(sure, 3))
    ledger.note(*notes)
    if assembled.stale:
        ledger.note(f"assemble: {assembled.stale} of {len(best)} hits were stale")
    if not assembled.passages or sure < twin.config.threshold:
        return _Material(meant.route, None)
    return _Material(meant.route, prompt)


async def _understand(question: Question, twin: Twin, ledger: Ledger) -> tuple[Understanding, list[Author]]:
    """The question as it is meant, and the authors that there are."""

    def exists(filters: Filters) -> bool:
        return _exists(filters, twin)

    def by_rules() -> tuple[Understanding, list[Author]]:
        author_id = author_filter(twin.warehouse, question.author) or question.filters.author_id
        stated = question.model_copy(update={"filters": question.filters.model_copy(update={"author_id": author_id})})
        authors = twin.warehouse.authors()
        return understand(stated, authors=authors, exists=exists, today=now()), authors

    meant, authors = await asyncio.to_thread(by_rules)
    if twin.planner is not None and twin.config.understand == "model":
        meant = await understand_with_model(
            question, meant, model=twin.planner, authors=authors, exists=exists, today=now()
        )
    ledger.note(*meant.notes)
    ledger.spend(*meant.tokens)
    return meant, authors


async def _expand(query: str, twin: Twin, ledger: Ledger) -> tuple[str, ...]:
    if twin.planner is None:
        return ()
    expansion = await expand(query, model=twin.planner, config=twin.config)
    ledger.spend(expansion.prompt_tokens, expansion.completion_tokens)
    ledger.note(*expansion.notes)
    return expansion.queries


async def _retrieve(queries: Sequence[str], filters: Filters, question: Question, twin: Twin) -> list[Hit]:
    """Candidates for all wordings, searched for at the same time, as one ranking."""
    config = twin.config
    limit = max(config.candidates, question.k or config.k)

    async def search(query: str) -> list[Hit]:
        text = checked_query(query)
        with twin.span("embed", operation="embeddings"):
            dense = await (twin.embed(text) if twin.embed else asyncio.to_thread(twin.embedder.embed_query, text))
        terms, most = twin.sparse.encode_query(text), min(limit * _DEPTH, _MOST_HITS)
        wanted = hybrid_query(dense, terms, filters=filters, limit=most, config=config.search)
        return await asyncio.to_thread(twin.index.search, wanted)

    rankings = await asyncio.gather(*map(search, queries))
    ranked = recent_first(fused(rankings), half_life_days=config.recency_half_life_days, today=now())
    return capped(ranked, per_document=config.per_document, limit=limit)


async def _rerank(query: str, hits: Sequence[Hit], question: Question, twin: Twin, ledger: Ledger) -> list[Hit]:
    """The hits that will be shown, best first."""
    wanted = question.k or twin.config.k
    if twin.reranking is None:
        return await asyncio.to_thread(
            diversified, hits, encode=twin.sparse.encode_passage, config=twin.config, limit=wanted
        )
    best, notes = await reranked(query, hits, by=twin.reranking, seconds=twin.config.rerank_seconds)
    ledger.note(*notes)
    return best[:wanted]


def _prepared(
    asked: str, question: Question, meant: Understanding, authors: Sequence[Author], best: Sequence[Hit], twin: Twin
) -> tuple[Assembled, Prompt, tuple[str, ...]]:
    """What is shown of the hits, and the prompt: no longer than the model reads, where that is known."""
    examples = twin.config.style_examples if meant.route is Route.WRITE else 0
    turns = tuple(turn for turn in question.history if turn.role != "system")[-EARLIER_TURNS:]
    wanted = Load(max(1, len(best)), twin.config.context_tokens, examples, turns)
    made: dict[tuple[int, int, int], Assembled] = {}

    def write(load: Load) -> Prompt:
        shown = (load.passages, load.tokens, load.examples)
        if shown not in made:
            made[shown] = _assemble(meant, best, load, twin)
        return _prompt(asked, load.history, meant.route, _speaker(meant, authors, made[shown]), made[shown])

    whole = write(wanted)
    first = made[wanted.passages, wanted.tokens, wanted.examples]
    if twin.window is None or not first.passages:
        return first, whole, ()
    prompt, load = fit(wanted, write, window=twin.window, count_tokens=twin.model.count_tokens)
    return first, prompt, () if load == wanted else (CUT,)


def _assemble(meant: Understanding, best: Sequence[Hit], load: Load, twin: Twin) -> Assembled:
    return assemble(
        best[: load.passages],
        query=meant.query,
        warehouse=twin.warehouse,
        terms=twin.terms,
        count_tokens=twin.model.count_tokens,
        budget=load.tokens,
        examples=load.examples,
    )


def _prompt(asked: str, history: Sequence[Message], route: Route, speaker: str | None, assembled: Assembled) -> Prompt:
    if route is Route.WRITE:
        return writing_prompt(
            asked,
            author=speaker,
            passages=assembled.passages,
            examples=assembled.examples,
            history=history,
        )
    return answer_prompt(asked, author=speaker, passages=assembled.passages, history=history)


def _speaker(meant: Understanding, authors: Sequence[Author], assembled: Assembled) -> str | None:
    """Whose voice it is: the author asked for, else the only one of the passages; ``None`` for several."""
    chosen = next((author.full_name for author in authors if author.id == meant.filters.author_id), None)
    names = {passage.author for passage in assembled.passages}
    return chosen or (names.pop() if len(names) == 1 else None)


async def _verified(reply: Reply, material: _Material, twin: Twin, ledger: Ledger, request_id: str) -> Answer:
    """The reply with what is true of it. A reply of which nothing could be verified claims nothing: it becomes "I don't know"."""
    passages: tuple[Passage, ...] = material.prompt.passages if material.prompt else ()
    with ledger.stage("verify") as remarks:
        checked = await asyncio.to_thread(verify, reply.text, passages, warehouse=twin.warehouse, terms=twin.terms)
        remarks.set(citations=len(checked.citations), removed=checked.removed, refused=checked.refused)
    ledger.spend(reply.prompt_tokens, reply.completion_tokens)
    ledger.note(*(f"write: the model's server does not do {what}" for what in reply.lacked))
    if checked.refused:
        ledger.note(f"verify: {checked.refused} citations of documents that changed or are gone were refused")
    draft = material.route is Route.WRITE and checked.text and not checked.refused
    return Answer(
        answer=checked.text if checked.citations or draft else DO_NOT_KNOW,
        citations=checked.citations,
        grounded=bool(checked.citations),
        model=reply.model or twin.model.name,
        usage=ledger.usage(),
        request_id=request_id,
        route=material.route,
        removed_markers=checked.removed,
    )


def _settled(material: _Material, twin: Twin, ledger: Ledger, request_id: str) -> Answer:
    """An answer that needed no model."""
    return Answer(
        answer=material.fixed,
        grounded=False,
        model=twin.model.name,
        usage=ledger.usage(),
        request_id=request_id,
        route=material.route,
    )


def _exists(filters: Filters, twin: Twin) -> bool:
    """Whether anything is indexed under these filters: any vector finds it."""
    anywhere = [1.0, *[0.0] * (twin.embedder.dimensions - 1)]
    return bool(twin.index.search(IndexQuery(dense=anywhere, filters=filters, limit=1)))
