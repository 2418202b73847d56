"""The worker process: drains every camera's frames, runs what is due, gives what it finds to the publisher.

Two threads. The drain thread always reads, into the rings; the main thread takes the newest due windows, runs them as
one batch and sends what is to be published. A thin shell: buffer.py says what is due, postprocess.py what it means.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from msgspec import structs

from stream_i3d.errors import TransportError
from stream_i3d.inference.backends import load_model
from stream_i3d.inference.engine import Engine, LoadedModel, warm_up
from stream_i3d.inference.ring import HostMemory
from stream_i3d.inference.runner import Runner, WindowResult
from stream_i3d.inference.setup import ModelSetup, wait_passively
from stream_i3d.inference.worker.batch_limit import any_batch, measured_limit, measured_steps
from stream_i3d.inference.worker.drain import Camera, Drain, WorkerJob
from stream_i3d.inference.worker.meter import Meter
from stream_i3d.inference.worker.pace import Pace
from stream_i3d.messages import ActionEvent
from stream_i3d.recognition.postprocess import PostprocessSettings
from stream_i3d.stage import Done, Ready, Stage, Summary, WorkerOrder
from stream_i3d.transport.relay import RelaySender

log = logging.getLogger(__name__)

_POLL_S = 0.05
_SUMMARY_INTERVAL_S = 1.0
_ARRIVE_S = 10.0
_LEAVE_S = 1.0
_WARM_UP_S = 300.0


def worker_main(stage: Stage, job: WorkerJob) -> None:
    """Entry point of the process."""
    wait_passively()
    serve(stage, job, lambda setup: load_model(setup, job.config.window.mode), measured_limit)


def serve(
    stage: Stage,
    job: WorkerJob,
    load: Callable[[ModelSetup], LoadedModel],
    batch_limit: Callable[[Engine, int], int] = any_batch,
) -> None:
    """Publish predictions of the cameras' windows, until stopped or all have ended.

    Args:
        stage: The process's end of its link.
        job: What it is to do.
        load: Loads the network.
        batch_limit: How many windows the engine should run at once, for so many cameras.
    """
    model = load(job.setup)
    engine = model.engine
    batches = Batches(model, batch_limit, len(job.cameras), job.config.window.mode == "streaming")
    settings = PostprocessSettings.of(job.config, model.labels, job.setup.model_name)
    memory = engine.make_ring if job.setup.config.device_ring else HostMemory
    with (
        RelaySender(job.relay, stage.name, [slot.name for slot in job.cameras]) as publisher,
        Drain([Camera(slot, job, settings, memory) for slot in job.cameras]) as drain,
    ):
        if not publisher.arrive(_ARRIVE_S):  # else the first predictions of a file would be lost
            log.warning("there is no publisher yet; predictions are dropped until there is")
        stage.say(
            Ready(
                detail=f"{settings.model.name} ({settings.model.checkpoint}), {engine.description}",
                model=settings.model,
                labels=list(model.labels),
                engine=engine.description,
                facts=engine.facts,
                check=None if model.check is None else model.check.facts,
            )
        )
        WorkerLoop(stage, job, model, publisher, drain, batches).run()


class Batches:
    """How many windows run at once, and the sizes that are warm."""

    def __init__(
        self,
        model: LoadedModel,
        limit: Callable[[Engine, int], int],
        cameras: int,
        timed: bool = False,
    ) -> None:
        """Args: `timed` has the seconds of a batch measured, so that an overload is known before the first frame."""
        self._model, self._limit_for = model, limit
        self._tried, self._warm = _largest_tried(cameras), 0
        self._refused = False  # whether a larger batch gave wrong numbers
        self.limit = limit(model.engine, cameras)
        self.seconds = measured_steps(model.engine, {1, max(1, min(cameras, self.limit))}) if timed else {}
        self.warm_for(max(1, cameras))

    def warm_for(self, cameras: int) -> None:
        """Warm up all batch sizes that so many cameras can make."""
        tried_all = self.limit >= self._tried and not self._refused  # the limit was there for want of cameras
        if cameras >= 2 * self.limit and tried_all:
            self._tried = _largest_tried(cameras)
            self.limit = max(self.limit, self._limit_for(self._model.engine, cameras))
        most = min(cameras, self.limit)
        if self._warm < most:
            self._warm = self._make_warm(range(self._warm + 1, most + 1))

    def _make_warm(self, sizes: range) -> int:
        """Run batches of these sizes; return the largest that may be used, which is the limit where one may not."""
        check = self._model.check
        if check is None:
            warm_up(self._model.engine, sizes)
            return sizes[-1]
        for size in sizes:
            if not check.passes(size):  # which runs it
                found = check.difference(size)
                log.warning(
                    "batches of %d windows fail the self-check (%s): at most %d run at once", size, found, size - 1
                )
                self.limit, self._refused = size - 1, True
                return size - 1
        return sizes[-1]


def _largest_tried(cameras: int) -> int:
    """Return the largest power of two among batches of so many cameras: what is measured at most."""
    return 1 << max(0, cameras.bit_length() - 1)


class WorkerLoop:
    """The main thread: takes windows, runs them, publishes results and states, and follows orders in between."""

    def __init__(
        self,
        stage: Stage,
        job: WorkerJob,
        model: LoadedModel,
        publisher: RelaySender,
        drain: Drain,
        batches: Batches,
    ) -> None:
        self._stage = stage
        self._job = job
        self._model = model
        self._runner = Runner(model, job.config)
        self._publisher = publisher
        self._drain = drain
        self._memory = model.engine.make_ring if job.setup.config.device_ring else HostMemory
        self._cameras = drain.cameras
        self._batches = batches
        self._pace = Pace(job.config.window, job.setup.preprocessing.sample_fps, batches.limit, batches.seconds)
        self._pace.retune(job.config.window, self._cameras)
        self._meter = Meter()
        self._summary_at = 0.0
        self._ended = False

    def run(self) -> None:
        """Serve until stopped, or until every camera has ended and its windows are done."""
        stay = self._job.config.control.stay
        wait_s = _POLL_S
        while not self._stage.stopping.is_set():
            self._stage.beat()
            self._publisher.process_answers()
            self._drain.check()
            order = self._stage.order()
            if isinstance(order, WorkerOrder):
                self._obey(order)
            if wait_s:
                self._drain.wake.wait(wait_s)
            self._drain.wake.clear()
            # Where all cameras were removed, others may be added; so only cameras that ended end the run.
            finished = bool(self._cameras) and all(camera.health.finished for camera in self._cameras)
            wait_s = self._step()
            ended = finished and not stay and not any(camera.windows.feed.pending for camera in self._cameras)
            self._ended = ended and self._job.linger
            if ended and not self._job.linger:
                break
        for camera in self._cameras:
            self._publish_events(camera.windows.postprocessor.finish())
        if not self._publisher.leave(_LEAVE_S):
            log.warning("the publisher has not got the last %d events and statuses", self._publisher.waiting)
        self._stage.say(self._summary())

    def _obey(self, order: WorkerOrder) -> None:
        """Take over the cameras and settings of an order."""
        self._job = structs.replace(self._job, cameras=order.cameras, config=order.config)
        settings = PostprocessSettings.of(order.config, self._model.labels, self._job.setup.model_name)
        self._runner.set_idle(order.config.idle.min_motion, order.config.idle.skip_inference)
        slots = {slot.channel: slot for slot in order.cameras}
        for camera in list(self._cameras):
            if camera.slot.channel not in slots:
                self._part_with(camera)
                continue
            camera.retune(settings)
            camera.give_up(slots[camera.slot.channel])
        known = {camera.slot.channel for camera in self._cameras}
        for channel, slot in slots.items():
            if channel not in known:
                self._welcome(Camera(slot, self._job, settings, self._memory))
        self._pace.retune(order.config.window, self._cameras)
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
        with self._stage.long_call(_WARM_UP_S):
            self._batches.warm_for(len(self._cameras))
        self._pace.batching.limit = self._batches.limit

    def _part_with(self, camera: Camera) -> None:
        """Publish a camera's last status and forget it."""
        self._drain.remove(camera)
        self._cameras = [one for one in self._cameras if one is not camera]
        self._pace.forget(camera)
        camera.end("removed")
        self._publish_events(camera.windows.postprocessor.finish())
        if (status := camera.status(time.monotonic(), only_due=False)) is not None:
            self._publisher.write(status)
        self._meter.forget(camera)  # after its last event was counted

    def _step(self) -> float:
        """Publish one batch of what is due, of each camera one window or chunk; return how long to wait for more."""
        for camera in self._cameras:
            self._publish_all(camera.windows.warming())
        chosen, batch = self._pace.choose(self._cameras, time.monotonic_ns())
        due = [(camera, clip) for camera in chosen if (clip := camera.windows.take()) is not None]
        if due:
            began = time.monotonic()
            self._publish_all(self._runner.run([(camera.windows, clip) for camera, clip in due]))
            self._pace.ran(due, time.monotonic() - began)
        now = time.monotonic()
        for camera in self._pace.look(self._cameras, now):
            self._publish_events(camera.windows.postprocessor.suspend())
        for camera in self._cameras:
            self._publish_status(camera, now)
        if now >= self._summary_at:
            self._summary_at = now + _SUMMARY_INTERVAL_S
            self._stage.say(self._summary())
        if batch.wait_s:
            return batch.wait_s
        return 0.0 if due or any(camera.windows.feed.pending for camera in self._cameras) else _POLL_S

    def _summary(self) -> Summary:
        summary = self._meter.summary(self._cameras, self._drain.rejected, self._publisher.dropped)
        return structs.replace(
            summary,
            stride=self._pace.stride,
            busy=round(self._pace.busy, 3),
            overload=self._pace.overload,
            ended=self._ended,
        )

    def _publish_all(self, results: Sequence[WindowResult]) -> None:
        for recognition, events in results:
            if recognition is not None:
                self._publisher.write(recognition)
                self._meter.count(recognition)
            self._publish_events(events)

    def _publish_events(self, events: Sequence[ActionEvent]) -> None:
        for event in events:
            self._publisher.write(event)
            self._meter.count_event(event)
            if event.event == "start":
                log.info("%s: %s started (%.2f)", event.camera, event.label, event.peak_confidence)
            elif event.end_time is not None:
                seconds = event.end_time - event.start_time
                log.info(
                    "%s: %s ended after %.1f s (peak %.2f)", event.camera, event.label, seconds, event.peak_confidence
                )

    def _publish_status(self, camera: Camera, now: float) -> None:
        if (status := camera.status(now)) is None:
            return
        self._publisher.write(status)
        if status.state != "live":
            self._publish_events(camera.windows.postprocessor.finish())
