"""Collects messages of the processes into snapshots. Filled by the supervisor's thread, read by the HTTP server's."""

from __future__ import annotations

import os
import platform
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from msgspec import structs

from stream_i3d import __version__
from stream_i3d.histogram import Histogram
from stream_i3d.messages import CameraStatus
from stream_i3d.overload import Overload
from stream_i3d.redact import redact
from stream_i3d.service.camera_names import camera_of
from stream_i3d.service.footprint import measure_footprint
from stream_i3d.service.monitoring.snapshot import (
    LOOP_LIMIT_S,
    CameraSnapshot,
    Snapshot,
    StageSnapshot,
    readiness_problems,
)
from stream_i3d.service.plan import StageRow
from stream_i3d.service.stage_health import StageHealth
from stream_i3d.stage import CameraFigures, CameraNews, PublisherSummary, Ready, StageMessage, Summary


class Monitor:
    """What is known of the service, under a lock of its own.

    Attributes:
        stages: Gives all processes as they are; set by who runs them, and callable from any thread.
    """

    def __init__(self) -> None:
        self.stages: Callable[[], Sequence[StageSnapshot]] = lambda: ()
        self._lock = threading.Lock()
        self._started_at = time.time()
        self._turned_at = time.monotonic()
        self._readies: dict[str, Ready] = {}
        self._statuses: dict[str, CameraStatus] = {}
        self._totals = CameraTotals()
        self._publisher = PublisherSummary()
        self._rejected: dict[str, int] = {}
        self._overloads: dict[str, Overload] = {}

    def on_message(self, name: str, pid: int, message: StageMessage) -> None:
        """Process a message of the process `pid` of the stage `name`."""
        with self._lock:
            if isinstance(message, Ready):
                if camera_of(name) is None:  # cameras' are of previews, and there is no end of their names
                    self._readies[name] = message
            elif isinstance(message, CameraNews):
                self._statuses[message.status.camera] = message.status
            elif isinstance(message, PublisherSummary):
                self._publisher = message
                self._rejected[name] = message.rejected_messages
            elif isinstance(message, Summary):
                self._totals.take(name, pid, message, time.monotonic())
                self._overloads.pop(name, None)
                if message.overload is not None:
                    self._overloads[name] = message.overload
                self._rejected[name] = message.rejected_messages

    def turned(self) -> None:
        """Note that the supervisor's loop turns."""
        self._turned_at = time.monotonic()

    def snapshot(self) -> Snapshot:
        """Return all that is known now."""
        stages = [self._own(), *self.stages()]
        cameras = [camera for one in stages if one.state != "gone" and (camera := camera_of(one.name)) is not None]
        now = time.monotonic()
        with self._lock:
            for name in self._statuses.keys() - set(cameras):
                del self._statuses[name]  # removed; another may come by its name
            model = next((one for one in self._readies.values() if one.model is not None), Ready(detail=""))
            known = Snapshot(
                version=__version__,
                python=platform.python_version(),
                started_at=round(self._started_at, 3),
                time=round(time.time(), 3),
                loop_age_s=round(now - self._turned_at, 3),
                ready=model.model is not None,
                publish=self._publish_address(),
                model=model.model,
                engine=model.engine,
                facts=model.facts,
                check=model.check,
                stages=stages,
                cameras=[self._camera(name, now) for name in cameras],
                sinks=[structs.replace(one, detail=redact(one.detail)) for one in self._publisher.sinks],
                published=self._publisher.published,
                rejected_messages=dict(self._rejected),
                overloads={
                    one.name: self._overloads[one.name]
                    for one in stages
                    if one.state == "running" and one.name in self._overloads
                },
                subscriptions_refused=self._publisher.subscriptions_refused,
            )
        return structs.replace(known, ready=not readiness_problems(known))

    def _own(self) -> StageSnapshot:
        """Return this process, which has no heartbeat but its loop's."""
        age_s, held = round(time.monotonic() - self._turned_at, 3), measure_footprint(os.getpid())
        return StageSnapshot(
            name="supervisor",
            role="supervisor",
            state="running",
            heartbeat_age_s=age_s,
            heartbeat_limit_s=LOOP_LIMIT_S,
            pid=os.getpid(),
            rss_bytes=held.rss_bytes,
            open_files=held.open_files,
        )

    def _publish_address(self) -> str:
        """Return the publisher's address."""
        ready = self._readies.get("publisher")
        return "" if ready is None else ready.address

    def _camera(self, name: str, now: float) -> CameraSnapshot:
        return CameraSnapshot(name=name, status=self._statuses.get(name), figures=self._totals.of(name, now))


def stage_snapshot(row: StageRow, health: StageHealth) -> StageSnapshot:
    """Return a process as it is in the snapshot."""
    limit_s = row.startup_limit_s if health.state == "starting" else row.silent_limit_s
    return StageSnapshot(
        name=row.name,
        role=row.role,
        state=health.state,
        restarts=health.restarts,
        planned_restarts=health.planned_restarts,
        heartbeat_age_s=None if health.silent_s is None else round(health.silent_s, 3),
        heartbeat_limit_s=max(limit_s, health.long_call_s),
        pid=health.pid,
        rss_bytes=health.rss_bytes,
        open_files=health.open_files,
    )


_AGE_SLACK_S = 2.0
"""A worker reports the age of a frame once a second; a longer silence is added to the age."""


class CameraTotals:
    """Keeps, for each worker and camera, the newest figures and those of the worker's earlier processes.

    The counts of a camera that a worker no longer has are dropped: a later one with the same name is another camera.
    """

    def __init__(self) -> None:
        self._pids: dict[str, int] = {}
        self._updated_at: dict[str, float] = {}
        self._now: dict[str, dict[str, CameraFigures]] = {}
        self._before: dict[str, dict[str, CameraFigures]] = {}

    def take(self, worker: str, pid: int, summary: Summary, now: float) -> None:
        """Process a summary of the process `pid` of the stage `worker`; its counts are since its start."""
        before = self._before.setdefault(worker, {})
        if self._pids.get(worker, pid) != pid:
            for name, figures in self._now[worker].items():
                before[name] = added([before[name], figures]) if name in before else figures
        self._pids[worker], self._now[worker], self._updated_at[worker] = pid, dict(summary.cameras), now
        for name in before.keys() - summary.cameras.keys():
            del before[name]

    def of(self, camera: str, now: float) -> CameraFigures:
        """Return all that was counted for a camera; a frame is older where its worker has been silent."""
        parts = []
        for worker, newest in self._now.items():
            if camera in newest:
                late_s = max(0.0, now - self._updated_at[worker] - _AGE_SLACK_S)
                parts += [one for one in (self._before[worker].get(camera),) if one is not None]
                parts.append(_aged(newest[camera], late_s))
        return added(parts)


def _aged(figures: CameraFigures, seconds: float) -> CameraFigures:
    age = figures.frame_age_s
    return figures if age is None else structs.replace(figures, frame_age_s=round(age + seconds, 3))


def added(parts: Iterable[CameraFigures]) -> CameraFigures:
    """Return the sum of counts; values of the moment (age, stride) are those of the last part."""
    every = list(parts)
    if not every:
        return CameraFigures()
    return CameraFigures(
        frames=sum(one.frames for one in every),
        frames_dropped=sum(one.frames_dropped for one in every),
        windows=sum(one.windows for one in every),
        windows_dropped=_counts(one.windows_dropped for one in every),
        skipped=sum(one.skipped for one in every),
        predictions=_counts(one.predictions for one in every),
        events=_counts(one.events for one in every),
        queue=_sum(one.queue for one in every),
        inference=_sum(one.inference for one in every),
        total=_sum(one.total for one in every),
        frame_age_s=every[-1].frame_age_s,
        stride=every[-1].stride,
        waiting=every[-1].waiting,
    )


def _counts(parts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return dict(total)


def _sum(parts: Iterable[Histogram]) -> Histogram:
    total = Histogram()
    for part in parts:
        total = total.plus(part)
    return total
