"""Gathers what the processes say of themselves into snapshots. Fed by the supervisor's thread, asked by HTTP's."""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable, Sequence

from msgspec import structs

from stream_i3d import __version__
from stream_i3d.messages import CameraStatus
from stream_i3d.overload import Overload
from stream_i3d.redact import redact
from stream_i3d.service.camera_names import camera_of
from stream_i3d.service.footprint import measure_footprint
from stream_i3d.service.monitoring.camera_totals import CameraTotals
from stream_i3d.service.monitoring.liveness import LOOP_LIMIT_S, whats_missing
from stream_i3d.service.monitoring.snapshot import CameraSnapshot, Snapshot, StageSnapshot
from stream_i3d.service.plan import StageRow
from stream_i3d.service.stage_health import StageHealth
from stream_i3d.stage import CameraNews, PublisherSummary, Ready, StageMessage, Summary


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
        """Take in what the process `pid` of the stage `name` says."""
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
        return structs.replace(known, ready=not whats_missing(known))

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
    """Return a process as it is shown."""
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
