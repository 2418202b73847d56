"""The list of past and running events: bounded, filtered, exported as CSV or JSON. Pure."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace

from stream_i3d.messages import ActionEvent

from .formats import duration, percent, stream_time
from .translation import translate

MAX_EVENTS = 2000
COLUMNS = ("camera", "label", "start_time", "end_time", "duration_s", "peak_confidence", "id")
"""Of an export; times in seconds since 1970, or into the file."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class HistoryEvent:
    """One action; `end_time` is None while it goes on, `cut` when the service was lost before its end."""

    id: str
    camera: str
    label: str
    start_time: float
    end_time: float | None
    peak: float
    cut: bool = False

    @property
    def line(self) -> str:
        """The event as one line of text, as it is copied."""
        if self.cut:
            end = translate("Events", "end not seen")
        elif self.end_time is None:
            end = translate("Events", "going on")
        else:
            end = translate("Events", "for {length}").format(length=duration(self.end_time - self.start_time))
        peak = translate("Events", "up to {percent}").format(percent=percent(self.peak))
        return f"{self.camera}\t{stream_time(self.start_time)}\t{self.label}\t{end}\t{peak}"


@dataclass(frozen=True, slots=True)
class Filter:
    """What the list shows: events whose label or camera contains `text`, of one camera (None: all)."""

    text: str = ""
    camera: str | None = None

    def allows(self, event: HistoryEvent) -> bool:
        """Tell whether the event is shown."""
        wanted = self.text.strip().casefold()
        return (self.camera is None or event.camera == self.camera) and (
            wanted in event.label.casefold() or wanted in event.camera.casefold()
        )


class History:
    """Events by (camera, id), newest last. Drop policy: beyond `limit` the oldest go, counted in `dropped`."""

    def __init__(self, limit: int = MAX_EVENTS) -> None:
        self._limit = limit
        self._events: dict[tuple[str, str], HistoryEvent] = {}
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._events)

    @property
    def cameras(self) -> set[str]:
        """The cameras of all events."""
        return {camera for camera, _ in self._events}

    def take(self, message: ActionEvent) -> HistoryEvent:
        """Take in an event message and return what is known of the event now.

        Actions of a camera do not overlap: one that still runs when another starts has ended, though nobody said so.
        """
        key = (message.camera, message.id)
        if message.event == "start" and key not in self._events:
            self.lost(message.camera)
        known = self._events.get(key)
        event = HistoryEvent(
            message.id,
            message.camera,
            message.label,
            message.start_time if known is None else known.start_time,
            message.end_time,
            max(message.peak_confidence, 0.0 if known is None else known.peak),
        )
        self._events[key] = event
        while len(self._events) > self._limit:
            del self._events[next(iter(self._events))]
            self.dropped += 1
        return event

    def lost(self, camera: str | None = None) -> None:
        """Mark what still runs (of one camera, or of all) as cut: its end will never be received."""
        for key, event in self._events.items():
            if event.end_time is None and camera in (None, event.camera):
                self._events[key] = replace(event, cut=True)

    def renamed(self, old: str, new: str) -> None:
        """Give a camera's events its new name."""
        self._events = {
            (new if camera == old else camera, identity): replace(event, camera=new) if camera == old else event
            for (camera, identity), event in self._events.items()
        }

    def shown(self, chosen: Filter = Filter()) -> list[HistoryEvent]:
        """Return what the filter lets through, newest first."""
        return [event for event in reversed(self._events.values()) if chosen.allows(event)]

    def clear(self) -> None:
        """Forget all events."""
        self._events.clear()


def to_json(events: Iterable[HistoryEvent]) -> str:
    """Return the events as a JSON list of objects with the keys COLUMNS."""
    return json.dumps([_row(event) for event in events], indent=1, ensure_ascii=False) + "\n"


def to_csv(events: Iterable[HistoryEvent]) -> str:
    """Return the events as CSV with a header line.

    A text that a spreadsheet would run as a formula is given a leading apostrophe
    (https://owasp.org/www-community/attacks/CSV_Injection): labels come from model files.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for event in events:
        writer.writerow({key: _cell(cell) for key, cell in _row(event).items()})
    return text.getvalue()


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _row(event: HistoryEvent) -> dict[str, str | float | None]:
    length = None if event.end_time is None else round(event.end_time - event.start_time, 3)
    return {
        "camera": event.camera,
        "label": event.label,
        "start_time": event.start_time,
        "end_time": event.end_time,
        "duration_s": length,
        "peak_confidence": round(event.peak, 4),
        "id": event.id,
    }
