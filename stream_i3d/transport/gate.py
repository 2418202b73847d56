"""Lets only known clients in: CURVE on a bound socket, and the ZAP handler of its context (RFC 27).

CURVE alone lets every key in, so there is no way here to have the one without the other: without an answer of the
handler, ZeroMQ refuses (ZAP_ENFORCE_DOMAIN). Who comes without a key, or with another service's public one, fails in
ZeroMQ itself and is not seen here.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable

import zmq
from zmq.auth.base import Authenticator

from stream_i3d.thread_names import name_background_thread
from stream_i3d.transport.curve import ServerKeys
from stream_i3d.transport.key_files import AllowList, fingerprint

log = logging.getLogger(__name__)

_DOMAIN = "stream-i3d"
_QUIET_S = 10.0
_MAX_REMEMBERED = 1000


class Refusals:
    """Counts refused handshakes; says each key once, and one in ten seconds, however many come. Pure."""

    def __init__(self) -> None:
        self.count = 0
        self._said: set[bytes] = set()
        self._quiet_until = float("-inf")

    def note(self, key: bytes, now: float) -> bool:
        """Take note of a key refused at `now` (monotonic, s); tell whether to say so."""
        self.count += 1
        if key in self._said or now < self._quiet_until:
            return False
        if len(self._said) >= _MAX_REMEMBERED:
            self._said.clear()
        self._said.add(key)
        self._quiet_until = now + _QUIET_S
        return True


class Gate:
    """Says of each client's key whether it is let in: what zmq.auth calls a credentials provider."""

    def __init__(
        self, clients: AllowList, clock: Callable[[], float] = time.monotonic, own: bytes | None = None
    ) -> None:
        """Args: `own` is the service's own public key: who has its secret one is a process of the service."""
        self._clients = clients
        self._own = own
        self._clock = clock
        self.refusals = Refusals()

    def callback(self, domain: str, key: bytes) -> bool:
        """Tell whether a client with this public key (Z85) is let in."""
        if key == self._own or key in self._clients:
            return True
        if self.refusals.note(key, self._clock()):
            log.warning(
                "refused a client with the unknown key %s (%d refused so far); to let it in, put its public key file "
                "into %s; `stream-i3d keys show --fingerprint FILE` tells whose it is",
                fingerprint(key),
                self.refusals.count,
                ", ".join(map(str, self._clients.places)),
            )
        return False


def admit_only(context: zmq.Context[zmq.Socket[bytes]], socket: zmq.Socket[bytes], keys: ServerKeys) -> Gate:
    """Have `socket`, which is not bound yet and the only one of `context` that will be, let in allowed clients only.

    Handshakes are answered by a thread that ends with the context.
    """
    gate = Gate(keys.clients, own=keys.public)
    authenticator = Authenticator(context)
    authenticator.configure_curve_callback(_DOMAIN, gate)
    authenticator.start()
    threading.Thread(target=_answer, args=(authenticator,), name="zap", daemon=True).start()
    socket.setsockopt(zmq.CURVE_SERVER, 1)
    socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)
    socket.setsockopt_string(zmq.ZAP_DOMAIN, _DOMAIN)
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
    return gate


def _answer(authenticator: Authenticator) -> None:
    name_background_thread("zap")
    # Not ThreadAuthenticator: its loop polls sockets in asyncio, which on Windows takes a further package.
    with asyncio.Runner() as runner, authenticator.zap_socket as requests:
        try:
            while True:
                runner.run(authenticator.handle_zap_message(requests.recv_multipart()))
        except zmq.ContextTerminated:
            return
