"""The last two minutes of one camera: actions as segments, confidence as a curve, events with start and end. Pure.

Times are the window's own monotonic clock in seconds. Messages carry stream time (wall clock, or media time of a file
that may run slower or loop), so each prediction also says how far the two are apart: its newest frame is `latency` old
when it arrives.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from dataclasses import dataclass, replace

from stream_i3d.messages import ActionEvent, Recognition

SPAN_S = 120.0
_GAP_S = 2.5
_MAX_POINTS = 20_000


@dataclass(frozen=True, slots=True)
class Point:
    """One prediction: when its newest frame was taken, what was shown, how sure it was, and the latency in ms."""

    time: float
    label: str | None
    confidence: float
    state: str
    latency_ms: float


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch with one label shown; `peak` is its highest confidence."""

    label: str
    start: float
    end: float
    peak: float


@dataclass(frozen=True, slots=True)
class EventMark:
    """An event on the strip; `end` is None while the action goes on."""

    id: str
    label: str
    start: float
    end: float | None
    peak: float


class Timeline:
    """What one camera's strip shows; forgets what is older than `span_s` and never keeps more than a bounded number."""

    def __init__(self, span_s: float = SPAN_S) -> None:
        self.span_s = span_s
        self._points: deque[Point] = deque(maxlen=_MAX_POINTS)
        self._events: dict[str, EventMark] = {}
        self._offset: float | None = None

    def take_recognition(self, message: Recognition, now: float) -> None:
        """Take in a prediction that arrived at `now`."""
        taken = now - message.latency_ms.total / 1000
        self._offset = taken - message.window.end_time
        if self._points and taken <= self._points[-1].time:
            taken = self._points[-1].time + 1e-6  # a burst after a pause: order is what is known
        self._points.append(Point(taken, message.label, message.confidence, message.state, message.latency_ms.total))
        self._forget(now)

    def take_event(self, message: ActionEvent, now: float) -> None:
        """Take in an event that arrived at `now`."""
        offset = now - message.start_time if self._offset is None else self._offset
        start = min(message.start_time + offset, now)
        end = None if message.end_time is None else min(message.end_time + offset, now)
        known = self._events.get(message.id)
        if known is not None:
            start = known.start
        end = None if end is None else max(start, end)
        if known is None and end is None:
            self.lost(start)  # actions do not overlap: the end of the one before was missed
        self._events[message.id] = EventMark(message.id, message.label, start, end, message.peak_confidence)
        self._forget(now)

    def lost(self, now: float) -> None:
        """Close what still runs: the camera or the service is gone, so no more messages of it will come."""
        for mark in list(self._events.values()):
            if mark.end is None:
                self._events[mark.id] = replace(mark, end=max(mark.start, now))

    def points(self, now: float) -> list[Point]:
        """Return the predictions of the last `span_s`, oldest first."""
        return [point for point in self._points if point.time >= now - self.span_s]

    def spans(self, now: float) -> list[Span]:
        """Return the stretches of equal labels; a hole of over 2.5 s ends one."""
        spans: list[Span] = []
        previous: Point | None = None
        for point in self.points(now):
            joined = previous is not None and point.time - previous.time <= _GAP_S
            if spans and joined and previous is not None and previous.label is not None:
                spans[-1] = replace(spans[-1], end=point.time)  # a label holds until the next prediction
            if point.label is not None:
                last = spans[-1] if spans else None
                if last is not None and joined and previous is not None and previous.label == point.label:
                    spans[-1] = replace(last, peak=max(last.peak, point.confidence))
                else:
                    spans.append(Span(point.label, point.time, point.time, point.confidence))
            previous = point
        if spans and previous is not None and previous.label is not None:
            spans[-1] = replace(spans[-1], end=max(spans[-1].end, min(now, previous.time + _GAP_S)))
        return spans

    def events(self, now: float) -> list[EventMark]:
        """Return the events that reach into the last `span_s`, by start."""
        self._forget(now)
        return sorted(self._events.values(), key=lambda mark: mark.start)

    def at(self, time: float, now: float) -> Point | None:
        """Return the prediction that held at `time`, or None in a hole or outside the strip."""
        points = self.points(now)
        index = bisect_right(points, time, key=lambda point: point.time) - 1
        if index < 0 or time > now or time - points[index].time > _GAP_S:
            return None
        return points[index]

    def _forget(self, now: float) -> None:
        while self._points and self._points[0].time < now - self.span_s - _GAP_S:
            self._points.popleft()
        for mark in list(self._events.values()):
            if (mark.start if mark.end is None else mark.end) < now - self.span_s and mark.end is not None:
                del self._events[mark.id]
        while len(self._events) > _MAX_POINTS // 10:
            del self._events[next(iter(self._events))]
