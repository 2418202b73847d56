"""The worker's figures over its whole run, of cameras that come and go."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from msgspec import structs

from stream_i3d.inference.worker.camera_meter import CameraMeter
from stream_i3d.inference.worker.drain import Camera
from stream_i3d.messages import ActionEvent, Recognition
from stream_i3d.stage import CameraFigures, Summary

_KEPT_LATENCIES = 20_000


class _Newest:
    """The newest values of a series, in memory that is all taken at once: a queue would grow for half an hour."""

    def __init__(self, size: int) -> None:
        self._values = np.full(size, np.nan)
        self._count = 0

    def add(self, value: float) -> None:
        """Keep one more value, in place of the oldest."""
        self._values[self._count % len(self._values)] = value
        self._count += 1

    def values(self) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        """Return the values, in no order."""
        return self._values[: self._count]


class Meter:
    """The worker's figures: counts for ever, latencies of the newest windows."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._total_ms = _Newest(_KEPT_LATENCIES)
        self._inference_ms = _Newest(_KEPT_LATENCIES)
        self._windows = 0
        self._skipped = 0
        self._frames = self._frames_dropped = 0  # of cameras that were removed
        self._windows_dropped: Counter[str] = Counter()
        self._cameras: defaultdict[str, CameraMeter] = defaultdict(CameraMeter)

    def forget(self, camera: Camera) -> None:
        """Keep the counts of a camera that is removed, of which nothing will be counted any more."""
        feed = camera.windows.feed
        self._cameras.pop(camera.slot.name, None)
        self._frames += feed.frames
        self._frames_dropped += feed.frames_dropped
        self._windows_dropped.update(camera.windows.dropped_for())

    def count(self, recognition: Recognition) -> None:
        """Note a published recognition."""
        self._cameras[recognition.camera].count(recognition)
        if recognition.skipped is not None:
            self._skipped += 1
        elif recognition.state != "warming":
            self._windows += 1
            self._total_ms.add(recognition.latency_ms.total)
            self._inference_ms.add(recognition.latency_ms.inference)

    def count_event(self, event: ActionEvent) -> None:
        """Note a published event."""
        self._cameras[event.camera].count_event(event)

    def summary(self, cameras: Sequence[Camera], rejected: int, unpublished: int) -> Summary:
        """Return the figures so far."""
        total, inference = self._total_ms.values(), self._inference_ms.values()
        dropped = self._windows_dropped.copy()
        for camera in cameras:
            dropped.update(camera.windows.dropped_for())
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
            cameras={camera.slot.name: self._figures(camera) for camera in cameras},
        )

    def _figures(self, camera: Camera) -> CameraFigures:
        feed = camera.windows.feed
        with camera.windows.lock:
            age_s = camera.health.status(time.monotonic(), 0).last_frame_age_s
        counted = self._cameras[camera.slot.name]
        figures = counted.figures(feed.frames, feed.frames_dropped, camera.windows.dropped_for(), age_s)
        return structs.replace(figures, stride=camera.stride, waiting=camera.waiting_since is not None)


def _percentile(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]], percent: float) -> float | None:
    return round(float(np.percentile(values, percent)), 3) if len(values) else None
