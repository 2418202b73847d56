"""All sinks of a service together: the PUB socket always, the others where they are asked for."""

from __future__ import annotations

import time
from collections.abc import Mapping

from stream_i3d.config import Config
from stream_i3d.messages import ActionEvent
from stream_i3d.publish.factory import make_outlets
from stream_i3d.publish.sink import Outlet
from stream_i3d.publish.store_sink import StoreSink
from stream_i3d.publish.zmq_pub import ZmqSink
from stream_i3d.stage import SinkFigures
from stream_i3d.transport.wire import Published

_CLOSE_S = 0.9


class Sinks:
    """Gives every message to every sink; a slow one stalls none of the others."""

    def __init__(self, config: Config, run: str) -> None:
        """Open them; `run` is the identity of this run of the service.

        Raises:
            TransportError: The address cannot be had.
            ConfigError: Another sink cannot; the others are closed again.
        """
        self._zmq = ZmqSink(config.publish.address, config.security)
        self.address = self._zmq.address
        self.published = 0
        self._outlets: list[Outlet] = []
        try:
            self._outlets = make_outlets(config, run)
        except BaseException:
            self.close()
            raise

    def write(self, message: Published) -> tuple[int, ...]:
        """Give one message to every sink, never blocking; return what `settled` wants to know of it."""
        self._zmq.write(message)
        self.published += 1
        for outlet in self._outlets:
            outlet.write(message)
        return tuple(outlet.accepted for outlet in self._outlets if outlet.durable)

    def settled(self, mark: tuple[int, ...]) -> bool:
        """Tell whether every durable sink has handled the message for which `write` returned `mark`."""
        durable = (outlet for outlet in self._outlets if outlet.durable)
        return all(outlet.handled >= number for outlet, number in zip(durable, mark, strict=True))

    @property
    def running(self) -> list[ActionEvent]:
        """Actions that a publisher before this one left going on, as far as there is a store."""
        return [event for outlet in self._outlets if isinstance(outlet, StoreSink) for event in outlet.running]

    def follow(self, cameras: Mapping[str, str]) -> None:
        """Have all sinks know the cameras that there are, and where their previews are ("" where there are none)."""
        for outlet in self._outlets:
            outlet.follow(cameras)

    @property
    def subscriptions_refused(self) -> int:
        """Subscriptions and connections that the PUB socket has refused."""
        return self._zmq.refused

    def figures(self) -> list[SinkFigures]:
        """Return how the sinks fare."""
        return [outlet.figures() for outlet in self._outlets]

    def close(self) -> None:
        """Finish and close all sinks, which have a second for it together."""
        self._zmq.close()
        until = time.monotonic() + _CLOSE_S
        for outlet in self._outlets:
            outlet.close(max(0.1, until - time.monotonic()))
