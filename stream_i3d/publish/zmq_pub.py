"""The ZeroMQ PUB sink: `[topic, JSON]` to whoever subscribes (docs/subscribing.md)."""

from __future__ import annotations

from stream_i3d.transport.sockets import Publisher
from stream_i3d.transport.wire import Published, encode_published


class ZmqSink:
    """Publishes on a bound socket; a subscriber that does not keep up loses messages, nobody else does."""

    def __init__(self, address: str) -> None:
        """Raises TransportError where the address cannot be bound."""
        self._publisher = Publisher(address)
        self.address = self._publisher.address

    def write(self, message: Published) -> None:
        """Publish one message; never blocks."""
        self._publisher.send(encode_published(message))

    def close(self) -> None:
        """Close the socket."""
        self._publisher.close()
