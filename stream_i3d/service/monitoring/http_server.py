"""A small HTTP server for untrusted clients: GET and HEAD, one request per connection, and limits on everything.

A client that is slow, floods, or sends something other than HTTP costs a thread for a few seconds at most and delays no
other client: when all places are taken, the connection that has waited longest for its request is closed in favour of
the new one. The answers come from `answer`.
"""

from __future__ import annotations

import contextlib
import errno
import http.server
import io
import logging
import os
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from stream_i3d.errors import TransportError
from stream_i3d.redact import redact

log = logging.getLogger(__name__)

MAX_HEAD_BYTES = 8192
MAX_HEADERS = 50
MAX_CONNECTIONS = 16
REQUEST_S = 5.0
"""Seconds that a client has for its whole request; as many again for taking the answer."""

_POLL_S = 0.2
_EXHAUSTED_S = 0.2
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_END_OF_HEAD = (b"\r\n\r\n", b"\n\n")


@dataclass(frozen=True, slots=True)
class Request:
    """A request whose form has been checked: path without its query, headers by lower-case names, each given once."""

    path: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Response:
    """An answer."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)


class HttpServer:
    """Serves from threads of its own for as long as the context lasts.

    Attributes:
        port: Where it is bound.
        address: Its URL.
    """

    def __init__(
        self, host: str, port: int, answer: Callable[[Request], Response], request_s: float = REQUEST_S
    ) -> None:
        """Bind; port 0 is any free one.

        Raises:
            TransportError: The address cannot be bound.
        """
        try:
            self._server = _Server((host, port), answer, request_s)
        except (OSError, UnicodeError) as error:  # the latter for a host that is no name
            reason = getattr(error, "strerror", None) or "there is no such host"
            raise TransportError(
                f"cannot serve HTTP on {host}:{port}: {reason}; choose another address, or end what uses it"
            ) from None
        self.port = int(self._server.server_address[1])
        self.address = f"http://{f'[{host}]' if ':' in host else host}:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(_POLL_S,), name="http", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(socketserver.TCPServer):
    allow_reuse_address = os.name == "posix"  # elsewhere two could serve one port
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], answer: Callable[[Request], Response], request_s: float) -> None:
        self.answer = answer
        self.request_s = request_s
        self._lock = threading.Lock()
        self._open: dict[socket.socket, bool] = {}  # in the order of their arrival; whether their request has arrived
        # Not HTTPServer, which asks the network for this host's name when it binds.
        [family, *_] = socket.getaddrinfo(address[0], address[1], type=socket.SOCK_STREAM)[0]
        self.address_family = family
        super().__init__(address, _Handler)

    def get_request(self) -> tuple[Any, Any]:
        """Accept a connection; where this process cannot open more files, wait a little and raise."""
        try:
            return super().get_request()
        except OSError as error:
            if error.errno in _EXHAUSTED:
                log.warning("cannot take a connection to the monitoring: %s", error.strerror)
                threading.Event().wait(_EXHAUSTED_S)
            raise

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what http.server would print: a connection that could not be served."""
        log.debug("a connection could not be served", exc_info=True)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread of its own, where there is room; called by the accepting thread."""
        with self._lock:
            if len(self._open) >= MAX_CONNECTIONS:
                self._close_one()
            self._open[request] = False
        thread = threading.Thread(target=self._serve, args=(request, client_address), name="http-client", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads
            log.warning("cannot serve a connection to the monitoring: this process may have no more threads")
            with self._lock:
                self._open.pop(request, None)
            self.shutdown_request(request)

    def has_request(self, request: socket.socket) -> None:
        """Note that a connection's request has arrived, so that it keeps its place."""
        with self._lock:
            if request in self._open:
                self._open[request] = True

    def _close_one(self) -> None:
        """Close the connection that has taken longest to send its request, or else to receive its answer."""
        slowest = next((one for one, there in self._open.items() if not there), next(iter(self._open)))
        del self._open[slowest]
        with contextlib.suppress(OSError):
            slowest.shutdown(socket.SHUT_RDWR)  # wakes its thread, which closes it

    def _serve(self, request: socket.socket, client_address: Any) -> None:
        try:
            with contextlib.suppress(OSError):  # the client is gone, or its time is over
                self.finish_request(request, client_address)
        finally:
            with self._lock:
                self._open.pop(request, None)
            self.shutdown_request(request)

    def server_close(self) -> None:
        """Close the listening socket and all connections."""
        super().server_close()
        with self._lock:
            for one in self._open:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)


class _Handler(http.server.BaseHTTPRequestHandler):
    """Reads one request as a whole, within its time, before any of it is looked at."""

    server: _Server
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        """Read the head; the parser then reads from memory, not from the socket."""
        self.connection: socket.socket = self.request
        self.close_connection = True
        self._too_large = False
        self._asked, self._answer = self._head(), io.BytesIO()
        self.rfile, self.wfile = io.BytesIO(self._asked), self._answer

    def handle(self) -> None:
        """Answer the one request of this connection, if one came."""
        if self._too_large:
            self.requestline, self.command = "", ""
            self.send_error(431)
        elif self._asked:
            self.server.has_request(self.connection)
            self.handle_one_request()

    def finish(self) -> None:
        """Send the answer, within its time."""
        answer = self._answer.getvalue()
        if answer:
            self.connection.settimeout(self.server.request_s)
            self.connection.sendall(answer)

    def _head(self) -> bytes:
        """Return request line and headers; nothing where they do not come in time, or the client goes away."""
        until, head = time.monotonic() + self.server.request_s, b""
        while not any(end in head for end in _END_OF_HEAD):
            left = until - time.monotonic()
            if left <= 0:
                return b""
            self.connection.settimeout(left)
            try:
                piece = self.connection.recv(MAX_HEAD_BYTES)
            except OSError:
                return b""
            if not piece:
                return b""
            head += piece
            # Request line and the empty one at the end come on top of the headers.
            if len(head) > MAX_HEAD_BYTES or head.count(b"\n") > MAX_HEADERS + 2:
                self._too_large = True
                return b""
        return head

    def do_GET(self) -> None:
        """Answer it, where its headers are in order."""
        names = [name.lower() for name in self.headers]
        if len(set(names)) < len(names) or len(names) > MAX_HEADERS or self.request_version == "HTTP/0.9":
            self.send_error(400)
            return
        headers = {name: str(self.headers[name]) for name in names}
        self._send(self.server.answer(Request(self.path.partition("?")[0], headers)))

    def do_HEAD(self) -> None:
        """Answer as GET, without the body."""
        self.do_GET()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse an invalid request, in a few words and without showing it."""
        code = 405 if code == 501 else code  # http.server's for a method that there is no function for
        words = {400: "bad request", 405: "only GET and HEAD", 414: "the address is too long", 431: "too many headers"}
        more = {"Allow": "GET, HEAD"} if code == 405 else {}
        self._send(Response(code, words.get(code, "refused").encode() + b"\n", headers=more))

    def _send(self, response: Response) -> None:
        self.request_version = self.protocol_version  # of a request out of order it is that of 1991, without headers
        self.send_response(response.status)
        standard = {
            "Content-Type": response.content_type,
            "Content-Length": str(len(response.body)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Connection": "close",
        }
        for name, value in (standard | dict(response.headers)).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)

    def version_string(self) -> str:
        """Return what the answer names as its server: no versions."""
        return "stream-i3d"

    def log_message(self, format: str, *args: Any) -> None:
        """Log what http.server would print."""
        log.debug("http %s: %s", self.client_address[0], redact(format % args))
