"""Runs due windows: motion, inference, postprocessing. Shared by the worker and by offline `recognize`.

No socket, thread or file; the clock is an argument.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from stream_i3d.buffer import CameraFeed, DropReason
from stream_i3d.inference.chunk_feed import ChunkFeed
from stream_i3d.messages import ActionEvent, Clip, Prediction, Recognition
from stream_i3d.motion import motion_measure
from stream_i3d.postprocess import Drops, Postprocessor, softmax
from stream_i3d.ring import RingMemory

if TYPE_CHECKING:
    from stream_i3d.inference.engine import Engine

log = logging.getLogger(__name__)

WindowResult = tuple[Recognition | None, list[ActionEvent]]
"""What to publish of a window: None for one whose result cannot be used."""

Feed = CameraFeed | ChunkFeed


@runtime_checkable
class FusingEngine(Protocol):
    """An `Engine` of several networks, which tells what each of them says."""

    temperatures: Mapping[str, float]
    """What each network's logits are divided by before their softmax, by its name."""

    def stream_logits(self, batch: Any) -> dict[str, NDArray[np.float32]]:
        """Run a prepared batch; return each network's (B, num_classes) float32 by its name."""

    def fuse(self, logits: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """(B, num_classes) float32 of each network -> the same of all: what `Engine.logits` returns."""


@runtime_checkable
class GatheringEngine(Protocol):
    """An `Engine` on a device that keeps cameras' rings there, so that each frame goes up once."""

    def make_ring(self, capacity: int, size: int, channels: int) -> RingMemory:
        """Return memory for a ring; clips from it have `device_frames`."""

    def gather(self, clips: Sequence[Any]) -> Any:
        """Return what `prepare` does, of clips given by their `device_frames`; the next call may overwrite it."""


@dataclass(slots=True)
class CameraWindows:
    """One camera's feed and postprocessor. The lock guards the feed where a drain thread pushes into it.

    `carried` is what a runner keeps of the camera from one run to the next; `failing` is whether the newest result was
    not finite, and `failed` how many were not.
    """

    feed: Feed
    postprocessor: Postprocessor
    lock: Lock = field(default_factory=Lock)
    carried: object = None
    failing: bool = False
    failed: int = 0

    def take(self) -> Clip | None:
        """Return the due window's clip, if one is due."""
        with self.lock:
            return self.feed.take()

    def due_ns(self) -> int | None:
        """Return when the newest frame of the due window was passed on, if one is due.

        That is its capture, and for how long it was held back: a camera whose pictures are held back is no more urgent.
        """
        with self.lock:
            stamp = self.feed.due_stamp
            return None if stamp is None else stamp.capture_ns + stamp.delay_ns

    def warming(self) -> list[WindowResult]:
        """Return what to publish for strides at which no whole window stood, or no whole chunk ended."""
        with self.lock:
            notes = list(self.feed.notes())
        return [self.postprocessor.warming(window, newest, self.drops()) for window, newest in notes]

    def intact(self, clip: Clip) -> bool:
        """Tell whether the clip, just read, was not overwritten meanwhile."""
        with self.lock:
            return self.feed.intact(clip)

    def accept(self, clip: Clip, finite: bool) -> bool:
        """Take note of whether a clip's result is finite; return that. One that is not is dropped and counted."""
        if finite:
            self.failing = False
            return True
        if not self.failed:
            log.error(
                "%s: the network's output is not finite for the window that ends with frame %d: nothing is published "
                "for such windows, which are counted",
                clip.newest.camera,
                clip.newest.seq,
            )
        self.failing, self.failed = True, self.failed + 1
        with self.lock:
            self.feed.discard(clip)
        return False

    def dropped_for(self) -> Counter[DropReason]:
        """Return why windows were dropped so far, as a copy: the drain thread goes on counting, by new reasons too."""
        with self.lock:
            return self.feed.windows_dropped.copy()

    def drops(self) -> Drops:
        """Return the losses so far."""
        with self.lock:  # as in `dropped_for`
            return Drops(self.feed.frames_dropped, self.feed.windows_dropped.total())


class WindowRunner:
    """Runs due windows of any number of cameras as one batch."""

    def __init__(
        self, engine: Engine, min_motion: float, skip_inference: bool, now_ns: Callable[[], int] = time.monotonic_ns
    ):
        self._engine = engine
        self._now_ns = now_ns
        self.set_idle(min_motion, skip_inference)

    def set_idle(self, min_motion: float, skip_inference: bool) -> None:
        """Set below how many grey levels of change a window is motionless, and whether it is then run at all."""
        self._min_motion = min_motion
        self._skip_inference = skip_inference

    def run(self, due: Sequence[tuple[CameraWindows, Clip]]) -> list[WindowResult]:
        """Run the due windows, at most one per camera, and return what to publish."""
        results: list[WindowResult] = []
        moving: list[tuple[CameraWindows, Clip, float]] = []
        for camera, clip in due:
            motion = motion_measure(clip.frames[..., :3]) if self._min_motion else float("inf")
            if self._skip_inference and motion < self._min_motion:
                results.append(camera.postprocessor.skip(clip.window, clip.newest, camera.drops()))
            else:
                moving.append((camera, clip, motion))
        return results + self._infer(moving)

    def _infer(self, windows: Sequence[tuple[CameraWindows, Clip, float]]) -> list[WindowResult]:
        if not windows:
            return []
        started_ns = self._now_ns()
        batch = self._prepare([clip for _, clip, _ in windows])
        intact = [camera.intact(clip) for camera, clip, _ in windows]
        logits, own = self._run(batch)
        finite = np.isfinite(np.concatenate([logits, *own.values()], axis=1)).all(axis=1).tolist()  # one per window
        inference_ms = (self._now_ns() - started_ns) * 1e-6
        results: list[WindowResult] = []
        for index, (camera, clip, motion) in enumerate(windows):
            if not intact[index]:
                continue
            if not camera.accept(clip, finite[index]):
                results.append((None, camera.postprocessor.fail(clip.newest)))
                continue
            queue_ms = max(0.0, (started_ns - clip.newest.capture_ns) * 1e-6)
            temperatures = self._engine.temperatures if isinstance(self._engine, FusingEngine) else {}
            streams_of = {stream: softmax(rows[index], temperatures[stream]) for stream, rows in own.items()}
            prediction = Prediction(softmax(logits[index], self._engine.temperature), inference_ms, streams_of)
            results.append(
                camera.postprocessor.process(clip.window, clip.newest, prediction, motion, queue_ms, camera.drops())
            )
        return results

    def _prepare(self, clips: Sequence[Clip]) -> Any:
        """Return the clips as a batch: gathered where their frames are on the device already, else brought there."""
        if isinstance(self._engine, GatheringEngine) and all(clip.device_frames is not None for clip in clips):
            return self._engine.gather([clip.device_frames for clip in clips])
        return self._engine.prepare([clip.frames for clip in clips])

    def _run(self, batch: Any) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
        """Return the logits that count, and those of each network where there are several."""
        if not isinstance(self._engine, FusingEngine):
            return self._engine.logits(batch), {}
        streams = self._engine.stream_logits(batch)
        return self._engine.fuse(streams), streams
