"""The application: every route, and the layers around them. :func:`create_app` is where to start reading."""

import asyncio
import json
import time
from collections.abc import Iterable
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.routing import APIRoute
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import HTMLResponse, Response

from llm_engineering.domain.answers import Feedback
from llm_engineering.domain.config import ServiceConfig
from llm_engineering.domain.errors import UnknownDocument
from llm_engineering.serving import dialect, problems
from llm_engineering.serving.asking import Asking, Remembered, caller_of, id_of
from llm_engineering.serving.blind import add_blind
from llm_engineering.serving.capacity import Capacity
from llm_engineering.serving.events import EventStream, rag_events
from llm_engineering.serving.front import Front
from llm_engineering.serving.gate import Gate, Room
from llm_engineering.serving.metrics import Metrics
from llm_engineering.serving.problems import ProblemResponse
from llm_engineering.serving.readiness import Readiness
from llm_engineering.serving.reference import POLICY, reference_page
from llm_engineering.serving.review import add_review
from llm_engineering.serving.service import Service
from llm_engineering.serving.shapes import (
    FeedbackRequest,
    FeedbackResponse,
    Health,
    Name,
    PassageResponse,
    ProblemDetail,
    RagRequest,
    RagResponse,
    Ready,
    SearchRequest,
    SearchResponse,
)
from llm_engineering.serving.static_page import add_page

_QUESTIONS = ("/rag", "/search", "/v1/chat/completions")
"""Routes whose work takes a slot of the capacity."""
_PROBLEM: dict[str, Any] = {"model": ProblemDetail, "content": {"application/problem+json": {}}}
_NO_MODEL: dict[int | str, dict[str, Any]] = {404: {**_PROBLEM, "description": "No such model."}}
_STATUSES = {
    400: "The body cannot be read.",
    401: "No key that the service knows.",
    403: "Not from here.",
    413: "Too large.",
    422: "Not as it should be, or about what does not exist.",
    429: "Too fast; Retry-After says when to come back.",
    500: "Something went wrong here.",
    502: "The chat model's reply was of no use.",
    503: "Over capacity, or a part is not there; Retry-After says when to come back.",
    504: "The answer took too long.",
}
_EVENT = {"event": {"type": "string"}, "data": {"type": "string"}}
_STREAM = {"text/event-stream": {"schema": {"type": "object", "properties": _EVENT, "required": ["data"]}}}


def create_app(
    service: Service,
    *,
    config: ServiceConfig,
    key_hashes: Iterable[str] = (),
    origins: Iterable[str] = (),
) -> FastAPI:
    """The twin as an ASGI application.

    ``config`` holds the limits. ``key_hashes`` are SHA-256 hashes of the accepted API keys; without any only this machine
    may call. ``origins`` may call from browsers. It opens and closes nothing: ``service`` belongs to the caller.
    """
    capacity = Capacity(
        in_flight=config.in_flight, queue=config.queue, deadline=config.deadline, retry_after=config.retry_after
    )
    metrics = Metrics(capacity)
    asking = Asking(service, config, capacity, metrics, Remembered(config.remembered))
    app = FastAPI(
        title="LLM Twin",
        version="0.1.0",
        description="Answers from what an author wrote, with sources that are checked when the answer is made.",
        docs_url=None,
        redoc_url=None,
        responses=_problems(),
    )
    _add_asking(app, asking)
    _add_dialect(app, asking)
    _add_material(app, asking)
    _add_operations(app, asking)
    add_page(app)
    if service.blind is not None:
        add_blind(app, service.blind)
    if service.review is not None:
        add_review(app, service.review)
    problems.install(app, retry_after=config.retry_after)
    questions = {route.path: route for route in app.routes if isinstance(route, APIRoute) and route.path in _QUESTIONS}
    app.add_middleware(Room, capacity=capacity, questions=questions)
    app.add_middleware(Gate, config=config, hashes=key_hashes, origins=origins)
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "X-API-Key", "Content-Type", "X-Request-ID"],
            expose_headers=["X-Request-ID", "Retry-After"],
        )
    app.add_middleware(Front, metrics=metrics, retry_after=config.retry_after, cross_origin=bool(origins))
    return app


def _add_asking(app: FastAPI, asking: Asking) -> None:
    @app.post("/rag", response_model=RagResponse, responses=_streams(200))
    async def rag(request: Request, body: RagRequest) -> Response:
        """Ask the twin. With `stream` the answer comes as server-sent events: `citations`, `text`…, `done`."""
        if not body.stream:
            answer = await asking.whole(request, body.question())
            return _json(answer.model_dump(mode="json"))
        pieces = await asking.pieces(request, body.question())
        events = rag_events(pieces, request_id=id_of(request), retry_after=asking.config.retry_after)
        return EventStream(events, ending=pieces.close)

    @app.post("/search", response_model=SearchResponse)
    async def search(request: Request, body: SearchRequest) -> Response:
        """Find ranked passages."""
        async with asking.capacity.slot():
            hits = await asking.service.search(body.question())
        return _json({"query": body.query, "hits": hits})


def _add_dialect(app: FastAPI, asking: Asking) -> None:
    started = int(time.time())

    @app.post("/v1/chat/completions", response_model=dict[str, Any], responses=_streams(200))
    async def chat_completions(request: Request, body: dialect.ChatRequest) -> Response:
        """Ask the twin in the dialect of the OpenAI API; sources come in `citations` and as footnotes."""
        question, sampling = body.question(), body.sampling(asking.service.sampling)
        created = int(time.time())
        if not body.stream:
            answer = await asking.whole(request, question, sampling)
            return _json(dialect.completion(answer, created=created))
        pieces = await asking.pieces(request, question, sampling)
        chunks = dialect.chunks(
            pieces,
            request_id=id_of(request),
            model=asking.service.model,
            created=created,
            retry_after=asking.config.retry_after,
            include_usage=bool(body.stream_options and body.stream_options.include_usage),
        )
        return EventStream(chunks, ending=pieces.close)

    @app.get("/v1/models", response_model=dict[str, Any])
    async def list_models() -> Response:
        """The models that may be named: the twin."""
        return _json(dialect.models(asking.service.model, created=started))

    @app.get("/v1/models/{model:path}", response_model=dict[str, Any], responses=_NO_MODEL)
    async def retrieve_model(request: Request, model: str) -> Response:
        """The twin, under its own name."""
        found = dialect.model(asking.service.model, model, created=started)
        if found is None:
            detail = "There is no such model here; GET /v1/models names the one there is."
            unknown = ProblemResponse(404, "unknown-model", detail, request_id=id_of(request)).problem
            body = json.dumps(unknown | {"error": dialect.error_of(unknown)})
            return Response(body, 404, media_type=ProblemResponse.media_type)
        return _json(found)


def _add_material(app: FastAPI, asking: Asking) -> None:
    @app.post("/feedback", response_model=FeedbackResponse, responses={404: {**_PROBLEM, "description": "Unknown."}})
    async def feedback(request: Request, body: FeedbackRequest) -> Response:
        """Judge an answer; a later judgement of the same answer takes the place of the first."""
        known = asking.remembered.get(caller_of(request), body.request_id)
        query = known.query if known else body.query
        answer = known.answer.answer if known else body.answer
        if query is None or answer is None:
            detail = "That answer is not remembered here: send its query, answer and document_ids along."
            return ProblemResponse(404, "unknown-request", detail, request_id=id_of(request))
        cited = [citation.document_id for citation in known.answer.citations] if known else body.document_ids
        await asking.service.save_feedback(
            Feedback(
                request_id=body.request_id,
                vote=body.vote,
                query=query,
                answer=answer,
                better_answer=body.better_answer,
                document_ids=tuple(dict.fromkeys(cited)),
            )
        )
        asking.metrics.feedback(body.vote)
        return _json({"request_id": body.request_id, "vote": body.vote})

    @app.get("/passage", response_model=PassageResponse, responses={404: {**_PROBLEM, "description": "Gone."}})
    async def passage(
        request: Request,
        document_id: Name,
        revision: Annotated[int, Query(ge=1, le=1_000_000)],
        start: Annotated[int, Query(ge=0, le=1_000_000_000)],
        end: Annotated[int, Query(ge=1, le=1_000_000_000)],
    ) -> Response:
        """A cited span and what stands around it, as its document is now."""
        try:
            return _json(await asking.service.passage(document_id, revision, start, end))
        except UnknownDocument as error:
            return ProblemResponse(404, "unknown-document", error.message, request_id=id_of(request))


def _add_operations(app: FastAPI, asking: Asking) -> None:
    readiness = Readiness(asking.service.checks, seconds=asking.config.check_seconds)

    @app.get("/health", response_model=Health)
    async def health() -> Response:
        """The process runs. Asks nobody."""
        return _json({"status": "ok"})

    @app.get("/ready", response_model=Ready, responses={503: {"model": Ready, "description": "Something is absent."}})
    async def ready() -> Response:
        """Whether warehouse, index and model are there, and the service has begun."""
        checks = await readiness.checks()
        is_ready = all(checks.values())
        headers = None if is_ready else {"Retry-After": str(asking.config.retry_after)}
        body = {"status": "ready" if is_ready else "not ready", "checks": checks}
        return _json(body, status=200 if is_ready else 503, headers=headers)

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """Counters and histograms for Prometheus."""
        return Response(asking.metrics.text(), headers={"Content-Type": asking.metrics.content_type})

    @app.get("/docs", response_class=HTMLResponse, include_in_schema=False)
    async def docs() -> Response:
        page = await asyncio.to_thread(lambda: reference_page(app.openapi()))
        return HTMLResponse(page, headers={"Content-Security-Policy": POLICY})


def _json(body: object, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """JSON in ASCII: an author's text may hold a lone surrogate, which has no other way out."""
    return Response(json.dumps(body), status_code=status, headers=headers, media_type="application/json")


def _problems() -> dict[int | str, dict[str, Any]]:
    return {status: {**_PROBLEM, "description": words} for status, words in _STATUSES.items()}


def _streams(status: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"content": _STREAM, "description": "The answer; events where a stream was asked for."}}
