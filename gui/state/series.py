"""Figures over time for the details panel and the status bar. Pure."""

from __future__ import annotations

from collections import deque


class Series:
    """Values of the last `span_s` seconds. Drop policy: beyond `limit` values the oldest go."""

    def __init__(self, span_s: float = 120.0, limit: int = 8000) -> None:
        self.span_s = span_s
        self._points: deque[tuple[float, float]] = deque(maxlen=limit)

    def add(self, time: float, value: float) -> None:
        """Add a value measured at `time`, in seconds, not before the last."""
        self._points.append((time, value))
        while self._points and self._points[0][0] < time - self.span_s:
            self._points.popleft()

    def points(self, now: float) -> list[tuple[float, float]]:
        """Return (seconds, value) of the last `span_s`."""
        return [point for point in self._points if point[0] >= now - self.span_s]

    def latest(self, now: float, within_s: float = 5.0) -> float | None:
        """Return the newest value, or None when it is older than `within_s`."""
        if not self._points or self._points[-1][0] < now - within_s:
            return None
        return self._points[-1][1]

    def percentile(self, share: float, now: float, within_s: float | None = None) -> float | None:
        """Return the nearest-rank percentile (`share` in [0, 1]) of the last `within_s` seconds."""
        since = now - (self.span_s if within_s is None else within_s)
        values = sorted(value for time, value in self._points if time >= since)
        if not values:
            return None
        return values[min(len(values) - 1, int(share * len(values)))]

    def rate(self, now: float, within_s: float = 2.0) -> float | None:
        """Return how many values came per second within the last `within_s`, or None where there was none."""
        number = sum(1 for time, _ in self._points if time > now - within_s)
        return number / within_s if number else None
