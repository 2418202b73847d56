"""Notices that the other end refuses us. ZeroMQ itself says nothing, and after some refusals never tries again."""

from __future__ import annotations

import zmq
from zmq.utils.monitor import recv_monitor_message

_PATIENCE = 3
"""Times that a service may hang up on a client with keys before it is called a refusal."""

_EVENTS = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)


class Handshakes:
    """Watches the handshakes of one socket, which is not connected yet.

    Attributes:
        events: Readable when there is something for `read`.
        refusal: Why the other end refuses this one, "" where it does not.
    """

    def __init__(self, socket: zmq.Socket[bytes], address: str, keyed: bool) -> None:
        """Args: `address` is where it will connect to, `keyed` whether it has keys."""
        self.events: zmq.Socket[bytes] = socket.get_monitor_socket(_EVENTS)
        self.refusal = ""
        self._address = address
        self._keyed = keyed
        self._let_in = False
        self._hung_up = 0

    def read(self) -> None:
        """Take in what happened since."""
        while self.events.poll(0, zmq.POLLIN):
            event = recv_monitor_message(self.events)["event"]
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._let_in, self.refusal = True, ""
            elif reason := self._reason(event):
                self.refusal = f"{self._address} {reason}"

    def _reason(self, event: int) -> str:
        """Return why a handshake failed, or "" where that need not be a refusal."""
        if event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
            # A wrong server key looks like a tunnel whose service is down; ZeroMQ tries on in both cases.
            self._hung_up += 1
            if not self._keyed or self._let_in or self._hung_up % _PATIENCE:
                return ""
            return "hangs up: --server-key is not its public key, or it uses no keys, or is no service"
        if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            return "does not know your key: have your public key file put among its clients (--clients), and try again"
        if self._keyed:
            return "uses no keys: leave out --key and --server-key"
        return "lets in clients with keys only: give --key and --server-key (`stream-i3d keys new NAME` makes keys)"

    def close(self) -> None:
        """Stop watching; stands before the socket is closed."""
        self.events.close()
