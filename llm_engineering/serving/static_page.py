"""The page for people: the files of ``page/``, read once and served from memory under a strict policy."""

import mimetypes
from pathlib import Path

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.responses import Response

FOLDER = Path(__file__).parent / "page"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_TYPES = {".js": "text/javascript", ".svg": "image/svg+xml", ".css": "text/css", ".html": "text/html"}


def add_page(app: FastAPI, *, folder: Path = FOLDER) -> None:
    """Serve ``index.html`` at ``/`` and its companions under ``/page/``; 404 for what is not there."""
    files = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()} if folder.is_dir() else {}

    def answer(name: str) -> Response:
        if name not in files:
            raise HTTPException(404)
        suffix = Path(name).suffix
        kind = _TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
        media = f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
        headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache", "Content-Type": media}
        return Response(files[name], headers=headers)

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return answer("index.html")

    @app.get("/page/{name}", include_in_schema=False)
    async def companion(name: str) -> Response:
        return answer(name)
