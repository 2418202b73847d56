"""One camera's figures in a worker, as the supervisor is told them: counts for ever, latencies by ranges. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from stream_i3d.histogram import Histogram
from stream_i3d.inference.schedule import DropReason
from stream_i3d.messages import ActionEvent, Recognition
from stream_i3d.stage import CameraFigures


class CameraMeter:
    """Counts what is said of one camera."""

    def __init__(self) -> None:
        self._windows = 0
        self._skipped = 0
        self._predictions: Counter[str] = Counter()
        self._events: Counter[str] = Counter()
        self._queue, self._inference, self._total = Histogram(), Histogram(), Histogram()

    def count(self, recognition: Recognition) -> None:
        """Note a published recognition."""
        self._predictions[recognition.state] += 1
        if recognition.skipped is not None:
            self._skipped += 1
        elif recognition.state != "warming":
            self._windows += 1
            latency = recognition.latency_ms
            self._queue.observe(latency.queue * 1e-3)
            self._inference.observe(latency.inference * 1e-3)
            self._total.observe(latency.total * 1e-3)

    def count_event(self, event: ActionEvent) -> None:
        """Note a published event."""
        self._events[event.event] += 1

    def figures(
        self, frames: int, frames_dropped: int, windows_dropped: Mapping[DropReason, int], frame_age_s: float | None
    ) -> CameraFigures:
        """Return all so far; what the camera's feed and health know by themselves is given."""
        return CameraFigures(
            frames=frames,
            frames_dropped=frames_dropped,
            windows=self._windows,
            windows_dropped={str(reason): count for reason, count in windows_dropped.items()},
            skipped=self._skipped,
            predictions=dict(self._predictions),
            events=dict(self._events),
            queue=self._queue.copy(),
            inference=self._inference.copy(),
            total=self._total.copy(),
            frame_age_s=frame_age_s,
        )
