"""A static folder over local HTTP, as a well-kept blog is served: right content types, validators, honest 404s."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate, parsedate_to_datetime
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".md": "text/markdown; charset=utf-8",
    ".xml": "application/xml; charset=utf-8",
    "feed.xml": "application/atom+xml; charset=utf-8",
}


@contextmanager
def serve(folder: Path, port: int = 0) -> Iterator[str]:
    """Serve ``folder`` on 127.0.0.1 and yield its address, without a slash at the end; port 0 takes a free one.

    Files are read at each request, so the folder may be filled or replaced while it is served.
    """

    class Handler(_Handler):
        root = folder

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(SimpleHTTPRequestHandler):
    root: Path

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        self.directory = str(self.root)
        file = Path(self.translate_path(self.path))
        address = self.path.split("?", 1)[0].split("#", 1)[0]
        if file.is_dir() and not address.endswith("/"):
            self._send(HTTPStatus.MOVED_PERMANENTLY, b"", {"Location": f"{address}/"}, with_body=False)
            return
        if file.is_dir():
            file = file / "index.html"
        if file.is_file() and not (address.endswith("/") and file.name != "index.html"):
            self._send_file(file, with_body=with_body)
            return
        missing = self.root / "404.html"
        body = missing.read_bytes() if missing.is_file() else b"Not found\n"
        self._send(HTTPStatus.NOT_FOUND, body, {"Content-Type": CONTENT_TYPES[".html"]}, with_body=with_body)

    def _send_file(self, file: Path, *, with_body: bool) -> None:
        body = file.read_bytes()
        modified = int(file.stat().st_mtime)
        headers = {
            "ETag": f'"{hashlib.sha256(body).hexdigest()[:20]}"',
            "Last-Modified": formatdate(modified, usegmt=True),
            "Cache-Control": "no-cache",
        }
        if self._still_fresh(headers["ETag"], modified):
            self._send(HTTPStatus.NOT_MODIFIED, b"", headers, with_body=False)
            return
        kind = CONTENT_TYPES.get(file.name) or CONTENT_TYPES.get(file.suffix, "application/octet-stream")
        self._send(HTTPStatus.OK, body, headers | {"Content-Type": kind}, with_body=with_body)

    def _still_fresh(self, etag: str, modified: int) -> bool:
        """RFC 9110: where an ``If-None-Match`` is given, the date is not looked at."""
        tags = self.headers.get("If-None-Match")
        if tags is not None:
            return tags.strip() == "*" or etag in {tag.strip().removeprefix("W/") for tag in tags.split(",")}
        since = self.headers.get("If-Modified-Since")
        try:
            return since is not None and modified <= int(parsedate_to_datetime(since).timestamp())
        except ValueError:
            return False

    def _send(self, status: HTTPStatus, body: bytes, headers: dict[str, str], *, with_body: bool) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status is not HTTPStatus.NOT_MODIFIED:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # the signature is the standard library's
        """Say nothing: the crawler's report is the log."""
