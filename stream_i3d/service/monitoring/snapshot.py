"""What is known of the running service at one moment: what `/status` shows, and what metrics and health are made of.

Pure. Never holds a URL: cameras go by their names.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from stream_i3d.messages import CameraStatus, EngineFacts, ModelName
from stream_i3d.overload import Overload, describe
from stream_i3d.service.hang import BUSY_STARTUP
from stream_i3d.service.stage_health import StageState
from stream_i3d.stage import CameraFigures, EngineCheck, SinkFigures


class StageSnapshot(Struct, frozen=True, kw_only=True):
    """One process.

    Attributes:
        name: Such as "worker", "publisher" or "capture door".
        role: What it is for; the service is alive while all of "worker" and "publisher" are.
        state: "waiting" for its (next) start, "starting", "running", "ending" (asked to), "finished" (ended by itself),
            "failed" (cannot go on), "gone".
        restarts: Times it was started again because it crashed or fell silent.
        planned_restarts: Times it was started again in order, for the memory it held.
        heartbeat_age_s: Seconds since its loop last turned; null while it does not run, as are the three that follow.
        heartbeat_limit_s: Beyond it the process is ended and started again.
        rss_bytes: Memory it holds.
        open_files: Files, sockets and pipes that it has open.
    """

    name: str
    role: Literal["capture", "worker", "publisher", "supervisor"]
    state: StageState
    restarts: int = 0
    planned_restarts: int = 0
    heartbeat_age_s: float | None = None
    heartbeat_limit_s: float
    pid: int | None = None
    rss_bytes: int | None = None
    open_files: int | None = None


class CameraSnapshot(Struct, frozen=True, kw_only=True):
    """One camera.

    Attributes:
        status: What was last published of it; null before the first.
        figures: What the workers have done for it, over all their restarts.
    """

    name: str
    status: CameraStatus | None = None
    figures: CameraFigures = CameraFigures()


class Snapshot(Struct, frozen=True, kw_only=True):
    """The whole service.

    Attributes:
        version: Of stream-i3d.
        python: Version of Python.
        started_at: Seconds since 1970, as is `time`, of this snapshot.
        time: Now.
        loop_age_s: Seconds since the supervisor's loop last turned.
        ready: Whether the network is loaded and predictions are published.
        publish: Address of the PUB socket; "" until first ready.
        model: The network; null until first ready.
        engine: What runs the network, for people; "" until first ready.
        facts: The same as fields; null until first ready.
        check: How the engine compares with float32, and what failed that before it; null until first ready.
        stages: All processes.
        cameras: All cameras, by name.
        sinks: All sinks but the PUB socket.
        published: Messages that went out on the PUB socket.
        rejected_messages: Messages on private channels that were none of ours, by the process that rejected them.
        overloads: How cameras are served where the machine cannot keep up, by the worker; none where it can.
        subscriptions_refused: Subscriptions and connections on the PUB socket that were beyond its limits.
    """

    schema: Literal["stream-i3d/service/1"] = "stream-i3d/service/1"
    version: str
    python: str
    started_at: float
    time: float
    loop_age_s: float
    ready: bool
    publish: str = ""
    model: ModelName | None = None
    engine: str = ""
    facts: EngineFacts | None = None
    check: EngineCheck | None = None
    stages: list[StageSnapshot] = []
    cameras: list[CameraSnapshot] = []
    sinks: list[SinkFigures] = []
    published: int = 0
    rejected_messages: dict[str, int] = {}
    overloads: dict[str, Overload] = {}
    subscriptions_refused: int = 0


LOOP_LIMIT_S = 10.0
"""The supervisor's loop turns twenty times a second; starting a process may hold it up for a moment."""

_ESSENTIAL = ("worker", "publisher")


def liveness_problems(snapshot: Snapshot) -> list[str]:
    """Return which loops are stuck, one line each; empty where the service is alive."""
    problems = []
    if snapshot.loop_age_s > LOOP_LIMIT_S:
        problems.append(f"supervisor: its loop has not turned for {snapshot.loop_age_s:.0f} s")
    for stage in snapshot.stages:
        if stage.role in _ESSENTIAL and (what := _problem(stage)):
            problems.append(f"{stage.name}: {what}")
    return problems


def readiness_problems(snapshot: Snapshot) -> list[str]:
    """Return why predictions are not published now, one line each; empty where the service is ready."""
    missing = [
        f"{one.name}: {one.state}" for one in snapshot.stages if one.role in _ESSENTIAL and one.state != "running"
    ]
    return missing or ([] if snapshot.ready else ["the model is not loaded yet"])


def degradations(snapshot: Snapshot) -> list[str]:
    """Return what works below its settings, one line each: no reason to restart the service."""
    lines = [f"{worker}: {describe(overload)}" for worker, overload in snapshot.overloads.items()]
    waiting = [one.name for one in snapshot.cameras if one.status and one.status.waiting_since is not None]
    return lines + ([f"cameras that wait for their turn: {', '.join(waiting)}"] if lines and waiting else [])


def _problem(stage: StageSnapshot) -> str:
    if stage.state in ("failed", "gone"):
        return "cannot go on"
    if stage.state == "waiting":
        return "is being started again" if stage.restarts else ""
    age = stage.heartbeat_age_s
    limit = stage.heartbeat_limit_s * (BUSY_STARTUP if stage.state == "starting" else 1)
    if stage.state in ("starting", "running") and age is not None and age > limit:
        return f"its loop has not turned for {age:.0f} s, which is over {limit:g} s"
    return ""
