"""The base of all sinks, and the bounded queue that keeps a slow one from stalling recognition.

A `Sink` writes to a medium and may block; an `Outlet` is what the publisher writes to, and never blocks.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from stream_i3d.config import SecurityConfig
from stream_i3d.publish.outbox import MemoryOutbox, Outbox
from stream_i3d.stage import SinkFigures
from stream_i3d.thread_names import name_background_thread
from stream_i3d.transport.wire import TOPICS, Published

if TYPE_CHECKING:
    from stream_i3d.publish.store_sink import StoreSink

log = logging.getLogger(__name__)

_QUEUE = 1000

KINDS = {"predictions": "prediction", "events": "event", "status": "status"}
"""Kinds of messages in settings -> the last part of their topics."""


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder that a sink writes to.

    Attributes:
        path: The folder.
        free_mb: Megabytes that should be free on its disk.
        made: Whether the sink makes the folder where it is missing.
    """

    path: Path
    free_mb: float = 0.0
    made: bool = False


@dataclass(frozen=True, slots=True)
class Server:
    """A server that a sink connects to."""

    host: str
    port: int


@dataclass(slots=True)
class SinkContext:
    """What a sink may use of the service.

    Attributes:
        security: Keys of the service.
        run: Identity of this run of the service; the same when only the publisher process was restarted.
        delivering: Names of the sinks that deliver from the event store.
        store: The event store, once it is started; None where there is none.
    """

    security: SecurityConfig
    run: str
    delivering: tuple[str, ...] = ()
    store: StoreSink | None = None

    def outbox(self, name: str, size: int) -> Outbox:
        """Return the queue from which the sink `name` delivers: of the store, or of `size` events in memory."""
        if self.store is not None and name in self.store.outboxes:
            return self.store.outboxes[name]
        return MemoryOutbox(size)


class SinkModule(Protocol):
    """What the module of a sink defines; `SINKS` in sinks.py has a row for each."""

    def make(self, settings: Any, name: str, context: SinkContext) -> Outlet:
        """Start the sink `name`; ConfigError where it cannot be started."""

    def needs(self, settings: Any) -> Folder | Server | None:
        """Return what must be there for the sink to work, for `stream-i3d doctor`; None where nothing."""


class Sink(Protocol):
    """Takes every published message. `write` may block only as long as its medium does."""

    def write(self, message: Published) -> None:
        """Take one message."""

    def close(self) -> None:
        """Finish and release the medium."""


class Outlet(ABC):
    """A sink at work, with threads of its own: no method but `close` waits for anything.

    Attributes:
        durable: Whether a message is safe only once this sink has handled it.
        accepted: Of a durable one, messages that were queued so far.
        handled: Of these, how many were written or given up.
    """

    name: str
    durable = False
    accepted = 0
    handled = 0

    @abstractmethod
    def write(self, message: Published) -> None:
        """Take one message; where there is no room, one is dropped and counted."""

    def follow(self, cameras: Mapping[str, str]) -> None:  # noqa: B027  most sinks do nothing about it
        """Set the current cameras and the addresses of their previews ("" where there is none)."""

    @abstractmethod
    def figures(self) -> SinkFigures:
        """Return the counters and the state."""

    @abstractmethod
    def close(self, timeout_s: float = 1.0) -> None:
        """Finish within `timeout_s` seconds, and end the threads."""


class QueuedSink(Outlet):
    """Writes to another sink from a thread of its own. Drop policy: a full queue drops the new message, counted.

    Attributes:
        dropped: Messages that were not written: the queue was full, or writing failed.
    """

    def __init__(
        self,
        sink: Sink,
        name: str,
        size: int | None = None,
        what: Collection[str] = ("predictions", "events", "status"),
        durable: bool = False,
    ) -> None:
        """Start the thread.

        Args:
            sink: Writes the messages.
            name: Of the sink, in logs and figures.
            size: Of the queue, in messages; None for 1000.
            what: Kinds of messages to write (keys of `KINDS`).
            durable: As of `Outlet`.
        """
        self._sink = sink
        self.name = name
        self._kinds = {KINDS[word] for word in what}
        self._queue: queue.Queue[Published | None] = queue.Queue(size or _QUEUE)
        self._failure = ""
        self.durable = durable
        self.dropped = self._written = 0
        self._thread = threading.Thread(target=self._run, name=f"sink-{name}", daemon=True)
        self._thread.start()

    def write(self, message: Published) -> None:
        """Take one message; never blocks."""
        if TOPICS[type(message)] not in self._kinds:
            return
        try:
            self._queue.put_nowait(message)
            self.accepted += 1
        except queue.Full:
            self.dropped += 1

    def figures(self) -> SinkFigures:
        """Return the counters and the state."""
        return SinkFigures(
            name=self.name,
            queued=self.accepted - self.handled,
            written=self._written,
            dropped=self.dropped,
            failing=bool(self._failure),
            detail=self._failure,
        )

    def close(self, timeout_s: float = 1.0) -> None:
        """Write what is queued, within `timeout_s` seconds, and close the sink."""
        try:
            self._queue.put(None, timeout=timeout_s)
        except queue.Full:
            return
        self._thread.join(timeout_s)

    def _run(self) -> None:
        name_background_thread("sink")
        lost = 0
        while (message := self._queue.get()) is not None:
            try:
                self._sink.write(message)
            except (
                OSError
            ) as error:  # a full disk, a closed pipe: counted, logged once, tried again with the next message
                self.dropped += 1
                lost += 1
                if not self._failure:
                    log.warning("%s: cannot write (%s); messages are dropped until it works again", self.name, error)
                self._failure = str(error)
            else:
                self._written += 1
                if self._failure:
                    log.info("%s: works again; messages lost meanwhile: %d", self.name, lost)
                self._failure, lost = "", 0
            self.handled += 1
        with contextlib.suppress(OSError):  # a medium that still fails; its losses are counted and logged
            self._sink.close()
