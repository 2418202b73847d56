"""The ZeroMQ PUB sink: `[topic, JSON]` to whoever subscribes (docs/subscribing.md)."""

from __future__ import annotations

from stream_i3d.config import SecurityConfig
from stream_i3d.transport.curve import load_server_keys
from stream_i3d.transport.sockets import Publisher
from stream_i3d.transport.wire import Published, encode_published


class ZmqSink:
    """Publishes on a bound socket; a subscriber that does not keep up loses messages, nobody else does."""

    def __init__(self, address: str, security: SecurityConfig | None = None) -> None:
        """Raises TransportError where the address cannot be bound, ConfigError where a key cannot be read."""
        self._publisher = Publisher(address, load_server_keys(security or SecurityConfig()))
        self.address = self._publisher.address

    def write(self, message: Published) -> None:
        """Publish one message; never blocks."""
        self._publisher.send(encode_published(message))

    @property
    def refused(self) -> int:
        """Subscriptions and connections that were refused."""
        return self._publisher.refused

    def close(self) -> None:
        """Close the socket."""
        self._publisher.close()
