"""Runs due clips: motion, engine, head, postprocessing. Shared by the worker, offline `recognize` and the Python API.

No socket, thread or file; the clock is an argument.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from stream_i3d.config import Config
from stream_i3d.inference.engine import LoadedModel, State
from stream_i3d.inference.feed import Feed
from stream_i3d.inference.schedule import DropReason
from stream_i3d.messages import ActionEvent, Clip, Prediction, Recognition
from stream_i3d.motion import motion_measure
from stream_i3d.recognition.head import Scores, softmax
from stream_i3d.recognition.postprocess import Drops, Postprocessor

log = logging.getLogger(__name__)

WindowResult = tuple[Recognition | None, list[ActionEvent]]
"""What to publish of a window: None for one whose result cannot be used."""


@dataclass(slots=True)
class Carried:
    """What is carried along one camera's stream since its last break.

    Attributes:
        run: Of the clips that it was made of.
        recent: (num_classes,) float32 logits of the newest predictions, as many as are averaged.
        states: The engine's state of each phase.
    """

    run: int
    recent: deque[NDArray[np.float32]]
    states: dict[int, State] = field(default_factory=dict)


@dataclass(slots=True)
class CameraWindows:
    """One camera's feed and postprocessor. The lock guards the feed where a drain thread pushes into it.

    Attributes:
        feed: Its frames.
        postprocessor: Makes predictions and events of scores.
        lock: Of the feed.
        carried: What the runner keeps from one clip to the next.
        failing: Whether the newest result was not finite.
        failed: How many results were not finite.
    """

    feed: Feed
    postprocessor: Postprocessor
    lock: Lock = field(default_factory=Lock)
    carried: Carried | None = None
    failing: bool = False
    failed: int = 0

    def take(self) -> Clip | None:
        """Return the due clip, if one is due."""
        with self.lock:
            return self.feed.take()

    def due_ns(self) -> int | None:
        """Return when the newest frame of the due clip was passed on, if one is due.

        That is its capture, and for how long it was held back: a camera whose pictures are held back is no more urgent.
        """
        with self.lock:
            stamp = self.feed.due_stamp
            return None if stamp is None else stamp.capture_ns + stamp.delay_ns

    def warming(self) -> list[WindowResult]:
        """Return what to publish for strides at which no whole clip ended."""
        with self.lock:
            notes = list(self.feed.notes())
        return [self.postprocessor.warming(window, newest, self.drops()) for window, newest in notes]

    def intact(self, clip: Clip) -> bool:
        """Tell whether the clip, just read, was not overwritten meanwhile."""
        with self.lock:
            return self.feed.intact(clip)

    def accept(self, clip: Clip, finite: bool) -> bool:
        """Record whether a clip's result is finite; return that. One that is not is dropped and counted."""
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
        self.carried = None  # the state that gave this would spoil all that follows
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


@dataclass(frozen=True, slots=True)
class _Run:
    """One batch that was run."""

    scores: Scores
    states: list[State]
    started_ns: int
    inference_ms: float


class Runner:
    """Runs due clips of any number of cameras as one batch."""

    def __init__(self, model: LoadedModel, config: Config, now_ns: Callable[[], int] = time.monotonic_ns) -> None:
        """Args: `model` of the configuration's mode; `now_ns` is the monotonic clock of `capture_ns`."""
        window = config.window
        self._model = model
        self._now_ns = now_ns
        self._streaming = window.mode == "streaming"
        self._averaging = window.averaging if self._streaming else 1
        self._skip_inference = False
        self.set_idle(config.idle.min_motion, config.idle.skip_inference)

    def set_idle(self, min_motion: float, skip_inference: bool) -> None:
        """Set below how many grey levels of change a window is motionless, and whether it is then run at all."""
        self._min_motion = min_motion
        if self._streaming and skip_inference and not self._skip_inference:
            log.warning("idle.skip_inference has no effect in streaming mode: its network must see every frame")
        self._skip_inference = skip_inference

    def run(self, due: Sequence[tuple[CameraWindows, Clip]]) -> list[WindowResult]:
        """Run the due clips, at most one per camera, and return what to publish."""
        results: list[WindowResult] = []
        moving: list[tuple[CameraWindows, Clip, float]] = []
        for camera, clip in due:
            motion = self._motion(clip)
            if self._skip_inference and not self._streaming and motion < self._min_motion:
                results.append(camera.postprocessor.skip(clip.window, clip.newest, camera.drops()))
            else:
                moving.append((camera, clip, motion))
        for alike in _by_shape(moving):
            results += self._infer(alike)
        return results

    def _motion(self, clip: Clip) -> float:
        """Return the grey levels of change in the newest frames."""
        return motion_measure(clip.recent[..., :3]) if self._min_motion and clip.ready else float("inf")

    def _infer(self, clips: Sequence[tuple[CameraWindows, Clip, float]]) -> list[WindowResult]:
        """Run clips of one shape as one batch."""
        started_ns = self._now_ns()
        engine = self._model.engine
        on_device = [clip.device_frames for _, clip, _ in clips if clip.device_frames is not None]
        batch = engine.prepare([clip.frames for _, clip, _ in clips], on_device if len(on_device) == len(clips) else ())
        intact = [camera.intact(clip) for camera, clip, _ in clips]
        features, states = engine.run(batch, [self._state(camera, clip) for camera, clip, _ in clips])
        scores = self._model.head(features)
        run = _Run(scores, states, started_ns, (self._now_ns() - started_ns) * 1e-6)
        finite = scores.finite()
        results: list[WindowResult] = []
        for index, (camera, clip, motion) in enumerate(clips):
            if not intact[index]:
                continue  # a carried stream was cut with it
            if not camera.accept(clip, bool(finite[index])):
                results.append((None, camera.postprocessor.fail(clip.newest)))
            elif (result := self._result(camera, clip, motion, run, index)) is not None:
                results.append(result)
        return results

    def _result(self, camera: CameraWindows, clip: Clip, motion: float, run: _Run, index: int) -> WindowResult | None:
        carried = self._carried(camera, clip)
        carried.states[clip.phase] = run.states[index]
        if not clip.ready:
            if carried.recent:  # another phase gives this camera's predictions
                return None
            return camera.postprocessor.warming(clip.window, clip.newest, camera.drops())
        carried.recent.append(run.scores.logits[index])
        averaged = np.stack(carried.recent).mean(axis=0, dtype=np.float32)  # (num_classes,)
        head = self._model.head
        prediction = Prediction(softmax(averaged, head.temperature), run.inference_ms, head.own(run.scores, index))
        queue_ms = max(0.0, (run.started_ns - clip.newest.capture_ns) * 1e-6)
        return camera.postprocessor.process(clip.window, clip.newest, prediction, motion, queue_ms, camera.drops())

    def _carried(self, camera: CameraWindows, clip: Clip) -> Carried:
        """Return what is carried along the camera's stream, anew where the clip is of another run."""
        if camera.carried is None or camera.carried.run != clip.run or not self._streaming:
            camera.carried = Carried(clip.run, deque(maxlen=self._averaging))
        return camera.carried

    def _state(self, camera: CameraWindows, clip: Clip) -> State:
        """Return the state that a clip continues; None where it begins anew."""
        return self._carried(camera, clip).states[clip.phase] if clip.number else None


def _by_shape(
    clips: Sequence[tuple[CameraWindows, Clip, float]],
) -> list[list[tuple[CameraWindows, Clip, float]]]:
    """Return clips grouped by the shape of their frames, which differs with cameras' views."""
    groups: dict[tuple[int, ...], list[tuple[CameraWindows, Clip, float]]] = {}
    for camera, clip, motion in clips:
        groups.setdefault(clip.frames.shape, []).append((camera, clip, motion))
    return list(groups.values())
