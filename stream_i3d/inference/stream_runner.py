"""Runs due chunks in streaming mode, as `runner.WindowRunner` runs windows.

It keeps, with each camera, what the network remembers of its stream. No socket, thread or file; the clock is an
argument.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stream_i3d.inference.chunk_feed import Chunk
from stream_i3d.inference.runner import CameraWindows, WindowResult
from stream_i3d.messages import Clip, Prediction
from stream_i3d.motion import motion_measure
from stream_i3d.postprocess import softmax

if TYPE_CHECKING:
    from stream_i3d.inference.stream_engine import StreamEngine

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Carried:
    """What is carried along one camera's stream since its last cut.

    Attributes:
        run: Of the chunks that it was made of.
        states: The network's state of each phase.
        recent: (num_classes,) float32 logits of the newest predictions, as many as are averaged.
    """

    run: int
    recent: deque[NDArray[np.float32]]
    states: dict[int, Any] = field(default_factory=dict)


class StreamRunner:
    """Feeds due chunks of any number of cameras to the network, as one batch."""

    def __init__(
        self,
        engine: StreamEngine,
        averaging: int,
        min_motion: float,
        skip_inference: bool,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Args: `averaging`: of how many predictions in a row logits are averaged, as the published head does it."""
        self._engine = engine
        self._averaging = averaging
        self._now_ns = now_ns
        self._skip_inference = False
        self.set_idle(min_motion, skip_inference)

    def set_idle(self, min_motion: float, skip_inference: bool) -> None:
        """Set below how many grey levels of change the newest frames are motionless; none are spared the network."""
        self._min_motion = min_motion
        if skip_inference and not self._skip_inference:
            log.warning("idle.skip_inference has no effect in streaming mode: its network must see every frame")
        self._skip_inference = skip_inference

    def run(self, due: Sequence[tuple[CameraWindows, Clip]]) -> list[WindowResult]:
        """Feed the due chunks, at most one per camera, and return what to publish where the network is warm."""
        if not due:
            return []
        started_ns = self._now_ns()
        fed = [(camera, _chunk(clip)) for camera, clip in due]
        motion = [self._motion(chunk) for _, chunk in fed]
        batch = self._engine.prepare([chunk.frames for _, chunk in fed])
        intact = [camera.intact(chunk) for camera, chunk in fed]
        logits, states = self._engine.step(batch, [self._state(camera, chunk) for camera, chunk in fed])
        inference_ms = (self._now_ns() - started_ns) * 1e-6
        results: list[WindowResult] = []
        for index, (camera, chunk) in enumerate(fed):
            if not intact[index]:
                continue  # the next chunk is of another run
            if not camera.accept(chunk, bool(np.isfinite(logits[index]).all())):
                camera.carried = None  # the state that gave this would spoil all that follows
                results.append((None, camera.postprocessor.fail(chunk.newest)))
                continue
            carried = self._carried(camera, chunk)
            carried.states[chunk.phase] = states[index]
            if chunk.ready:
                carried.recent.append(logits[index])
                results.append(self._result(camera, chunk, carried, motion[index], started_ns, inference_ms))
            elif not carried.recent:  # else another phase speaks for this camera
                results.append(camera.postprocessor.warming(chunk.window, chunk.newest, camera.drops()))
        return results

    def _result(
        self,
        camera: CameraWindows,
        chunk: Chunk,
        carried: Carried,
        motion: float,
        started_ns: int,
        inference_ms: float,
    ) -> WindowResult:
        averaged = np.stack(carried.recent).mean(axis=0, dtype=np.float32)  # (num_classes,)
        prediction = Prediction(softmax(averaged, self._engine.temperature), inference_ms)
        queue_ms = max(0.0, (started_ns - chunk.newest.capture_ns) * 1e-6)
        return camera.postprocessor.process(chunk.window, chunk.newest, prediction, motion, queue_ms, camera.drops())

    def _motion(self, chunk: Chunk) -> float:
        return motion_measure(chunk.recent) if self._min_motion and chunk.ready else float("inf")

    def _carried(self, camera: CameraWindows, chunk: Chunk) -> Carried:
        """Return what is carried along the camera's stream, anew where the chunk is of another run."""
        if not (isinstance(camera.carried, Carried) and camera.carried.run == chunk.run):
            camera.carried = Carried(chunk.run, deque(maxlen=self._averaging))
        return camera.carried

    def _state(self, camera: CameraWindows, chunk: Chunk) -> Any:
        """Return the state that a chunk goes on with; None where it begins anew."""
        return self._carried(camera, chunk).states[chunk.phase] if chunk.number else None


def _chunk(clip: Clip) -> Chunk:
    assert isinstance(clip, Chunk), "a ChunkFeed gives chunks"
    return clip
