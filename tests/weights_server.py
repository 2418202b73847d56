"""A real HTTP server that does to a download what networks do: it cuts, refuses, forgets and lies."""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from stream_i3d.models import zoo


class WeightsServer(ThreadingHTTPServer):
    """Serves `content` under every path; what it does to the requests to come stands in its attributes.

    Attributes:
        content: The file.
        ranges: Whether it knows Range requests.
        etag, modified: Its validators; None leaves them out.
        cuts: Bytes of the body after which it hangs up, one for each request to come.
        statuses: Answers given instead of the file, one (status, headers) for each request to come.
        lie: Content-Range sent instead of the true one.
        gate: Cleared, it holds all bodies back.
        requests: The headers of every request so far.
        sent: Bytes of bodies so far.
    """

    daemon_threads = True

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content = content
        self.ranges = True
        self.etag: str | None = '"1"'
        self.modified: str | None = None
        self.cuts: list[int] = []
        self.statuses: list[tuple[int, dict[str, str]]] = []
        self.lie: str | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.requests: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.sent = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that hangs up is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    server: WeightsServer

    def do_GET(self) -> None:
        server = self.server
        server.requests.append(dict(self.headers.items()))
        server.paths.append(self.path)
        if server.statuses:
            status, headers = server.statuses.pop(0)
            return self.answer(status, headers, b"an error page")
        headers = {"ETag": server.etag, "Last-Modified": server.modified}
        start = self.start()
        if start >= len(server.content):
            return self.answer(416, {"Content-Range": f"bytes */{len(server.content)}"}, b"")
        if start:
            whole = len(server.content)
            headers["Content-Range"] = server.lie or f"bytes {start}-{whole - 1}/{whole}"
        return self.answer(206 if start else 200, headers, server.content[start:])

    def start(self) -> int:
        """Return the byte to start with: Range where it is known, and If-Range still true."""
        known = (self.server.etag, self.server.modified)
        match = re.fullmatch(r"bytes=([0-9]+)-", self.headers.get("Range", ""))
        return int(match[1]) if match and self.server.ranges and self.headers.get("If-Range") in known else 0

    def answer(self, status: int, headers: dict[str, Any], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if value is not None:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.flush()
        self.server.gate.wait()
        body = body[: self.server.cuts.pop(0)] if self.server.cuts and status < 300 else body
        self.server.sent += len(body)
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def serving(content: bytes) -> Iterator[WeightsServer]:
    """Serve until the end of the block."""
    with WeightsServer(content) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.gate.set()
            server.shutdown()
            thread.join()


def publish(monkeypatch: pytest.MonkeyPatch, content: bytes, *names: str, kind: Any = "git-sha1") -> None:
    """Let the zoo believe that what it publishes as `names` is `content`."""
    prefix = b"blob %d\0" % len(content) if kind == "git-sha1" else b""
    digest = hashlib.sha1 if kind == "git-sha1" else hashlib.sha256
    value = digest(prefix + content).hexdigest()[: 40 if kind == "git-sha1" else 8]
    table = dict(zoo.PUBLISHED)
    for name in names:
        table[name] = _with_integrity(table[name], zoo.Integrity(kind, value))
    monkeypatch.setattr(zoo, "PUBLISHED", table)


def _with_integrity(weights: zoo.PublishedWeights, integrity: zoo.Integrity) -> zoo.PublishedWeights:
    from msgspec import structs

    return structs.replace(weights, integrity=integrity)
