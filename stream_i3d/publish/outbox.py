"""The queue of events that a sink has still to deliver: in the event store, or in memory where there is none.

Delivery is at least once and in order per camera: an event is returned until it is marked as done.
"""

from __future__ import annotations

import sqlite3
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Protocol

from stream_i3d.messages import ActionEvent
from stream_i3d.publish.store import COLUMNS, event_of
from stream_i3d.publish.store_file import connect_again, medium_errors


@dataclass(frozen=True, slots=True)
class Pending:
    """An event that is not delivered yet, and its position in the order of all events."""

    position: int
    event: ActionEvent


class Outbox(Protocol):
    """One sink's events. `offer` and `waiting` may be used by any thread, all else by the sink's own.

    Attributes:
        dropped: Events that are lost to this sink.
    """

    dropped: int

    @property
    def waiting(self) -> int:
        """Number of events not delivered yet."""

    def call_at_news(self, wake: Callable[[], None]) -> None:
        """Set a function that is called, by any thread, when there may be new events."""

    def offer(self, event: ActionEvent) -> None:
        """Add an event that was published."""

    def fetch(self, limit: int, after: int = 0, without: Collection[str] = ()) -> list[Pending]:
        """Return the oldest events behind the position `after` and not of the cameras `without`, in order.

        Raises:
            OSError: The store cannot be read.
        """

    def done(self, pending: Sequence[Pending]) -> None:
        """Mark events, and all before them of their cameras, as delivered. OSError where that cannot be written."""

    def refused(self, pending: Pending, reason: str) -> None:
        """Mark an event as one that will not be delivered. OSError where that cannot be written."""

    def close(self) -> None:
        """Release resources."""


class MemoryOutbox:
    """Events in memory; gone with the process. Drop policy: a full one drops its oldest, counted."""

    def __init__(self, size: int) -> None:
        self._events: deque[Pending] = deque()
        self._size = size
        self._last = 0
        self._lock = Lock()
        self._wake: Callable[[], None] = lambda: None
        self.dropped = 0

    @property
    def waiting(self) -> int:
        """Number of events not delivered yet."""
        return len(self._events)

    def call_at_news(self, wake: Callable[[], None]) -> None:
        """Set a function that is called when there are new events."""
        self._wake = wake

    def offer(self, event: ActionEvent) -> None:
        """Add an event that was published."""
        with self._lock:
            if len(self._events) >= self._size:
                self._events.popleft()
                self.dropped += 1
            self._last += 1
            self._events.append(Pending(self._last, event))
        self._wake()

    def fetch(self, limit: int, after: int = 0, without: Collection[str] = ()) -> list[Pending]:
        """Return the oldest events behind `after` and not of the cameras `without`."""
        with self._lock:
            wanted = (one for one in self._events if one.position > after and one.event.camera not in without)
            return [one for one, _ in zip(wanted, range(limit), strict=False)]

    def done(self, pending: Sequence[Pending]) -> None:
        """Forget delivered events."""
        positions = {one.position for one in pending}
        with self._lock:
            self._events = deque(one for one in self._events if one.position not in positions)

    def refused(self, pending: Pending, reason: str) -> None:
        """Forget an event that will not be delivered."""
        self.done([pending])

    def close(self) -> None:
        """There is nothing to release."""


class StoreOutbox:
    """Events in the store, read by a connection of its own; marks outlive the process."""

    def __init__(self, path: Path, sink: str) -> None:
        self._path = path
        self._sink = sink
        self._connection: sqlite3.Connection | None = None
        self._waiting = 0
        self._lock = Lock()
        self._floor = 0  # up to here all is delivered
        self._wake: Callable[[], None] = lambda: None
        self.dropped = 0

    @property
    def waiting(self) -> int:
        """Number of events not delivered yet."""
        return max(0, self._waiting)

    def call_at_news(self, wake: Callable[[], None]) -> None:
        """Set a function that is called once events are written."""
        self._wake = wake

    def offer(self, event: ActionEvent) -> None:
        """Leave it: it comes by the store."""

    def written(self, number: int) -> None:
        """Add to the number of new events; called by the store's thread."""
        with self._lock:
            self._waiting += number
        self._wake()

    def recount(self, count: Callable[[], int]) -> None:
        """Count anew, in the store's thread and by `count`, how many events are not delivered."""
        with self._lock:  # also of marking, or what is marked meanwhile would be taken off twice
            self._waiting = count()

    def given_up(self, number: int) -> None:
        """Add to the number of events that were dropped because there were too many; called by the store's thread."""
        self.dropped += number

    def fetch(self, limit: int, after: int = 0, without: Collection[str] = ()) -> list[Pending]:
        """Return the oldest events behind `after` and not of the cameras `without`."""
        columns = ", ".join(f"events.{column}" for column in COLUMNS.split(", "))
        query = (
            f"SELECT events.position, {columns} FROM events "
            "LEFT JOIN delivered ON delivered.sink = ? AND delivered.camera = events.camera "
            "WHERE events.position > COALESCE(delivered.position, (SELECT since FROM sinks WHERE name = ?)) "
            f"AND events.position > ? AND events.camera NOT IN ({', '.join('?' * len(without))}) "
            "ORDER BY events.position LIMIT ?"
        )
        with medium_errors():
            floor = max(after, self._floor)
            rows = self._db.execute(query, (self._sink, self._sink, floor, *without, limit)).fetchall()
        pending = [Pending(position, event_of(row)) for position, *row in rows]
        if pending and not after and not without:
            self._floor = pending[0].position - 1
        return pending

    def done(self, pending: Sequence[Pending]) -> None:
        """Mark events, and all before them of their cameras, as delivered."""
        newest = {one.event.camera: one.position for one in sorted(pending, key=lambda one: one.position)}
        self._mark(newest, len(pending))

    def refused(self, pending: Pending, reason: str) -> None:
        """Pass an event over, and note why."""
        with medium_errors():
            self._db.execute(
                "INSERT OR REPLACE INTO refused VALUES (?, ?, ?, ?)",
                (self._sink, pending.position, reason, time.time()),
            )
        self._mark({pending.event.camera: pending.position}, 1)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()

    @property
    def _db(self) -> sqlite3.Connection:
        """The connection, made by the thread that uses it once the store is there."""
        if self._connection is None:
            self._connection = connect_again(self._path)
        return self._connection

    def _mark(self, newest: dict[str, int], number: int) -> None:
        with self._lock, medium_errors():
            self._db.executemany(
                "INSERT INTO delivered VALUES (?, ?, ?) "
                "ON CONFLICT DO UPDATE SET position = MAX(position, excluded.position)",
                [(self._sink, camera, position) for camera, position in newest.items()],
            )
            self._waiting -= number
