"""A web server on 127.0.0.1 that misbehaves as told; for the tests of downloading."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


@dataclass
class Served:
    """One file, and how it is served."""

    content: bytes = b""
    etag: str | None = '"first"'
    accepts_ranges: bool = True
    break_after: list[int] = field(default_factory=list)
    """Each answer in turn ends after so many bytes."""
    failures: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    """Each answer in turn is this status with these headers, before the file is served."""
    redirect: str | None = None
    page: str | None = None
    confirm_form: bool = False
    """A form comes in place of the file, until its hidden field `uuid` is sent back."""


@dataclass(frozen=True)
class Request:
    """What a client asked for, and how many bytes of content it got."""

    path: str
    headers: dict[str, str]
    status: int
    sent: int


class FileServer:
    """Serves `files` by path, and keeps a list of the `requests`."""

    def __init__(self) -> None:
        self.files: dict[str, Served] = {}
        self.requests: list[Request] = []
        self.address = ""

    def url(self, path: str) -> str:
        return f"{self.address}/{path}"

    def drive_file(self, drive_id: str, **served: object) -> Served:
        """Serve a file as Google Drive does, by its id."""
        self.files[f"drive:{drive_id}"] = Served(**served)  # type: ignore[arg-type]
        return self.files[f"drive:{drive_id}"]

    def of(self, path: str) -> list[Request]:
        return [request for request in self.requests if request.path.endswith(path)]


@contextmanager
def running_server() -> Iterator[FileServer]:
    server = FileServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _answer(self, server)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        server.address = f"http://127.0.0.1:{http.server_address[1]}"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()


def _answer(handler: BaseHTTPRequestHandler, server: FileServer) -> None:
    parts = urlsplit(handler.path)
    fields = parse_qs(parts.query)
    drive_id = fields.get("id", [""])[0]
    served = server.files.get(f"drive:{drive_id}" if drive_id else parts.path.lstrip("/"))

    def send(status: int, headers: dict[str, str], content: bytes = b"") -> None:
        server.requests.append(Request(handler.path, dict(handler.headers), status, len(content)))
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(content)

    def send_page(page: str) -> None:
        content = page.encode()
        headers = {"Content-Type": "text/html; charset=utf-8", "Content-Length": f"{len(content)}"}
        send(200, headers, content)

    if served is None:
        send(404, {"Content-Length": "0"})
    elif served.failures:
        status, headers = served.failures.pop(0)
        send(status, {"Content-Length": "0", **headers})
    elif served.redirect:
        send(302, {"Location": served.redirect, "Content-Length": "0"})
    elif served.page is not None:
        send_page(served.page)
    elif served.confirm_form and fields.get("uuid") != ["4-2"]:
        send_page(
            "<html><head><title>Google Drive - Virus scan warning</title></head><body>"
            f'<form id="download-form" action="{handler.path.split("?")[0]}" method="get">'
            '<input type="submit" value="Download anyway"/>'
            f'<input type="hidden" name="id" value="{drive_id}">'
            '<input type="hidden" name="uuid" value="4-2"></form></body></html>'
        )
    else:
        _send_file(handler, served, send)


def _send_file(handler: BaseHTTPRequestHandler, served: Served, send: object) -> None:
    assert callable(send)
    size = len(served.content)
    start = 0
    wanted = handler.headers.get("Range")
    unchanged = handler.headers.get("If-Range", served.etag) == served.etag
    if wanted and served.accepts_ranges and unchanged:
        start = int(wanted.removeprefix("bytes=").rstrip("-"))
    if start > size:
        send(416, {"Content-Length": "0"})
        return
    content = served.content[start:]
    headers = {"Content-Type": "application/octet-stream", "Content-Length": f"{len(content)}"}
    if served.etag:
        headers["ETag"] = served.etag
    if start:
        headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
    if served.break_after:
        content = content[: served.break_after.pop(0)]
        handler.close_connection = True
    send(206 if start else 200, headers, content)
