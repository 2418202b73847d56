"""Stands between subscribers on TCP and a PUB socket, which nothing reaches that was not read (subscriptions.py).

Subscribers connect here, and each connection is passed on to the socket at a private address of this process. What the
socket publishes goes out as it is; what a subscriber sends is filtered and paced. Idle connections cost one open file
and never reach ZeroMQ. On Linux only: the private address is an abstract one that admits this process alone.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import resource
import secrets
import selectors
import socket
import threading
import time

from stream_i3d.errors import WireError
from stream_i3d.thread_names import name_background_thread
from stream_i3d.transport.subscriptions import SubscriptionFilter, SubscriptionPool, TokenBucket

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 256
_SILENT_S = 10.0
"""How long a connection may be silent, in seconds."""
_CHUNK = 65536
_SIGNATURE = b"\xff" + bytes(7) + b"\x01\x7f"
"""How ZeroMQ begins. It is sent to a subscriber at once, though the socket is connected to later: were the parts of the
greetings in another order, a subscriber would not learn why it is refused."""
_BURST_BYTES, _BYTES_PER_S = 128 * 1024, 1024
"""What one connection may send at once, and then: heartbeats take a tenth of that."""
_ALL_BURST_BYTES, _ALL_BYTES_PER_S = 2 * 1024 * 1024, 128 * 1024
_ACCEPT_BURST, _ACCEPT_PER_S = 300, 50
_TICK_S = 0.05
_IDLE_TICK_S = 1.0
_FILES_OF_ALL_ELSE = 128
"""In the same process workers connect to the relay, whose limit keeps the last 64 files free (connection_limit.py)."""
_FILES_EACH = 3  # the connection, and both ends of the private one


class _Connection:
    """One subscriber: its connection, the private one behind it, and what waits in both directions."""

    def __init__(self, outer: socket.socket, pool: SubscriptionPool, now: float) -> None:
        self.outer = outer
        self.inner: socket.socket | None = None
        self.filter = SubscriptionFilter(pool)
        self.pace = TokenBucket(_BURST_BYTES, _BYTES_PER_S)
        self.since = now
        self.read_at = 0.0
        self.up = b""
        self.down = _SIGNATURE
        self.known = len(_SIGNATURE)  # bytes from the socket that were sent already
        self.ended = False  # the socket has closed its end: what waits is still sent


class SubscriberProxy:
    """Serves the subscribers of one socket from a thread of its own.

    Attributes:
        inner_address: Where the socket is to be bound (ZeroMQ).
        turned_away: Connections beyond the limit.
    """

    def __init__(self, listening: socket.socket, name: str) -> None:
        """Begin to serve once `start` is called.

        Args:
            listening: Where subscribers connect; owned by the proxy from now on.
            name: Its name in the log.
        """
        self._path = f"subscribers-{os.getpid()}-{secrets.token_hex(8)}"
        self.inner_address = f"ipc://@{self._path}"
        self.turned_away = 0
        self._name = name
        self._listening = listening
        self._listening.setblocking(False)
        self._pool = SubscriptionPool()
        self._all = TokenBucket(_ALL_BURST_BYTES, _ALL_BYTES_PER_S)
        self._accepts = TokenBucket(_ACCEPT_BURST, _ACCEPT_PER_S)
        self._accept_at = 0.0
        self._connections: set[_Connection] = set()
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._until: float | None = None
        self._said: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="subscribers", daemon=True)

    @property
    def refused(self) -> int:
        """Subscriptions and connections that were refused."""
        return self._pool.refused + self.turned_away

    def start(self) -> None:
        """Serve from now on; the socket is bound."""
        self._thread.start()

    def close(self, timeout_s: float = 0.3) -> None:
        """Send what the socket, which is closed, has left, for at most `timeout_s`; then end all connections."""
        self._until = time.monotonic() + timeout_s
        with contextlib.suppress(OSError):
            self._wake.send(b"x")
        if self._thread.is_alive():
            self._thread.join(timeout_s + 1.0)
        for end in (self._listening, self._wake, self._woken):
            end.close()
        self._selector.close()

    def _run(self) -> None:
        name_background_thread("subscribers")
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._selector.register(self._listening, selectors.EVENT_READ)
        listens = True
        while not self._is_over():
            now = time.monotonic()
            waits = [one for one in self._connections if one.read_at > 0]
            wants = now >= self._accept_at and self._until is None
            if wants != listens:
                change = self._selector.register if wants else self._selector.unregister
                change(self._listening, *((selectors.EVENT_READ,) if wants else ()))
                listens = wants
            hurry = waits or not wants or self._until is not None
            for key, events in self._selector.select(_TICK_S if hurry else _IDLE_TICK_S):
                self._serve(key, events)
            now = time.monotonic()
            for one in waits:
                if one in self._connections and now >= one.read_at:
                    one.read_at = 0.0
                    self._arm(one)
            self._end_silent(now)
        for one in list(self._connections):
            self._drop(one)

    def _is_over(self) -> bool:
        if self._until is None:
            return False
        return not self._connections or time.monotonic() >= self._until

    def _serve(self, key: selectors.SelectorKey, events: int) -> None:
        if key.fileobj is self._listening:
            self._accept()
        elif key.fileobj is self._woken:
            self._woken.recv(1)
        elif key.data in self._connections:
            one: _Connection = key.data
            try:
                if key.fileobj is one.outer:
                    if events & selectors.EVENT_WRITE:
                        self._send_down(one)
                    if events & selectors.EVENT_READ:
                        self._read_outer(one)
                else:
                    if events & selectors.EVENT_WRITE:
                        self._send_up(one)
                    if events & selectors.EVENT_READ:
                        self._read_inner(one)
                if one in self._connections:
                    self._arm(one)
            except WireError as error:
                self._say("frame", f"{error} came from a subscriber, whose connection was ended")
                self._drop(one)
            except OSError:
                self._drop(one)

    def _accept(self) -> None:
        now = time.monotonic()
        try:
            outer, _ = self._listening.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                self._say("files", "there are too many open files for more subscribers (ulimit -n)")
                self._make_room()
                self._accept_at = now + _TICK_S
            return
        self._accepts.take(1, now)
        self._accept_at = now + self._accepts.wait_s(now)
        if len(self._connections) >= _connection_limit() and not self._make_room():
            self.turned_away += 1
            self._say("connections", f"there are {len(self._connections)} subscribers; further ones are turned away")
            outer.close()
            return
        outer.setblocking(False)
        outer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        one = _Connection(outer, self._pool, now)
        self._connections.add(one)
        with contextlib.suppress(OSError):  # gone already, which is noticed by reading
            self._send_down(one)
        self._arm(one)

    def _make_room(self) -> bool:
        """End the oldest connection that has not subscribed to anything; return whether there was one."""
        idle = [one for one in self._connections if not one.filter.subscribed]
        if idle:
            self.turned_away += 1
            self._drop(min(idle, key=lambda one: one.since))
        return bool(idle)

    def _end_silent(self, now: float) -> None:
        for one in list(self._connections):
            if one.inner is None and now - one.since > _SILENT_S:
                self._drop(one)

    def _read_outer(self, one: _Connection) -> None:
        data = one.outer.recv(_CHUNK)
        if not data:
            self._drop(one)
            return
        now, refused = time.monotonic(), self._pool.refused
        passed = one.filter.feed(data)
        if self._pool.refused > refused:
            self._say("subscriptions", "a client subscribes to more than is allowed; what is too much is left out")
        one.pace.take(len(data), now)
        wait_s = one.pace.wait_s(now)
        if one.filter.used > 0:
            self._all.take(len(passed), now)
            wait_s = max(wait_s, self._all.wait_s(now))
        one.read_at = now + wait_s if wait_s else 0.0
        if passed and one.inner is None:
            one.inner = socket.socket(socket.AF_UNIX)
            one.inner.setblocking(False)
            one.inner.connect("\0" + self._path)
        one.up += passed
        self._send_up(one)

    def _send_up(self, one: _Connection) -> None:
        if one.up and one.inner is not None:
            try:
                one.up = one.up[one.inner.send(one.up) :]
            except BlockingIOError:
                pass
            except OSError:  # the socket has closed; what it sent before that is still to be read
                one.up = b""

    def _read_inner(self, one: _Connection) -> None:
        assert one.inner is not None
        try:
            data = one.inner.recv(_CHUNK)
        except ConnectionError:
            data = b""
        one.ended = not data
        one.down, one.known = data[one.known :], max(0, one.known - len(data))
        self._send_down(one)

    def _send_down(self, one: _Connection) -> None:
        if one.down:
            with contextlib.suppress(BlockingIOError):
                one.down = one.down[one.outer.send(one.down) :]
        if one.ended and not one.down:
            with contextlib.suppress(OSError):  # unread bytes at the end would have the last messages discarded
                one.outer.shutdown(socket.SHUT_WR)
                while one.outer.recv(_CHUNK):
                    pass
            self._drop(one)

    def _arm(self, one: _Connection) -> None:
        """Wait for what a connection can go on with: nothing is read before what was read has been sent on."""
        outer = (0 if one.up or one.read_at or one.ended else selectors.EVENT_READ) | (
            selectors.EVENT_WRITE if one.down else 0
        )
        self._watch(one.outer, outer, one)
        if one.inner is not None:
            inner = (0 if one.down or one.ended else selectors.EVENT_READ) | (selectors.EVENT_WRITE if one.up else 0)
            self._watch(one.inner, inner, one)

    def _watch(self, end: socket.socket, events: int, one: _Connection) -> None:
        known = self._selector.get_map().get(end)
        if known is None:
            if events:
                self._selector.register(end, events, one)
        elif not events:
            self._selector.unregister(end)
        elif known.events != events:
            self._selector.modify(end, events, one)

    def _drop(self, one: _Connection) -> None:
        self._connections.discard(one)
        one.filter.close()
        for end in (one.outer, one.inner):
            if end is not None:
                with contextlib.suppress(KeyError, ValueError):
                    self._selector.unregister(end)
                end.close()

    def _say(self, kind: str, what: str) -> None:
        """Log the first of a kind; further ones are only counted."""
        if kind not in self._said:
            self._said.add(kind)
            log.warning("%s: %s; further ones are only counted", self._name, what)


def _connection_limit() -> int:
    """Return how many connections there may be: fewer where this process may open few files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(8, min(MAX_CONNECTIONS, (soft - _FILES_OF_ALL_ELSE) // _FILES_EACH))
