"""Errors as ``application/problem+json`` (RFC 9457): what, and what to do; never an internal, never what was sent."""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from llm_engineering.domain.errors import (
    EmbeddingError,
    IndexMismatch,
    IndexMissing,
    MissingExtra,
    ModelError,
    ModelReplyInvalid,
    ModelUnavailable,
    PromptTooLong,
    StoreError,
    TwinError,
    UnknownAuthor,
    UnknownDocument,
    UsageError,
)
from llm_engineering.serving.capacity import OutOfTime, OverCapacity
from llm_engineering.serving.relay import ClientLeft

_log = logging.getLogger(__name__)

CLIENT_LEFT = 499
_LONGEST = 200

_KINDS: tuple[tuple[type[TwinError], int, str, str], ...] = (
    (MissingExtra, 503, "not-installed", "Something that this takes is not installed on the server."),
    (IndexMismatch, 503, "index-mismatch", "The index was built for another embedding model than the one configured."),
    (UnknownAuthor, 422, "unknown-author", ""),
    (UnknownDocument, 422, "unknown-document", ""),
    (UsageError, 422, "bad-request", ""),
    (IndexMissing, 503, "no-index", "Nothing has been indexed yet."),
    (StoreError, 503, "store-unavailable", "A store cannot be reached or cannot do that now."),
    (
        PromptTooLong,
        422,
        "prompt-too-long",
        "The question with its passages and earlier turns is longer than the chat model reads. Ask something shorter, with "
        "a smaller k or fewer earlier turns.",
    ),
    (ModelReplyInvalid, 502, "model-reply-invalid", "The chat model answered with something of no use."),
    (ModelUnavailable, 503, "model-unavailable", "The chat model cannot be reached or is too slow."),
    (ModelError, 502, "model-failed", "The chat model failed."),
    (EmbeddingError, 503, "embedding-failed", "The embedding model failed."),
    (TwinError, 500, "failed", "That went wrong."),
)
"""The first row that fits: status, short stable word, and what is said where the error's own words stay in the log."""


class ProblemResponse(Response):
    """One problem. The body is ASCII, whatever was sent."""

    media_type = "application/problem+json"

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        *,
        request_id: str,
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.problem = problem(status, kind, detail, request_id=request_id, errors=errors)
        super().__init__(json.dumps(self.problem), status_code=status, headers=headers)


def problem(
    status: int, kind: str, detail: str, *, request_id: str, errors: Sequence[Mapping[str, str]] = ()
) -> dict[str, Any]:
    """The members of a problem; ``type`` is a relative reference with a short stable word."""
    title = "Client Closed Request" if status == CLIENT_LEFT else HTTPStatus(status).phrase
    members: dict[str, Any] = {"type": f"/problems/{kind}", "title": title, "status": status, "detail": detail}
    if errors:
        members["errors"] = list(errors)
    return members | {"request_id": request_id}


def problem_of(error: Exception, *, request_id: str, retry_after: int) -> ProblemResponse:
    """What a client is told of an error. Whatever is none of ours is a defect: 500, and its trace goes to the log."""
    again = {"Retry-After": str(retry_after)}
    match error:
        case OverCapacity():
            detail = "Too many questions are being answered. Come back in a moment."
            return ProblemResponse(
                503, "over-capacity", detail, request_id=request_id, headers={"Retry-After": str(error.retry_after)}
            )
        case OutOfTime():
            return ProblemResponse(504, "out-of-time", "The answer took too long.", request_id=request_id)
        case ClientLeft():
            return ProblemResponse(CLIENT_LEFT, "client-left", "The client left.", request_id=request_id)
        case TwinError():
            status, kind, said = next(row[1:] for row in _KINDS if isinstance(error, row[0]))
            if status >= 500 or said:
                _log.error("%s: %s", type(error).__name__, error)
            if isinstance(error, ModelUnavailable) and error.retry_after is not None:
                again = {"Retry-After": str(max(1, math.ceil(min(error.retry_after, 3600))))}
            return ProblemResponse(
                status, kind, said or str(error), request_id=request_id, headers=again if status == 503 else None
            )
        case _:
            _log.error("unexpected %s", type(error).__name__, exc_info=error)
            return ProblemResponse(500, "unexpected", "That went wrong here.", request_id=request_id)


def install(app: FastAPI, *, retry_after: int) -> None:
    """Have every error of the application answered as a problem."""

    def id_of(request: Request) -> str:
        return str(request.scope.get("state", {}).get("request_id", ""))

    async def ours(request: Request, error: Exception) -> Response:
        return problem_of(error, request_id=id_of(request), retry_after=retry_after)

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        phrase = HTTPStatus(error.status_code).phrase
        kind = phrase.lower().replace(" ", "-")
        detail = error.detail if isinstance(error.detail, str) else phrase
        return ProblemResponse(error.status_code, kind, detail, request_id=id_of(request), headers=error.headers)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        errors = [
            {"at": ".".join(map(str, item["loc"]))[:_LONGEST], "problem": str(item["msg"])[:_LONGEST]}
            for item in error.errors()[:20]
        ]
        detail = "The request is not as it should be: see errors."
        return ProblemResponse(422, "invalid", detail, request_id=id_of(request), errors=errors)

    for kind in (TwinError, OverCapacity, OutOfTime, ClientLeft):
        app.add_exception_handler(kind, ours)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
