"""The base of all ZeroMQ sockets, and those of predictions. Handles bytes and limits, not the meaning of messages.

A context is made by each socket, in the process that uses it, and ended with it. Defaults of ZeroMQ that are wrong for
a service are set here once: LINGER (-1 hangs at exit), HWM, MAXMSGSIZE, heartbeats, the mode of ipc files. What others
may connect to is bound by `BoundedSocket._bind`, off this machine only with keys. Other channels' sockets stand with
their channel: frames.py, preview.py, relay.py, control_sockets.py.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

import psutil
import zmq

from stream_i3d.errors import TransportError
from stream_i3d.transport.addresses import PREDICTIONS, Purpose, bind_refusal, leaves_host, tcp_place
from stream_i3d.transport.connection_limit import BACKLOG, HANDSHAKE_MS, ConnectionLimit
from stream_i3d.transport.wire import MAX_PUBLISHED_BYTES

if TYPE_CHECKING:
    from stream_i3d.transport.keys import ClientKeys, ServerKeys
    from stream_i3d.transport.subscriber_proxy import SubscriberProxy

PUBLISH_HWM = 1000
MAX_SUBSCRIPTION_BYTES = 1024
"""More than any topic. ZeroMQ keeps a subscription as a tree of its bytes: one of 8 MB took 300 MB and six seconds in
which nothing was published (scripts/faults.py). Whoever sends more is cut off."""
_HEARTBEAT_MS = 2000
_TCP_BACKLOG = 100
_umask_lock = threading.Lock()  # it is one to a process: two threads would put back each other's


class SocketOwner(ABC):
    """Sockets with a context of their own, closed together; base of every role."""

    most_connections: int | None = None
    """To one bound socket, where only processes of the service connect to it."""

    def __init__(self) -> None:
        self._context = zmq.Context()
        self._limit = ConnectionLimit(self._context, self.most_connections)

    @property
    @abstractmethod
    def readable(self) -> Sequence[zmq.Socket[bytes]]:
        """All its sockets: what `wait_for_any` waits on."""

    def close(self) -> None:
        """Close the socket and its context; waits at most the linger time for messages still to be sent."""
        for one in self.readable:
            one.close()
        self._limit.close()
        self._context.term()

    def _limit_connections(self, target: zmq.Socket[bytes], keyed: bool) -> None:
        """Have a socket that is not bound yet drop clients beyond the limit, or with an unfinished handshake."""
        target.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        self._limit.watch(target, keyed)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class BoundedSocket(SocketOwner):
    """One socket; base of most roles."""

    def __init__(self, kind: int, linger_ms: int = 0) -> None:
        super().__init__()
        self._socket: zmq.Socket[bytes] = self._context.socket(kind)
        self._socket.setsockopt(zmq.LINGER, linger_ms)

    @property
    def readable(self) -> Sequence[zmq.Socket[bytes]]:
        """The socket."""
        return (self._socket,)

    def _bind(
        self, address: str, keys: ServerKeys | None, purpose: Purpose = PREDICTIONS, outer: str | None = None
    ) -> str:
        """Bind, closing the socket where that fails; return the real address. With keys, only clients of theirs.

        Args:
            address: Where to bind.
            keys: The service's; None if every client may connect.
            purpose: What the socket is for, in messages.
            outer: Where clients connect if that is not `address`, but a proxy that limits connections.
        """
        try:
            if keys is not None:
                # Here, because nothing else needs asyncio.
                from stream_i3d.transport.authentication import admit_only

                admit_only(self._context, self._socket, keys)
            elif leaves_host(outer or address):
                raise TransportError(
                    f"cannot bind {outer or address}: off this machine it needs keys (security.key, --key)"
                )
            if outer is None:
                self._limit_connections(self._socket, keys is not None)
            return bind(self._socket, address, purpose)
        except TransportError:
            self.close()
            raise


class PublishingSocket(BoundedSocket):
    """A socket that strangers subscribe to; on TCP they do so by way of a SubscriberProxy, where there can be one."""

    _proxy: SubscriberProxy | None = None

    @property
    def refused(self) -> int:
        """Subscriptions and connections that were refused."""
        return 0 if self._proxy is None else self._proxy.refused

    def _serve(self, address: str, keys: ServerKeys | None, purpose: Purpose) -> str:
        """Bind, closing the socket where that fails; return the address that subscribers connect to."""
        place = tcp_place(address)
        if place is None or sys.platform != "linux":
            return self._bind(address, keys, purpose)
        from stream_i3d.transport.subscriber_proxy import SubscriberProxy

        if keys is None and leaves_host(address):
            return self._bind(address, keys, purpose)  # which refuses it
        try:
            listening = listen(*place, address, purpose)
        except TransportError:
            self.close()
            raise
        self._proxy = SubscriberProxy(listening, purpose.what)
        self._socket.setsockopt(zmq.IPC_FILTER_PID, os.getpid())
        self._bind(self._proxy.inner_address, keys, purpose, outer=address)
        self._proxy.start()
        host, port = listening.getsockname()[:2]
        return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"

    def close(self) -> None:
        """Close the socket, and then the proxy, which sends the rest."""
        super().close()
        if self._proxy is not None:
            self._proxy.close()


class ConnectingSocket(BoundedSocket):
    """A client's socket, which notices that a service refuses it."""

    def _connect(self, address: str, keys: ClientKeys | None) -> None:
        """Connect, closing the socket where the address means nothing."""
        from stream_i3d.transport.authentication import (
            HandshakeMonitor,  # here, because those who only bind do not need it
        )

        self._handshakes = HandshakeMonitor(self._socket, address, keys is not None)
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._handshakes.events, zmq.POLLIN)
        try:
            connect(self._socket, address, keys)
        except TransportError:
            self.close()
            raise

    def _wait(self, timeout_s: float) -> bool:
        """Wait for a message at most `timeout_s` seconds; return whether there is one.

        Raises:
            TransportError: There is none, and the service refuses this client.
        """
        until = time.monotonic() + timeout_s
        while not self._socket.poll(0, zmq.POLLIN):
            self._check_let_in()
            if not self._poller.poll(max(0, int((until - time.monotonic()) * 1000))):
                return False
        return True

    def _check_let_in(self) -> None:
        """Raise TransportError where the service refuses this client, permanently or until its key is added."""
        self._handshakes.read()
        if self._handshakes.refusal:
            raise TransportError(self._handshakes.refusal)

    def close(self) -> None:
        """Close the socket."""
        self._handshakes.close()
        super().close()


def wait_for_any(ends: Iterable[SocketOwner], timeout_s: float) -> bool:
    """Wait at most `timeout_s` seconds until one of several sockets has a message; return whether one has."""
    poller = zmq.Poller()
    for end in ends:
        for one in end.readable:
            poller.register(one, zmq.POLLIN)
    return bool(poller.poll(int(timeout_s * 1000)))


def bind(target: zmq.Socket[bytes], address: str, purpose: Purpose) -> str:
    """Bind a socket on this machine; return its real address.

    Args:
        target: The socket.
        address: Where.
        purpose: What it is for, for people.

    Raises:
        TransportError: The address cannot be had.
    """
    allow_ipv6(target, address)
    if address.startswith("ipc://"):  # not tcp, where a client that finds no place waits a second and more
        target.setsockopt(zmq.BACKLOG, BACKLOG)
    try:
        if _is_served(address):  # ZeroMQ would silently take an ipc path over from who serves it
            raise zmq.ZMQError(zmq.EADDRINUSE)
        with _only_for_this_user():
            target.bind(address)
    except zmq.ZMQError as error:
        raise TransportError(bind_refusal(purpose, address, error.errno or 0)) from None
    return target.getsockopt_string(zmq.LAST_ENDPOINT)


def listen(host: str, port: int, address: str, purpose: Purpose) -> socket.socket:
    """Return a TCP socket that listens.

    Args:
        host: A number, a name of this machine, the name of a network interface, or "*" for all interfaces.
        port: 0 for any free one.
        address: The same for people, as they gave it.
        purpose: What it is for, in messages.

    Raises:
        TransportError: The address cannot be had.
    """
    try:
        number = {"*": "0.0.0.0"}.get(host) or _of_interface(host) or host
        family, _, _, _, where = socket.getaddrinfo(number, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        dual = family == socket.AF_INET6 and where[0] == "::"
        return socket.create_server(where[:2], family=family, backlog=_TCP_BACKLOG, dualstack_ipv6=dual)
    except (socket.gaierror, UnicodeError):
        raise TransportError(bind_refusal(purpose, address, errno.EADDRNOTAVAIL)) from None
    except OSError as error:
        raise TransportError(bind_refusal(purpose, address, error.errno or 0)) from None


def _of_interface(name: str) -> str | None:
    """Return the first IPv4 number of a network interface; None where there is none of that name."""
    addresses = psutil.net_if_addrs().get(name, [])
    return next((one.address for one in addresses if one.family == socket.AF_INET), None)


@contextmanager
def _only_for_this_user() -> Iterator[None]:
    """Create files in the block with mode 0600 from the beginning, unlike a later chmod."""
    with _umask_lock:
        before = os.umask(0o177)
        try:
            yield
        finally:
            os.umask(before)


def connect(target: zmq.Socket[bytes], address: str, keys: ClientKeys | None) -> None:
    """Connect a socket in the background; with keys, only to their service.

    Raises:
        TransportError: The address means nothing.
    """
    allow_ipv6(target, address)
    try:
        if keys is not None:
            from stream_i3d.transport.keys import set_client_keys

            set_client_keys(target, keys)
        target.connect(address)
    except zmq.ZMQError as error:
        raise TransportError(f"cannot connect to {address}: {zmq.strerror(error.errno or 0)}") from None


def set_heartbeats(target: zmq.Socket[bytes]) -> None:
    """Have a socket detect a peer that is gone without closing (a pulled cable). Call it before bind or connect.

    Not for the frame channels: a reader that holds a file back reads no pings either, and would be cut off, losing
    frames (seen); on one host a dead peer is noticed anyway.
    """
    target.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
    target.setsockopt(zmq.HEARTBEAT_TIMEOUT, 3 * _HEARTBEAT_MS)


def allow_ipv6(target: zmq.Socket[bytes], address: str) -> None:
    """Enable IPv6 on a socket for an IPv6 `address`; call it before bind or connect."""
    if "[" in address:
        target.setsockopt(zmq.IPV6, 1)


def _is_served(address: str) -> bool:
    """Return whether a process listens on an ipc:// path (a file left by one that crashed does not count)."""
    if not address.startswith("ipc://") or not hasattr(socket, "AF_UNIX"):
        return False
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(address.removeprefix("ipc://"))
        except OSError:
            return False
    return True


class Publisher(PublishingSocket):
    """PUB end of the prediction channel. Drop policy: a subscriber that does not read loses the newest messages."""

    def __init__(self, address: str, keys: ServerKeys | None = None) -> None:
        # A little linger, so that the last messages (an action's end, "stopped") leave the process; bounded.
        super().__init__(zmq.PUB, linger_ms=300)
        self._socket.setsockopt(zmq.SNDHWM, PUBLISH_HWM)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_SUBSCRIPTION_BYTES)
        set_heartbeats(self._socket)
        self.address = self._serve(address, keys, PREDICTIONS)

    def send(self, parts: tuple[bytes, bytes]) -> None:
        """Send one message to all subscribers; never blocks."""
        self._socket.send_multipart(parts, zmq.NOBLOCK)


class Subscriber(ConnectingSocket):
    """SUB end of the prediction channel."""

    def __init__(self, address: str, topics: Sequence[str] = ("v1/",), keys: ClientKeys | None = None) -> None:
        wanted = [topic.encode() for topic in topics]  # first: one that is no text must not leave a socket open
        super().__init__(zmq.SUB)
        self._socket.setsockopt(zmq.RCVHWM, PUBLISH_HWM)
        set_heartbeats(self._socket)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_PUBLISHED_BYTES)
        for topic in wanted:
            self._socket.setsockopt(zmq.SUBSCRIBE, topic)
        self._connect(address, keys)

    def receive(self, timeout_s: float) -> list[bytes] | None:
        """Return the parts of the next message, or None after `timeout_s`.

        Raises:
            TransportError: There is none, and the service refuses this client: for its key, or for having none.
        """
        return self._socket.recv_multipart(zmq.NOBLOCK) if self._wait(timeout_s) else None
