"""The event store as a sink: a thread that writes events, then has the delivering sinks deliver them.

Nothing is dropped because the disk is full: what cannot be written waits, and is tried again every second.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from stream_i3d.errors import ConfigError
from stream_i3d.messages import ActionEvent
from stream_i3d.publish.outbox import StoreOutbox
from stream_i3d.publish.sink import Outlet, SinkContext, Writable
from stream_i3d.publish.store import EventStore
from stream_i3d.sink_settings import StoreSettings
from stream_i3d.stage import SinkFigures
from stream_i3d.thread_names import name_background_thread
from stream_i3d.transport.wire import Published

log = logging.getLogger(__name__)

_AGAIN_S = 1.0
_TOUCH_S = 5.0
_TIDY_S = 60.0
_STORE_MB = 500.0


class StoreSink(Outlet):
    """Writes events to a store. Drop policy: a full queue drops the new event, one of clips' names the oldest; counted.

    Attributes:
        running: Actions that a publisher of this run, before this one, left going on; empty where the disk was full.
    """

    durable = True

    def __init__(
        self,
        settings: StoreSettings,
        name: str,
        delivering: Sequence[str],
        run: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Open the store; where the disk is full, it is opened once there is room.

        Args:
            settings: Of the store.
            name: Of this sink.
            delivering: Names of the sinks that deliver from it, each by its own of `outboxes`.
            run: Identity of this run of the service; the same when only this process was started again.
            clock: Wall clock in seconds.

        Raises:
            ConfigError: The file is something else than an event store, or damaged, or no place for a file.
        """
        self.name = name
        self.path = Path(settings.path).expanduser()
        self.running: list[ActionEvent] = []
        self.outboxes = {sink: StoreOutbox(self.path, sink) for sink in delivering}
        self._settings, self._run_id = settings, run
        self._store: EventStore | None = None
        self._size = settings.queue
        self._clock = clock
        self._changed = threading.Condition()
        self._events: deque[ActionEvent] = deque()
        self._clips: deque[tuple[str | None, str]] = deque(maxlen=settings.queue)
        self._closing = False
        self._failure = ""
        self._touch_at = self._tidy_at = 0.0
        self.dropped = self._written = 0
        self._try([])  # the first time here: what a person must mend is told at once
        self._thread = threading.Thread(target=self._run, name=f"sink-{name}", daemon=True)
        self._thread.start()

    def write(self, message: Published) -> None:
        """Take one event; all else is left."""
        if not isinstance(message, ActionEvent):
            return
        with self._changed:
            if len(self._events) >= self._size:
                self.dropped += 1
                return
            self._events.append(message)
            self.accepted += 1
            self._changed.notify()

    def note_clip(self, event_id: str | None, clip: str) -> None:
        """Have the name of an event's clip noted; without an event, that the clip is gone."""
        with self._changed:
            self.dropped += len(self._clips) == self._clips.maxlen
            self._clips.append((event_id, clip))
            self._changed.notify()

    def figures(self) -> SinkFigures:
        """Return how it fares."""
        return SinkFigures(
            name=self.name,
            queued=len(self._events),
            written=self._written,
            dropped=self.dropped,
            failing=bool(self._failure),
            detail=self._failure,
        )

    def close(self, timeout_s: float = 1.0) -> None:
        """Write what is queued, for at most `timeout_s`, and close the store."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        name_background_thread("store")
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or (not self._failure and self._has_work()), _AGAIN_S)
                events, closing = list(self._events), self._closing
            good = self._try(events)
            if closing and (not good or not self._has_work()):
                break
        if self._store is not None:
            with contextlib.suppress(OSError):
                self._store.close()

    def _has_work(self) -> bool:
        return bool(self._events or self._clips)

    def _try(self, events: list[ActionEvent]) -> bool:
        """Write what waits, and what is due beside it; return whether the store took it."""
        try:
            store = self._store = self._store or self._opened()
            self._write(store, events)
            self._write_clips(store)
            self._look_after(store)
        except OSError as error:
            if not self._failure:
                log.warning("%s: cannot write %s (%s); events wait until it works again", self.name, self.path, error)
            self._failure = str(error)
            return False
        if self._failure:
            log.info("%s: works again; events dropped meanwhile: %d", self.name, self.dropped)
            self._failure = ""
        return True

    def _opened(self) -> EventStore:
        try:
            store = EventStore(self._settings, tuple(self.outboxes), self._run_id, self._clock())
        except ConfigError as error:
            if not self._failure:
                raise
            raise OSError(str(error)) from None  # it could not be opened at first, and now it is something else
        self.running = store.running()
        if store.ended:
            log.warning("%s: ended %d actions that ran when the service was killed", self.name, len(store.ended))
        for sink, outbox in self.outboxes.items():
            outbox.written(store.undelivered(sink))
        return store

    def _write(self, store: EventStore, events: list[ActionEvent]) -> None:
        if not events:
            return
        new = store.add(events, self._clock())
        self._written += new
        with self._changed:
            for _ in events:
                self._events.popleft()
            self.handled += len(events)
        if new:
            for outbox in self.outboxes.values():
                outbox.written(new)

    def _write_clips(self, store: EventStore) -> None:
        while self._clips:
            note = self._clips[0]
            store.note_clip(*note)
            with self._changed:
                if self._clips[0] is note:  # else it had to make room meanwhile
                    self._clips.popleft()

    def _look_after(self, store: EventStore) -> None:
        """Note that running actions go on, and delete what is kept long enough."""
        now = time.monotonic()
        if now >= self._touch_at:
            store.touch(self._clock())
            self._touch_at = now + _TOUCH_S
        if now >= self._tidy_at:
            for sink, lost in store.tidy(self._clock()).items():
                self.outboxes[sink].given_up(lost)
                log.error("%s: %d events were given up: more were undelivered than max_undelivered allows", sink, lost)
            for sink, outbox in self.outboxes.items():
                outbox.recount(partial(store.undelivered, sink))
            self._tidy_at = now + _TIDY_S


def make_sink(settings: StoreSettings, context: SinkContext) -> StoreSink:
    """Return the sink at work; ConfigError where its file is no event store."""
    return StoreSink(settings, context.name, context.delivering, context.run)


def needs(settings: StoreSettings) -> Writable:
    """Return the folder that must be there, with room for a million events."""
    return Writable(Path(settings.path).expanduser().absolute().parent, room_mb=_STORE_MB)
