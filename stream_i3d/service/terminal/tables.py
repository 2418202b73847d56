"""What `ctl` shows of a service's answers: tables for people. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from stream_i3d.messages import CameraStatus
from stream_i3d.stage import describe_check
from stream_i3d.transport.control import (
    CameraInfo,
    CamerasReply,
    ErrorReply,
    HelloReply,
    Reply,
    SettingsReply,
    StageInfo,
    StagesReply,
)


@dataclass(frozen=True, slots=True)
class Shown:
    """A table; without headings where the first is empty."""

    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]


def table_of(reply: Reply) -> Shown:
    """Return what a reply says."""
    if isinstance(reply, HelloReply):
        return Shown(("", ""), _service(reply))
    if isinstance(reply, StagesReply):
        columns = ("process", "state", "pid", "restarts", "planned", "last heard", "memory")
        return Shown(columns, [_stage(stage) for stage in reply.stages])
    if isinstance(reply, CamerasReply):
        columns = ("camera", "state", "fps", "reconnects", "lost frames", "source", "detail")
        return Shown(columns, [_camera(camera) for camera in reply.cameras])
    if isinstance(reply, SettingsReply):
        return Shown(("setting", "value"), [(key, _plain(value)) for key, value in reply.settings.items()])
    assert isinstance(reply, ErrorReply)
    return Shown(("", ""), [("error", reply.message)])


def _service(hello: HelloReply) -> list[tuple[str, ...]]:
    model = "loading" if hello.model is None else f"{hello.model.name} ({hello.model.checkpoint}), {hello.engine}"
    return [
        ("service", f"stream-i3d {hello.version}, pid {hello.pid}, {'ready' if hello.ready else 'not ready'}"),
        ("model", model),
        *([] if hello.check is None else [("self-check", describe_check(hello.check))]),
        ("publishes on", hello.publish or "nothing yet"),
    ]


def _stage(stage: StageInfo) -> tuple[str, ...]:
    return (
        stage.name,
        stage.state,
        "" if stage.pid is None else str(stage.pid),
        str(stage.restarts),
        str(stage.planned_restarts),
        "" if stage.silent_s is None else f"{stage.silent_s:.1f} s ago",
        "" if stage.memory_mb is None else f"{stage.memory_mb:.0f} MB",
    )


def _camera(camera: CameraInfo) -> tuple[str, ...]:
    status = camera.status
    if status is None:
        return (camera.name, "paused" if camera.paused else "starting", "", "", "", camera.source, "")
    state: str = "paused" if status.paused else status.state
    if status.waiting_since is not None:
        state += ", waits its turn"
    fps = f"{status.fps:.1f}" if status.state == "live" else ""
    return (
        camera.name,
        state,
        fps,
        str(status.reconnects),
        str(status.frames_dropped),
        camera.source,
        _detail(status),
    )


def _detail(status: CameraStatus) -> str:
    if status.view_share is None:
        return status.detail
    return f"{status.detail}; sees {status.view_share:.0%} ({status.view})"


def _plain(value: bool | int | float | str) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
