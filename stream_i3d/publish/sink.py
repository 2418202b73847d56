"""The protocol of sinks, and the bounded queue that keeps a slow one from stalling recognition."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from typing import Protocol

from stream_i3d.stage import SinkFigures
from stream_i3d.transport.wire import Published

log = logging.getLogger(__name__)

_QUEUE = 1000


class Sink(Protocol):
    """Takes every published message. `write` may block only as long as its medium does."""

    def write(self, message: Published) -> None:
        """Take one message."""

    def close(self) -> None:
        """Finish what is begun and release the medium."""


class QueuedSink:
    """Writes to another sink from a thread of its own. Drop policy: a full queue drops the new message, counted.

    Attributes:
        durable: Whether a message is safe only once this sink has handled it.
        accepted: Messages that were queued so far.
        handled: Of these, how many were written or given up.
        written: Messages that were written.
        dropped: Messages that were not: the queue was full, or writing failed.
        failing: Whether the last try to write failed.
    """

    def __init__(self, sink: Sink, name: str, durable: bool = False) -> None:
        self._sink = sink
        self.name = name
        self.durable = durable
        self._queue: queue.Queue[Published | None] = queue.Queue(_QUEUE)
        self.accepted = self.handled = self.written = self.dropped = 0
        self.failing = False
        self._thread = threading.Thread(target=self._run, name=f"sink-{name}", daemon=True)
        self._thread.start()

    def write(self, message: Published) -> None:
        """Take one message; never blocks."""
        try:
            self._queue.put_nowait(message)
            self.accepted += 1
        except queue.Full:
            self.dropped += 1

    def figures(self) -> SinkFigures:
        """Return how it fares."""
        return SinkFigures(
            name=self.name,
            queued=self.accepted - self.handled,
            written=self.written,
            dropped=self.dropped,
            failing=self.failing,
        )

    def close(self, timeout_s: float = 1.0) -> None:
        """Write what is queued, for at most `timeout_s`, and close the sink."""
        try:
            self._queue.put(None, timeout=timeout_s)
        except queue.Full:
            return
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (message := self._queue.get()) is not None:
            try:
                self._sink.write(message)
            except OSError as error:  # a full disk, a closed pipe: counted, said once, tried again with the next
                self.dropped += 1
                if not self.failing:
                    log.warning("%s: cannot write (%s); messages are dropped until it works again", self.name, error)
                self.failing = True
            else:
                self.written += 1
                self.failing = False
            self.handled += 1
        with contextlib.suppress(OSError):  # a medium that still fails; what it lost has been counted and said
            self._sink.close()
