"""Turns a configuration into the table of processes to run. Opens nothing but the checkpoint's header."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stream_i3d.capture.address import SourceAddress, parse_source
from stream_i3d.capture.process import CaptureJob, capture_main
from stream_i3d.config import Config
from stream_i3d.errors import ConfigError
from stream_i3d.inference.setup import settle_model
from stream_i3d.inference.worker import CameraSlot, WorkerJob, worker_main
from stream_i3d.stage import Stage
from stream_i3d.transport.addresses import check_bind, frame_channel

_STARTUP_SILENCE_S = 120.0
_WORKER_SILENCE_S = 60.0
_CAPTURE_SLACK_S = 10.0


@dataclass(frozen=True, slots=True)
class StageRow:
    """One process of the service.

    Attributes:
        main: Runs in the child, as `main(stage, job)`.
        silent_limit_s: It is killed and started again when its heartbeat is older than this.
        startup_limit_s: The same, until it says it is ready (imports, loading weights).
        shutdown_order: Lower ones are stopped first.
        grace_s: Seconds from being asked to end to being killed.
    """

    name: str
    main: Callable[[Stage, Any], None]
    job: Any
    silent_limit_s: float
    startup_limit_s: float
    shutdown_order: int
    grace_s: float


def make_plan(config: Config, folder: Path, worker: Callable[[Stage, Any], None] = worker_main) -> list[StageRow]:
    """Return the table of processes: a worker, and a capture process per camera.

    Args:
        config: What to run.
        folder: A private folder for the frame channels.
        worker: Entry point of the worker (benchmarks put a slow one in its place).

    Raises:
        StreamI3DError: Something of the configuration cannot be had; all that can be known before starting.
    """
    check_bind(config.publish.address)
    addresses = name_cameras(config)
    setup = settle_model(config.model, config.window)
    slots, rows = [], []
    limit = config.capture.open_timeout_s + config.capture.read_timeout_s + _CAPTURE_SLACK_S
    for index, (name, address, source) in enumerate(addresses):
        channel = frame_channel(folder, index)
        slots.append(CameraSlot(name=name, channel=channel, lossless=config.capture.fast and not address.live))
        job = CaptureJob(
            camera=name, source=source, channel=channel, preprocessing=setup.preprocessing, config=config.capture
        )
        rows.append(StageRow(f"capture {name}", capture_main, job, limit, limit, shutdown_order=0, grace_s=0.8))
    job_of_worker = WorkerJob(cameras=slots, setup=setup, config=config)
    rows.insert(
        0,
        StageRow("worker", worker, job_of_worker, _WORKER_SILENCE_S, _STARTUP_SILENCE_S, shutdown_order=1, grace_s=1.6),
    )
    return rows


def name_cameras(config: Config) -> Sequence[tuple[str, SourceAddress, str]]:
    """Return each camera's name, parsed source and source text; names are made where none is given.

    Raises:
        ConfigError: There is no camera, two have the same name, or a source means nothing.
    """
    if not config.cameras:
        raise ConfigError(
            "no camera: give --source (a webcam index, URL, file or synthetic://) or --config with cameras"
        )
    taken = [camera.name for camera in config.cameras if camera.name is not None]
    twice = next((name for name in taken if taken.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"cameras: the name {twice!r} is given twice; each camera needs its own")
    named = []
    for camera in config.cameras:
        address = parse_source(camera.source)
        name = camera.name or _free_name(address.default_name, taken)
        taken.append(name)
        named.append((name, address, camera.source))
    return named


def _free_name(wanted: str, taken: Sequence[str]) -> str:
    if wanted not in taken:
        return wanted
    number = next(number for number in range(2, len(taken) + 3) if f"{wanted[:60]}-{number}" not in taken)
    return f"{wanted[:60]}-{number}"
