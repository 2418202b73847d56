"""The worker process: drains every camera's frames, runs what is due, gives what it finds to the publisher.

Two threads. The drain thread always reads, into the rings; the main thread takes the newest due windows, runs them as
one batch and sends what is to be published. A thin shell: what is due is buffer.py's, what it means is recognizer.py's.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from msgspec import structs

from stream_i3d.errors import TransportError
from stream_i3d.inference.drain import Camera, Drain, WorkerJob
from stream_i3d.inference.meter import Meter
from stream_i3d.inference.mode import Runner, load_mode_engine, make_runner, memory_maker
from stream_i3d.inference.runner import Judged
from stream_i3d.inference.setup import ModelSetup, wait_passively
from stream_i3d.messages import ActionEvent
from stream_i3d.recognizer import Judging
from stream_i3d.stage import Done, Ready, Stage, Summary, WorkerOrder
from stream_i3d.transport.relay import RelaySender

if TYPE_CHECKING:
    from stream_i3d.inference.engine import Engine
    from stream_i3d.inference.stream_engine import StreamEngine

log = logging.getLogger(__name__)

MAX_BATCH = 8
_POLL_S = 0.05
_SUMMARY_INTERVAL_S = 1.0
_ARRIVE_S = 10.0
_LEAVE_S = 1.0


def worker_main(stage: Stage, job: WorkerJob) -> None:
    """Entry point of the process."""
    wait_passively()
    serve(stage, job, lambda setup: load_mode_engine(setup, job.config.window))


def serve(stage: Stage, job: WorkerJob, load_engine: Callable[[ModelSetup], Engine | StreamEngine]) -> None:
    """Send what the engine made by `load_engine` says of the cameras' windows, until stopped or all have ended."""
    engine = load_engine(job.setup)
    engine.warm_up(range(1, min(max(1, len(job.cameras)), MAX_BATCH) + 1))
    judging = Judging.of(job.config, engine.labels, job.setup.model_name)
    runner = make_runner(engine, job.config)
    memory = memory_maker(engine, job.setup.config)
    with (
        RelaySender(job.relay, stage.name, [slot.name for slot in job.cameras]) as publisher,
        Drain([Camera(slot, job, judging, memory) for slot in job.cameras]) as drain,
    ):
        if not publisher.arrive(_ARRIVE_S):  # else the first predictions of a file would be lost
            log.warning("there is no publisher yet; predictions are dropped until there is")
        stage.say(
            Ready(
                detail=f"{judging.model.name} ({judging.model.checkpoint}), {engine.description}",
                model=judging.model,
                labels=list(engine.labels),
                engine=engine.description,
            )
        )
        WorkerLoop(stage, job, engine, runner, publisher, drain).run()


class WorkerLoop:
    """The main thread: take, run, publish, tell how the cameras fare, and follow orders between windows."""

    def __init__(
        self,
        stage: Stage,
        job: WorkerJob,
        engine: Engine | StreamEngine,
        runner: Runner,
        publisher: RelaySender,
        drain: Drain,
    ) -> None:
        self._stage = stage
        self._job = job
        self._engine = engine
        self._runner = runner
        self._publisher = publisher
        self._drain = drain
        self._memory = memory_maker(engine, job.setup.config)
        self._cameras = drain.cameras
        self._warm = min(max(1, len(self._cameras)), MAX_BATCH)
        self._meter = Meter()
        self._summary_at = 0.0

    def run(self) -> None:
        """Serve until stopped, or until every camera has ended and its windows are done."""
        stay = self._job.config.control.stay
        busy = False
        while not self._stage.stopping.is_set():
            self._stage.beat()
            self._publisher.attend()
            order = self._stage.order()
            if isinstance(order, WorkerOrder):
                self._obey(order)
            if not busy:
                self._drain.wake.wait(_POLL_S)
            self._drain.wake.clear()
            # Where all cameras were removed, others may be added; so only cameras that ended end the run.
            finished = bool(self._cameras) and all(camera.health.finished for camera in self._cameras)
            busy = self.step()
            if not busy and finished and not stay:
                break
        for camera in self._cameras:
            self._publish_events(camera.windows.recognizer.finish())
        if not self._publisher.leave(_LEAVE_S):
            log.warning("the publisher has not got the last %d events and statuses", self._publisher.waiting)
        self._stage.say(self._summary())

    def _obey(self, order: WorkerOrder) -> None:
        """Have the cameras and the settings that the order says."""
        self._job = structs.replace(self._job, cameras=order.cameras, config=order.config)
        judging = Judging.of(order.config, self._engine.labels, self._job.setup.model_name)
        self._runner.set_idle(order.config.idle.min_motion, order.config.idle.skip_inference)
        slots = {slot.channel: slot for slot in order.cameras}
        for camera in list(self._cameras):
            if camera.slot.channel not in slots:
                self._part_with(camera)
                continue
            camera.retune(order.config, judging)
            camera.give_up(slots[camera.slot.channel])
        known = {camera.slot.channel for camera in self._cameras}
        for channel, slot in slots.items():
            if channel not in known:
                self._welcome(Camera(slot, self._job, judging, self._memory))
        self._publisher.set_cameras([camera.slot.name for camera in self._cameras])
        self._stage.say(Done(number=order.number))

    def _welcome(self, camera: Camera) -> None:
        """Take one more camera in."""
        try:
            self._drain.add(camera)
        except TransportError as error:
            log.error("%s: %s", camera.slot.name, error)
            return
        self._cameras = [*self._cameras, camera]
        if self._warm < min(len(self._cameras), MAX_BATCH):
            self._warm += 1
            self._engine.warm_up([self._warm])

    def _part_with(self, camera: Camera) -> None:
        """Publish a camera's last words and forget it."""
        self._drain.remove(camera)
        self._cameras = [one for one in self._cameras if one is not camera]
        self._meter.forget(camera)
        camera.end("removed")
        self._publish_events(camera.windows.recognizer.finish())
        self._publisher.write(camera.health.status(time.monotonic(), camera.windows.feed.frames_dropped))

    def step(self) -> bool:
        """Publish what is due now, of each camera one window or chunk; return whether there was, or is, something."""
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
        return bool(due) or any(camera.windows.feed.pending for camera in self._cameras)

    def _summary(self) -> Summary:
        return self._meter.summary(self._cameras, self._drain.rejected, self._publisher.dropped)

    def _publish_all(self, judged: Sequence[Judged]) -> None:
        for recognition, events in judged:
            self._publisher.write(recognition)
            self._meter.count(recognition)
            self._publish_events(events)

    def _publish_events(self, events: Sequence[ActionEvent]) -> None:
        for event in events:
            self._publisher.write(event)
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
        self._publisher.write(status)
        if status.state != "live":
            self._publish_events(camera.windows.recognizer.finish())
