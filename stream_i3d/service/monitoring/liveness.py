"""Whether the service is alive and ready, as those ask who would restart it or send it work. Pure.

A camera is no part of it: one that fails is said in its status, and no reason to restart the others.
"""

from __future__ import annotations

from stream_i3d.overload import describe
from stream_i3d.service.hang import BUSY_STARTUP
from stream_i3d.service.monitoring.snapshot import Snapshot, StageSnapshot

LOOP_LIMIT_S = 10.0
"""The supervisor's loop turns twenty times a second; starting a process may hold it up for a moment."""

_ESSENTIAL = ("worker", "publisher")


def whats_dead(snapshot: Snapshot) -> list[str]:
    """Return which loops do not turn, a line each; nothing where the service is alive."""
    problems = []
    if snapshot.loop_age_s > LOOP_LIMIT_S:
        problems.append(f"supervisor: its loop has not turned for {snapshot.loop_age_s:.0f} s")
    for stage in snapshot.stages:
        if stage.role in _ESSENTIAL and (what := _problem(stage)):
            problems.append(f"{stage.name}: {what}")
    return problems


def whats_missing(snapshot: Snapshot) -> list[str]:
    """Return why predictions are not published now, a line each; nothing where the service is ready."""
    missing = [
        f"{one.name}: {one.state}" for one in snapshot.stages if one.role in _ESSENTIAL and one.state != "running"
    ]
    return missing or ([] if snapshot.ready else ["the model is not loaded yet"])


def whats_degraded(snapshot: Snapshot) -> list[str]:
    """Return what is done less well than asked for, a line each: no reason to restart the service."""
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
