"""Messages between two processes over a pair of sockets: whole, in order, and never blocking.

`multiprocessing.Connection` blocks where its pipe is full or holds half a message, so a peer that is stopped would stop
this process too. Here a message that does not fit waits in memory, and half of one waits for the rest.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from collections.abc import Hashable

MAX_MESSAGE_BYTES = 64 * 2**20
"""A network with a million labels fits."""

_MAX_WAITING_BYTES = 8 * 2**20
_READ_AT_ONCE = 2**20
_PIECE = 2**16
_HEADER = struct.Struct("!I")


class MessagePipe:
    """One end. May be used by any thread of its process.

    Drop policy: a message replaces a waiting one of the same `key`. When more than 8 MiB wait, the oldest that have a
    key are dropped.

    Attributes:
        dropped: Messages that were dropped for want of room.
    """

    def __init__(self, end: socket.socket) -> None:
        """Args: `end` belongs to this object from now on."""
        self._end = end
        self._end.setblocking(False)
        self._lock = threading.Lock()
        self._sending = memoryview(b"")  # what is left of the message under way
        self._waiting: dict[Hashable, bytes] = {}
        self._received = bytearray()
        self._may_send = self._may_read = True  # apart: what a peer sent before it ended is still read
        self.dropped = 0

    @property
    def closed(self) -> bool:
        """Whether the peer is gone, or has sent what cannot be a message."""
        return not (self._may_send and self._may_read)

    def put(self, message: bytes, key: Hashable | None = None, first: bool = False) -> None:
        """Send a message now, or as soon as there is room for it.

        Args:
            message: At most `MAX_MESSAGE_BYTES`.
            key: Of which kind it is; of each kind only the newest waits. None: it is never replaced or dropped.
            first: Whether it goes before all others that wait.

        Raises:
            ValueError: The message is too long.
        """
        if len(message) > MAX_MESSAGE_BYTES:
            raise ValueError(f"a message of {len(message)} bytes; at most {MAX_MESSAGE_BYTES} are allowed")
        with self._lock:
            if not self._may_send:
                return
            place = object() if key is None else key
            self._waiting[place] = message
            if first:
                self._waiting = {place: message, **self._waiting}
            self._make_room()
            self._flush()

    def flush(self) -> bool:
        """Send what there is room for; return whether nothing is left to be sent."""
        with self._lock:
            return self._flush()

    def drain(self, timeout_s: float) -> bool:
        """Wait at most `timeout_s` until all is sent; return whether it is."""
        until = time.monotonic() + timeout_s
        while not self.flush():
            left = until - time.monotonic()
            if left <= 0:
                return False
            _wait(self._end, left, for_room=True)
        return self._may_send

    def receive(self) -> list[bytes]:
        """Return the messages that have come whole, about 1 MiB at most, so that no peer keeps this process busy."""
        with self._lock:
            self._read()
            return self._whole()

    def receive_one(self, timeout_s: float) -> bytes | None:
        """Wait at most `timeout_s` for the first message; what comes behind it is kept. None where it does not come."""
        until = time.monotonic() + timeout_s
        while True:
            with self._lock:
                self._read()
                if first := self._whole(1):
                    return first[0]
                closed = not self._may_read
            left = until - time.monotonic()
            if closed or left <= 0:
                return None
            _wait(self._end, left, for_room=False)

    def close(self) -> None:
        """Close this end; what still waits is lost."""
        with self._lock:
            self._may_send = self._may_read = False
            self._waiting.clear()
            self._end.close()

    def _make_room(self) -> None:
        total = sum(map(len, self._waiting.values()))
        for key in list(self._waiting):
            if total <= _MAX_WAITING_BYTES:
                return
            if type(key) is not object:
                total -= len(self._waiting.pop(key))
                self.dropped += 1

    def _flush(self) -> bool:
        while self._may_send:
            if not self._sending:
                if not self._waiting:
                    return True
                message = self._waiting.pop(next(iter(self._waiting)))
                self._sending = memoryview(_HEADER.pack(len(message)) + message)
            try:
                self._sending = self._sending[self._end.send(self._sending) :]
            except (BlockingIOError, InterruptedError):
                return False
            except OSError:
                self._may_send = False
                self._waiting.clear()
        return True

    def _read(self) -> None:
        before = len(self._received)
        while self._may_read and len(self._received) - before < _READ_AT_ONCE:
            try:
                piece = self._end.recv(_PIECE)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                piece = b""
            if not piece:
                self._may_read = False
            self._received += piece

    def _whole(self, most: int | None = None) -> list[bytes]:
        messages: list[bytes] = []
        start = 0
        while len(self._received) - start >= _HEADER.size and (most is None or len(messages) < most):
            (size,) = _HEADER.unpack_from(self._received, start)
            if size > MAX_MESSAGE_BYTES:
                self._may_read = False
                break
            end = start + _HEADER.size + size
            if len(self._received) < end:
                break
            messages.append(bytes(self._received[start + _HEADER.size : end]))
            start = end
        del self._received[:start]
        return messages


def _wait(end: socket.socket, timeout_s: float, for_room: bool) -> None:
    """Wait until an end has something to read, or room; not by select() where there is poll(): it knows few files."""
    with contextlib.suppress(OSError, ValueError):
        if hasattr(select, "poll"):
            poller = select.poll()
            poller.register(end, select.POLLOUT if for_room else select.POLLIN)
            poller.poll(max(1, int(timeout_s * 1000)))
        else:
            select.select([] if for_room else [end], [end] if for_room else [], [], timeout_s)
