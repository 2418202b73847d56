"""The event store: every event once, what each delivering sink has still to deliver, and how long it is all kept.

The side that writes, used by one thread. Sinks read and mark by connections of their own (outbox.py).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import msgspec
from msgspec import structs

from stream_i3d.messages import ActionEvent
from stream_i3d.publish.store_file import claim, medium_errors, open_to_write
from stream_i3d.sink_settings import StoreSettings

COLUMNS = "camera, id, event, label, start_time, end_time, peak_confidence"
_AT_ONCE = 10_000

_UNDELIVERED = """
FROM events LEFT JOIN delivered ON delivered.sink = :sink AND delivered.camera = events.camera
WHERE events.position > COALESCE(delivered.position, (SELECT since FROM sinks WHERE name = :sink))
"""


def event_of(row: Sequence[object]) -> ActionEvent:
    """Return the event of a row of `COLUMNS`."""
    return msgspec.convert(dict(zip(COLUMNS.split(", "), row, strict=True)), ActionEvent)


class EventStore:
    """Writes events. All times are given by the caller, wall clock in seconds."""

    def __init__(self, settings: StoreSettings, sinks: Sequence[str], run: str, now: float) -> None:
        """Open the store, and end what a run before this one left running when it was killed.

        Args:
            settings: Where, and how long events are kept.
            sinks: Names of the sinks that deliver from it; a new one begins with the next event.
            run: Identity of this run of the service; the same when only this process was started again.
            now: The time.

        Raises:
            ConfigError: It is something else, or damaged, or no place for a file, or another service writes to it.
            OSError: It cannot be written now: the disk is full.
        """
        self.path = Path(settings.path).expanduser()
        self._settings = settings
        self._sinks = tuple(sinks)
        self._run = run
        with ExitStack() as undo:
            self._db = open_to_write(self.path)
            undo.callback(self._db.close)
            self._claim = claim(self.path)
            undo.callback(self._claim.release)
            with self._transaction():
                last = self._value("SELECT COALESCE(MAX(position), 0) FROM events")
                self._db.executemany("INSERT OR IGNORE INTO sinks VALUES (?, ?)", [(name, last) for name in sinks])
                self.ended = self._end_other_runs(now)
            undo.pop_all()

    def add(self, events: Sequence[ActionEvent], now: float) -> int:
        """Write events, all or none; return how many more there are, lost ends included. OSError where it cannot."""
        with self._transaction():
            return sum(self._add(event, now) for event in events)

    def note_clip(self, event_id: str | None, clip: str) -> None:
        """Note the name of an event's clip; without an event, that the clip is gone. OSError where it cannot."""
        with self._transaction():
            if event_id is None:
                self._db.execute("UPDATE events SET clip = NULL WHERE clip = ?", (clip,))
            else:
                self._db.execute("UPDATE events SET clip = ? WHERE id = ?", (clip, event_id))

    def running(self) -> list[ActionEvent]:
        """Return the actions of this run that go on, `end_time` being when that was last known. OSError as ever."""
        with medium_errors():
            return [structs.replace(end, event="start") for end in self._ends("running.run = ?", self._run)]

    def touch(self, now: float) -> None:
        """Note that the actions of this run that have not ended go on. OSError where it cannot be written."""
        with self._transaction():
            self._db.execute("UPDATE running SET seen_at = ? WHERE run = ?", (now, self._run))

    def tidy(self, now: float) -> dict[str, int]:
        """Delete old events; return for each sink the number of events that it will never deliver because of that.

        Raises:
            OSError: The store cannot be written.
        """
        with self._transaction():
            lost = {sink: lost for sink in self._sinks if (lost := self._give_up(sink))}
            held = [self._value(f"SELECT MIN(events.position) {_UNDELIVERED}", sink=sink) for sink in self._sinks]
            before = min((position for position in held if position is not None), default=2**63 - 1)
            self._db.execute(
                "DELETE FROM events WHERE position IN (SELECT position FROM events WHERE position < ? AND "
                "(written_at < ? OR position <= ?) AND id NOT IN (SELECT id FROM running) ORDER BY position LIMIT ?)",
                (before, now - self._settings.max_age_days * 86400, self._beyond_max_rows(), _AT_ONCE),
            )
            self._db.execute("DELETE FROM refused WHERE position NOT IN (SELECT position FROM events)")
        return lost

    def undelivered(self, sink: str) -> int:
        """Return the number of events that a sink has not delivered yet. OSError where the store cannot be read."""
        with medium_errors():
            return self._value(f"SELECT COUNT(*) {_UNDELIVERED}", sink=sink)

    def close(self) -> None:
        """Close the file, and leave it to others."""
        self._db.close()
        self._claim.release()

    def _add(self, event: ActionEvent, now: float) -> int:
        if self._db.execute("SELECT 1 FROM events WHERE id = ? AND event = ?", (event.id, event.event)).fetchone():
            return 0
        if event.event == "start":
            # One action runs per camera: where the end of the one before was lost, it ended here at the latest.
            lost = self._ends("events.camera = ?", event.camera)
            for end in lost:
                self._insert(structs.replace(end, end_time=max(end.start_time, event.start_time)), now)
            self._insert(event, now)
            return 1 + len(lost)
        self._insert(event, now)
        return 1

    def _insert(self, event: ActionEvent, now: float) -> None:
        values = [getattr(event, column) for column in COLUMNS.split(", ")]
        self._db.execute(f"INSERT INTO events ({COLUMNS}, written_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*values, now))
        if event.event == "end":
            self._db.execute("DELETE FROM running WHERE id = ?", (event.id,))
        else:
            self._db.execute("INSERT INTO running VALUES (?, ?, ?)", (event.id, self._run, now))

    def _end_other_runs(self, now: float) -> list[ActionEvent]:
        ended = self._ends("running.run <> ?", self._run)
        for event in ended:
            self._insert(event, now)
        return ended

    def _ends(self, which: str, value: str) -> list[ActionEvent]:
        """Return the ends of running actions, when they were last known to run: on the clock of their own start."""
        columns = ", ".join(f"events.{column}" for column in COLUMNS.split(", "))
        rows = self._db.execute(
            f"SELECT {columns}, seen_at - written_at FROM running JOIN events ON events.id = running.id AND "
            f"events.event = 'start' WHERE {which} ORDER BY events.position",
            (value,),
        ).fetchall()
        starts = [(event_of(row), seen_for) for *row, seen_for in rows]
        return [
            structs.replace(start, event="end", end_time=start.start_time + max(0.0, seen_for))
            for start, seen_for in starts
        ]

    def _give_up(self, sink: str) -> int:
        """Pass over the oldest of too many undelivered events of a sink; return how many."""
        surplus = (self._value(f"SELECT COUNT(*) {_UNDELIVERED}", sink=sink)) - self._settings.max_undelivered
        if surplus <= 0:
            return 0
        oldest = f"SELECT events.camera, events.position {_UNDELIVERED} ORDER BY events.position LIMIT :surplus"
        marks = self._db.execute(
            f"SELECT camera, MAX(position) FROM ({oldest}) GROUP BY camera", {"sink": sink, "surplus": surplus}
        ).fetchall()
        self._db.executemany("INSERT OR REPLACE INTO delivered VALUES (?, ?, ?)", [(sink, *mark) for mark in marks])
        return surplus

    def _beyond_max_rows(self) -> int:
        """Return the last position of the oldest events that are too many."""
        surplus = (self._value("SELECT COUNT(*) FROM events")) - self._settings.max_rows
        query = "SELECT position FROM events ORDER BY position LIMIT 1 OFFSET :before"
        return self._value(query, before=surplus - 1) if surplus > 0 else 0

    def _value(self, query: str, **values: object) -> int:
        value: int = self._db.execute(query, values).fetchone()[0]
        return value

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All that is written in the block is committed at its end, or none of it."""
        with medium_errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # what fails here fails above, or is rolled back already
                    self._db.execute("ROLLBACK")
                raise
