"""The service as the page sees it, scripted: the real page files, its events one by one, and what it was asked."""

import json
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tests.doubles.web import Answer, LocalSite, Request

PAGE = Path(__file__).resolve().parents[2] / "llm_engineering" / "serving" / "page"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


def a_citation(marker: int = 1, **fields: Any) -> dict[str, Any]:
    """A citation as the service sends it."""
    return {
        "marker": marker,
        "document_id": f"document-{marker}",
        "revision": 2,
        "title": "What a watermark is for",
        "url": "https://ada.example/watermark",
        "quote": "the mark must be durable before anything is retired",
        "start": 120,
        "end": 171,
        **fields,
    }


def an_answer(text: str = "It must be durable [1].", *citations: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """An answer as the service sends it; grounded if it cites."""
    return {
        "answer": text,
        "citations": list(citations),
        "grounded": bool(citations),
        "model": "offline",
        "usage": {"retrieval_ms": 12.4, "generation_ms": 3.2, "prompt_tokens": 0, "completion_tokens": 0, "stages": {}},
        "request_id": "request-7",
        "route": "answer",
        "removed_markers": 0,
        **fields,
    }


def a_passage(**fields: Any) -> dict[str, Any]:
    """What stands around a quote."""
    return {
        "before": "A sync may be killed at any moment, so ",
        "quote": "the mark must be durable before anything is retired",
        "after": ". Whoever reads it later finds the work where it was left.",
        "heading_path": ["Watermarks", "Order of writes"],
        "published_at": "2023-03-14T00:00:00+00:00",
        **fields,
    }


def problem(status: int, **fields: Any) -> Answer:
    """An error as the service sends it."""
    headers = {"Retry-After": str(fields.pop("retry_after"))} if "retry_after" in fields else {}
    told = {"status": status, "request_id": "request-7", **fields}
    return Answer(json.dumps(told), status=status, content_type="application/problem+json", headers=headers)


def event(name: str, data: Any) -> bytes:
    """One server-sent event."""
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


class PageService(LocalSite):
    """Serves the page; ``/rag`` answers what :meth:`answers` was given. ``go`` lets a held stream continue."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.passages: dict[str, Answer] = {}
        self.key: str | None = None
        self.routes["/"] = lambda request: self._file("/index.html")
        for file in PAGE.iterdir():
            self.routes[f"/page/{file.name}"] = lambda request, name=file.name: self._file(f"/{name}")
        self.routes["/passage"] = self._passage
        self.routes["/feedback"] = self._guarded(Answer(status=204, content_type=None))
        self.answers(an_answer("It must be durable [1].", a_citation()))

    def answers(self, answer: dict[str, Any], *, pieces: Iterable[str] | None = None, hold: bool = False) -> None:
        """Stream this answer; with ``hold``, wait for ``go`` after the first piece."""
        texts = list(pieces) if pieces is not None else [answer["answer"]]

        def parts() -> Iterator[bytes]:
            yield event("citations", {"citations": answer["citations"], "request_id": answer["request_id"]})
            for position, text in enumerate(texts):
                if position == 1 and hold:
                    self.go.wait(120)
                yield event("text", {"text": text})
            yield event("done", answer)

        self.streams(parts)

    def streams(self, parts: Any) -> None:
        """Answer ``/rag`` with these pieces of an event stream."""
        self.routes["/rag"] = self._guarded(Answer(content_type="text/event-stream", parts=parts))

    def bodies(self, path: str) -> list[dict[str, Any]]:
        """The JSON bodies that a path was sent."""
        return [json.loads(request.body) for request in self.requests if request.path == path]

    def _guarded(self, answer: Answer) -> Any:
        def respond(request: Request) -> Answer:
            if self.key and request.headers.get("authorization") != f"Bearer {self.key}":
                return problem(401, title="An API key is needed")
            return answer

        return respond

    def _passage(self, request: Request) -> Answer:
        for document, answer in self.passages.items():
            if f"document_id={document}&" in request.path:
                return answer
        return Answer(json.dumps(a_passage()), content_type="application/json")

    def _file(self, path: str) -> Answer:
        file = PAGE / path.lstrip("/")
        if not file.is_file():
            return Answer("not found", status=404)
        return Answer(file.read_bytes(), content_type=KINDS[file.suffix], headers={"Content-Security-Policy": POLICY})
