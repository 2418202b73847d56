"""The sockets of previews: pictures from a capture process to its watchers.

One connection per camera and one part per message, so that a subscriber may use CONFLATE: it always gets the newest
picture, however slow it is. Knows bytes; the encoding of pictures is capture's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import zmq

from stream_i3d.errors import TransportError, WireError
from stream_i3d.transport.addresses import PREVIEWS, check_address
from stream_i3d.transport.keys import ClientKeys, ServerKeys
from stream_i3d.transport.sockets import MAX_SUBSCRIPTION_BYTES, PublishingSocket, SocketOwner, connect, set_heartbeats
from stream_i3d.transport.wire import MAX_PREVIEW_BYTES, PREVIEW_MAGIC, Preview, decode_preview, encode_preview


class PreviewPublisher(PublishingSocket):
    """XPUB end of one camera's previews. Drop policy: a subscriber that has one picture waiting loses the next."""

    def __init__(self, address: str, keys: ServerKeys | None = None) -> None:
        super().__init__(zmq.XPUB)
        self._socket.setsockopt(zmq.SNDHWM, 1)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_SUBSCRIPTION_BYTES)
        set_heartbeats(self._socket)
        self.address = self._serve(address, keys, PREVIEWS)
        self._topics: set[bytes] = set()

    def watched(self, wait_s: float = 0.0) -> bool:
        """Return whether somebody is subscribed, after waiting for news of that at most `wait_s`."""
        wait_ms = int(wait_s * 1000)
        while self._socket.poll(wait_ms, zmq.POLLIN):
            self._take(self._socket.recv(zmq.NOBLOCK))
            wait_ms = 0
        return bool(self._topics)

    def send(self, preview: Preview) -> None:
        """Send one picture to all subscribers; never blocks."""
        self._socket.send(encode_preview(preview), zmq.NOBLOCK)

    def _take(self, message: bytes) -> None:
        """Note a subscription; one to something else than previews, or other bytes of a stranger, mean nothing."""
        topic = message[1:]
        if not PREVIEW_MAGIC.startswith(topic):
            return
        if message[:1] == b"\x01":
            self._topics.add(topic)
        elif message[:1] == b"\x00":
            self._topics.discard(topic)


class PreviewReceivers(SocketOwner):
    """SUB ends of several cameras' previews.

    Drop policy: only the newest picture of each camera is kept; with `keep` above 1 the oldest so many are, and what
    comes while these wait is dropped.
    """

    def __init__(self, keys: ClientKeys | None = None, keep: int = 1) -> None:
        super().__init__()
        self._keys = keys
        self._keep = keep
        self._sockets: dict[str, tuple[str, zmq.Socket[bytes]]] = {}
        self.rejected = 0

    @property
    def readable(self) -> Sequence[zmq.Socket[bytes]]:
        """The sockets of all cameras."""
        return tuple(socket for _, socket in self._sockets.values())

    def follow(self, addresses: Mapping[str, str]) -> None:
        """Subscribe to these cameras (name to address) and no others; those that stay as they were are left alone.

        Raises:
            ConfigError, TransportError: An address means nothing, or cannot be connected to.
        """
        for camera, (address, socket) in list(self._sockets.items()):
            if addresses.get(camera) != address:
                socket.close()
                del self._sockets[camera]
        for camera, address in addresses.items():
            if camera not in self._sockets:
                self._sockets[camera] = (address, self._connect(check_address(address)))

    def receive(self) -> list[tuple[str, Preview]]:
        """Return the newest picture of each camera, or all that were kept of each, in order; never blocks."""
        received = []
        for camera, (_, socket) in self._sockets.items():
            for _ in range(self._keep):
                if not socket.poll(0, zmq.POLLIN):
                    break
                try:
                    received.append((camera, decode_preview(socket.recv(zmq.NOBLOCK))))
                except WireError:
                    self.rejected += 1
        return received

    def _connect(self, address: str) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self._context.socket(zmq.SUB)
        socket.setsockopt(zmq.LINGER, 0)
        if self._keep == 1:
            socket.setsockopt(zmq.CONFLATE, 1)  # allowed here: messages have one part
        else:
            socket.setsockopt(zmq.RCVHWM, self._keep)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_PREVIEW_BYTES)
        socket.setsockopt(zmq.SUBSCRIBE, PREVIEW_MAGIC)
        set_heartbeats(socket)
        try:
            connect(socket, address, self._keys)
        except TransportError:
            socket.close()
            raise
        return socket
