"""What a server that gives no video says, and the advice that follows from it; real sockets on loopback."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from stream_i3d.capture.stream_answers import Answer, ask_server, encoding_hint, explain_silence


@contextmanager
def answering(*answers: str) -> Iterator[tuple[int, list[str]]]:
    """Give the port of a server that answers connections in turn, and the requests that it gets."""
    requests: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for answer in answers:
                connection, _ = server.accept()
                with connection:
                    requests.append(connection.recv(4096).decode())
                    connection.sendall(answer.replace("\n", "\r\n").encode())

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1], requests
        thread.join(30)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("401 Unauthorized", "check user name and password"),
        ("403 Forbidden", "this user may not see the stream"),
        ("404 Not Found", "check the path of the stream"),
        ("406 Not Acceptable", "set it to H.264 or H.265 in the camera"),
        ("415 Unsupported Media Type", "set it to H.264 or H.265 in the camera"),
        ("453 Not Enough Bandwidth", "close other viewers, or take the camera's smaller"),
        ("454 Session Not Found", "it is tried again; where that goes on, restart the camera"),
        ("461 Unsupported Transport", "allow RTP over TCP"),
        ("500 Internal Server Error", "the server has an error of its own"),
        ("503 Service Unavailable", "it is busy, has too many viewers, or its camera is off"),
        ("505 RTSP Version Not Supported", "update the camera"),
        ("418 Teapot", "check the address of the stream"),
        ("599 Odd", "the server has an error of its own"),
    ],
)
@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_each_answer_has_its_own_advice(scheme: str, status: str, words: str) -> None:
    protocol = "RTSP/1.0" if scheme == "rtsp" else "HTTP/1.1"
    with answering(f"{protocol} {status}\n\n") as (port, requests):
        text = explain_silence(f"{scheme}://127.0.0.1:{port}/live?x=1#y", 10.0)
    assert text.startswith(f"the host answers {status}, but gives no video; ")
    assert words in text
    assert ("password" in text) == status.startswith("401")
    first = requests[0].split("\r\n")[0]
    assert first == (
        f"DESCRIBE rtsp://127.0.0.1:{port}/live?x=1 RTSP/1.0" if scheme == "rtsp" else "GET /live?x=1 HTTP/1.1"
    )


def test_a_redirection_says_where_to_without_a_password() -> None:
    moved = "RTSP/1.0 302 Moved Temporarily\nLocation: rtsp://user:hunter2@10.0.0.7/new\n\n"
    with answering(moved) as (port, _):
        text = explain_silence(f"rtsp://127.0.0.1:{port}/live", 10.0)
    assert "the stream has moved; give its new address, rtsp://***@10.0.0.7/new" in text
    assert "hunter2" not in text


def test_a_right_password_is_given_so_that_the_answer_is_not_about_it() -> None:
    """Example of RFC 2617, section 3.5, with RTSP's method."""
    challenge = 'RTSP/1.0 401 Unauthorized\nWWW-Authenticate: Digest realm="cam", nonce="abc"\n\n'
    with answering(challenge, "RTSP/1.0 503 Service Unavailable\n\n") as (port, requests):
        answer = ask_server(f"rtsp://ad%40min:s3cret@127.0.0.1:{port}/live", 10.0)
    assert answer == Answer(503, "Service Unavailable")
    assert 'username="ad@min"' in requests[1] and re.search(r'response="[0-9a-f]{32}"', requests[1])
    assert all("s3cret" not in request for request in requests)
    with answering('HTTP/1.1 401 No\nWWW-Authenticate: Basic realm="x"\n\n', "HTTP/1.1 404 Gone Away\n\n") as (
        port,
        seen,
    ):
        answer = ask_server(f"http://a:b@127.0.0.1:{port}/x.mp4", 10.0)
    assert answer == Answer(404, "Gone Away") and "Authorization: Basic YTpi\r\n" in seen[1]


def test_an_answer_with_the_stream_in_it_does_not_blame_the_password() -> None:
    with answering("RTSP/1.0 200 OK\n\n") as (port, _):
        assert "offers the stream, but FFmpeg finds no video" in explain_silence(f"rtsp://127.0.0.1:{port}/", 10.0)


@pytest.mark.parametrize("answer", ["", "garbage\n\n", "SSH-2.0-OpenSSH\n", "RTSP/1.0 999 x\n\n", "\x00" * 9000])
def test_what_is_no_answer_leaves_the_general_advice(answer: str) -> None:
    with answering(answer) as (port, _):
        text = explain_silence(f"rtsp://127.0.0.1:{port}/", 10.0)
    assert text == "the host answers, but gives no video; check path, user name and password"


@pytest.mark.parametrize("letter", ["#", "?", "/", "@", "%"])
def test_a_password_with_a_letter_that_ends_it_gets_the_hint_and_is_not_shown(letter: str) -> None:
    hint = encoding_hint(f"rtsp://viewer:hun{letter}ter2@camera/live")
    assert "write %23 for #" in hint and "%25 for %" in hint
    assert "hun" not in hint


@pytest.mark.parametrize("url", ["rtsp://viewer:a%23b@camera/live", "rtsp://camera/live?x=1#y", "rtsp://u:p@h/"])
def test_other_addresses_get_no_hint(url: str) -> None:
    assert encoding_hint(url) == ""
