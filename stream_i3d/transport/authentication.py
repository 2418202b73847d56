"""Authentication of clients: CURVE on a bound socket with the ZAP handler of its context (RFC 27), and refusals.

CURVE alone accepts every key, so the two are always set together: without an answer of the handler, ZeroMQ refuses
(ZAP_ENFORCE_DOMAIN). A client without a key, or with the public key of another service, fails in ZeroMQ itself and is
not seen here.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable

import zmq
from zmq.auth.base import Authenticator
from zmq.utils.monitor import recv_monitor_message

from stream_i3d.thread_names import name_background_thread
from stream_i3d.transport.keys import AllowList, ServerKeys, fingerprint

log = logging.getLogger(__name__)

_DOMAIN = "stream-i3d"
_QUIET_S = 10.0
_MAX_REMEMBERED = 1000


class Refusals:
    """Counts refused handshakes; each key is logged once, and at most one in ten seconds. Pure."""

    def __init__(self) -> None:
        self.count = 0
        self._logged: set[bytes] = set()
        self._quiet_until = float("-inf")

    def note(self, key: bytes, now: float) -> bool:
        """Count a key refused at `now` (monotonic, seconds); return whether to log it."""
        self.count += 1
        if key in self._logged or now < self._quiet_until:
            return False
        if len(self._logged) >= _MAX_REMEMBERED:
            self._logged.clear()
        self._logged.add(key)
        self._quiet_until = now + _QUIET_S
        return True


class ClientAuthenticator:
    """Accepts or refuses each client's key: what zmq.auth calls a credentials provider."""

    def __init__(
        self, clients: AllowList, clock: Callable[[], float] = time.monotonic, own: bytes | None = None
    ) -> None:
        """Args: `own` is the service's own public key; its processes connect with the same pair."""
        self._clients = clients
        self._own = own
        self._clock = clock
        self.refusals = Refusals()

    def callback(self, domain: str, key: bytes) -> bool:
        """Return whether a client with this public key (Z85) may connect."""
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


def admit_only(
    context: zmq.Context[zmq.Socket[bytes]], socket: zmq.Socket[bytes], keys: ServerKeys
) -> ClientAuthenticator:
    """Accept only allowed clients on a socket.

    HandshakeMonitor are answered by a thread that ends with the context.

    Args:
        context: The context of `socket`; no other socket of it is bound.
        socket: Not bound yet.
        keys: Keys of the service, and its allowed clients.
    """
    provider = ClientAuthenticator(keys.clients, own=keys.public)
    authenticator = Authenticator(context)
    authenticator.configure_curve_callback(_DOMAIN, provider)
    authenticator.start()
    threading.Thread(target=_answer, args=(authenticator,), name="zap", daemon=True).start()
    socket.setsockopt(zmq.CURVE_SERVER, 1)
    socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)
    socket.setsockopt_string(zmq.ZAP_DOMAIN, _DOMAIN)
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
    return provider


def _answer(authenticator: Authenticator) -> None:
    name_background_thread("zap")
    # Not ThreadAuthenticator: its loop polls sockets in asyncio, which on Windows takes a further package.
    with asyncio.Runner() as runner, authenticator.zap_socket as requests:
        try:
            while True:
                runner.run(authenticator.handle_zap_message(requests.recv_multipart()))
        except zmq.ContextTerminated:
            return


_MAX_DISCONNECTS = 3
"""Number of times that a service may close the connection of a client with keys before that is a refusal."""

_EVENTS = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)


class HandshakeMonitor:
    """Watches the handshakes of one socket, which is not connected yet, for refusals by the other end.

    ZeroMQ itself does not report them, and after some it never tries again.

    Attributes:
        events: Readable when there is something for `read`.
        refusal: Why the other end refuses the connection; "" where it does not.
    """

    def __init__(self, socket: zmq.Socket[bytes], address: str, keyed: bool) -> None:
        """Args: `address` is the address it will connect to; `keyed`: whether it has keys."""
        self.events: zmq.Socket[bytes] = socket.get_monitor_socket(_EVENTS)
        self.refusal = ""
        self._address = address
        self._keyed = keyed
        self._accepted = False
        self._disconnects = 0

    def read(self) -> None:
        """Process the events since the last call."""
        while self.events.poll(0, zmq.POLLIN):
            event = recv_monitor_message(self.events)["event"]
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._accepted, self.refusal = True, ""
            elif reason := self._reason(event):
                self.refusal = f"{self._address} {reason}"

    def _reason(self, event: int) -> str:
        """Return why a handshake failed, or "" where that need not be a refusal."""
        if event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
            # A wrong server key looks like a tunnel whose service is down; ZeroMQ tries on in both cases.
            self._disconnects += 1
            if not self._keyed or self._accepted or self._disconnects % _MAX_DISCONNECTS:
                return ""
            return "hangs up: --server-key is not its public key, or it uses no keys, or is no service"
        if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            return "does not know your key: have your public key file put among its clients (--clients), and try again"
        if self._keyed:
            return "uses no keys: leave out --key and --server-key"
        return "lets in clients with keys only: give --key and --server-key (`stream-i3d keys new NAME` makes keys)"

    def close(self) -> None:
        """Stop watching; call it before the socket is closed."""
        self.events.close()
