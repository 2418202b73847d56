"""Reads the event store for people: actions, by camera, label and time. Reads only, while a service writes or not."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct

from stream_i3d.errors import ConfigError
from stream_i3d.publish.store_file import open_to_read
from stream_i3d.recognition.events import is_wall_clock

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")


class Action(Struct, frozen=True, kw_only=True):
    """An action as the store has it, of one event or two.

    Attributes:
        end_time: None while it goes on.
        clip: Name of its recorded file; None where there is none.
    """

    id: str
    camera: str
    label: str
    start_time: float
    end_time: float | None
    peak_confidence: float
    clip: str | None

    @property
    def seconds(self) -> float | None:
        """How long it lasted; None while it goes on."""
        return None if self.end_time is None else self.end_time - self.start_time


class Wanted(Struct, frozen=True, kw_only=True):
    """Which actions are wanted: of these cameras and labels (none: all), that started from `since` until `until`."""

    cameras: Sequence[str] = ()
    labels: Sequence[str] = ()
    since: float | None = None
    until: float | None = None
    limit: int | None = None


def read_actions(path: Path, wanted: Wanted) -> Iterator[Action]:
    """Yield the newest `limit` of the wanted actions, the oldest of them first.

    Raises:
        ConfigError: There is no store at `path`, or it cannot be read.
    """
    conditions: list[str] = ["1"]
    values: list[object] = []
    for column, names in (("camera", wanted.cameras), ("label", wanted.labels)):
        if names:
            conditions.append(f"{column} IN ({', '.join('?' * len(names))})")
            values += names
    for comparison, time in ((">=", wanted.since), ("<=", wanted.until)):
        if time is not None:
            conditions.append(f"start_time {comparison} ?")
            values.append(time)
    query = (
        "SELECT * FROM (SELECT id, camera, label, MIN(start_time) AS start_time, MAX(end_time), MAX(peak_confidence), "
        f"MAX(clip), MIN(position) AS position FROM events WHERE {' AND '.join(conditions)} GROUP BY id "
        "ORDER BY start_time DESC, position DESC LIMIT ?) ORDER BY start_time, position"
    )
    limit = -1 if wanted.limit is None else wanted.limit
    with closing(open_to_read(path)) as connection:
        try:
            for *row, _ in connection.execute(query, (*values, limit)):
                yield Action(**dict(zip(Action.__struct_fields__, row, strict=True)))
        except (sqlite3.Error, UnicodeError) as error:  # the second: of a name that is no text
            raise ConfigError(f"cannot read {path}: {error}") from None


def parse_moment(text: str, now: float) -> float:
    """Return what `2h` (before `now`) or an ISO date means, in seconds since 1970; dates without a zone are local.

    Raises:
        ConfigError: It is neither.
    """
    if match := _DURATION.fullmatch(text.strip()):
        return now - float(match[1]) * _UNITS[match[2]]
    try:
        return datetime.fromisoformat(text.strip()).timestamp()
    except (ValueError, OverflowError, OSError):
        raise ConfigError(
            f"{text[:80]!r} is no time: give a duration before now (90s, 30m, 2h, 7d, 4w) or an ISO date "
            "(2026-11-21, 2026-11-21T18:30, 2026-11-21T18:30:00+01:00)"
        ) from None


def iso(time: float | None) -> str:
    """Return a time as an ISO date in UTC; of a video file as its seconds; nothing for None."""
    if time is None:
        return ""
    if not is_wall_clock(time):
        return f"{time:.2f}"
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def local(time: float) -> str:
    """Return a time as people here read it; of a video file as its seconds."""
    return f"{datetime.fromtimestamp(time):%Y-%m-%d %H:%M:%S}" if is_wall_clock(time) else f"{time:.1f} s"
