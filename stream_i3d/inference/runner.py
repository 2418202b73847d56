"""From due windows to judged ones: motion, inference, judgement. Shared by the worker and by offline `recognize`.

No socket, thread or file; the clock is an argument.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING

from stream_i3d.buffer import CameraFeed
from stream_i3d.messages import ActionEvent, Clip, FrameStamp, Prediction, Recognition, Window
from stream_i3d.motion import motion_measure
from stream_i3d.recognizer import Drops, Recognizer, softmax

if TYPE_CHECKING:
    from stream_i3d.inference.engine import Engine

Judged = tuple[Recognition, list[ActionEvent]]


@dataclass(slots=True)
class CameraWindows:
    """One camera's feed and recognizer. The lock guards the feed where a drain thread pushes into it."""

    feed: CameraFeed
    recognizer: Recognizer
    lock: Lock = field(default_factory=Lock)

    def take(self) -> Clip | None:
        """Return the due window's clip, if one is due."""
        with self.lock:
            return self.feed.take()

    def notes(self) -> list[tuple[Window, FrameStamp]]:
        """Return the strides at which no whole window stood."""
        with self.lock:
            return list(self.feed.notes())

    def intact(self, clip: Clip) -> bool:
        """Tell whether the clip, just read, was not overwritten meanwhile."""
        with self.lock:
            return self.feed.intact(clip)

    def drops(self) -> Drops:
        """Return the losses so far."""
        return Drops(self.feed.frames_dropped, self.feed.windows_dropped.total())


class WindowRunner:
    """Runs due windows of any number of cameras as one batch."""

    def __init__(
        self, engine: Engine, min_motion: float, skip_inference: bool, now_ns: Callable[[], int] = time.monotonic_ns
    ):
        self._engine = engine
        self._min_motion = min_motion
        self._skip_inference = skip_inference
        self._now_ns = now_ns

    def warming(self, camera: CameraWindows) -> list[Judged]:
        """Return what to publish for strides at which no whole window stood."""
        return [camera.recognizer.warming(window, newest, camera.drops()) for window, newest in camera.notes()]

    def run(self, due: Sequence[tuple[CameraWindows, Clip]]) -> list[Judged]:
        """Judge the due windows, at most one per camera."""
        judged: list[Judged] = []
        moving: list[tuple[CameraWindows, Clip, float]] = []
        for camera, clip in due:
            motion = motion_measure(clip.frames) if self._min_motion else float("inf")
            if self._skip_inference and motion < self._min_motion:
                judged.append(camera.recognizer.skip(clip.window, clip.newest, camera.drops()))
            else:
                moving.append((camera, clip, motion))
        return judged + self._infer(moving)

    def _infer(self, windows: Sequence[tuple[CameraWindows, Clip, float]]) -> list[Judged]:
        if not windows:
            return []
        started_ns = self._now_ns()
        batch = self._engine.prepare([clip.frames for _, clip, _ in windows])
        intact = [camera.intact(clip) for camera, clip, _ in windows]
        probabilities = softmax(self._engine.logits(batch))  # (B, num_classes) float32
        inference_ms = (self._now_ns() - started_ns) * 1e-6
        judged = []
        for (camera, clip, motion), row, good in zip(windows, probabilities, intact, strict=True):
            if good:
                queue_ms = max(0.0, (started_ns - clip.newest.capture_ns) * 1e-6)
                prediction = Prediction(row, inference_ms)
                judged.append(
                    camera.recognizer.judge(clip.window, clip.newest, prediction, motion, queue_ms, camera.drops())
                )
        return judged
