"""What a sink is, and the bounded queue that keeps a slow one from stalling recognition.

A `Sink` is a medium and may take its time; an `Outlet` is what the publisher is given: nothing of it ever blocks.
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
from typing import TYPE_CHECKING, NamedTuple, Protocol

from stream_i3d.stage import SinkFigures
from stream_i3d.thread_names import name_background_thread
from stream_i3d.transport.wire import TOPICS, Published

if TYPE_CHECKING:
    from stream_i3d.messages import ActionEvent
    from stream_i3d.publish.outbox import Outbox
    from stream_i3d.transport.curve import ClientKeys

log = logging.getLogger(__name__)

_QUEUE = 1000

KINDS = {"predictions": "prediction", "events": "event", "status": "status"}
"""What settings call the kinds of messages -> the last part of their topics."""


class Writable(NamedTuple):
    """A folder that must be there, unless it is made, with room for `room_mb` (MB)."""

    folder: Path
    room_mb: float = 0.0
    made: bool = False


class Reachable(NamedTuple):
    """A host that should take connections."""

    host: str
    port: int


Need = Writable | Reachable | None
"""What a sink needs of the machine or the network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkContext:
    """What a sink is given beside its settings.

    Attributes:
        name: Of this sink.
        run: Identity of this run of the service; the same when only this process was started again.
        keys: Of the service as its own client; None where nobody needs keys.
        delivering: Names of the sinks that deliver from the store.
        outbox: Where events wait to be delivered: the store's, or one in memory.
        store: The event store; None where there is none.
    """

    name: str
    run: str
    keys: ClientKeys | None
    delivering: tuple[str, ...]
    outbox: Outbox
    store: EventRecord | None


class EventRecord(Protocol):
    """What other sinks use of the event store."""

    running: list[ActionEvent]

    def note_clip(self, event_id: str | None, clip: str) -> None:
        """Note the name of an event's clip; without an event, that the clip is gone."""


class Sink(Protocol):
    """Takes every published message. `write` may block only as long as its medium does."""

    def write(self, message: Published) -> None:
        """Take one message."""

    def close(self) -> None:
        """Finish what is begun and release the medium."""


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
        """Take note of the cameras that there are now, and of their previews' addresses ("" where there is none)."""

    @abstractmethod
    def figures(self) -> SinkFigures:
        """Return how it fares."""

    @abstractmethod
    def close(self, timeout_s: float = 1.0) -> None:
        """Finish what is begun, for at most `timeout_s`, and end its threads."""


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
        """Args: `size` of the queue in messages, and `what` is written of them (words of `KINDS`)."""
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
        """Return how it fares."""
        return SinkFigures(
            name=self.name,
            queued=self.accepted - self.handled,
            written=self._written,
            dropped=self.dropped,
            failing=bool(self._failure),
            detail=self._failure,
        )

    def close(self, timeout_s: float = 1.0) -> None:
        """Write what is queued, for at most `timeout_s`, and close the sink."""
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
            except OSError as error:  # a full disk, a closed pipe: counted, said once, tried again with the next
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
        with contextlib.suppress(OSError):  # a medium that still fails; what it lost has been counted and said
            self._sink.close()
