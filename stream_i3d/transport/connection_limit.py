"""Keeps strangers' connections from taking all the files that this process may have open.

ZeroMQ accepts every connection and has no limit for them. A connection costs its process a file, from its first packet
on and before any key is shown, and at the usual limit a thousand of them leave none for pictures, keys or logs; where
an ipc address has none left, ZeroMQ even aborts the process. So what is accepted is watched through ZeroMQ's monitor
events, and where too many are open, one is closed: the one that has kept us waiting longest for its handshake, else
the newest. Windows has other limits; nothing is watched there.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import zmq
from zmq.utils.monitor import recv_monitor_message

from stream_i3d.thread_names import name_background_thread

log = logging.getLogger(__name__)

MAX_FILES = 1024
"""No connection is kept whose file has this number or a higher one: select(), which libraries use, knows no more."""

HANDSHAKE_MS = 10_000
"""What a client has for its handshake; ZeroMQ's own limit is three times as long."""

BACKLOG = 16
"""Connections that may wait to be accepted: a burst of more comes no faster than they can be watched."""

_QUIET_S = 60.0
_HIDDEN = ".full"
_RESERVED = 128
_RESERVED_PRIVATE = 64
_EVENTS = zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED | zmq.EVENT_MONITOR_STOPPED
_HANDSHAKE_BYTES = {False: 72, True: 500}
"""Bytes that a client has sent at least when its handshake is over, without keys and with them (ZMTP 3.1, CURVE)."""

_TCP_INFO_RECEIVED = 128  # offset of tcpi_bytes_received (Linux 4.1)
_TCP_INFO_BYTES = 256


def highest_file(soft_limit: int, private: bool) -> int:
    """Return the number that no connection's file may reach.

    Args:
        soft_limit: How many files this process may have open.
        private: Whether only processes of the service connect; strangers must not keep them out.
    """
    limit = min(soft_limit, MAX_FILES)
    return max(limit - (_RESERVED_PRIVATE if private else _RESERVED), limit // 2)


def open_files_limit() -> int:
    """Return how many files this process may have open; `MAX_FILES` where there is no limit."""
    import resource  # not on Windows

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_FILES if soft == resource.RLIM_INFINITY else soft


class ConnectionLimit:
    """Watches the bound sockets of one ZeroMQ context, in a thread that ends with the context."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], most: int | None = None) -> None:
        """Args: `most` is the limit of one socket that only processes of the service connect to."""
        self._context = context
        self._most = most
        self._lock = threading.Lock()
        self._new: list[_Watched] = []
        self._wake: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._limiter: _Limiter | None = None

    def watch(self, target: zmq.Socket[bytes], keyed: bool) -> None:
        """Watch a socket; must stand before it is bound."""
        if os.name != "posix":
            return
        address = f"inproc://connections-{id(target)}"
        try:
            target.monitor(address, _EVENTS)
            events: zmq.Socket[bytes] = self._context.socket(zmq.PAIR)
        except zmq.ZMQError as error:
            log.warning("connections are not limited: %s", zmq.strerror(error.errno or 0))
            return
        events.setsockopt(zmq.LINGER, 0)
        events.setsockopt(zmq.RCVHWM, 0)  # where a monitor is full, ZeroMQ's own thread waits
        events.connect(address)
        with self._lock:
            self._new.append(_Watched(events, keyed))
            if self._wake is None:
                self._wake, woken = socket.socketpair()
                self._wake.setblocking(False)
                highest = highest_file(open_files_limit(), private=self._most is not None)
                self._limiter = _Limiter(self.take_new, woken, highest, self._most)
                self._thread = threading.Thread(target=self._limiter.run, name="connections", daemon=True)
                self._thread.start()
            with contextlib.suppress(BlockingIOError):
                self._wake.send(b"x")

    def take_new(self) -> list[_Watched]:
        """Return the sockets that were added since; for the watching thread."""
        with self._lock:
            new, self._new = self._new, []
        return new

    def close(self) -> None:
        """End the thread; call it before the context is ended."""
        with self._lock:
            if self._wake is not None:
                self._wake.close()
                self._wake = None
        if self._thread is not None and self._limiter is not None and not self._thread.is_alive():
            self._limiter.close()


class _Watched:
    """One bound socket: its events, and those of its connections whose handshake may not be over, in order."""

    def __init__(self, events: zmq.Socket[bytes], keyed: bool) -> None:
        self.events = events
        self.waiting: dict[int, bytes] = {}  # the connection's file -> where it was accepted
        self.handshake_bytes = _HANDSHAKE_BYTES[keyed]
        self.open: set[int] = set()
        self.too_many: set[int] = set()  # of these, until they are closed
        self.hidden: Path | None = None

    def hide(self, endpoint: bytes) -> None:
        """Remove the path of an ipc address while there are too many connections.

        ZeroMQ accepts faster than this thread can close, and aborts the process where there is no file left. Clients
        try again by themselves.
        """
        kind, _, place = endpoint.decode(errors="surrogateescape").partition("://")
        if kind == "ipc" and self.hidden is None and not place.startswith("@"):
            with contextlib.suppress(OSError):
                Path(place).rename(f"{place}{_HIDDEN}")
                self.hidden = Path(place)

    def show(self) -> None:
        """Put the path back."""
        if self.hidden is not None:
            with contextlib.suppress(OSError):
                Path(f"{self.hidden}{_HIDDEN}").rename(self.hidden)
            self.hidden = None

    def close(self) -> None:
        """Close the monitor's end; a path that was taken away is removed, as ZeroMQ does with its own."""
        self.events.close()
        if self.hidden is not None:
            with contextlib.suppress(OSError):
                Path(f"{self.hidden}{_HIDDEN}").unlink()
            self.hidden = None


class _Limiter:
    """The watching thread."""

    def __init__(
        self, take_new: Callable[[], list[_Watched]], woken: socket.socket, highest: int, most: int | None
    ) -> None:
        self._take_new = take_new
        self._woken = woken
        self._highest = highest
        self._most = float("inf") if most is None else most
        self._poller = zmq.Poller()
        self._poller.register(woken, zmq.POLLIN)
        self._watched: list[_Watched] = []
        # Two files of its own, by which a connection can be looked at and closed where there are no others.
        self._null = os.open(os.devnull, os.O_RDONLY)
        self._hand = os.dup(self._null)
        self._closed = False
        self._quiet_until = float("-inf")

    def run(self) -> None:
        name_background_thread("connections")
        try:
            while True:
                ready = dict(self._poller.poll())
                if self._woken.fileno() in ready:
                    if not self._woken.recv(4096):
                        return
                    for one in self._take_new():
                        self._watched.append(one)
                        self._poller.register(one.events, zmq.POLLIN)
                for one in list(self._watched):
                    if one.events in ready:
                        self._read(one)
        except (zmq.ContextTerminated, OSError):
            return
        finally:
            self.close()

    def close(self) -> None:
        """Close all that is the thread's; called once it has ended, or where it never began."""
        if self._closed:
            return
        self._closed = True
        for one in [*self._watched, *self._take_new()]:
            one.close()
        self._woken.close()
        os.close(self._null)
        os.close(self._hand)

    def _read(self, one: _Watched) -> None:
        while one.events.poll(0, zmq.POLLIN):
            event = recv_monitor_message(one.events)
            if event["event"] == zmq.EVENT_MONITOR_STOPPED:  # the socket is closed
                self._poller.unregister(one.events)
                self._watched.remove(one)
                one.close()
                return
            file = int(event["value"])
            one.waiting.pop(file, None)
            one.open.discard(file)
            one.too_many.discard(file)
            if event["event"] == zmq.EVENT_ACCEPTED:
                one.waiting[file] = bytes(event["endpoint"])
                one.open.add(file)
                if file >= self._highest or len(one.open) > self._most:
                    one.hide(one.waiting[file])
                    one.too_many.add(file)
                    self._make_room(one, file)
        if not one.too_many:
            one.show()

    def _make_room(self, one: _Watched, newest: int) -> None:
        """Close a connection: the one that has kept us waiting longest, or else the newest."""
        victim = next((file for file in list(one.waiting) if file != newest and self._still_waits(one, file)), newest)
        with self._taken(victim, one.waiting.pop(victim)) as connection:
            if connection is not None:
                connection.shutdown(socket.SHUT_RDWR)
        if time.monotonic() < self._quiet_until:
            return
        self._quiet_until = time.monotonic() + _QUIET_S
        log.warning(
            "too many connections at once: of those that have not finished their handshake the oldest is closed, or "
            "else the newest of all (raise the limit of open files, `ulimit -n`, where they are clients of yours)"
        )

    def _still_waits(self, one: _Watched, file: int) -> bool:
        """Return whether a connection's handshake is pending; False where that is not known."""
        with self._taken(file, one.waiting[file]) as connection:
            received = None if connection is None else _bytes_received(connection)
        if received is not None and received < one.handshake_bytes:
            return True
        del one.waiting[file]  # never looked at again
        return False

    @contextlib.contextmanager
    def _taken(self, file: int, endpoint: bytes) -> Iterator[socket.socket | None]:
        """Give an accepted connection as a socket; None where the file is something else by now.

        It is a copy, which stays what it is whatever becomes of the file's number meanwhile.
        """
        connection: socket.socket | None = None
        try:
            with contextlib.suppress(OSError):
                os.dup2(file, self._hand, inheritable=False)
                connection = socket.socket(fileno=self._hand)
            try:
                with contextlib.suppress(OSError):
                    yield connection if connection is not None and _is_accepted(connection, endpoint) else None
            finally:
                if connection is not None:
                    connection.detach()
        finally:
            os.dup2(self._null, self._hand, inheritable=False)


def _is_accepted(connection: socket.socket, endpoint: bytes) -> bool:
    """Return whether a socket is a connection that was accepted at a ZeroMQ endpoint."""
    try:
        connection.getpeername()
        name = connection.getsockname()
    except OSError:
        return False
    kind, _, place = endpoint.decode(errors="replace").partition("://")
    return str(name) == place if kind == "ipc" else isinstance(name, tuple) and place.endswith(f":{name[1]}")


def _bytes_received(connection: socket.socket) -> int | None:
    """Return how much a TCP connection has received so far; None where the system does not report it."""
    if not sys.platform.startswith("linux") or connection.family == socket.AF_UNIX:
        return None
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    return struct.unpack_from("Q", info, _TCP_INFO_RECEIVED)[0] if len(info) >= _TCP_INFO_RECEIVED + 8 else None
