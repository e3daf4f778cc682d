"""Blind comparison in the browser: a page with two texts and one question, and the two requests that it makes."""

import asyncio
import hashlib
import random
from typing import Literal

from fastapi import FastAPI, Request
from pydantic import BaseModel
from starlette.responses import Response

from llm_engineering.domain.blind import BlindChoice, BlindPair, BlindPairs
from llm_engineering.serving.asking import caller_of, id_of
from llm_engineering.serving.people import add_page_at, in_json
from llm_engineering.serving.problems import ProblemResponse
from llm_engineering.serving.shapes import ProblemDetail, RequestId, Shape

PATH = "/review/ab"
_UNKNOWN = {"model": ProblemDetail, "description": "No such pair.", "content": {"application/problem+json": {}}}


class ShownPair(BaseModel):
    """Two texts of which one is the author's; nothing here says which."""

    id: str
    task: str
    author: str
    first: str
    second: str


class NextPair(BaseModel):
    """The next pair for the caller; none if all are done."""

    pair: ShownPair | None
    decided: int
    total: int
    """Those decided and those to come: one about each document."""
    seen: int
    """Pairs that are not for the caller: about documents of which they have seen the author's text."""


class BlindChoiceRequest(Shape):
    """Which text the caller takes for the author's."""

    pair_id: RequestId
    chosen: Literal["first", "second", "neither"]


def add_blind(app: FastAPI, store: BlindPairs) -> None:
    """The page at ``/review/ab``, open like the other page; its requests pass the same gate as every other."""
    add_page_at(app, PATH, file="ab.html")

    @app.get(f"{PATH}/next", response_model=NextPair)
    async def next_pair(request: Request) -> Response:
        """A pair to judge blind: the same one until it is judged."""
        return in_json(await asyncio.to_thread(_next, store, _judge(request)))

    @app.post(f"{PATH}/choices", response_model=NextPair, responses={404: _UNKNOWN})
    async def choose(request: Request, body: BlindChoiceRequest) -> Response:
        """Keep a choice and get the next pair; a later choice about the same pair takes the place of the first."""
        pairs = {pair.id: pair for pair in await asyncio.to_thread(store.pairs)}
        pair = pairs.get(body.pair_id)
        if pair is None:
            detail = "That pair is no longer shown: its model was evaluated again or retired, or its text withdrawn."
            return ProblemResponse(404, "unknown-pair", detail, request_id=id_of(request))
        judge = _judge(request)
        choice = BlindChoice(
            pair_id=pair.id,
            model=pair.model,
            judge=judge,
            taken=pair.meant(body.chosen),
            document_ids=pair.document_ids,
        )
        await asyncio.to_thread(store.choose, choice)
        return in_json(await asyncio.to_thread(_next, store, judge))


def _judge(request: Request) -> str:
    """Who is choosing, without anything that could be used as a key."""
    return hashlib.sha256(f"judge {caller_of(request)}".encode()).hexdigest()[:16]


def _next(store: BlindPairs, judge: str) -> NextPair:
    """Pairs in an order of the judge's own, so that where everybody stops is not always the same place.

    Of a document one pair, of whichever twin: all twins stand beside the same text of the author, and a task may quote what
    another pair shows.
    """
    pairs, choices = store.pairs(), [choice for choice in store.choices() if choice.judge == judge]
    ids = {choice.pair_id for choice in choices}
    others = [pair for pair in pairs if pair.id not in ids]
    met = [choice.document_ids for choice in choices] + [pair.document_ids for pair in pairs if pair.id in ids]
    known = {document for document_ids in met for document in document_ids}
    left = [pair for pair in others if known.isdisjoint(pair.document_ids)]
    to_come = len({pair.document_ids or pair.id for pair in left})
    chosen = min(left, key=lambda pair: random.Random(f"{judge} {pair.id}").random(), default=None)
    decided = len(pairs) - len(others)
    return NextPair(
        pair=chosen and _shown(chosen), decided=decided, total=decided + to_come, seen=len(others) - len(left)
    )


def _shown(pair: BlindPair) -> ShownPair:
    first, second = pair.texts
    return ShownPair(id=pair.id, task=pair.task, author=pair.author, first=first, second=second)
