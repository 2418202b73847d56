"""A real server on a free port of loopback, and clients that mean it well and ill."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from collections.abc import Iterator

import pytest

from stream_i3d.errors import TransportError
from stream_i3d.service.monitoring.http_server import (
    MAX_CONNECTIONS,
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    HttpServer,
    Request,
    Response,
)

WAIT_S = 30.0
GET = b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n"


def echo(request: Request) -> Response:
    """Answer with what was understood."""
    return Response(200, f"{request.path} {dict(request.headers)}".encode(), headers={"X-More": "1"})


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with HttpServer("127.0.0.1", 0, echo, request_s=WAIT_S) as running:
        yield running


def connect(server: HttpServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), WAIT_S)


def rest_of(client: socket.socket) -> bytes:
    """Read to the end that the server makes, whichever way."""
    answer = b""
    with contextlib.suppress(ConnectionError):
        while piece := client.recv(65536):
            answer += piece
    return answer


def exchange(server: HttpServer, sent: bytes) -> bytes:
    with connect(server) as client:
        with contextlib.suppress(ConnectionError):
            client.sendall(sent)
        return rest_of(client)


def test_a_get_is_answered_with_its_headers_and_the_connection_ends(server: HttpServer) -> None:
    client = http.client.HTTPConnection("127.0.0.1", server.port, WAIT_S)
    client.request("GET", "/metrics?x=1", headers={"Authorization": "Bearer x"})
    response = client.getresponse()
    body = response.read()
    assert response.status == 200 and body.startswith(b"/metrics {") and b"'authorization': 'Bearer x'" in body
    assert response.headers["X-More"] == "1" and response.headers["Connection"] == "close"
    assert response.headers["Server"] == "stream-i3d"


def test_a_head_has_the_length_and_no_body(server: HttpServer) -> None:
    head, _, body = exchange(server, GET.replace(b"GET", b"HEAD")).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ") and body == b""
    assert b"Content-Length: %d" % len("/x {'host': 'localhost'}") in head


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"get", b"X" * 99])
def test_other_methods_are_refused(server: HttpServer, method: bytes) -> None:
    answer = exchange(server, GET.replace(b"GET", method))
    assert answer.startswith(b"HTTP/1.1 405 ") and b"\r\nAllow: GET, HEAD\r\n" in answer


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),  # TLS
        (b"GET\r\n\r\n", 400),
        (b"GET /x HTTP/9.9\r\n\r\n", 505),
        (b"GET /x HTTP/x\r\n\r\n", 400),
        (b"GET /x\r\n\r\n", 400),  # HTTP/0.9
        (GET.replace(b"\r\n\r\n", b"\r\nhost: evil\r\n\r\n"), 400),  # which of the two is meant?
        (b"GET /x HTTP/1.1\r\n" + b"A: b\r\n" * (MAX_HEADERS + 2) + b"\r\n", 431),
        (b"GET /" + b"x" * MAX_HEAD_BYTES + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET /x HTTP/1.1\r\nA: " + b"x" * MAX_HEAD_BYTES, 431),  # and never an end
    ],
)
def test_what_is_out_of_order_or_too_large_is_refused(server: HttpServer, sent: bytes, status: int) -> None:
    answer = exchange(server, sent)
    assert answer.split(b" ")[1:2] == [str(status).encode()], answer[:80]
    assert exchange(server, GET).startswith(b"HTTP/1.1 200 ")


def test_a_refusal_does_not_show_what_was_sent(server: HttpServer) -> None:
    answer = exchange(server, b"<script>GEHEIM /GEHEIM HTTP/1.1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 405 ") and b"GEHEIM" not in answer


@pytest.mark.parametrize("sent", [b"", b"GET /x", b"GET /x HTTP/1.1\r\nHost:"])
def test_a_client_that_goes_away_is_forgotten(server: HttpServer, sent: bytes) -> None:
    with connect(server) as client:
        client.sendall(sent)
    assert exchange(server, GET).startswith(b"HTTP/1.1 200 ")


def test_a_request_in_pieces_is_one(server: HttpServer) -> None:
    with connect(server) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for index in range(len(GET)):
            client.sendall(GET[index : index + 1])
        assert rest_of(client).endswith(b"/x {'host': 'localhost'}")


def test_clients_that_never_finish_their_request_hold_up_nobody(server: HttpServer) -> None:
    """Each of them would be waited for 30 s; the longest awaited is thrown out for who comes."""
    slow = [connect(server) for _ in range(3 * MAX_CONNECTIONS)]
    try:
        for client in slow:
            client.sendall(b"GET /x HTTP/1.1\r\nX-Never: ")
        for _ in range(5):
            assert exchange(server, GET).startswith(b"HTTP/1.1 200 ")
        for client in slow[:MAX_CONNECTIONS]:
            assert rest_of(client) == b""  # the first ones were thrown out: a read would else wait for 30 s
        assert len(server._server._open) <= MAX_CONNECTIONS
    finally:
        for client in slow:
            client.close()


def test_a_client_that_is_served_keeps_its_place_before_those_who_say_nothing() -> None:
    asked, go_on = threading.Event(), threading.Event()

    def slowly(request: Request) -> Response:
        asked.set()
        go_on.wait(WAIT_S)
        return Response(200, b"done")

    with HttpServer("127.0.0.1", 0, slowly, request_s=WAIT_S) as server, connect(server) as served:
        served.sendall(GET)
        assert asked.wait(WAIT_S)
        silent = [connect(server) for _ in range(2 * MAX_CONNECTIONS)]
        assert rest_of(silent[0]) == b""
        go_on.set()
        assert rest_of(served).endswith(b"done")
        for client in silent:
            client.close()


def test_who_does_not_finish_in_time_is_hung_up_on() -> None:
    with HttpServer("127.0.0.1", 0, echo, request_s=0.05) as server, connect(server) as client:
        client.sendall(b"GET /x HTTP/1.1\r\n")
        assert rest_of(client) == b""


def test_it_ends_while_clients_are_connected() -> None:
    with HttpServer("127.0.0.1", 0, echo, request_s=WAIT_S) as server:
        client = connect(server)
        client.sendall(b"GET")
    assert rest_of(client) == b""
    client.close()
    with pytest.raises(OSError):
        connect(server)


def test_an_address_that_is_taken_or_not_ours_is_one_line(server: HttpServer) -> None:
    with pytest.raises(
        TransportError, match=rf"cannot serve HTTP on 127\.0\.0\.1:{server.port}: Address already in use"
    ):
        HttpServer("127.0.0.1", server.port, echo)
    with pytest.raises(TransportError, match=r"cannot serve HTTP on 192\.0\.2\.1:0: "):
        HttpServer("192.0.2.1", 0, echo)
    with pytest.raises(TransportError, match=r"cannot serve HTTP on no-such-host\.invalid:0: "):
        HttpServer("no-such-host.invalid", 0, echo)


def test_it_serves_by_ipv6_too() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    with HttpServer("::1", 0, echo) as server, socket.create_connection(("::1", server.port), WAIT_S) as client:
        client.sendall(GET)
        assert rest_of(client).startswith(b"HTTP/1.1 200 ")
