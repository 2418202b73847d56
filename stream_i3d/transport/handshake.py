"""Notices that the other end refuses us. ZeroMQ itself says nothing, and after some refusals never tries again."""

from __future__ import annotations

import zmq
from zmq.utils.monitor import recv_monitor_message

from stream_i3d.errors import TransportError

_PATIENCE = 3
"""Handshakes broken off without a reason, one after another, that are no accident such as a service just ending."""

_EVENTS = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)


class Handshakes:
    """Watches the handshakes of one socket, which is not connected yet.

    Attributes:
        events: Readable when there is something for `check`.
    """

    def __init__(self, socket: zmq.Socket[bytes], address: str, keyed: bool) -> None:
        """Args: `address` is where it will connect to, `keyed` whether it has keys."""
        self.events: zmq.Socket[bytes] = socket.get_monitor_socket(_EVENTS)
        self._address = address
        self._keyed = keyed
        self._broken_off = 0

    def check(self) -> None:
        """Take in what happened since.

        Raises:
            TransportError: The other end refuses this one; to be told once for each time.
        """
        while self.events.poll(0, zmq.POLLIN):
            event = recv_monitor_message(self.events)
            self._broken_off += 1
            if event["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._broken_off = 0
            elif event["event"] != zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL or self._broken_off >= _PATIENCE:
                self._broken_off = 0
                raise TransportError(f"{self._address} {self._reason(event['event'])}")

    def _reason(self, event: int) -> str:
        if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            return "does not know your key: have your public key file put among its clients (--clients), and try again"
        if event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL and not self._keyed:
            return "lets in clients with keys only: give --key and --server-key (`stream-i3d keys new NAME` makes keys)"
        if event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
            return "is no service with keys: leave out --key and --server-key"
        if self._keyed:
            return "breaks off every handshake: is --server-key its public key?"
        return "breaks off every handshake: is it the address of a service?"

    def close(self) -> None:
        """Stop watching; stands before the socket is closed."""
        self.events.close()
