"""Snapshots for tests: each function makes a valid one, with what the test cares about given by keyword."""

from __future__ import annotations

from typing import Any

from stream_i3d.histogram import Histogram
from stream_i3d.messages import ModelName
from stream_i3d.service.monitoring.snapshot import CameraSnapshot, Snapshot, StageSnapshot
from stream_i3d.stage import CameraFigures, SinkFigures
from tests.samples import status


def stage(name: str = "worker", **more: Any) -> StageSnapshot:
    """A process that is well; its role is the first word of its name."""
    given: dict[str, Any] = {
        "name": name,
        "role": name.split()[0],
        "state": "running",
        "heartbeat_age_s": 0.01,
        "heartbeat_limit_s": 60.0,
        "pid": 7,
        "rss_bytes": 100_000_000,
        "open_files": 30,
    }
    return StageSnapshot(**{**given, **more})


def camera(name: str = "door", **more: Any) -> CameraSnapshot:
    """A camera that is well; `more` are its figures."""
    total = Histogram()
    total.observe(0.02)
    total.observe(0.4)
    given: dict[str, Any] = {"frames": 250, "windows": 2, "total": total, "frame_age_s": 0.04, **more}
    return CameraSnapshot(name=name, status=status(camera=name, reconnects=3), figures=CameraFigures(**given))


def snapshot(**more: Any) -> Snapshot:
    """A service with one camera and one sink that is well."""
    given: dict[str, Any] = {
        "version": "0.1.0",
        "python": "3.11.2",
        "started_at": 1e9,
        "time": 1e9 + 60,
        "loop_age_s": 0.02,
        "ready": True,
        "publish": "tcp://127.0.0.1:5556",
        "model": ModelName(name="i3d", checkpoint="motion"),
        "engine": "OpenVINO, cpu, bf16",
        "stages": [stage(), stage("publisher"), stage("capture door")],
        "cameras": [camera()],
        "sinks": [SinkFigures(name="mqtt", queued=1, written=20, dropped=3)],
        "published": 500,
        "rejected_messages": {"worker": 0, "publisher": 1},
    }
    return Snapshot(**{**given, **more})
