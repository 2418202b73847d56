"""The worker process: drains every camera's frames, runs what is due, publishes.

Two threads. The drain thread always reads, into the rings; the main thread takes the newest due windows, runs them as
one batch and publishes. A thin shell: what is due is buffer.py's, what it means is recognizer.py's.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from msgspec import Struct

from stream_i3d.buffer import CameraFeed
from stream_i3d.config import Config
from stream_i3d.errors import WireError
from stream_i3d.inference.flow_frames import make_augment
from stream_i3d.inference.runner import CameraWindows, Judged, WindowRunner
from stream_i3d.inference.setup import ModelSetup, wait_passively
from stream_i3d.messages import ActionEvent, CameraReport, Recognition
from stream_i3d.publish.jsonl import JsonLinesSink
from stream_i3d.publish.sink import QueuedSink
from stream_i3d.publish.zmq_pub import ZmqSink
from stream_i3d.recognizer import Judging, Recognizer
from stream_i3d.stage import Ready, Stage, Summary
from stream_i3d.status import CameraHealth
from stream_i3d.transport.sockets import FrameReceivers
from stream_i3d.transport.wire import Published, ReceivedFrame, decode_capture

if TYPE_CHECKING:
    from stream_i3d.inference.engine import Engine

log = logging.getLogger(__name__)

MAX_BATCH = 8
_POLL_S = 0.05
_PAUSED_POLL_S = 0.001  # while a lossless source is held back: it must go on soon after its window was taken
_SUMMARY_INTERVAL_S = 1.0
_KEPT_LATENCIES = 20_000


class CameraSlot(Struct, frozen=True, kw_only=True):
    """One camera as the worker sees it; `lossless` ones are held back rather than dropped from."""

    name: str
    channel: str
    lossless: bool


class WorkerJob(Struct, frozen=True, kw_only=True):
    """What the worker process is to do."""

    cameras: list[CameraSlot]
    setup: ModelSetup
    config: Config


def worker_main(stage: Stage, job: WorkerJob) -> None:
    """Entry point of the process."""
    wait_passively()
    from stream_i3d.inference.engine import load_engine

    serve(stage, job, load_engine)


def serve(stage: Stage, job: WorkerJob, load_engine: Callable[[ModelSetup], Engine]) -> None:
    """Publish what the engine made by `load_engine` says of the cameras' windows, until stopped or all have ended."""
    sinks = Sinks(job.config)  # first: a port in use is told before the model is loaded
    try:
        engine = load_engine(job.setup)
        engine.warm_up(range(1, min(len(job.cameras), MAX_BATCH) + 1))
        judging = Judging.of(job.config, engine.labels, job.setup.model_name)
        cameras = [Camera(slot, job, judging) for slot in job.cameras]
        runner = WindowRunner(engine, job.config.idle.min_motion, job.config.idle.skip_inference)
        with Drain(cameras) as drain:
            detail = f"{judging.model.name} ({judging.model.checkpoint}), {engine.description}"
            stage.say(Ready(detail=detail, address=sinks.address))
            WorkerLoop(stage, cameras, runner, sinks, drain).run()
    finally:
        sinks.close()


class Camera:
    """One camera's windows and health, shared by the two threads under its lock."""

    def __init__(self, slot: CameraSlot, job: WorkerJob, judging: Judging) -> None:
        window, config = job.config.window, job.config
        preprocessing = job.setup.preprocessing
        self.slot = slot
        self.shape = (preprocessing.crop_size, preprocessing.crop_size, 3)
        self.windows = CameraWindows(
            CameraFeed(preprocessing, window.stride, window.max_span_ratio, make_augment(job.setup)),
            Recognizer(slot.name, judging, time.monotonic_ns),
        )
        self.health = CameraHealth(slot.name, config.capture.stall_timeout_s, config.publish.status_interval_s)

    @property
    def held_back(self) -> bool:
        """Whether its frames must wait until its due window is taken."""
        return self.slot.lossless and self.windows.feed.pending

    def accept(self, message: ReceivedFrame | CameraReport) -> bool:
        """Take in a checked message; return True when the main thread has something to do.

        Raises:
            WireError: It is of another camera, or of a shape the model does not take.
        """
        name = message.stamp.camera if isinstance(message, ReceivedFrame) else message.camera
        if name != self.slot.name:
            raise WireError(f"a message of camera {name!r} on the channel of {self.slot.name!r}")
        if isinstance(message, CameraReport):
            with self.windows.lock:
                self.health.report(message)
            return True
        if message.pixels.shape != self.shape:
            raise WireError(f"a frame of shape {message.pixels.shape}; the model takes {self.shape}")
        # With two streams, flow is computed here, before the lock is taken: measured at 224 x 224 on one core of this
        # class, 5 ms of work a frame by DIS, 10 by Farneback, 84 by TV-L1 (scripts/bench_flow.py). All cameras share
        # this thread. A method slower than the cameras together backs frames up to the sockets' bound: capture then
        # drops live frames (a file waits), the scheduler counts them, and rejects and counts windows over such a gap.
        pixels = self.windows.feed.augment(message.stamp, message.pixels)
        with self.windows.lock:
            if not message.stamp.repeat:
                self.health.frame(time.monotonic())
            return self.windows.feed.store(message.stamp, pixels)


class Drain:
    """The thread that always reads, so that nothing is stale in a socket. Drop policy: the ring's (newest wins)."""

    def __init__(self, cameras: Sequence[Camera]) -> None:
        self._cameras = cameras
        self._receivers = FrameReceivers([camera.slot.channel for camera in cameras])
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="drain", daemon=True)
        self.wake = threading.Event()
        self.rejected = 0

    def __enter__(self) -> Drain:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        self._receivers.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            wanted = [not camera.held_back for camera in self._cameras]
            for index in self._receivers.poll(_POLL_S if all(wanted) else _PAUSED_POLL_S, wanted):
                self._read(index)

    def _read(self, index: int) -> None:
        parts = self._receivers.receive(index)
        if parts is None:
            return
        try:
            if self._cameras[index].accept(decode_capture(parts)):
                self.wake.set()
        except WireError as error:
            self.rejected += 1
            if self.rejected == 1:
                log.warning("%s: rejected %s; further ones are only counted", self._cameras[index].slot.name, error)


class Sinks:
    """All sinks together: the PUB socket always, JSON lines where asked for."""

    def __init__(self, config: Config) -> None:
        self._zmq = ZmqSink(config.publish.address)
        self.address = self._zmq.address
        self._queued: list[QueuedSink] = []
        if config.publish.jsonl is not None:
            try:
                self._queued.append(QueuedSink(JsonLinesSink(config.publish.jsonl), "jsonl"))
            except BaseException:
                self._zmq.close()
                raise

    @property
    def dropped(self) -> int:
        """Messages that queued sinks could not take."""
        return sum(sink.dropped for sink in self._queued)

    def write(self, message: Published) -> None:
        """Give one message to every sink; never blocks."""
        self._zmq.write(message)
        for sink in self._queued:
            sink.write(message)

    def close(self) -> None:
        """Close all sinks."""
        self._zmq.close()
        for sink in self._queued:
            sink.close()


class Meter:
    """The worker's figures: counts for ever, latencies of the newest windows."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._total_ms: deque[float] = deque(maxlen=_KEPT_LATENCIES)
        self._inference_ms: deque[float] = deque(maxlen=_KEPT_LATENCIES)
        self._windows = 0
        self._skipped = 0

    def count(self, recognition: Recognition) -> None:
        """Note a published recognition."""
        if recognition.skipped is not None:
            self._skipped += 1
        elif recognition.state != "warming":
            self._windows += 1
            self._total_ms.append(recognition.latency_ms.total)
            self._inference_ms.append(recognition.latency_ms.inference)

    def summary(self, cameras: Sequence[Camera], rejected: int, sink_dropped: int) -> Summary:
        """Return the figures so far."""
        total, inference = np.asarray(self._total_ms), np.asarray(self._inference_ms)
        dropped: dict[str, int] = {}
        for camera in cameras:
            for reason, number in camera.windows.feed.windows_dropped.items():
                dropped[reason] = dropped.get(reason, 0) + number
        return Summary(
            frames=sum(camera.windows.feed.frames for camera in cameras),
            windows=self._windows,
            skipped=self._skipped,
            seconds=round(time.monotonic() - self._started, 3),
            latency_p50_ms=_percentile(total, 50),
            latency_p95_ms=_percentile(total, 95),
            inference_p50_ms=_percentile(inference, 50),
            overhead_p95_ms=_percentile(total - inference, 95),
            frames_dropped=sum(camera.windows.feed.frames_dropped for camera in cameras),
            windows_dropped=dropped,
            rejected_messages=rejected,
            sink_dropped=sink_dropped,
        )


def _percentile(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]], percent: float) -> float | None:
    return round(float(np.percentile(values, percent)), 3) if len(values) else None


class WorkerLoop:
    """The main thread: take, run, publish, and tell how the cameras fare."""

    def __init__(
        self, stage: Stage, cameras: Sequence[Camera], runner: WindowRunner, sinks: Sinks, drain: Drain
    ) -> None:
        self._stage = stage
        self._cameras = cameras
        self._runner = runner
        self._sinks = sinks
        self._drain = drain
        self._meter = Meter()
        self._summary_at = 0.0

    def run(self) -> None:
        """Serve until stopped, or until every camera has ended and its windows are done."""
        while not self._stage.stopping.is_set():
            self._stage.beat()
            self._drain.wake.wait(_POLL_S)
            self._drain.wake.clear()
            finished = all(camera.health.finished for camera in self._cameras)
            if not self.step() and finished:
                break
        for camera in self._cameras:
            self._publish_events(camera.windows.recognizer.finish())
        self._stage.say(self._summary())

    def step(self) -> bool:
        """Publish all that is due now; return whether there was a window."""
        for camera in self._cameras:
            self._publish_all(self._runner.warming(camera.windows))
        due = [(camera.windows, clip) for camera in self._cameras if (clip := camera.windows.take()) is not None]
        for start in range(0, len(due), MAX_BATCH):
            self._publish_all(self._runner.run(due[start : start + MAX_BATCH]))
        now = time.monotonic()
        for camera in self._cameras:
            self._publish_status(camera, now)
        if now >= self._summary_at:
            self._summary_at = now + _SUMMARY_INTERVAL_S
            self._stage.say(self._summary())
        return bool(due)

    def _summary(self) -> Summary:
        return self._meter.summary(self._cameras, self._drain.rejected, self._sinks.dropped)

    def _publish_all(self, judged: Sequence[Judged]) -> None:
        for recognition, events in judged:
            self._sinks.write(recognition)
            self._meter.count(recognition)
            self._publish_events(events)

    def _publish_events(self, events: Sequence[ActionEvent]) -> None:
        for event in events:
            self._sinks.write(event)
            if event.event == "start":
                log.info("%s: %s started (%.2f)", event.camera, event.label, event.peak_confidence)
            elif event.end_time is not None:
                seconds = event.end_time - event.start_time
                log.info(
                    "%s: %s ended after %.1f s (peak %.2f)", event.camera, event.label, seconds, event.peak_confidence
                )

    def _publish_status(self, camera: Camera, now: float) -> None:
        with camera.windows.lock:
            status = camera.health.due(now, camera.windows.feed.frames_dropped)
        if status is None:
            return
        self._sinks.write(status)
        if status.state != "live":
            self._publish_events(camera.windows.recognizer.finish())
