"""What the pages where people decide have in common: the page itself, and how its requests are answered."""

import json

from fastapi import FastAPI
from pydantic import BaseModel
from starlette.responses import Response

from llm_engineering.serving.static_page import FOLDER, POLICY


def add_page_at(app: FastAPI, path: str, *, file: str) -> None:
    """Serve this file of ``page/`` at the path, read once, under the policy of the other pages."""
    page = (FOLDER / file).read_bytes()

    @app.get(path, include_in_schema=False)
    async def served() -> Response:
        headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}
        return Response(page, media_type="text/html; charset=utf-8", headers=headers)


def in_json(body: BaseModel) -> Response:
    """In ASCII: a text may hold a lone surrogate, which has no other way out."""
    return Response(json.dumps(body.model_dump(mode="json")), media_type="application/json")
