"""Servers that misbehave on purpose, byte by byte. Each connection is served by `talk` in a thread of its own."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Self


class HostileServer:
    """Listens on loopback for as long as the context lasts.

    Attributes:
        ended: Set when the context ends; what `talk` should wait by.
    """

    def __init__(self, talk: Callable[[socket.socket, threading.Event], None]) -> None:
        self.ended = threading.Event()
        self.connections = 0
        self._talk = talk
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                end, _ = self._listening.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(end,), daemon=True).start()

    def _serve(self, end: socket.socket) -> None:
        with end, contextlib.suppress(OSError):
            self._talk(end, self.ended)


def read_request(end: socket.socket) -> bytes:
    """Read until the head of an HTTP request has come."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = end.recv(65536)
        if not part:
            raise OSError("hung up")
        data += part
    return data


def drip(text: bytes, every_s: float = 0.02) -> Callable[[socket.socket, threading.Event], None]:
    """Answer a request with `text` again and again, a byte at a time."""

    def talk(end: socket.socket, ended: threading.Event) -> None:
        read_request(end)
        while True:
            for at in range(len(text)):
                end.sendall(text[at : at + 1])
                if ended.wait(every_s):
                    return

    return talk


def pour(first: bytes, again: bytes) -> Callable[[socket.socket, threading.Event], None]:
    """Answer a request with `first`, and then `again` as fast as it is read."""

    def talk(end: socket.socket, ended: threading.Event) -> None:
        read_request(end)
        end.sendall(first)
        while not ended.is_set():
            end.sendall(again)

    return talk


def silence(end: socket.socket, ended: threading.Event) -> None:
    """Take the connection and say nothing."""
    ended.wait()
