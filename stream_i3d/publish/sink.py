"""The protocol of sinks, and the bounded queue that keeps a slow one from stalling recognition."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from typing import Protocol

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
    """Writes to another sink from a thread of its own. Drop policy: a full queue drops the new message, counted."""

    def __init__(self, sink: Sink, name: str) -> None:
        self._sink = sink
        self._name = name
        self._queue: queue.Queue[Published | None] = queue.Queue(_QUEUE)
        self.dropped = 0
        self._failed = False
        self._thread = threading.Thread(target=self._run, name=f"sink-{name}", daemon=True)
        self._thread.start()

    def write(self, message: Published) -> None:
        """Take one message; never blocks."""
        try:
            self._queue.put_nowait(message)
        except queue.Full:
            self.dropped += 1

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
                if not self._failed:
                    log.warning("%s: cannot write (%s); messages are dropped until it works again", self._name, error)
                self._failed = True
            else:
                self._failed = False
        with contextlib.suppress(OSError):  # a medium that still fails; what it lost has been counted and said
            self._sink.close()
