"""The worker's figures over its whole run, of cameras that come and go."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Sequence

import numpy as np

from stream_i3d.inference.drain import Camera
from stream_i3d.messages import Recognition
from stream_i3d.stage import Summary

_KEPT_LATENCIES = 20_000


class Meter:
    """The worker's figures: counts for ever, latencies of the newest windows."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._total_ms: deque[float] = deque(maxlen=_KEPT_LATENCIES)
        self._inference_ms: deque[float] = deque(maxlen=_KEPT_LATENCIES)
        self._windows = 0
        self._skipped = 0
        self._frames = self._frames_dropped = 0  # of cameras that were removed
        self._windows_dropped: Counter[str] = Counter()

    def forget(self, camera: Camera) -> None:
        """Keep the counts of a camera that is removed."""
        feed = camera.windows.feed
        self._frames += feed.frames
        self._frames_dropped += feed.frames_dropped
        self._windows_dropped.update(feed.windows_dropped)

    def count(self, recognition: Recognition) -> None:
        """Note a published recognition."""
        if recognition.skipped is not None:
            self._skipped += 1
        elif recognition.state != "warming":
            self._windows += 1
            self._total_ms.append(recognition.latency_ms.total)
            self._inference_ms.append(recognition.latency_ms.inference)

    def summary(self, cameras: Sequence[Camera], rejected: int, unpublished: int) -> Summary:
        """Return the figures so far."""
        total, inference = np.asarray(self._total_ms), np.asarray(self._inference_ms)
        dropped = self._windows_dropped.copy()
        for camera in cameras:
            dropped.update(camera.windows.feed.windows_dropped)
        return Summary(
            frames=self._frames + sum(camera.windows.feed.frames for camera in cameras),
            windows=self._windows,
            skipped=self._skipped,
            seconds=round(time.monotonic() - self._started, 3),
            latency_p50_ms=_percentile(total, 50),
            latency_p95_ms=_percentile(total, 95),
            inference_p50_ms=_percentile(inference, 50),
            overhead_p95_ms=_percentile(total - inference, 95),
            frames_dropped=self._frames_dropped + sum(camera.windows.feed.frames_dropped for camera in cameras),
            windows_dropped=dict(dropped),
            rejected_messages=rejected,
            sink_dropped=unpublished,
        )


def _percentile(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]], percent: float) -> float | None:
    return round(float(np.percentile(values, percent)), 3) if len(values) else None
