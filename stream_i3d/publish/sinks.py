"""All sinks of a service together: the PUB socket always, the others where they are asked for."""

from __future__ import annotations

from stream_i3d.config import Config
from stream_i3d.publish.jsonl import JsonLinesSink
from stream_i3d.publish.sink import QueuedSink
from stream_i3d.publish.zmq_pub import ZmqSink
from stream_i3d.stage import SinkFigures
from stream_i3d.transport.wire import Published


class Sinks:
    """Gives every message to every sink; a slow one stalls none of the others."""

    def __init__(self, config: Config) -> None:
        """Raises TransportError or ConfigError where a sink cannot be had; the others are closed again."""
        self._zmq = ZmqSink(config.publish.address, config.security)
        self.address = self._zmq.address
        self.published = 0
        self._queued: list[QueuedSink] = []
        try:
            if config.publish.jsonl is not None:
                self._queued.append(QueuedSink(JsonLinesSink(config.publish.jsonl), "jsonl", durable=True))
        except BaseException:
            self.close()
            raise

    def write(self, message: Published) -> tuple[int, ...]:
        """Give one message to every sink, never blocking; return what `settled` wants to know of it."""
        self._zmq.write(message)
        self.published += 1
        for sink in self._queued:
            sink.write(message)
        return tuple(sink.accepted for sink in self._queued if sink.durable)

    def settled(self, mark: tuple[int, ...]) -> bool:
        """Tell whether every durable sink has handled the message for which `write` returned `mark`."""
        durable = (sink for sink in self._queued if sink.durable)
        return all(sink.handled >= number for sink, number in zip(durable, mark, strict=True))

    def figures(self) -> list[SinkFigures]:
        """Return how the queued sinks fare."""
        return [sink.figures() for sink in self._queued]

    def close(self) -> None:
        """Finish and close all sinks."""
        self._zmq.close()
        for sink in self._queued:
            sink.close()
