"""Answers the control channel: what runs, cameras that come and go, settings that change. Runs in the supervisor.

Decides and keeps what is wanted (in the plan); the supervisor carries it out.
"""

from __future__ import annotations

import os
import time
from functools import partial

from msgspec import structs

from stream_i3d import __version__
from stream_i3d.config import CameraConfig, Config, live_settings
from stream_i3d.errors import ConfigError, StreamI3DError, cut
from stream_i3d.messages import CameraStatus, ViewName
from stream_i3d.redact import redact, redact_data
from stream_i3d.service.camera_names import camera_of
from stream_i3d.service.plan import Plan, PlannedCamera
from stream_i3d.service.saved_changes import ChangeSaver
from stream_i3d.service.stage_health import StageHealth
from stream_i3d.service.supervisor import Supervisor
from stream_i3d.stage import CameraNews, CameraSlot, CaptureOrder, Ready, WorkerOrder
from stream_i3d.transport.control import (
    AddCamera,
    CameraInfo,
    CamerasReply,
    ChangeSettings,
    ChangeSource,
    ChangeView,
    ErrorReply,
    GetSettings,
    HelloReply,
    ListCameras,
    ListStages,
    PauseCamera,
    RemoveCamera,
    RenameCamera,
    Reply,
    Request,
    SayHello,
    SettingsReply,
    StageInfo,
    StagesReply,
)
from stream_i3d.transport.control_sockets import ControlServer

_MAX_ERROR_BYTES = 500


class ControlHandler:
    """The supervisor's `Desk` where there is a control channel."""

    def __init__(self, plan: Plan, server: ControlServer, saver: ChangeSaver | None = None) -> None:
        """Args: `saver` is told of every change."""
        self._plan = plan
        self._server = server
        self._saver = saver
        self._started_at = time.time()
        self._worker: Ready | None = None
        self._publish = ""
        self._previews: dict[str, str] = {}
        self._statuses: dict[str, CameraStatus] = {}
        self._leaving: set[str] = set()

    def attend(self, supervisor: Supervisor, wait_s: float) -> None:
        """Answer the requests that are there, waiting for one at most `wait_s`."""
        self._server.serve(wait_s, lambda request: self.answer(supervisor, request))

    def on_message(self, name: str, message: Ready | CameraNews) -> None:
        """Record what the process `name` has sent."""
        if isinstance(message, CameraNews):
            self._statuses[message.status.camera] = message.status
        elif name == "publisher":
            self._publish = message.address
        elif (camera := camera_of(name)) is not None:
            self._previews[camera] = message.address
        else:
            self._worker = self._worker or message

    def gave_up(self, supervisor: Supervisor, name: str, failure: str) -> None:
        """Have it published that a camera's capture process cannot go on."""
        camera = camera_of(name)
        assert camera is not None  # all others are essential
        self._plan.give_up(camera, cut(failure, _MAX_ERROR_BYTES))
        self._order_workers(supervisor)

    def gone(self, supervisor: Supervisor, name: str) -> None:
        """Forget a camera whose capture process has ended; the worker publishes its last status."""
        camera = camera_of(name)
        assert camera is not None  # nobody asks for the end of another
        self._leaving.discard(camera)
        self._plan.remove(camera)
        self._previews.pop(camera, None)
        self._statuses.pop(camera, None)
        self._order_workers(supervisor)

    def answer(self, supervisor: Supervisor, request: Request) -> Reply:
        """Carry out a request; a wrong one is answered with one line and changes nothing."""
        try:
            reply = self._carry_out(supervisor, request)
            if self._saver is not None and not isinstance(request, SayHello | ListCameras | GetSettings | ListStages):
                self._saver.keep(self._wanted())
            return reply
        except StreamI3DError as error:
            return ErrorReply(message=cut(redact(str(error)), _MAX_ERROR_BYTES))

    def _carry_out(self, supervisor: Supervisor, request: Request) -> Reply:
        if isinstance(request, SayHello):
            return self._hello(supervisor)
        if isinstance(request, GetSettings):
            return SettingsReply(settings=live_settings(self._plan.config))
        if isinstance(request, ChangeSettings):
            self._plan.change_settings(request.settings)
            self._order_workers(supervisor)
            return SettingsReply(settings=live_settings(self._plan.config))
        if isinstance(request, ListCameras):
            return self._cameras()
        if isinstance(request, AddCamera):
            return self._cameras(self._add(supervisor, request.source, request.name))
        if isinstance(request, RemoveCamera):
            self._remove(supervisor, self._camera(request.camera))
            return self._cameras(request.camera)
        if isinstance(request, ListStages):
            return StagesReply(stages=[_stage_info(stage) for stage in supervisor.health()])
        if isinstance(request, ChangeSource):
            return self._cameras(self._change_source(supervisor, self._camera(request.camera), request.source))
        if isinstance(request, ChangeView):
            return self._cameras(self._change_view(supervisor, self._camera(request.camera), request.view))
        if isinstance(request, RenameCamera):
            return self._cameras(self._rename(supervisor, request.camera, request.name))
        self._pause(supervisor, self._camera(request.camera), isinstance(request, PauseCamera))
        return self._cameras(request.camera)

    def _hello(self, supervisor: Supervisor) -> HelloReply:
        worker = self._worker or Ready(detail="")
        return HelloReply(
            version=__version__,
            pid=os.getpid(),
            started_at=self._started_at,
            ready=all(supervisor.is_ready(row.name) for row in (self._plan.publisher_row, *self._plan.worker_rows)),
            publish=self._publish,
            model=worker.model,
            labels=worker.labels,
            engine=worker.engine,
            check=worker.check,
            facts=worker.facts,
            device=worker.facts.device if worker.facts else "",
            precision=worker.facts.precision if worker.facts else "",
        )

    def _cameras(self, concerned: str | None = None) -> CamerasReply:
        listed = [
            CameraInfo(
                name=name,
                source=redact(camera.job.source),
                paused=camera.job.paused,
                view=camera.job.preprocessing.view,
                preview=self._previews.get(name) or None,
                status=self._statuses.get(name),
            )
            for name, camera in self._plan.cameras.items()
            if name not in self._leaving
        ]
        return CamerasReply(cameras=listed, camera=concerned)

    def _camera(self, name: str) -> PlannedCamera:
        if name in self._leaving:
            raise ConfigError(f"camera {name!r} is being removed")
        return self._plan.camera(name)

    def _wanted(self) -> Config:
        """Return the configuration as it is wanted now."""
        cameras = [
            CameraConfig(name=name, source=camera.job.source, paused=camera.job.paused, view=camera.view)
            for name, camera in self._plan.cameras.items()
            if name not in self._leaving
        ]
        return structs.replace(self._plan.config, cameras=cameras)

    def _add(
        self,
        supervisor: Supervisor,
        source: str,
        name: str | None,
        paused: bool = False,
        view: ViewName | None = None,
    ) -> str:
        _check_printable(source)
        if name in self._leaving:
            raise ConfigError(f"camera {name!r} is still being removed; try again in a second")
        camera = self._plan.add(source, name, view)
        if paused:
            self._plan.pause(camera.slot.name, True)
        supervisor.add(self._plan.camera(camera.slot.name).row)
        self._order_workers(supervisor)
        return camera.slot.name

    def _remove(self, supervisor: Supervisor, camera: PlannedCamera) -> None:
        self._leaving.add(camera.slot.name)
        supervisor.retire(camera.row.name)

    def _rename(self, supervisor: Supervisor, old: str, new: str) -> str:
        camera = self._camera(old)
        name = self._add(supervisor, camera.job.source, new, camera.job.paused, camera.view)
        self._remove(supervisor, camera)
        return name

    def _change_source(self, supervisor: Supervisor, camera: PlannedCamera, source: str) -> str:
        _check_printable(source)
        name = camera.slot.name
        row = self._plan.change_source(name, source).row
        self._previews.pop(name, None)
        supervisor.replace(row)
        self._order_workers(supervisor)
        return name

    def _pause(self, supervisor: Supervisor, camera: PlannedCamera, paused: bool) -> None:
        self._plan.pause(camera.slot.name, paused)
        self._order_capture(supervisor, camera.slot.name)

    def _change_view(self, supervisor: Supervisor, camera: PlannedCamera, view: ViewName | None) -> str:
        self._plan.change_view(camera.slot.name, view)
        self._order_capture(supervisor, camera.slot.name)
        return camera.slot.name

    def _order_capture(self, supervisor: Supervisor, name: str) -> None:
        """Send a capture process its current orders."""
        camera = self._plan.camera(name)
        paused, view = camera.job.paused, camera.job.preprocessing.view
        supervisor.change(camera.row, lambda number: CaptureOrder(number=number, paused=paused, view=view))

    def _order_workers(self, supervisor: Supervisor) -> None:
        """Send the workers the current cameras and settings."""
        for row in self._plan.worker_rows:
            # Without the configured cameras, which the worker does not look at.
            slots, config = row.job.cameras, structs.replace(row.job.config, cameras=[])
            supervisor.change(row, partial(_worker_order, slots, config))


def _worker_order(slots: list[CameraSlot], config: Config, number: int) -> WorkerOrder:
    return WorkerOrder(number=number, cameras=slots, config=config)


def _check_printable(source: str) -> None:
    if not source.isprintable():
        raise ConfigError(
            f"source {redact_data(source)[:80]!r} has characters that cannot be printed; give it without them"
        )


def _stage_info(stage: StageHealth) -> StageInfo:
    return StageInfo(
        name=stage.name,
        state=stage.state,
        restarts=stage.restarts,
        planned_restarts=stage.planned_restarts,
        silent_s=None if stage.silent_s is None else round(stage.silent_s, 3),
        memory_mb=None if stage.rss_bytes is None else round(stage.rss_bytes / 2**20, 1),
        pid=stage.pid,
    )
